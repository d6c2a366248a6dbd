"""Writing of photos as PNG, JPEG, WebP, TIFF, BMP and AVIF, with their metadata."""

import io
import os
import struct
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from gfn_jax.errors import UserError, missing_package
from gfn_jax.images.damage import png_chunk
from gfn_jax.images.metadata import (
  COMMENT,
  Metadata,
  add_to_tiff,
  as_resource,
  iptc_text,
  load,
  set_resolution,
  to_bytes,
)
from gfn_jax.images.reading import Photo
from gfn_jax.ops.pixels import is_opaque, to_8_bits
from gfn_jax.system.files import extension_of, printable, write_aside


def check_target(path: str | os.PathLike, size: tuple[int, int], dtype: Any, channels: int) -> None:
  """Raise `UserError` if the image format of a path cannot hold an image of a size.

  Args:
    path: the file to write. Its extension sets the format.
    size: width and height in pixels.
    dtype: uint8 or uint16.
    channels: 1 for grey, 2 for grey and alpha, 3 for RGB, 4 for RGB and alpha.

  Raises:
    UserError: for an unknown extension, or too many pixels.
  """
  form, alpha = _format(path), channels in (2, 4)
  deep = form.deep and np.dtype(dtype) == np.uint16
  width, height = size
  stored = 4 if alpha and form.name == 'BMP' else channels
  needed = (width * stored * (1 + deep) + 3) * height  # BMP pads rows to 4 bytes
  if max(size) > form.max_side or needed > form.max_bytes:
    limit = f'{form.max_side} pixels per side' if max(size) > form.max_side else '4 GiB'
    raise UserError(
      f'{printable(path)}: {width}x{height} exceeds the {limit} of {form.name}; choose '
      f'{form.larger} or reduce the image'
    )


def conversion_notes(path: str | os.PathLike, photo: Photo) -> tuple[str, ...]:
  """Return what the format of a path cannot hold of a photo, one sentence each.

  `write_photo` drops opaque alpha, rounds 16 bits to 8 and leaves metadata out, as the notes say.

  Args:
    path: the file to write. Its extension sets the format.
    photo: the photo, before or after restoration.

  Raises:
    UserError: for an unknown extension, or if the result would look different: for transparent
      pixels or an HDR transfer function.
  """
  form, pixels, notes = _format(path), photo.pixels, []
  if pixels.shape[-1] in (2, 4) and not form.alpha:
    if not is_opaque(pixels):
      raise UserError(
        f'{printable(path)}: {form.name} does not support transparency; choose .png or .tif'
      )
    notes.append(f'{form.name} does not support transparency: opaque alpha is left out')
  if pixels.dtype == np.uint16 and not form.deep:
    notes.append(f'{form.name} does not support 16 bits: they are rounded to 8')
  if photo.metadata.hdr and 'colour' in form.lacks:
    raise UserError(
      f'{printable(path)}: {form.name} cannot hold the HDR transfer function '
      f'({photo.metadata.hdr}); choose .png'
    )
  if lost := ', '.join(_lost(form, photo.metadata)):
    notes.append(f'{form.name} has no place for: {lost}')
  return tuple(notes)


def _lost(form: '_Format', metadata: Metadata) -> Iterator[str]:
  """Yield the names of the metadata that a format has no place for."""
  for field, name in _METADATA_NAMES.items():
    value = getattr(metadata, field)
    if field == 'texts' and form.name == 'JPEG':
      value = [key for key, _ in value if key != COMMENT]
    if field == 'colour':
      value = metadata.has_other_colours
    if field in form.lacks and value:
      yield name


_METADATA_NAMES = {
  'exif': 'EXIF',
  'icc_profile': 'colour profile',
  'xmp': 'XMP',
  'iptc': 'IPTC',
  'texts': 'text',
  'colour': 'gamma and primaries',
}


def _format(path: str | os.PathLike) -> '_Format':
  extension = extension_of(path)
  if extension not in _FORMATS:
    raise UserError(f'{printable(path)}: unknown extension; choose one of {", ".join(EXTENSIONS)}')
  return _FORMATS[extension]


def write_photo(path: str | os.PathLike, photo: Photo) -> None:
  """Write a photo in the format of the path's extension. The file is replaced atomically.

  PNG, TIFF, WebP and BMP are lossless. JPEG has quality 95 and AVIF 90, without chroma subsampling.
  WebP is lossless because lossy WebP subsamples chroma and fails above about 40 megapixels.

  The metadata that the format has a place for are written for the size of the pixels. JPEG holds at
  most 64 KiB of each: larger EXIF loses its maker notes, or is left out. What else a format cannot
  hold is converted as `conversion_notes` says. WebP stores grey as RGB. WebP, BMP and AVIF store
  grey with alpha as RGBA.

  Raises:
    UserError: as `check_target` and `conversion_notes`, or if a required package is not installed.
    OSError: if the file cannot be written; its `filename` is `path`.
    ValueError: for pixels of another shape.
    TypeError: for pixels of another type.
  """
  pixels = photo.pixels
  if pixels.ndim != 3 or not 1 <= pixels.shape[-1] <= 4 or 0 in pixels.shape:
    raise ValueError(f'pixels must be [h, w, C] with C from 1 to 4, not {pixels.shape}')
  if pixels.dtype not in (np.uint8, np.uint16):
    raise TypeError(f'pixels must be uint8 or uint16, not {pixels.dtype}')
  height, width, channels = pixels.shape
  check_target(path, (width, height), pixels.dtype, channels)
  conversion_notes(path, photo)  # raises
  form = _format(path)
  if channels in (2, 4) and not form.alpha:
    pixels = pixels[..., :-1]
  if not form.deep:
    pixels = to_8_bits(pixels)
  metadata = photo.metadata.for_size((width, height))
  try:
    with write_aside(path) as temporary, open(temporary, 'w+b') as file:
      form.write(file, np.ascontiguousarray(pixels), metadata)
  except ModuleNotFoundError as error:
    reason = missing_package(str(error.name), error)
    raise UserError(f'cannot write {printable(path)}: {reason}') from error
  except OSError as error:  # names the temporary file or no file
    raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _write_png(file: BinaryIO, pixels: np.ndarray, metadata: Metadata) -> None:
  import imagecodecs

  # Photos are as small as with level 3 and the default strategy, in at most half the time.
  options = {'strategy': imagecodecs.PNG.STRATEGY.RLE, 'filter': imagecodecs.PNG.FILTER.PAETH}
  pixels = _without_one_channel(pixels)
  png = memoryview(imagecodecs.png_encode(pixels, level=1, **options))
  file.write(png[:33])  # the signature and IHDR
  for kind, content in _png_metadata(metadata):
    file.write(png_chunk(kind, content))
  file.write(png[33:])


def _png_metadata(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
  """Yield the kinds and contents of the chunks of metadata, all of which precede the pixels."""
  yield from metadata.colour
  if metadata.icc_profile:
    yield b'iCCP', b'ICC Profile\0\0' + zlib.compress(metadata.icc_profile)
  if found := metadata.resolution:
    per_unit = 100 / 2.54 if found.per_inch else 1
    x, y = (round(per_unit * side) for side in found[:2])
    if min(x, y) > 0 and max(x, y) < 2**31:
      yield b'pHYs', struct.pack('>IIB', x, y, found.per_inch)
  if metadata.exif:
    yield b'eXIf', metadata.exif.removeprefix(b'Exif\0\0')
  if metadata.xmp:
    yield b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + metadata.xmp
  texts = metadata.texts + ((iptc_text(metadata.iptc),) if metadata.iptc else ())
  for key, text in texts:
    try:
      yield b'tEXt', key.encode('latin-1') + b'\0' + text.encode('latin-1')
    except UnicodeEncodeError:
      yield b'iTXt', key.encode('latin-1', 'replace') + b'\0\0\0\0\0' + text.encode()


def _write_jpeg(file: BinaryIO, pixels: np.ndarray, metadata: Metadata) -> None:
  options: dict[str, Any] = {'quality': 95, 'subsampling': '4:4:4'}
  options['exif'] = to_bytes(load(metadata.exif), limit=_JPEG_SEGMENT)
  options['extra'] = b''.join(
    b'\xff' + marker + struct.pack('>H', 2 + len(content)) + content
    for marker, content in _jpeg_metadata(metadata)
    if len(content) <= _JPEG_SEGMENT
  )
  image, buffer = _to_pillow(pixels), io.BytesIO()
  image.save(buffer, 'JPEG', icc_profile=metadata.icc_profile, **options)
  content = buffer.getbuffer()
  if (found := metadata.resolution) and max(found[:2]) < 2**16 - 0.5:
    # Pillow writes no ratio, so the fields of its JFIF header, the first segment, are replaced.
    content[13:18] = struct.pack('>BHH', found.per_inch, *(max(1, round(x)) for x in found[:2]))
  file.write(content)


_JPEG_SEGMENT = 65533  # maximum size of the content of a segment


def _jpeg_metadata(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
  """Yield markers and contents of segments, apart from EXIF and profile."""
  if metadata.xmp:
    yield b'\xe1', b'http://ns.adobe.com/xap/1.0/\0' + metadata.xmp
  if metadata.iptc:
    yield b'\xed', b'Photoshop 3.0\0' + as_resource(metadata.iptc)
  for key, text in metadata.texts:
    if key == COMMENT:
      yield b'\xfe', text.encode()


def _write_webp(file: BinaryIO, pixels: np.ndarray, metadata: Metadata) -> None:
  # Method 0: higher ones take 5 times as long to save a tenth of the size. Exact keeps the colours
  # of transparent pixels.
  options = {'lossless': True, 'quality': 0, 'method': 0, 'exact': True}
  _rgba_if_alpha(pixels).save(_plain(file), 'WEBP', **exif_options(metadata), **options)


def _write_avif(file: BinaryIO, pixels: np.ndarray, metadata: Metadata) -> None:
  # Speed 8: lower ones take several times as long.
  options: dict[str, Any] = {'quality': 90, 'speed': 8}
  image = _rgba_if_alpha(pixels)
  if image.mode != 'L':
    options['subsampling'] = '4:4:4'
  image.save(_plain(file), 'AVIF', **exif_options(metadata), **options)


def exif_options(metadata: Metadata) -> dict[str, Any]:
  """Return the metadata for Pillow's WebP and AVIF, whose place for a resolution is the EXIF."""
  exif = to_bytes(_exif_with_resolution(metadata))
  return {'exif': exif, 'icc_profile': metadata.icc_profile, 'xmp': metadata.xmp}


def _exif_with_resolution(metadata: Metadata) -> Image.Exif:
  exif = load(metadata.exif)
  if metadata.resolution:
    set_resolution(exif, metadata.resolution)
  return exif


def _rgba_if_alpha(pixels: np.ndarray) -> Image.Image:
  image = _to_pillow(pixels)
  return image.convert('RGBA') if image.mode == 'LA' else image


def _write_bmp(file: BinaryIO, pixels: np.ndarray, metadata: Metadata) -> None:
  found, image = metadata.resolution, _to_pillow(pixels)
  dpi = found[:2] if found and found.per_inch else (72, 72)
  if image.mode in ('L', 'RGB'):
    image.save(_plain(file), 'BMP', dpi=dpi)
    return
  # Pillow writes no alpha mask, so readers ignore the alpha. A version 4 header has one.
  width, height = image.size
  masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
  start, count = 14 + 108, 4 * width * height
  file.write(struct.pack('<2sIII', b'BM', start + count, 0, start))
  per_metre = [round(x / 0.0254) for x in dpi]
  file.write(struct.pack('<IiiHHIIiiII', 108, width, height, 1, 32, 3, count, *per_metre, 0, 0))
  file.write(struct.pack('<4I4s48x', *masks, b'BGRs'))  # 'sRGB' as a little-endian number
  file.write(image.convert('RGBA').tobytes('raw', 'BGRA', 0, -1))


def _plain(file: BinaryIO) -> Any:
  """Return a file without descriptor, because Pillow's own writing ignores a full disk."""
  return types.SimpleNamespace(write=file.write, name=file.name)


def _to_pillow(pixels: np.ndarray) -> Image.Image:
  return Image.fromarray(_without_one_channel(pixels))


def _without_one_channel(pixels: np.ndarray) -> np.ndarray:
  return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _write_tiff(file: BinaryIO, pixels: np.ndarray, metadata: Metadata) -> None:
  import tifffile

  channels, found = pixels.shape[-1], metadata.resolution
  extras = ((700, 1, metadata.xmp), (33723, 7, metadata.iptc))  # code, type, content
  tifffile.imwrite(
    file,
    _without_one_channel(pixels),
    byteorder='<',
    photometric='rgb' if channels > 2 else 'minisblack',
    planarconfig=None if channels == 1 else 'contig',
    extrasamples=['unassalpha'] if channels in (2, 4) else None,
    compression='zlib',
    compressionargs={'level': 1},
    predictor=True,
    iccprofile=metadata.icc_profile,
    resolution=found[:2] if found else None,
    resolutionunit=(2 if found.per_inch else 1) if found else None,
    extratags=[(code, kind, len(x), x, True) for code, kind, x in extras if x],
    metadata=None,
    software=False,
  )
  if metadata.exif:
    add_to_tiff(file, _exif_with_resolution(metadata))


class _Format(NamedTuple):
  """Image format and its limits.

  Attributes:
    name: name of the format.
    write: function that writes pixels and metadata to an open file.
    larger: extension of a format with higher limits.
    max_side: maximum width and height in pixels.
    max_bytes: maximum size of the uncompressed pixels in bytes.
    alpha: True if the format supports transparency.
    deep: True if the format supports 16 bits.
    lacks: fields of `Metadata` that the format has no place for.
  """

  name: str
  write: Callable[[BinaryIO, np.ndarray, Metadata], None]
  larger: str
  max_side: int = 2**31 - 1
  max_bytes: float = float('inf')
  alpha: bool = True
  deep: bool = False
  lacks: tuple[str, ...] = ()


# libpng and libjpeg limit the sides more than their formats do. TIFF and BMP are limited to 4 GiB,
# including metadata.
_PNG = _Format('PNG', _write_png, '.tif', max_side=1_000_000, deep=True)
_JPEG = _Format('JPEG', _write_jpeg, '.png', max_side=65500, alpha=False, lacks=('texts', 'colour'))
_WEBP = _Format('WebP', _write_webp, '.png', max_side=16383, lacks=('iptc', 'texts', 'colour'))
_AVIF = _Format('AVIF', _write_avif, '.png', max_side=65536, lacks=('iptc', 'texts', 'colour'))
_BMP = _Format('BMP', _write_bmp, '.png', max_bytes=2**32 - 2**11, lacks=tuple(_METADATA_NAMES))
_TIFF = _Format(
  'TIFF', _write_tiff, '.png', max_bytes=2**32 - 2**25, deep=True, lacks=('texts', 'colour')
)
_FORMATS = {
  '.png': _PNG,
  '.jpg': _JPEG,
  '.jpeg': _JPEG,
  '.jpe': _JPEG,
  '.jfif': _JPEG,
  '.webp': _WEBP,
  '.bmp': _BMP,
  '.tif': _TIFF,
  '.tiff': _TIFF,
  '.avif': _AVIF,
}
EXTENSIONS = tuple(_FORMATS)
"""Extensions of the formats that can be written. All of them are read, too."""
