"""EXIF of photos, and the part of it to keep in a derived file."""

import contextlib
import os
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

if TYPE_CHECKING:
  import tifffile

_MAKER_NOTE = 37500
_STRIPS, _TILES = 273, 324
# Width and height. In the tags of a TIFF page, the first pair is the size of its pixels.
_SIZES = (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)
_DETAILED_SIZES = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
_RESOLUTION = (
  ExifTags.Base.XResolution,
  ExifTags.Base.YResolution,
  ExifTags.Base.ResolutionUnit,
)
_POINTERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# TIFF tags outside EXIF: the storage of the pixels, and other metadata.
_STORAGE = (
  [254, 255, 273, 284, 301, 317, 529, 530, 532, 700, 33723, 34377, 34675, 37724]
  + [*range(258, 267), *range(277, 282), *range(288, 294), *range(320, 352), *range(512, 522)]
)  # fmt: skip
_NOT_KEPT = frozenset([ExifTags.Base.Orientation, *_POINTERS, *_STORAGE])


def of_image(image: Image.Image) -> Image.Exif:
  """Return the EXIF of an image, or the tags of a TIFF page; empty if damaged."""
  with contextlib.suppress(Exception):
    return Image.Image.getexif(image)  # PngImageFile.getexif would decode the image
  return Image.Exif()


def of_tiff(page: 'tifffile.TiffPage') -> Image.Exif:
  """Return the tags of a TIFF page; empty if damaged."""
  exif = Image.Exif()
  exif.endian, exif.bigtiff = page.parent.byteorder, page.parent.is_bigtiff
  with contextlib.suppress(Exception):
    file = cast(BinaryIO, page.parent.filehandle)  # has the methods that Pillow calls
    exif.load_from_fp(file, page.offset)
    return exif
  return Image.Exif()


def in_png(file: BinaryIO) -> bytes | None:
  """Return the EXIF of a PNG without decoding, even if it follows the pixels."""
  file.seek(8)
  while len(head := file.read(8)) == 8:
    length, kind = struct.unpack('>I4s', head)
    if kind == b'eXIf':
      return file.read(length)
    file.seek(length + 4, os.SEEK_CUR)
  return None


def orientation(exif: Image.Exif) -> int:
  """Return the EXIF orientation, from 1 (upright) to 8; 1 if missing."""
  with contextlib.suppress(Exception):
    return int(exif.get(ExifTags.Base.Orientation, 1))
  return 1


def kept(exif: Image.Exif, size: tuple[int, int] | None = None) -> Image.Exif:
  """Return a copy without orientation, thumbnail, TIFF storage tags and damaged tags.

  Args:
    exif: EXIF as read from a file.
    size: width and height to set in the tags that hold them; None keeps those tags.
  """
  copy = Image.Exif()
  copy.endian = '<'
  dropped = _NOT_KEPT.union(_SIZES) if _STRIPS in exif or _TILES in exif else _NOT_KEPT
  copy.update({tag: x for tag, x in _writable(exif).items() if tag not in dropped})
  if copy.get(ExifTags.Base.ResolutionUnit) == 1:  # no unit: the resolution has no meaning
    for tag in _RESOLUTION:
      copy.pop(tag, None)
  for pointer in _POINTERS:
    with contextlib.suppress(Exception):
      tags = dict(exif.get_ifd(pointer))
      if ExifTags.IFD.Interop in tags:
        tags[ExifTags.IFD.Interop] = exif.get_ifd(ExifTags.IFD.Interop)
      if tags := _writable(tags, pointer):
        copy[pointer] = tags
  if size:
    details = copy.get(ExifTags.IFD.Exif, {})
    for group, names in ((copy, _SIZES), (details, _DETAILED_SIZES)):
      group.update({name: x for name, x in zip(names, size, strict=True) if name in group})
  return copy


def _writable(tags: Mapping[int, Any], group: int | None = None) -> dict[int, Any]:
  """Return the tags that Pillow can write, because cameras write some that break the standard."""
  writable = {}
  for tag in tags:
    with contextlib.suppress(Exception):
      value = tags[tag]
      if isinstance(value, str) and not value.isascii():
        value = value.encode('latin-1')  # the bytes as read; as text, they would become '?'
      directory = ImageFileDirectory_v2(group=group)
      directory[tag] = value
      directory.tobytes()
      writable[tag] = value
  return writable


def to_bytes(exif: Image.Exif, limit: float = float('inf')) -> bytes:
  """Serialise EXIF as `PIL.Image.Exif.tobytes()` does, but return b'' if it is empty.

  Args:
    exif: EXIF, as returned by `kept`.
    limit: maximum number of bytes. Longer EXIF loses its maker notes, then everything.
  """
  content = exif.tobytes() if len(exif) else b''
  if len(content) > limit:
    exif.get(ExifTags.IFD.Exif, {}).pop(_MAKER_NOTE, None)
    content = exif.tobytes()
  return content if len(content) <= limit else b''


def add_to_tiff(file: BinaryIO, exif: Image.Exif) -> None:
  """Add EXIF tags to a little-endian TIFF of one page and less than 4 GiB.

  The EXIF is appended as a directory. A second directory with the entries of the EXIF and of the
  page is appended after it, and replaces the page's directory.
  """
  file.seek(4)
  (start,) = struct.unpack('<I', file.read(4))
  page = _entries(file, start)
  if ExifTags.Base.XResolution in exif:
    page = {tag: entry for tag, entry in page.items() if tag not in _RESOLUTION}
  start = _even_end(file)
  file.write(exif.tobytes(offset=start)[14:])  # without 'Exif\0\0' and the TIFF header
  entries = page | _entries(file, start) | {tag: page[tag] for tag in _SIZES}
  start = _even_end(file)
  file.write(struct.pack('<H', len(entries)))
  file.write(b''.join(entry for _, entry in sorted(entries.items())) + bytes(4))
  file.seek(4)
  file.write(struct.pack('<I', start))


def _entries(file: BinaryIO, start: int) -> dict[int, bytes]:
  file.seek(start)
  (count,) = struct.unpack('<H', file.read(2))
  entries = (file.read(12) for _ in range(count))
  return {struct.unpack('<H', entry[:2])[0]: entry for entry in entries}


def _even_end(file: BinaryIO) -> int:
  """Pad the file to an even size and return its end, where a directory can begin."""
  end = file.seek(0, os.SEEK_END)
  return end + file.write(bytes(end % 2))
