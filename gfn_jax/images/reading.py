"""Photographs as people have them: PNG, JPEG, WebP, TIFF and BMP, with all that they hold.

Pillow has no colour of 16 bits. It reads JPEG, WebP and BMP, PNGs of 8 bits and unusual
TIFFs; imagecodecs does the other PNGs and tifffile the other TIFFs. Both are imported where they
are needed: most photos are read without them. Files come from anywhere: their size is checked
before they are decoded, and whatever goes wrong in a decoder becomes a `UserError` of one line.
"""

import contextlib
import dataclasses
import io
import itertools
import logging
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageCms
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from gfn_jax.errors import UserError, missing_package
from gfn_jax.images import metadata
from gfn_jax.system.files import printable

if TYPE_CHECKING:
  import tifffile

MAX_PIXELS = 50_000_000
# For images that are read without an option for it: the targets of an evaluation are 16 times as
# large as its inputs.
_MOST_PIXELS = 16 * MAX_PIXELS

_CONVERT = 'convert it to PNG, JPEG, WebP, TIFF or BMP'


@dataclasses.dataclass(frozen=True)
class Photo:
  """A picture and what belongs to it.

  Attributes:
    pixels: `[h, w, C]` uint8 or uint16, upright; C is 1 for grey, 2 for grey and alpha, 3 for RGB
      and 4 for RGB and alpha.
    exif: as of `PIL.Image.Exif.tobytes()`, without orientation and thumbnail; b'' if there is none.
    icc_profile: the colour profile of the pixels, None for sRGB or an unknown one.
  """

  pixels: np.ndarray
  exif: bytes = b''
  icc_profile: bytes | None = None


class _UnreadableError(Exception):
  """Why a file cannot be read, without its name."""


class _Opened(NamedTuple):
  """A file whose header is read.

  Attributes:
    size: width and height as stored, before the picture is turned.
    exif: its EXIF; of a TIFF, the tags of its first page.
    decode: gives the pixels, `[h, w, C]`, and their colour profile. May turn the picture, and then
      takes the orientation out of `exif`.
  """

  size: tuple[int, int]
  exif: Image.Exif
  decode: Callable[[], tuple[np.ndarray, bytes | None]]


def read_photo(path: str | os.PathLike, max_pixels: int | None = MAX_PIXELS) -> Photo:
  """Reads a PNG, JPEG (or MPO: its first picture), WebP, TIFF or BMP, whatever its name.

  Palettes and 1-bit pictures become RGB or grey of 8 bits, with alpha if they have transparency;
  CMYK and LAB become sRGB, through the file's profile if it has one. 16 bits stay. The picture is
  turned as its EXIF orientation says. EXIF tags that are damaged are left out.

  Args:
    path: of the file.
    max_pixels: a picture with more is refused before it is decoded; None for the most that this
      library ever reads, 800 megapixels.

  Raises:
    UserError: if it cannot be read, is of another kind, animated or of several pages, holds
      floating-point numbers, or has too many pixels.
  """
  with _explaining(path), _opening(path) as file:
    opened = _open(file, max_pixels)
    return _upright(*opened.decode(), opened.exif)


def size_of(path: str | os.PathLike, max_pixels: int | None = MAX_PIXELS) -> tuple[int, int]:
  """Width and height of the picture that `read_photo` gives, from the file's header.

  Raises:
    UserError: if the header cannot be read, or says what `read_photo` refuses.
  """
  with _explaining(path), _opening(path) as file:
    opened = _open(file, max_pixels)
    width, height = opened.size
    return (height, width) if metadata.orientation(opened.exif) in (5, 6, 7, 8) else (width, height)


def to_photo(image: Image.Image, name: str = 'the image') -> Photo:
  """A Pillow image as `read_photo` gives a file.

  Pillow holds colour in 8 bits: for 16 bits, read the file with `read_photo`.

  Raises:
    UserError: if it holds floating-point or 32-bit numbers, or cannot be loaded; `name` says which.
  """
  with _explaining(name):
    image.load()
    return _upright(*_pixels(image), metadata.of_image(image))


def _upright(pixels: np.ndarray, icc_profile: bytes | None, exif: Image.Exif) -> Photo:
  turn = _TURNS.get(metadata.orientation(exif), lambda pixels: pixels)
  content = metadata.to_bytes(metadata.kept(exif))
  return Photo(np.ascontiguousarray(turn(pixels)), content, icc_profile or None)


_TURNS = {
  2: lambda pixels: pixels[:, ::-1],
  3: lambda pixels: pixels[::-1, ::-1],
  4: lambda pixels: pixels[::-1],
  5: lambda pixels: pixels.swapaxes(0, 1),
  6: lambda pixels: np.rot90(pixels, -1),
  7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
  8: lambda pixels: np.rot90(pixels),
}

# What files of a kind begin with.

_SIGNATURES = {
  'PNG': rb'\x89PNG\r\n\x1a\n',
  'JPEG': rb'\xff\xd8\xff',
  'WebP': rb'RIFF....WEBP',
  'TIFF': rb'II[*+]\0|MM\0[*+]',
  'BMP': rb'BM',
}
_OTHERS = {
  'a GIF': rb'GIF8',
  'HEIC': rb'....ftyp(hei|hev|mif|msf)',
  'AVIF': rb'....ftypavi',
  'a raw photo': rb'....ftypcrx|FUJIFILMCCD-RAW|IIRO|IIU\0',
  'a video': rb'....ftyp|RIFF....AVI |\x1a\x45\xdf\xa3',
  'JPEG XL': rb'\xff\x0a|\0\0\0\x0cJXL ',
  'JPEG 2000': rb'\xff\x4f\xff\x51|\0\0\0\x0cjP',
  'a Photoshop document': rb'8BPS',
  'a PDF': rb'%PDF',
  'PostScript': rb'%!PS|\xc5\xd0\xd3\xc6',
  'an archive': rb'PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!',
  'a web page': rb'(?i:\s*<(!doctype html|html|head|body))',
  'XML or SVG': rb'\s*<(\?xml|svg)',
  'text': rb'[\t\n\r\x20-\x7e]+$',
}


@contextlib.contextmanager
def _explaining(path: str | os.PathLike) -> Iterator[None]:
  """Turns whatever a decoder raises into one line, and keeps it from printing anything."""
  try:
    with _DECODING:
      yield
  except _UnreadableError as error:
    reason, cause = str(error), error.__cause__
  except ModuleNotFoundError as error:
    reason, cause = missing_package(error.name, error), error
  except MemoryError as error:
    reason, cause = 'there is not enough memory for it', error
  except OSError as error:  # the decoders' own have no number
    reason, cause = error.strerror if error.errno else _damaged(error), error
  except Exception as error:  # decoders raise some twenty kinds
    reason, cause = _damaged(error), error
  else:
    return
  raise UserError(f'{printable(path)} cannot be read: {printable(reason)}') from cause


def _damaged(error: Exception) -> str:
  detail = ' '.join(str(error).split())[:100] or type(error).__name__
  return f'it is damaged or of an unusual kind ({detail}); save it anew with another program'


class _Decoding:
  """While it is entered, decoders print nothing, and Pillow leaves the number of pixels to us.

  Both are settings of the whole process: the first thread that comes in changes them, the last one
  that goes out takes the change back.
  """

  def __init__(self):
    self._lock = threading.Lock()
    self._threads = 0
    self._undo = contextlib.ExitStack()

  def __enter__(self):
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

  def __exit__(self, *_):
    with self._lock:
      self._threads -= 1
      if not self._threads:
        self._undo.close()


_DECODING = _Decoding()


@contextlib.contextmanager
def _opening(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """Opens a regular file; a pipe would wait for ever."""
  try:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
      raise _UnreadableError('it is a folder, not a file')
    if not stat.S_ISREG(mode):
      raise _UnreadableError('it is a device or a pipe, not a file')
    file = open(path, 'rb')  # noqa: SIM115
  except FileNotFoundError as error:
    if os.path.islink(path):
      raise _UnreadableError('it is a link to a file that does not exist') from error
    raise
  except ValueError as error:
    raise _UnreadableError(f'no file has such a name ({error})') from error
  with file:
    yield file


def _open(file: BinaryIO, max_pixels: int | None) -> _Opened:
  head = file.read(64)
  file.seek(0)
  kind = _kind(_SIGNATURES, head)
  if not head:
    raise _UnreadableError('it is empty')
  if not kind:
    other = _kind(_OTHERS, head) or 'no image, or of an unknown kind'
    raise _UnreadableError(f'it is {other}; {_CONVERT}')
  opened = _open_tiff(file) if kind == 'TIFF' else _open_pillow(file, kind)
  width, height = opened.size
  if not width or not height:
    raise _UnreadableError('it has no pixels')
  limit = _MOST_PIXELS if max_pixels is None else max_pixels
  if width * height > limit:
    advice = 'make it smaller'
    if max_pixels is not None:
      advice += f', or allow it with --max_pixels={width * height}'
    raise _UnreadableError(f'it is {width}x{height}, more than {limit:,} pixels; {advice}')
  return opened


def _kind(signatures: Mapping[str, bytes], head: bytes) -> str | None:
  matches = (kind for kind, pattern in signatures.items() if re.match(b'(?s)' + pattern, head))
  return next(matches, None)


def _open_pillow(file: BinaryIO, kind: str) -> _Opened:
  # The plugins themselves: Image.open does not tell what it does not like.
  plugins = {'PNG': PngImageFile, 'JPEG': JpegImageFile, 'WebP': WebPImageFile, 'BMP': BmpImageFile}
  image = plugins[kind](file)
  if getattr(image, 'n_frames', 1) > 1:
    raise _UnreadableError('it is animated; save the frame that you want as an image of its own')
  if kind == 'PNG':
    image.info.setdefault('exif', metadata.in_png(file))

  def decode() -> tuple[np.ndarray, bytes | None]:
    if kind == 'PNG':
      file.seek(0)
      PngImageFile(file).verify()  # checksums and the end, which the decoder passes over
      # 16 bits become 8 in Pillow, and it takes the transparent grey of 2 and 4 bits for one of 8.
      if image.tile[0][3].endswith((';16B', 'L;2', 'L;4')):
        import imagecodecs

        file.seek(0)
        return _with_channels(imagecodecs.png_decode(file.read())), image.info.get('icc_profile')
    image.load()
    return _pixels(image)

  return _Opened(image.size, metadata.of_image(image), decode)


def _open_tiff(file: BinaryIO) -> _Opened:
  import tifffile

  tiff = tifffile.TiffFile(file)
  page = tiff.pages.first
  if page.is_reduced or 'DNGVersion' in page.tags:
    raise _UnreadableError('it is a raw photo or a preview; develop it to a TIFF or JPEG first')
  if any(not other.is_reduced for other in itertools.islice(tiff.pages, 1, None)):
    raise _UnreadableError('it has several pages; save the page that you want as an image')
  if page.sampleformat not in (1, 4):  # whole numbers without sign, or undefined
    raise _UnreadableError('it holds floating-point or signed numbers; convert it to 8 or 16 bits')
  if page.bitspersample not in (1, 2, 4, 8, 16):
    raise _UnreadableError(f'it has {page.bitspersample} bits; convert it to 8 or 16 bits')
  parts = itertools.zip_longest(page.dataoffsets, page.databytecounts, fillvalue=0)
  if any(not offset or offset + count > tiff.filehandle.size for offset, count in parts):
    raise _UnreadableError('a part of it is missing; copy it anew')
  size = (page.imagewidth, page.imagelength)
  colours = _TIFF_COLOURS.get(page.photometric)
  if colours and page.bitspersample in (8, 16):
    if not colours <= page.samplesperpixel <= colours + 4:
      raise _UnreadableError(f'its channels are not grey or RGB and alpha; {_CONVERT}')
    if page.compression in _TIFF_COMPRESSIONS:
      icc_profile = page.tags.valueof('InterColorProfile')
      return _Opened(size, metadata.of_tiff(page), lambda: (_tiff_pixels(page), icc_profile))
    if page.bitspersample == 16:
      raise _UnreadableError('it is compressed in an unusual way; save it without compression')
  file.seek(0)
  image = TiffImageFile(file)

  def decode() -> tuple[np.ndarray, bytes | None]:
    image.load()  # upright, without the orientation
    return _pixels(image)

  return _Opened(size, metadata.of_image(image), decode)


# What tifffile decodes, by the numbers in the file; Pillow does the rest.
_TIFF_COLOURS = {0: 1, 1: 1, 2: 3}  # 0 and 1 are grey, with white or black as 0; 2 is RGB
# None, LZW, Deflate in its two numbers, PackBits, LZMA and Zstandard.
_TIFF_COMPRESSIONS = (1, 5, 8, 32946, 32773, 34925, 50000)


def _tiff_pixels(page: 'tifffile.TiffPage') -> np.ndarray:
  """Grey or RGB of 8 or 16 bits, with or without alpha."""
  import tifffile

  if page.compression != tifffile.COMPRESSION.NONE:
    import imagecodecs  # noqa: F401 (without it tifffile reports a damaged file)

  colours, samples = _TIFF_COLOURS[page.photometric], page.samplesperpixel
  pixels = page.asarray(maxworkers=1)
  height, width, most = page.imagelength, page.imagewidth, np.iinfo(pixels.dtype).max
  if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
    pixels = np.moveaxis(pixels.reshape(samples, height, width), 0, -1)
  pixels = pixels.reshape(height, width, samples).astype(pixels.dtype.newbyteorder('='), copy=False)
  if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
    pixels = np.concatenate([most - pixels[..., :1], pixels[..., 1:]], axis=-1)
  # Samples of which nothing is said are taken for alpha, as everybody does.
  extra = page.extrasamples[0] if page.extrasamples else tifffile.EXTRASAMPLE.UNASSALPHA
  if samples == colours or extra == tifffile.EXTRASAMPLE.UNSPECIFIED:
    return pixels[..., :colours]
  pixels = pixels[..., : colours + 1]
  if extra == tifffile.EXTRASAMPLE.ASSOCALPHA:  # colours are multiplied by it
    alpha = pixels[..., -1:].astype(np.uint32)
    colour = (pixels[..., :-1] * np.uint32(most) + alpha // 2) // np.maximum(alpha, 1)
    pixels = np.concatenate([np.minimum(colour, most), alpha], axis=-1).astype(pixels.dtype)
  return pixels


def _pixels(image: Image.Image) -> tuple[np.ndarray, bytes | None]:
  """A loaded image's pixels, `[h, w, C]`, not turned, and their colour profile."""
  icc_profile = image.info.get('icc_profile')
  if image.mode in ('I', 'F'):
    raise _UnreadableError('it holds floating-point or 32-bit numbers; convert it to 8 or 16 bits')
  if image.mode.startswith('I;16'):
    return _with_channels(np.asarray(image).astype(np.uint16)), icc_profile
  if image.mode in ('CMYK', 'LAB'):
    return np.asarray(_to_srgb(image, icc_profile)), None
  grey, alpha = image.mode in ('1', 'L', 'LA', 'La'), image.has_transparency_data
  mode = ('LA' if alpha else 'L') if grey else ('RGBA' if alpha else 'RGB')
  return _with_channels(np.asarray(image.convert(mode))), icc_profile


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
  srgb = ImageCms.createProfile('sRGB')
  if image.mode == 'LAB':  # says itself what its numbers mean
    return ImageCms.profileToProfile(image, ImageCms.createProfile('LAB'), srgb, outputMode='RGB')
  try:
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile or b''))
    return ImageCms.profileToProfile(image, source, srgb, outputMode='RGB')
  except (ImageCms.PyCMSError, OSError):  # no profile, or not one of CMYK
    return image.convert('RGB')


def _with_channels(pixels: np.ndarray) -> np.ndarray:
  return pixels[..., None] if pixels.ndim == 2 else pixels
