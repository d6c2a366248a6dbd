"""Writing of photos as PNG, JPEG, WebP, TIFF and BMP, with their metadata."""

import os
import struct
import types
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from gfn_jax.errors import UserError, missing_package
from gfn_jax.images import metadata
from gfn_jax.images.reading import Photo
from gfn_jax.system.files import extension_of, printable, write_aside


def check_target(path: str | os.PathLike, size: tuple[int, int], dtype: Any, channels: int) -> None:
  """Raise `UserError` if the image format of a path cannot hold an image.

  Args:
    path: the file to write. Its extension sets the format.
    size: width and height in pixels.
    dtype: uint8 or uint16.
    channels: 1 for grey, 2 for grey and alpha, 3 for RGB, 4 for RGB and alpha.

  Raises:
    UserError: for an unknown extension, too many pixels, 16 bits or alpha.
  """
  extension = extension_of(path)
  if extension not in _FORMATS:
    raise UserError(f'{printable(path)}: unknown extension; choose one of {", ".join(EXTENSIONS)}')
  form, deep, alpha = _FORMATS[extension], np.dtype(dtype) == np.uint16, channels in (2, 4)
  if deep and not form.deep:
    raise UserError(f'{printable(path)}: {form.name} does not support 16 bits; choose .png or .tif')
  if alpha and not form.alpha:
    raise UserError(
      f'{printable(path)}: {form.name} does not support transparency; choose .png or .tif'
    )
  width, height = size
  stored = 4 if alpha and form.name == 'BMP' else channels
  needed = (width * stored * (1 + deep) + 3) * height  # BMP pads rows to 4 bytes
  if max(size) > form.max_side or needed > form.max_bytes:
    limit = f'{form.max_side} pixels per side' if max(size) > form.max_side else '4 GiB'
    raise UserError(
      f'{printable(path)}: {width}x{height} exceeds the {limit} of {form.name}; choose '
      f'{form.larger} or reduce the image'
    )


def write_photo(path: str | os.PathLike, photo: Photo) -> None:
  """Write a photo in the format of the path's extension. The file is replaced atomically.

  PNG, TIFF, WebP and BMP are lossless. JPEG has quality 95 and no chroma subsampling. WebP is
  lossless because lossy WebP subsamples chroma and fails above about 40 megapixels.

  EXIF, with updated size tags, and the colour profile are written too, except to BMP, which does
  not support them. JPEG holds at most 64 KiB of EXIF: larger EXIF loses its maker notes, or is left
  out. WebP stores grey as RGB. WebP and BMP store grey with alpha as RGBA.

  Raises:
    UserError: as `check_target`, or if a required package is not installed.
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
  exif = Image.Exif()
  exif.load(photo.exif)
  exif = metadata.kept(exif, (width, height))
  write = _FORMATS[extension_of(path)].write
  try:
    with write_aside(path) as temporary, open(temporary, 'w+b') as file:
      write(file, np.ascontiguousarray(pixels), exif, photo.icc_profile)
  except ModuleNotFoundError as error:
    reason = missing_package(str(error.name), error)
    raise UserError(f'cannot write {printable(path)}: {reason}') from error
  except OSError as error:  # names the temporary file or no file
    raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _write_png(
  file: BinaryIO, pixels: np.ndarray, exif: Image.Exif, icc_profile: bytes | None
) -> None:
  import imagecodecs

  # Photos are as small as with level 3 and the default strategy, in at most half the time.
  options = {'strategy': imagecodecs.PNG.STRATEGY.RLE, 'filter': imagecodecs.PNG.FILTER.PAETH}
  pixels = _without_one_channel(pixels)
  png = memoryview(imagecodecs.png_encode(pixels, level=1, **options))
  file.write(png[:33])  # the signature and IHDR
  if icc_profile:
    _write_chunk(file, b'iCCP', b'ICC Profile\0\0' + zlib.compress(icc_profile))
  if len(exif):
    _write_chunk(file, b'eXIf', exif.tobytes().removeprefix(b'Exif\0\0'))
  file.write(png[33:])


def _write_chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
  checksum = zlib.crc32(kind + content)
  file.write(struct.pack('>I', len(content)) + kind + content + struct.pack('>I', checksum))


def _write_jpeg(
  file: BinaryIO, pixels: np.ndarray, exif: Image.Exif, icc_profile: bytes | None
) -> None:
  content = metadata.to_bytes(exif, limit=65533)  # maximum size of a JPEG segment
  options = {'quality': 95, 'subsampling': '4:4:4'}
  image = _to_pillow(pixels)
  image.save(_plain(file), 'JPEG', exif=content, icc_profile=icc_profile, **options)


def _write_webp(
  file: BinaryIO, pixels: np.ndarray, exif: Image.Exif, icc_profile: bytes | None
) -> None:
  # Method 0: higher ones take 5 times as long to save a tenth of the size. Exact keeps the colours
  # of transparent pixels.
  options = {'lossless': True, 'quality': 0, 'method': 0, 'exact': True}
  image = _to_pillow(pixels)
  image = image.convert('RGBA') if image.mode == 'LA' else image
  image.save(_plain(file), 'WEBP', exif=metadata.to_bytes(exif), icc_profile=icc_profile, **options)


def _write_bmp(file: BinaryIO, pixels: np.ndarray, *_: object) -> None:
  image = _to_pillow(pixels)
  if image.mode in ('L', 'RGB'):
    image.save(_plain(file), 'BMP')
    return
  # Pillow writes no alpha mask, so readers ignore the alpha. A version 4 header has one.
  width, height = image.size
  masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
  start, count = 14 + 108, 4 * width * height
  file.write(struct.pack('<2sIII', b'BM', start + count, 0, start))
  file.write(struct.pack('<IiiHHIIiiII', 108, width, height, 1, 32, 3, count, 2835, 2835, 0, 0))
  file.write(struct.pack('<4I4s48x', *masks, b'BGRs'))  # 'sRGB' as a little-endian number
  file.write(image.convert('RGBA').tobytes('raw', 'BGRA', 0, -1))


def _plain(file: BinaryIO) -> Any:
  """Return a file without descriptor, because Pillow's own writing ignores a full disk."""
  return types.SimpleNamespace(write=file.write, name=file.name)


def _to_pillow(pixels: np.ndarray) -> Image.Image:
  return Image.fromarray(_without_one_channel(pixels))


def _without_one_channel(pixels: np.ndarray) -> np.ndarray:
  return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _write_tiff(
  file: BinaryIO, pixels: np.ndarray, exif: Image.Exif, icc_profile: bytes | None
) -> None:
  import tifffile

  channels = pixels.shape[-1]
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
    iccprofile=icc_profile,
    metadata=None,
    software=False,
  )
  if len(exif):
    metadata.add_to_tiff(file, exif)


class _Format(NamedTuple):
  """Image format and its limits.

  Attributes:
    name: name of the format.
    write: function that writes pixels, EXIF and colour profile to an open file.
    larger: extension of a format with higher limits.
    max_side: maximum width and height in pixels.
    max_bytes: maximum size of the uncompressed pixels in bytes.
    alpha: True if the format supports transparency.
    deep: True if the format supports 16 bits.
  """

  name: str
  write: Callable[[BinaryIO, np.ndarray, Image.Exif, bytes | None], None]
  larger: str
  max_side: int = 2**31 - 1
  max_bytes: float = float('inf')
  alpha: bool = True
  deep: bool = False


# libpng and libjpeg limit the sides more than their formats do. TIFF and BMP are limited to 4 GiB,
# including metadata.
_PNG = _Format('PNG', _write_png, '.tif', max_side=1_000_000, deep=True)
_JPEG = _Format('JPEG', _write_jpeg, '.png', max_side=65500, alpha=False)
_WEBP = _Format('WebP', _write_webp, '.png', max_side=16383)
_BMP = _Format('BMP', _write_bmp, '.png', max_bytes=2**32 - 2**11)
_TIFF = _Format('TIFF', _write_tiff, '.png', max_bytes=2**32 - 2**25, deep=True)
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
}
EXTENSIONS = tuple(_FORMATS)
