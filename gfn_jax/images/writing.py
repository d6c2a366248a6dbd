"""Writes photographs in five formats, with all that these can hold."""

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
  """Refuses what the format of a path cannot hold, before any work is done for it.

  Args:
    path: of a file to write; its extension says the format.
    size: width and height.
    dtype: uint8 or uint16.
    channels: 1 for grey, 2 for grey and alpha, 3 for RGB, 4 for RGB and alpha.

  Raises:
    UserError: for an unknown extension, too many pixels, 16 bits or alpha.
  """
  extension = extension_of(path)
  if extension not in _FORMATS:
    raise UserError(
      f'{printable(path)}: its extension names no known format; choose one of '
      f'{", ".join(EXTENSIONS)}'
    )
  form, deep, alpha = _FORMATS[extension], np.dtype(dtype) == np.uint16, channels in (2, 4)
  if deep and not form.deep:
    raise UserError(f'{printable(path)}: {form.name} has no 16 bits; choose .png or .tif')
  if alpha and not form.alpha:
    raise UserError(f'{printable(path)}: {form.name} has no transparency; choose .png or .tif')
  width, height = size
  stored = 4 if alpha and form.name == 'BMP' else channels
  needed = (width * stored * (1 + deep) + 3) * height  # BMP fills rows up to 4 bytes
  if max(size) > form.max_side or needed > form.max_bytes:
    limit = f'{form.max_side} pixels a side' if max(size) > form.max_side else '4 GiB'
    raise UserError(
      f'{printable(path)}: {form.name} holds at most {limit}, not {width}x{height} pixels; choose '
      f'{form.larger} or make the picture smaller'
    )


def write_photo(path: str | os.PathLike, photo: Photo) -> None:
  """Writes a photo in the format that the extension of `path` says: aside first, then renamed.

  PNG, TIFF, WebP and BMP are lossless; JPEG has quality 95 and full colour resolution. WebP is
  lossless because lossy WebP halves the resolution of colour and fails above some 40 megapixels.
  EXIF, with the size of the picture in its tags, and the colour profile are written too, but not
  to BMP, which has no place for them. WebP stores grey as RGB; WebP and BMP store grey and alpha as
  RGBA. Into a JPEG go at most 64 KiB of EXIF: without the maker's notes or not at all, if it is
  more.

  Raises:
    UserError: as `check_target`, or if a package that the format needs is not installed.
    OSError: if the file cannot be written; its `filename` is `path`.
    ValueError: for pixels of another shape.
    TypeError: for pixels of another type.
  """
  pixels = photo.pixels
  if pixels.ndim != 3 or not 1 <= pixels.shape[-1] <= 4 or 0 in pixels.shape:
    raise ValueError(f'pixels are [h, w, C] with C from 1 to 4, not {pixels.shape}')
  if pixels.dtype not in (np.uint8, np.uint16):
    raise TypeError(f'pixels are uint8 or uint16, not {pixels.dtype}')
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
    reason = missing_package(error.name, error)
    raise UserError(f'cannot write {printable(path)}: {reason}') from error
  except OSError as error:  # names the temporary file, or none
    raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _write_png(
  file: BinaryIO, pixels: np.ndarray, exif: Image.Exif, icc_profile: bytes | None
) -> None:
  import imagecodecs

  # For photographs as small as with the default strategy of level 3, in half the time or less.
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
  content = metadata.to_bytes(exif, limit=65533)  # a segment's
  options = {'quality': 95, 'subsampling': '4:4:4'}
  image = _to_pillow(pixels)
  image.save(_plain(file), 'JPEG', exif=content, icc_profile=icc_profile, **options)


def _write_webp(
  file: BinaryIO, pixels: np.ndarray, exif: Image.Exif, icc_profile: bytes | None
) -> None:
  # The least effort: more takes 5 times as long, for a tenth of the size. Exact: colours stay where
  # the picture is transparent, too.
  options = {'lossless': True, 'quality': 0, 'method': 0, 'exact': True}
  image = _to_pillow(pixels)
  image = image.convert('RGBA') if image.mode == 'LA' else image
  image.save(_plain(file), 'WEBP', exif=metadata.to_bytes(exif), icc_profile=icc_profile, **options)


def _write_bmp(file: BinaryIO, pixels: np.ndarray, *_) -> None:
  image = _to_pillow(pixels)
  if image.mode in ('L', 'RGB'):
    image.save(_plain(file), 'BMP')
    return
  # Pillow's BMP has alpha, but does not say so: readers ignore it. This is a header of version 4.
  width, height = image.size
  masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
  start, count = 14 + 108, 4 * width * height
  file.write(struct.pack('<2sIII', b'BM', start + count, 0, start))
  file.write(struct.pack('<IiiHHIIiiII', 108, width, height, 1, 32, 3, count, 2835, 2835, 0, 0))
  file.write(struct.pack('<4I4s48x', *masks, b'BGRs'))  # sRGB, read from its end
  file.write(image.convert('RGBA').tobytes('raw', 'BGRA', 0, -1))


def _plain(file: BinaryIO) -> Any:
  """A file for Pillow, without descriptor: its own writing overlooks a disk that gets full."""
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
  """What a format can hold.

  Attributes:
    name: of the format.
    write: to an open file.
    larger: the extension of one that can hold more.
    max_side: pixels.
    max_bytes: of pixels.
    alpha: whether it has transparency.
    deep: whether it has 16 bits.
  """

  name: str
  write: Callable[[BinaryIO, np.ndarray, Image.Exif, bytes | None], None]
  larger: str
  max_side: int = 2**31 - 1
  max_bytes: float = float('inf')
  alpha: bool = True
  deep: bool = False


# The sides of PNG and JPEG are limited by libpng and libjpeg, below what the formats can say. TIFF
# and BMP have 4 GiB, less some room for what is not pixels.
_PNG = _Format('PNG', _write_png, '.tif', max_side=1_000_000, deep=True)
_JPEG = _Format('JPEG', _write_jpeg, '.png', max_side=65500, alpha=False)
_WEBP = _Format('WebP', _write_webp, '.png', max_side=16383)
_BMP = _Format('BMP', _write_bmp, '.png', max_bytes=2**32 - 2**11)
_TIFF = _Format('TIFF', _write_tiff, '.png', max_bytes=2**32 - 2**25, deep=True)
_FORMATS = {
  '.png': _PNG,
  '.jpg': _JPEG,
  '.jpeg': _JPEG,
  '.webp': _WEBP,
  '.bmp': _BMP,
  '.tif': _TIFF,
  '.tiff': _TIFF,
}
EXTENSIONS = tuple(_FORMATS)
