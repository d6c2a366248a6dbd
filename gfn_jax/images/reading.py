"""Reading of photos in the formats of `_OPENERS`, with their metadata.

Pillow does not support 16-bit colour. It reads all files but 16-bit PNG, most TIFF files and HEIC.
imagecodecs reads such PNG files, tifffile such TIFF files and pillow-heif HEIC. They are imported
on first use, because most photos do not need them. The size of an image is checked before decoding,
and every decoder error becomes a `UserError` of one line.
"""

import contextlib
import dataclasses
import io
import itertools
import logging
import os
import re
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import numpy as np
from PIL import Image, ImageCms, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from gfn_jax.errors import UserError, install_extra, missing_package
from gfn_jax.images import damage, metadata
from gfn_jax.images.damage import UnreadableError
from gfn_jax.images.metadata import Metadata
from gfn_jax.system.files import printable

if TYPE_CHECKING:
  import tifffile

MAX_PIXELS = 50_000_000
READ_ONLY = ('.gif', '.heic', '.heif', '.hif')
"""Extensions of formats that are read, but not written."""

# Limit for images read without an option: evaluation targets have 16 times the pixels of inputs.
_MOST_PIXELS = 16 * MAX_PIXELS

_CONVERT = 'convert it to PNG, JPEG, WebP, TIFF or BMP'


@dataclasses.dataclass(frozen=True)
class Photo:
  """Image with its metadata.

  Attributes:
    pixels: `[h, w, C]` uint8 or uint16, upright. C is 1 for grey, 2 for grey and alpha, 3 for RGB
      and 4 for RGB and alpha.
    metadata: metadata of the image.
    notes: what a user should know about how the file was read, one sentence each.
  """

  pixels: np.ndarray
  metadata: Metadata = Metadata()
  notes: tuple[str, ...] = ()


class _Decoded(NamedTuple):
  """Pixels of an image file.

  Attributes:
    pixels: `[h, w, C]` as stored, or upright without the tag in `_Opened.exif`.
    icc_profile: their colour profile.
    notes: notes on damage.
  """

  pixels: np.ndarray
  icc_profile: bytes | None
  notes: tuple[str, ...] = ()


class _Opened(NamedTuple):
  """Image file whose header has been read.

  Attributes:
    size: width and height as stored, before the orientation is applied.
    exif: EXIF, or the tags of a TIFF's first page.
    decode: function that returns the pixels. If it applies the orientation, it removes the tag from
      `exif`.
    metadata: metadata but EXIF and the profile.
    notes: notes that the header suffices for.
  """

  size: tuple[int, int]
  exif: Image.Exif
  decode: Callable[[], _Decoded]
  metadata: Metadata = Metadata()
  notes: tuple[str, ...] = ()


def read_photo(path: str | os.PathLike, max_pixels: int | None = MAX_PIXELS) -> Photo:
  """Read an image file, whatever its extension.

  Palette and 1-bit images become 8-bit RGB or grey, with alpha if they have transparency. CMYK and
  LAB become sRGB, through the embedded profile if there is one. 16 bits are kept. The EXIF
  orientation is applied, and damaged EXIF tags are dropped. Of several images, such as an MPO
  file's, the first is read. A file that is damaged beside its pixels is read, with a note.

  Args:
    path: the image file.
    max_pixels: maximum number of pixels, checked before decoding. None allows 800 megapixels.

  Raises:
    UserError: if the file cannot be read, is animated, or has an unsupported format, floating-point
      values, missing pixels or too many pixels.
  """
  with _user_errors(path), _open_regular(path) as file:
    return _upright(_open(file, max_pixels))


def size_of(path: str | os.PathLike, max_pixels: int | None = MAX_PIXELS) -> tuple[int, int]:
  """Return the width and height of a file from its header, as `read_photo` would return it.

  Raises:
    UserError: if the header cannot be read, or shows that `read_photo` would raise.
  """
  with _user_errors(path), _open_regular(path) as file:
    opened = _open(file, max_pixels)
    width, height = opened.size
    return (height, width) if metadata.orientation(opened.exif) in (5, 6, 7, 8) else (width, height)


class Animation(NamedTuple):
  """Animated image.

  Attributes:
    frames: `[T, h, w, C]` uint8. C is 3 for RGB and 4 for RGB and alpha.
    durations: display time of each frame, in milliseconds.
    loops: number of repetitions, 0 for ever; None to play it once.
  """

  frames: np.ndarray
  durations: tuple[int, ...]
  loops: int | None


_ANIMATED = {'GIF': GifImageFile, 'WebP': WebPImageFile, 'PNG': PngImageFile}


def is_animated(path: str | os.PathLike) -> bool:
  """Return True if a file is an animated GIF, WebP or PNG; False also if it cannot be read."""
  try:
    with _user_errors(path), _open_regular(path) as file:
      plugin = _ANIMATED.get(_kind(_SIGNATURES, file.read(64)) or '')
      file.seek(0)
      return plugin is not None and getattr(plugin(file), 'n_frames', 1) > 1
  except UserError:
    return False


def read_animation(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Animation:
  """Read an animated GIF, WebP or PNG, for which `is_animated` is True.

  Args:
    path: the file.
    max_pixels: maximum number of pixels of all frames together.

  Raises:
    UserError: if the file cannot be read, or has too many pixels.
  """
  with _user_errors(path), _open_regular(path) as file:
    plugin = _ANIMATED[_kind(_SIGNATURES, file.read(64)) or '']
    file.seek(0)
    image = plugin(file)
    count, (width, height) = getattr(image, 'n_frames', 1), image.size
    if count * width * height > max_pixels:
      raise UnreadableError(
        f'{count} frames of {width}x{height} exceed the limit of {max_pixels:,} pixels; reduce '
        f'them, or pass --max_pixels={count * width * height}'
      )
    loops = image.info.get('loop')
    frames, durations = [], []
    # The first image of an animated PNG may be for other programs only.
    for i in range(bool(image.info.get('default_image')), count):
      image.seek(i)
      frames.append(np.asarray(image.convert('RGBA')))
      durations.append(round(image.info.get('duration') or _DURATION))
  stacked = np.stack(frames)
  opaque = bool((stacked[..., 3] == 255).all())
  return Animation(stacked[..., :3] if opaque else stacked, tuple(durations), loops)


# Display time of a frame whose file has none, in milliseconds, as in browsers.
_DURATION = 100


def to_photo(image: Image.Image, name: str = 'the image') -> Photo:
  """Convert a Pillow image as `read_photo` reads a file.

  Pillow images hold 8-bit colour. For 16 bits, read the file with `read_photo`.

  Args:
    image: the Pillow image.
    name: name of the image in error messages.

  Raises:
    UserError: if the image holds floating-point or 32-bit values, or cannot be loaded.
  """
  with _user_errors(name):
    image.load()
    return _upright(_opened(image, lambda: _Decoded(*_pixels(image))))


def _opened(
  image: Image.Image, decode: Callable[[], _Decoded], notes: tuple[str, ...] = ()
) -> _Opened:
  beside = metadata.beside_exif(image)
  return _Opened(image.size, metadata.of_image(image), decode, beside, notes)


def _upright(opened: _Opened) -> Photo:
  pixels, icc_profile, notes = opened.decode()
  orientation = metadata.orientation(opened.exif)
  pixels = np.ascontiguousarray(_TURNS.get(orientation, lambda pixels: pixels)(pixels))
  exif, resolution = metadata.kept(opened.exif), opened.metadata.resolution
  if orientation in (5, 6, 7, 8):
    metadata.turn(exif)
    resolution = resolution and resolution.turned()
  kept = dataclasses.replace(
    opened.metadata,
    exif=metadata.to_bytes(exif),
    icc_profile=icc_profile or None,
    resolution=resolution,
    size=pixels.shape[1::-1],
  )
  return Photo(pixels, kept, opened.notes + notes)


_TURNS = {
  2: lambda pixels: pixels[:, ::-1],
  3: lambda pixels: pixels[::-1, ::-1],
  4: lambda pixels: pixels[::-1],
  5: lambda pixels: pixels.swapaxes(0, 1),
  6: lambda pixels: np.rot90(pixels, -1),
  7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
  8: lambda pixels: np.rot90(pixels),
}

# Patterns of the first bytes of a file, by format.
_SIGNATURES = {
  'PNG': rb'\x89PNG\r\n\x1a\n',
  'JPEG': rb'\xff\xd8\xff',
  'WebP': rb'RIFF....WEBP',
  'TIFF': rb'II[*+]\0|MM\0[*+]',
  'BMP': rb'BM',
  'GIF': rb'GIF8[79]a',
  'AVIF': rb'....ftyp(?=.{4,52}avi[fs])(avi|mif|msf|mia)',
  'HEIC': rb'....ftyp(hei|hev|mif|msf)',
}
_OTHERS = {
  'raw photo': rb'....ftypcrx|FUJIFILMCCD-RAW|IIRO|IIU\0',
  'video': rb'....ftyp|RIFF....AVI |\x1a\x45\xdf\xa3',
  'JPEG XL': rb'\xff\x0a|\0\0\0\x0cJXL ',
  'JPEG 2000': rb'\xff\x4f\xff\x51|\0\0\0\x0cjP',
  'Photoshop document': rb'8BPS',
  'PDF': rb'%PDF',
  'PostScript': rb'%!PS|\xc5\xd0\xd3\xc6',
  'archive': rb'PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!',
  'web page': rb'(?i:\s*<(!doctype html|html|head|body))',
  'XML or SVG': rb'\s*<(\?xml|svg)',
  'text': rb'[\t\n\r\x20-\x7e]+$',
}


@contextlib.contextmanager
def _user_errors(path: str | os.PathLike) -> Iterator[None]:
  """Turn every exception of a decoder into a `UserError` of one line, and silence its output."""
  try:
    with _DECODING:
      yield
  except UnreadableError as error:
    reason, cause = str(error), error.__cause__
  except ModuleNotFoundError as error:
    reason, cause = missing_package(str(error.name), error), error
  except MemoryError as error:
    reason, cause = 'not enough memory', error
  except OSError as error:  # errors of the decoders have no errno
    reason = error.strerror if error.errno and error.strerror else _damaged(error)
    cause = error
  except Exception as error:  # decoders raise about twenty types
    reason, cause = _damaged(error), error
  else:
    return
  raise UserError(f'cannot read {printable(path)}: {printable(reason)}') from cause


def _damaged(error: Exception) -> str:
  detail = ' '.join(str(error).split())[:100] or type(error).__name__
  return f'damaged or unsupported file ({detail}); save it again with another program'


class _Decoding:
  """Context in which decoders print nothing and Pillow does not limit the number of pixels.

  Both are settings of the process: the first thread that enters changes them, and the last thread
  that exits restores them.
  """

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._threads = 0
    self._undo = contextlib.ExitStack()

  def __enter__(self) -> None:
    with self._lock:
      if not self._threads:
        self._undo.enter_context(warnings.catch_warnings(action='ignore'))
        self._undo.callback(setattr, Image, 'MAX_IMAGE_PIXELS', Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
        for name in ('PIL', 'tifffile', 'imagecodecs'):
          logger = logging.getLogger(name)
          self._undo.callback(logger.setLevel, logger.level)
          logger.setLevel(logging.CRITICAL + 1)
      self._threads += 1

  def __exit__(self, *_: object) -> None:
    with self._lock:
      self._threads -= 1
      if not self._threads:
        self._undo.close()


_DECODING = _Decoding()


@contextlib.contextmanager
def _open_regular(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """Open a regular file; reading a pipe could block forever."""
  try:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
      raise UnreadableError('expected a file, found a folder')
    if not stat.S_ISREG(mode):
      raise UnreadableError('expected a file, found a device or a pipe')
    file = open(path, 'rb')  # noqa: SIM115
  except FileNotFoundError as error:
    if os.path.islink(path):
      raise UnreadableError('link to a missing file') from error
    raise
  except ValueError as error:
    raise UnreadableError(f'invalid file name ({error})') from error
  with file:
    yield file


def _open(file: BinaryIO, max_pixels: int | None) -> _Opened:
  head = file.read(64)
  file.seek(0)
  kind = _kind(_SIGNATURES, head)
  if not head:
    raise UnreadableError('empty file')
  if not kind:
    other = _kind(_OTHERS, head)
    reason = f'unsupported format ({other})' if other else 'unknown format'
    raise UnreadableError(f'{reason}; {_CONVERT}')
  opened = _OPENERS[kind](file)
  width, height = opened.size
  if not width or not height:
    raise UnreadableError('image without pixels')
  limit = _MOST_PIXELS if max_pixels is None else max_pixels
  if width * height > limit:
    advice = 'reduce the image'
    if max_pixels is not None:
      advice += f', or pass --max_pixels={width * height}'
    raise UnreadableError(f'{width}x{height} exceeds the limit of {limit:,} pixels; {advice}')
  return opened


def _kind(signatures: Mapping[str, bytes], head: bytes) -> str | None:
  matches = (kind for kind, pattern in signatures.items() if re.match(b'(?s)' + pattern, head))
  return next(matches, None)


# Image.open would hide the reason of a failure, so the plugins are called directly.


def _open_png(file: BinaryIO) -> _Opened:
  png = damage.read_png(file)
  try:
    image = PngImageFile(io.BytesIO(png.header))
  except Exception:  # nonsense in chunks with right checksums
    png = damage.without_metadata(png)
    image = PngImageFile(io.BytesIO(png.header))
  _check_still(image)

  def decode() -> _Decoded:
    content, notes = damage.png_content(file, png)
    image = PngImageFile(io.BytesIO(content))
    profile = image.info.get('icc_profile')
    # Pillow reduces 16 bits to 8, and misreads the transparent value of 2-bit and 4-bit grey.
    raw_mode = cast(str, image.tile[0].args)
    try:
      if raw_mode.endswith((';16B', 'L;2', 'L;4')):
        import imagecodecs

        return _Decoded(_with_channels(imagecodecs.png_decode(content)), profile, notes)
      image.load()
    except ModuleNotFoundError:
      raise
    except Exception:
      damage.check_png_pixels(png, content)
      raise
    return _Decoded(*_pixels(image), notes)

  opened = _opened(image, decode)
  colour = tuple(chunk for chunk in png.chunks if chunk[0] in metadata.COLOUR_CHUNKS)
  return opened._replace(metadata=dataclasses.replace(opened.metadata, colour=colour))


def _open_jpeg(file: BinaryIO) -> _Opened:
  def decode() -> _Decoded:
    file.seek(0)
    content = file.read()
    content, notes = damage.jpeg_content(content)
    image = JpegImageFile(io.BytesIO(content))
    image.load()
    last = np.asarray(image.crop((image.width - 1, image.height - 1, *image.size)))
    if (last == 128).all():  # the decoder's colour of missing pixels
      damage.check_jpeg(content)
    return _Decoded(*_pixels(image), notes)

  return _opened(JpegImageFile(file), decode)


def _open_webp(file: BinaryIO) -> _Opened:
  content, notes = damage.webp_content(file.read())
  image = WebPImageFile(io.BytesIO(content))
  _check_still(image)
  return _open_plainly(image, notes)


def _open_bmp(file: BinaryIO) -> _Opened:
  image = BmpImageFile(file)

  def decode() -> _Decoded:
    codec, _, start, args = image.tile[0]
    if codec != 'raw':  # run lengths
      image.load()
      return _Decoded(*_pixels(image))
    file.seek(0)
    _, stride, _ = cast(tuple[str, int, int], args)
    content, notes = damage.bmp_content(file.read(), image.size, start, stride)
    repaired = BmpImageFile(io.BytesIO(content))
    repaired.load()
    return _Decoded(*_pixels(repaired), notes)

  return _opened(image, decode)


def _open_gif(file: BinaryIO) -> _Opened:
  image = GifImageFile(file)
  _check_still(image)
  return _open_plainly(image)


def _open_avif(file: BinaryIO) -> _Opened:
  if not features.check('avif'):
    raise UnreadableError('AVIF is not supported by this Pillow; pip install --upgrade pillow')
  colour, notes = _coded_colour(file)
  image = AvifImageFile(file)
  _check_still(image)
  return _open_plainly(image, notes, colour)


def _open_heic(file: BinaryIO) -> _Opened:
  try:
    from pillow_heif import HeifImageFile
  except ModuleNotFoundError as error:
    raise UnreadableError(f'HEIC needs pillow-heif; {install_extra("heif")}') from error
  colour, notes = _coded_colour(file)
  image = HeifImageFile(file)
  if getattr(image, 'n_frames', 1) > 1:  # not an animation
    notes += ('the main one of several images is read',)
  return _open_plainly(image, notes, colour)


def _open_plainly(
  image: Image.Image,
  notes: tuple[str, ...] = (),
  colour: tuple[tuple[bytes, bytes], ...] = (),
) -> _Opened:
  """Describe an image that Pillow decodes."""

  def decode() -> _Decoded:
    image.load()
    return _Decoded(*_pixels(image))

  opened = _opened(image, decode, notes)
  if image.info.get('icc_profile'):  # has precedence
    colour = ()
  return opened._replace(metadata=dataclasses.replace(opened.metadata, colour=colour))


def _check_still(image: Image.Image) -> None:
  if getattr(image, 'n_frames', 1) > 1:
    raise UnreadableError(
      'animated image; restore it alone, as .gif or .webp, or save one frame as a separate image'
    )


def _coded_colour(file: BinaryIO) -> tuple[tuple[tuple[bytes, bytes], ...], tuple[str, ...]]:
  """Return the colours of an AVIF or HEIC as PNG chunks, and a note on lost bits.

  Pillow decodes to 8 bits and does not report the colours of files without profile.

  Raises:
    UnreadableError: if the image is HDR, for which 8 bits do not suffice.
  """
  head = file.read(2**16)
  file.seek(0)
  colour: tuple[tuple[bytes, bytes], ...] = ()
  notes: tuple[str, ...] = ()
  at = head.find(b'colrnclx')
  if 0 <= at <= len(head) - 14:
    primaries, transfer = struct.unpack('>HH', head[at + 8 : at + 12])
    if transfer in (16, 18):
      raise UnreadableError('HDR image (PQ or HLG); convert it to a 16-bit PNG, or to SDR')
    named = 2 not in (primaries, transfer) and (primaries, transfer) != (1, 13)  # sRGB
    if named and max(primaries, transfer) < 256:
      colour = ((b'cICP', bytes([primaries, transfer, 0, 1])),)
  at = head.find(b'pixi')
  if 0 <= at <= len(head) - 10 and head[at + 9] > 8:
    notes = (f'{head[at + 9]} bits are rounded to 8',)
  return colour, notes


def _open_tiff(file: BinaryIO) -> _Opened:
  import tifffile

  tiff = tifffile.TiffFile(file)
  page = tiff.pages.first
  if page.is_reduced or 'DNGVersion' in page.tags:
    raise UnreadableError('raw photo or preview; develop it to TIFF or JPEG first')
  notes = _tiff_pages(tiff)
  if page.sampleformat not in (1, 4):  # unsigned integers, or undefined
    raise UnreadableError('floating-point or signed values; convert it to 8 or 16 bits')
  if page.bitspersample not in (1, 2, 4, 8, 16):
    raise UnreadableError(f'{page.bitspersample} bits per channel; convert it to 8 or 16 bits')
  size = (page.imagewidth, page.imagelength)
  _check_tiff_parts(page)
  beside = metadata.beside_exif_in_tiff(page)
  colours = _TIFF_COLOURS.get(page.photometric)
  if colours and page.bitspersample in (8, 16):
    if not colours <= page.samplesperpixel <= colours + 4:
      raise UnreadableError(f'channels other than grey or RGB with alpha; {_CONVERT}')
    if page.compression in _TIFF_COMPRESSIONS:
      icc_profile = page.tags.valueof('InterColorProfile')
      exif = metadata.of_tiff(page)
      return _Opened(size, exif, lambda: _Decoded(_tiff_pixels(page), icc_profile), beside, notes)
    if page.bitspersample == 16:
      raise UnreadableError('unsupported compression; save it without compression')
  file.seek(0)
  image = TiffImageFile(file)

  def decode() -> _Decoded:
    image.load()  # applies and removes the orientation
    return _Decoded(*_pixels(image))

  return _Opened(size, metadata.of_image(image), decode, beside, notes)


def _tiff_pages(tiff: 'tifffile.TiffFile') -> tuple[str, ...]:
  """Return a note if further pages are no reduced copies of the first one."""
  try:
    others = cast('Iterator[tifffile.TiffPage]', itertools.islice(tiff.pages, 1, None))
    several = any(not other.is_reduced for other in others)
  except Exception:  # a damaged page, of which no pixel is needed
    several = True
  return ('the first of several pages is read',) if several else ()


def _check_tiff_parts(page: 'tifffile.TiffPage') -> None:
  """Raise `UnreadableError` if strips or tiles are not in the file."""
  end = page.parent.filehandle.size
  parts = list(itertools.zip_longest(page.dataoffsets, page.databytecounts, fillvalue=0))
  cut = [not offset or offset + count > end for offset, count in parts]
  if not any(cut):
    return
  width, height = page.imagewidth, page.imagelength
  if page.is_tiled or page.compression != 1 or page.planarconfig == 2:
    missing = -(-sum(cut) * width * height // len(cut))  # of the strips or tiles that are cut
  else:
    row = -(-page.samplesperpixel * page.bitspersample * width // 8)
    missing = 0
    for i, (offset, _) in enumerate(parts):
      rows = min(page.rowsperstrip, height - i * page.rowsperstrip)
      present = max(0, end - offset) if offset else 0
      whole, rest = divmod(min(present, rows * row), row)
      missing += rows * width - whole * width - rest * width // row
  damage.check_missing(missing, (width, height))


_OPENERS: dict[str, Callable[[BinaryIO], _Opened]] = {
  'PNG': _open_png,
  'JPEG': _open_jpeg,
  'WebP': _open_webp,
  'TIFF': _open_tiff,
  'BMP': _open_bmp,
  'GIF': _open_gif,
  'AVIF': _open_avif,
  'HEIC': _open_heic,
}

# TIFF photometric interpretations and compressions for tifffile; Pillow reads the others.
_TIFF_COLOURS = {0: 1, 1: 1, 2: 3}  # channels of grey (0 is white or 0 is black) and of RGB
# None, LZW, both Deflate values, PackBits, LZMA and Zstandard.
_TIFF_COMPRESSIONS = (1, 5, 8, 32946, 32773, 34925, 50000)


def _tiff_pixels(page: 'tifffile.TiffPage') -> np.ndarray:
  """Decode grey or RGB with 8 or 16 bits, with or without alpha."""
  import tifffile

  if page.compression != tifffile.COMPRESSION.NONE:
    import imagecodecs  # noqa: F401 (without imagecodecs, tifffile reports a damaged file)

  colours, samples = _TIFF_COLOURS[page.photometric], page.samplesperpixel
  pixels = page.asarray(maxworkers=1)
  height, width, most = page.imagelength, page.imagewidth, np.iinfo(pixels.dtype).max
  if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
    pixels = np.moveaxis(pixels.reshape(samples, height, width), 0, -1)
  pixels = pixels.reshape(height, width, samples).astype(pixels.dtype.newbyteorder('='), copy=False)
  if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
    pixels = np.concatenate([most - pixels[..., :1], pixels[..., 1:]], axis=-1)
  # Undeclared extra samples are alpha, as in other readers.
  extra = page.extrasamples[0] if page.extrasamples else tifffile.EXTRASAMPLE.UNASSALPHA
  if samples == colours or extra == tifffile.EXTRASAMPLE.UNSPECIFIED:
    return pixels[..., :colours]
  pixels = pixels[..., : colours + 1]
  if extra == tifffile.EXTRASAMPLE.ASSOCALPHA:  # premultiplied
    alpha = pixels[..., -1:].astype(np.uint32)
    colour = (pixels[..., :-1] * np.uint32(most) + alpha // 2) // np.maximum(alpha, 1)
    pixels = np.concatenate([np.minimum(colour, most), alpha], axis=-1).astype(pixels.dtype)
  return pixels


def _pixels(image: Image.Image) -> tuple[np.ndarray, bytes | None]:
  """Return a loaded image's pixels, `[h, w, C]` as stored, and their colour profile."""
  icc_profile = image.info.get('icc_profile')
  if image.mode in ('I', 'F'):
    raise UnreadableError('floating-point or 32-bit values; convert it to 8 or 16 bits')
  if image.mode.startswith('I;16'):
    return _with_channels(np.asarray(image).astype(np.uint16)), icc_profile
  if image.mode in ('CMYK', 'LAB'):
    return np.asarray(_to_srgb(image, icc_profile)), None
  grey, alpha = image.mode in ('1', 'L', 'LA', 'La'), image.has_transparency_data
  mode = ('LA' if alpha else 'L') if grey else ('RGBA' if alpha else 'RGB')
  return _with_channels(np.asarray(image.convert(mode))), icc_profile


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
  srgb = ImageCms.createProfile('sRGB')

  def convert(source: ImageCms.ImageCmsProfile | ImageCms.core.CmsProfile) -> Image.Image:
    # Pillow returns None only if it converts in place.
    return cast(Image.Image, ImageCms.profileToProfile(image, source, srgb, outputMode='RGB'))

  if image.mode == 'LAB':  # device-independent, needs no profile
    return convert(ImageCms.createProfile('LAB'))
  try:
    return convert(ImageCms.ImageCmsProfile(io.BytesIO(icc_profile or b'')))
  except (ImageCms.PyCMSError, OSError):  # no profile, or not a CMYK profile
    return image.convert('RGB')


def _with_channels(pixels: np.ndarray) -> np.ndarray:
  return pixels[..., None] if pixels.ndim == 2 else pixels
