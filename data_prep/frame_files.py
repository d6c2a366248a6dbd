"""Reading of the frames of downloaded data sets, with errors that name the file."""

import contextlib
import io
import struct
from collections.abc import Iterator

import numpy as np
from etils import epath
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from gfn_jax.errors import UserError

EXTENSIONS = ('.png', '.jpg', '.jpeg')
"""Extensions of frames, which may be in capitals."""

_PNG_START = b'\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR'
_COLOUR_TYPES = {0: 'grey', 2: 'RGB', 3: 'palette', 4: 'grey with alpha', 6: 'RGB with alpha'}
_MAX_PIXELS = 2**25  # 8K video; a larger size is a corrupt header and would exhaust the memory


def png_size(path: epath.Path, archive: str) -> tuple[int, int]:
  """Read the header of an 8-bit RGB PNG file.

  Args:
    path: the PNG file.
    archive: name of the archive to unpack again if the file is damaged, for messages.

  Returns:
    Height and width in pixels.

  Raises:
    UserError: if the file is not an 8-bit RGB PNG.
  """
  # Pillow does not distinguish 16-bit from 8-bit RGB.
  with path.open('rb') as file:
    header = file.read(26)
  if len(header) < 26 or not header.startswith(_PNG_START):
    raise UserError(f'{path} is truncated or not a PNG file; unpack {archive} again')
  width, height, bits, colour = struct.unpack('>IIBB', header[16:26])
  if (bits, colour) != (8, 2):
    kind = _COLOUR_TYPES.get(colour, 'unknown')
    raise UserError(f'{path} has {bits}-bit {kind} pixels; frames must be 8-bit RGB')
  if not 0 < width * height <= _MAX_PIXELS:
    raise UserError(f'{path} has an invalid size of {height}x{width}; unpack {archive} again')
  return height, width


def jpeg_size(path: epath.Path, archive: str) -> tuple[int, int]:
  """Read the header of an RGB JPEG file, with the arguments, result and errors of `png_size`."""
  # Image.open would print a warning for some of the sizes that are rejected below.
  with _user_errors(path, archive), path.open('rb') as file:
    image = JpegImageFile(file)
  if image.mode != 'RGB':
    raise UserError(f'{path} is a JPEG of mode {image.mode}; frames must be 8-bit RGB')
  if not 0 < image.width * image.height <= _MAX_PIXELS:
    size = f'{image.height}x{image.width}'
    raise UserError(f'{path} has an invalid size of {size}; unpack {archive} again')
  return image.height, image.width


def frame_size(path: epath.Path, archive: str) -> tuple[int, int]:
  """Read the header of a PNG or JPEG frame, with the arguments, result and errors of `png_size`."""
  return (jpeg_size if path.suffix.lower() in ('.jpg', '.jpeg') else png_size)(path, archive)


def read_rgb(path: epath.Path, archive: str) -> np.ndarray:
  """Decode a PNG or JPEG frame.

  Args:
    path: the image file.
    archive: name of the archive to unpack again if the file is damaged, for messages.

  Returns:
    uint8 `[H, W, 3]`.

  Raises:
    UserError: if the file cannot be decoded, is not RGB, or is too large.
  """
  with _user_errors(path, archive):
    content = path.read_bytes()
  return _decode(content, path, archive)


def read_png(path: epath.Path, archive: str) -> tuple[bytes, np.ndarray]:
  """Read a PNG file and verify all its checksums, so that its bytes can be copied.

  Returns:
    The content of the file, and its pixels as returned by `read_rgb`.

  Raises:
    UserError: as `read_rgb`.
  """
  with _user_errors(path, archive):
    content = path.read_bytes()
    with Image.open(io.BytesIO(content), formats=['PNG']) as image:
      image.verify()  # decoding ignores the checksums of the pixels
  return content, _decode(content, path, archive)


def encode_png(image: np.ndarray) -> bytes:
  """Encode a uint8 `[H, W, 3]` image as PNG."""
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'PNG')
  return file.getvalue()


def _decode(content: bytes, path: epath.Path, archive: str) -> np.ndarray:
  with (
    _user_errors(path, archive),
    Image.open(io.BytesIO(content), formats=['PNG', 'JPEG']) as image,
  ):
    if image.mode == 'RGB' and image.width * image.height <= _MAX_PIXELS:
      return np.array(image)
    mode, width, height = image.mode, *image.size
  raise UserError(
    f'{path} has {height}x{width} pixels of mode {mode}; frames must be RGB of at most 8K video'
  )


@contextlib.contextmanager
def _user_errors(path: epath.Path, archive: str) -> Iterator[None]:
  try:
    yield
  # Pillow raises SyntaxError for a broken PNG chunk.
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UserError(f'cannot read {path}: {reason}; unpack {archive} again') from error
