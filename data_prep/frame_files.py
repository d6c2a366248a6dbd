"""Reads the frames of downloaded data sets. What is damaged or of another kind is named."""

import contextlib
import io
import struct
from collections.abc import Iterator

import numpy as np
from etils import epath
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from gfn_jax.errors import UserError

_PNG_START = b'\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR'
_COLOUR_TYPES = {0: 'grey', 2: 'RGB', 3: 'palette', 4: 'grey with alpha', 6: 'RGB with alpha'}
_MAX_PIXELS = 2**25  # 8K video; a larger header is damage, and would exhaust the memory


def png_size(path: epath.Path, archive: str) -> tuple[int, int]:
  """Reads the header of an 8-bit RGB PNG file.

  Args:
    path: of the file.
    archive: what to unpack again if the file is damaged.

  Returns:
    Height and width.

  Raises:
    UserError: if the file is of another kind.
  """
  # Pillow would not tell 16-bit RGB from 8-bit.
  with path.open('rb') as file:
    header = file.read(26)
  if len(header) < 26 or not header.startswith(_PNG_START):
    raise UserError(f'{path} is not a PNG file or is cut short; unpack {archive} again')
  width, height, bits, colour = struct.unpack('>IIBB', header[16:26])
  if (bits, colour) != (8, 2):
    kind = _COLOUR_TYPES.get(colour, 'unknown')
    raise UserError(f'{path} is a {bits}-bit {kind} PNG; frames must be 8-bit RGB')
  if not 0 < width * height <= _MAX_PIXELS:
    raise UserError(f'{path} claims {height}x{width} pixels; unpack {archive} again')
  return height, width


def jpeg_size(path: epath.Path, archive: str) -> tuple[int, int]:
  """Reads the header of an RGB JPEG file; arguments, result and errors as of `png_size`."""
  # Not with Image.open, which prints a warning of its own for some of the sizes that are refused.
  with _naming(path, archive), path.open('rb') as file:
    image = JpegImageFile(file)
  if image.mode != 'RGB':
    raise UserError(f'{path} is a JPEG of mode {image.mode}; frames must be 8-bit RGB')
  if not 0 < image.width * image.height <= _MAX_PIXELS:
    raise UserError(f'{path} claims {image.height}x{image.width} pixels; unpack {archive} again')
  return image.height, image.width


def read_rgb(path: epath.Path, archive: str) -> np.ndarray:
  """Decodes a frame, PNG or JPEG.

  Args:
    path: of the file.
    archive: what to unpack again if the file is damaged.

  Returns:
    uint8 `[H, W, 3]`.

  Raises:
    UserError: if it cannot be decoded, is not RGB or too large.
  """
  with _naming(path, archive):
    content = path.read_bytes()
  return _decode(content, path, archive)


def read_png(path: epath.Path, archive: str) -> tuple[bytes, np.ndarray]:
  """Reads a PNG file whole, and compares all its check sums: its bytes can be copied safely.

  Returns:
    The file's content, and its pixels as of `read_rgb`.

  Raises:
    UserError: as `read_rgb`.
  """
  with _naming(path, archive):
    content = path.read_bytes()
    with Image.open(io.BytesIO(content), formats=['PNG']) as image:
      image.verify()  # decoding passes over the check sums of the pixels
  return content, _decode(content, path, archive)


def encode_png(image: np.ndarray) -> bytes:
  """A PNG file of a uint8 `[H, W, 3]` image."""
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'PNG')
  return file.getvalue()


def _decode(content: bytes, path: epath.Path, archive: str) -> np.ndarray:
  with (
    _naming(path, archive),
    Image.open(io.BytesIO(content), formats=['PNG', 'JPEG']) as image,
  ):
    if image.mode == 'RGB' and image.width * image.height <= _MAX_PIXELS:
      return np.array(image)
    mode, width, height = image.mode, *image.size
  raise UserError(
    f'{path} has {height}x{width} pixels of mode {mode}; frames must be RGB, of 8K video at most'
  )


@contextlib.contextmanager
def _naming(path: epath.Path, archive: str) -> Iterator[None]:
  try:
    yield
  # SyntaxError: Pillow's broken PNG chunk
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UserError(f'{path} cannot be read ({reason}); unpack {archive} again') from error
