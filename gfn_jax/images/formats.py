"""Formats of image files, told apart by their first bytes.

Pillow does not support 16-bit colour. It reads all files but 16-bit PNG, most TIFF files and HEIC.
imagecodecs reads such PNG files, tifffile such TIFF files and pillow-heif HEIC. They are imported
on first use, because most photos do not need them.
"""

import dataclasses
import io
import itertools
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from PIL import Image, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from gfn_jax.errors import install_extra
from gfn_jax.images import damage, metadata
from gfn_jax.images.damage import UnreadableError
from gfn_jax.images.decoding import Decoded, Opened, opened_with, pixels_of, with_channels

if TYPE_CHECKING:
  import tifffile

READ_ONLY = ('.gif', '.heic', '.heif', '.hif')
"""Extensions of formats that are read, but not written."""

_CONVERT = 'convert it to PNG, JPEG, WebP, TIFF or BMP'

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


def open_image(file: BinaryIO) -> Opened:
  """Read the header of an image file.

  Raises:
    UnreadableError: for another format, or a file that cannot be read.
  """
  head = file.read(64)
  file.seek(0)
  if not head:
    raise UnreadableError('empty file')
  if not (kind := _kind(_SIGNATURES, head)):
    other = _kind(_OTHERS, head)
    reason = f'unsupported format ({other})' if other else 'unknown format'
    raise UnreadableError(f'{reason}; {_CONVERT}')
  return _OPENERS[kind](file)


def format_of(file: BinaryIO) -> str | None:
  """Return the format of a file by its first bytes, such as 'PNG'; None for an unknown one."""
  head = file.read(64)
  file.seek(0)
  return _kind(_SIGNATURES, head)


def _kind(signatures: Mapping[str, bytes], head: bytes) -> str | None:
  matches = (kind for kind, pattern in signatures.items() if re.match(b'(?s)' + pattern, head))
  return next(matches, None)


# Image.open would hide the reason of a failure, so the plugins are called directly.


def _open_png(file: BinaryIO) -> Opened:
  png = damage.read_png(file)
  try:
    image = PngImageFile(io.BytesIO(png.header))
  except Exception:  # nonsense in chunks with right checksums
    png = damage.without_metadata(png)
    image = PngImageFile(io.BytesIO(png.header))
  _check_still(image)

  def decode() -> Decoded:
    content, notes = damage.png_content(file, png)
    image = PngImageFile(io.BytesIO(content))
    profile = image.info.get('icc_profile')
    # Pillow reduces 16 bits to 8, and misreads the transparent value of 2-bit and 4-bit grey.
    raw_mode = cast(str, image.tile[0].args)
    try:
      if raw_mode.endswith((';16B', 'L;2', 'L;4')):
        import imagecodecs

        return Decoded(with_channels(imagecodecs.png_decode(content)), profile, notes)
      image.load()
    except ModuleNotFoundError:
      raise
    except Exception:
      damage.check_png_pixels(png, content)
      raise
    return Decoded(*pixels_of(image), notes)

  opened = opened_with(image, decode)
  colour = tuple(chunk for chunk in png.chunks if chunk[0] in metadata.COLOUR_CHUNKS)
  return opened._replace(metadata=dataclasses.replace(opened.metadata, colour=colour))


def _open_jpeg(file: BinaryIO) -> Opened:
  def decode() -> Decoded:
    file.seek(0)
    content = file.read()
    content, notes = damage.jpeg_content(content)
    image = JpegImageFile(io.BytesIO(content))
    image.load()
    last = np.asarray(image.crop((image.width - 1, image.height - 1, *image.size)))
    if (last == 128).all():  # the decoder's colour of missing pixels
      damage.check_jpeg(content)
    return Decoded(*pixels_of(image), notes)

  return opened_with(JpegImageFile(file), decode)


def _open_webp(file: BinaryIO) -> Opened:
  content, notes = damage.webp_content(file.read())
  image = WebPImageFile(io.BytesIO(content))
  _check_still(image)
  return _open_plainly(image, notes)


def _open_bmp(file: BinaryIO) -> Opened:
  image = BmpImageFile(file)

  def decode() -> Decoded:
    codec, _, start, args = image.tile[0]
    if codec != 'raw':  # run lengths
      image.load()
      return Decoded(*pixels_of(image))
    file.seek(0)
    _, stride, _ = cast(tuple[str, int, int], args)
    content, notes = damage.bmp_content(file.read(), image.size, start, stride)
    repaired = BmpImageFile(io.BytesIO(content))
    repaired.load()
    return Decoded(*pixels_of(repaired), notes)

  return opened_with(image, decode)


def _open_gif(file: BinaryIO) -> Opened:
  image = GifImageFile(file)
  _check_still(image)
  return _open_plainly(image)


def _open_avif(file: BinaryIO) -> Opened:
  if not features.check('avif'):
    raise UnreadableError('AVIF is not supported by this Pillow; pip install --upgrade pillow')
  colour, notes = _coded_colour(file)
  image = AvifImageFile(file)
  _check_still(image)
  return _open_plainly(image, notes, colour)


def _open_heic(file: BinaryIO) -> Opened:
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
) -> Opened:
  """Describe an image that Pillow decodes."""

  def decode() -> Decoded:
    image.load()
    return Decoded(*pixels_of(image))

  opened = opened_with(image, decode, notes)
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


def _open_tiff(file: BinaryIO) -> Opened:
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
      return Opened(size, exif, lambda: Decoded(_tiff_pixels(page), icc_profile), beside, notes)
    if page.bitspersample == 16:
      raise UnreadableError('unsupported compression; save it without compression')
  file.seek(0)
  image = TiffImageFile(file)

  def decode() -> Decoded:
    image.load()  # applies and removes the orientation
    return Decoded(*pixels_of(image))

  return Opened(size, metadata.of_image(image), decode, beside, notes)


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


_OPENERS: dict[str, Callable[[BinaryIO], Opened]] = {
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
