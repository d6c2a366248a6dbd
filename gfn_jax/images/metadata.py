"""Metadata of photos, and the part of them to keep in a derived file.

One policy holds for all formats: metadata travel where the format of the result has a place for
them, and describe the result. Sizes and resolutions are those of the result, and it is upright.
"""

import contextlib
import dataclasses
import fractions
import math
import os
import re
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

if TYPE_CHECKING:
  import tifffile

_MAKER_NOTE = 37500
_STRIPS, _TILES = 273, 324
# Width and height. In the tags of a TIFF page, the first pair is the size of its pixels.
_SIZES = (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)
_DETAILED_SIZES = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
_RESOLUTIONS = (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
_FOCAL_RESOLUTIONS = (
  ExifTags.Base.FocalPlaneXResolution,
  ExifTags.Base.FocalPlaneYResolution,
)
_RESOLUTION = (*_RESOLUTIONS, ExifTags.Base.ResolutionUnit)
_POINTERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# TIFF tags outside EXIF: the storage of the pixels, and other metadata.
_STORAGE = (
  [254, 255, 273, 284, 301, 317, 529, 530, 532, 700, 33723, 34377, 34675, 37724]
  + [*range(258, 267), *range(277, 282), *range(288, 294), *range(320, 352), *range(512, 522)]
)  # fmt: skip
_NOT_KEPT = frozenset([ExifTags.Base.Orientation, *_POINTERS, *_STORAGE])

_CM_PER_INCH = 2.54
_IPTC = 0x0404  # number of the Photoshop resource that holds IPTC

_IPTC_TEXT = 'Raw profile type iptc'
_XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG = 700, 33723, 34377  # of a TIFF

COMMENT = 'Comment'
"""Keyword of the comment of a JPEG among `Metadata.texts`."""

COLOUR_CHUNKS = (b'cICP', b'gAMA', b'cHRM', b'sRGB', b'mDCV', b'cLLI')
"""Kinds of PNG chunks that describe the colours, besides the profile."""


class Resolution(NamedTuple):
  """Pixels per inch in x and y; if `per_inch` is False, only their ratio has a meaning."""

  x: float
  y: float
  per_inch: bool = True

  def turned(self) -> 'Resolution':
    """Return the resolution of the image turned by 90 degrees."""
    return Resolution(self.y, self.x, self.per_inch)


def to_resolution(sides: Any, unit: float | None) -> Resolution | None:
  """Return a resolution from a file; None if it has no meaning.

  Args:
    sides: pixels per unit in x and y.
    unit: inches per unit; None if the file has no unit.
  """
  with contextlib.suppress(Exception):
    x, y = map(float, sides)
    if not (0 < x < math.inf and 0 < y < math.inf):
      return None
    if unit:
      return Resolution(x / unit, y / unit)
    return Resolution(x, y, per_inch=False) if x != y else None
  return None


@dataclasses.dataclass(frozen=True)
class Metadata:
  """Metadata of a photo. Each format keeps those that it has a place for.

  Attributes:
    exif: EXIF as of `PIL.Image.Exif.tobytes()`, without orientation and thumbnail; b'' if missing.
    icc_profile: colour profile of the pixels; None for sRGB or an unknown profile.
    xmp: XMP packet; b'' if missing.
    iptc: IPTC-IIM datasets; b'' if missing.
    texts: keywords and texts of a PNG. The keyword of a JPEG's comment is `COMMENT`.
    colour: kinds and contents of PNG chunks that describe the colours.
    resolution: resolution at `size`, apart from that in EXIF; None if unknown.
    size: width and height of the image that the metadata came with; None if they describe the
      image that they are written with.
  """

  exif: bytes = b''
  icc_profile: bytes | None = None
  xmp: bytes = b''
  iptc: bytes = b''
  texts: tuple[tuple[str, str], ...] = ()
  colour: tuple[tuple[bytes, bytes], ...] = ()
  resolution: Resolution | None = None
  size: tuple[int, int] | None = None

  @property
  def hdr(self) -> str | None:
    """Name of the HDR transfer function, PQ or HLG; None for other images."""
    code = dict(self.colour).get(b'cICP', b'')[1:2]
    return {b'\x10': 'PQ', b'\x12': 'HLG'}.get(code)

  @property
  def has_other_colours(self) -> bool:
    """True if the PNG chunks describe other colours than sRGB, and no profile does."""
    chunks = dict(self.colour)
    if cicp := chunks.get(b'cICP'):
      return cicp[:2] not in (b'\x01\x0d', b'\x01\x01', b'\x02\x02')
    if self.icc_profile or b'sRGB' in chunks:
      return False
    srgb = _SRGB_CHUNKS
    return any(not _nearly(chunks[kind], srgb[kind]) for kind in srgb if kind in chunks)

  def stripped(self) -> 'Metadata':
    """Return a copy with nothing but what the colours need."""
    return Metadata(icc_profile=self.icc_profile, colour=self.colour)

  def for_size(self, size: tuple[int, int]) -> 'Metadata':
    """Return a copy that describes the image enlarged to a size, of the same size in print.

    Args:
      size: width and height in pixels.
    """
    if self.size:
      x, y = (new / old for new, old in zip(size, self.size, strict=True))
    else:
      x = y = 1.0
    resolution = self.resolution or exif_resolution(load(self.exif))
    if resolution and resolution.per_inch:
      resolution = Resolution(x * resolution.x, y * resolution.y)
    return dataclasses.replace(
      self,
      exif=to_bytes(load(self.exif, size, (x, y))),
      xmp=_xmp_for_size(self.xmp, size, (x, y)),
      resolution=resolution,
      size=size,
    )


_SRGB_CHUNKS = {
  b'gAMA': struct.pack('>I', 45455),
  b'cHRM': struct.pack('>8I', 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}


def _nearly(chunk: bytes, other: bytes) -> bool:
  """Return True if the numbers of two chunks differ by at most 0.005."""
  if len(chunk) != len(other):
    return True  # damaged, without meaning
  numbers = (struct.unpack(f'>{len(other) // 4}I', content) for content in (chunk, other))
  return all(abs(a - b) <= 500 for a, b in zip(*numbers, strict=True))


def load(
  content: bytes, size: tuple[int, int] | None = None, enlarged: tuple[float, float] = (1.0, 1.0)
) -> Image.Exif:
  """Return `kept` EXIF from its bytes; empty if damaged."""
  exif = Image.Exif()
  with contextlib.suppress(Exception):
    exif.load(content)
    return kept(exif, size, enlarged)
  return Image.Exif()


def exif_resolution(exif: Image.Exif) -> Resolution | None:
  """Return the resolution in EXIF; None if missing."""
  x, y = (exif.get(tag) for tag in _RESOLUTIONS)
  units = {1: None, 3: 1 / _CM_PER_INCH}
  return to_resolution((x, y), units.get(exif.get(ExifTags.Base.ResolutionUnit, 2), 1.0))


def set_resolution(exif: Image.Exif, value: Resolution) -> None:
  """Set the resolution tags of EXIF."""
  exif.update({tag: _rational(x) for tag, x in zip(_RESOLUTIONS, value[:2], strict=True)})
  exif[ExifTags.Base.ResolutionUnit] = 2 if value.per_inch else 1


def _rational(value: Any) -> IFDRational:
  number = fractions.Fraction(value).limit_denominator(10_000)
  return IFDRational(min(number, fractions.Fraction(2**32 - 1)))


def turn(exif: Image.Exif) -> None:
  """Exchange the resolutions in x and y of EXIF that `kept` returned."""
  details = exif.get(ExifTags.IFD.Exif, {})
  for group, (x, y) in ((exif, _RESOLUTIONS), (details, _FOCAL_RESOLUTIONS)):
    if x in group and y in group:
      group[x], group[y] = group[y], group[x]


def iptc_in(resources: bytes) -> bytes:
  """Return the IPTC datasets in Photoshop's image resources; b'' if missing."""
  at = resources.find(b'8BIM')
  while at >= 0 and resources[at : at + 4] == b'8BIM':
    name = resources[at + 6 : at + 7]
    start = at + 6 + (2 + name[0]) // 2 * 2 if name else len(resources)
    if len(resources) < start + 4:
      break
    (length,) = struct.unpack('>I', resources[start : start + 4])
    if resources[at + 4 : at + 6] == _IPTC.to_bytes(2):
      return resources[start + 4 : start + 4 + length]
    at = start + 4 + length + length % 2
  return b''


def as_resource(iptc: bytes) -> bytes:
  """Return IPTC datasets as an image resource of Photoshop."""
  return b'8BIM' + struct.pack('>HHI', _IPTC, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


# XMP properties with a value that changes with the pixels, and the parts of files that the results
# do not have: thumbnails, gain maps, depth maps, and the videos of moving photos.
_XMP_NUMBER = re.compile(
  rb'(tiff:(?:Orientation|ImageWidth|ImageLength|[XY]Resolution)|exif:Pixel[XY]Dimension|'
  rb'GPano:\w+Pixels)(\s*=\s*["\']|>)(\d[\d./]*)'
)
_XMP_PARTS = rb'(?:hdrgm|GCamera|GContainer|Container|GImage|GDepth|xmpNote):\w+'
_XMP_ATTRIBUTE = re.compile(rb'\s' + _XMP_PARTS + rb'\s*=\s*(?:"[^"<]*"|\'[^\'<]*\')')
_XMP_ELEMENT = re.compile(rb'<(' + _XMP_PARTS + rb'|xmp:Thumbnails)(?![\w:])[^<>]*>')


def _xmp_for_size(xmp: bytes, size: tuple[int, int], enlarged: tuple[float, float]) -> bytes:
  """Return an XMP packet for an upright image that is enlarged to a size."""
  width, height = (b'%d' % side for side in size)
  fixed = {
    b'tiff:Orientation': b'1',
    b'tiff:ImageWidth': width,
    b'tiff:ImageLength': height,
    b'exif:PixelXDimension': width,
    b'exif:PixelYDimension': height,
  }

  def value(match: re.Match) -> bytes:
    name, between, old = match.groups()
    if name in fixed:
      return name + between + fixed[name]
    vertical = any(part in name for part in (b'YRes', b'Height', b'Top'))
    try:
      new = fractions.Fraction(old.decode()) * fractions.Fraction(enlarged[vertical])
    except (ValueError, ZeroDivisionError):
      return match[0]
    top, bottom = new.limit_denominator(10_000).as_integer_ratio()
    return name + between + (b'%d/%d' % (top, bottom) if b'/' in old or bottom > 1 else b'%d' % top)

  return _XMP_NUMBER.sub(value, _without_parts(xmp))


def _without_parts(xmp: bytes) -> bytes:
  """Remove the properties of parts of files from XMP; a damaged packet becomes b''."""
  pieces, at = [], 0
  for match in _XMP_ELEMENT.finditer(xmp):
    if match.start() < at:  # inside the element before
      continue
    pieces.append(xmp[at : match.start()])
    at = match.end()
    if not match[0].endswith(b'/>'):
      closing = b'</' + match[1] + b'>'
      end = xmp.find(closing, at)
      if end < 0:
        return b''
      at = end + len(closing)
  return _XMP_ATTRIBUTE.sub(b'', b''.join(pieces) + xmp[at:])


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
    if page.is_shaped or page.is_imagej or page.is_ome:  # such a description has the size
      exif.pop(ExifTags.Base.ImageDescription, None)
    return exif
  return Image.Exif()


def beside_exif(image: Image.Image) -> Metadata:
  """Return the metadata of an image without EXIF, profile and colours; damaged ones are left out.

  Args:
    image: a Pillow image; of a PNG, the chunks before the pixels are read.
  """
  info = image.info
  xmp = info.get('xmp') or info.get('XML:com.adobe.xmp') or b''
  texts = [(COMMENT, text) for marker, text in getattr(image, 'applist', ()) if marker == 'COM']
  if not texts and 'comment' in info:
    texts = [(COMMENT, info['comment'])]
  png = getattr(getattr(image, 'png', None), 'im_text', None) or getattr(image, '_text', None) or {}
  iptc = info.get('photoshop', {}).get(_IPTC, b'') or _iptc_in_text(png.get(_IPTC_TEXT, ''))
  hidden = ('Raw profile type ', 'XML:com.adobe.xmp')
  texts += [(key, text) for key, text in png.items() if not key.startswith(hidden)]
  return Metadata(
    xmp=xmp.encode() if isinstance(xmp, str) else bytes(xmp),
    iptc=iptc if isinstance(iptc, bytes) else b'',
    texts=tuple((key, _decoded(text)) for key, text in texts),
    resolution=_resolution(info),
  )


def beside_exif_in_tiff(page: 'tifffile.TiffPage') -> Metadata:
  """Return the metadata of a TIFF page without EXIF and profile; damaged ones are left out."""
  tags, file = page.tags, page.parent.filehandle

  def content(code: int) -> bytes:
    with contextlib.suppress(Exception):
      tag = tags[code]  # raw bytes: the type in the file may be a number's
      file.seek(tag.valueoffset)
      return file.read(tag.valuebytecount)
    return b''

  sides, unit = None, tags.valueof(ExifTags.Base.ResolutionUnit, 2)
  with contextlib.suppress(Exception):
    sides = [fractions.Fraction(*tags.valueof(tag)) for tag in _RESOLUTIONS]
  return Metadata(
    xmp=content(_XMP_TAG),
    iptc=content(_IPTC_TAG).rstrip(b'\0') or iptc_in(content(_PHOTOSHOP_TAG)),
    resolution=to_resolution(sides, {1: None, 3: 1 / _CM_PER_INCH}.get(unit, 1.0)),
  )


def _resolution(info: Mapping[Any, Any]) -> Resolution | None:
  """Return the resolution of a JPEG, PNG or BMP apart from EXIF; None if missing."""
  units = {0: None, 1: 1.0, 2: 1 / _CM_PER_INCH}
  if 'jfif_density' in info:
    return to_resolution(info['jfif_density'], units.get(info.get('jfif_unit', 0)))
  if 'aspect' in info:  # of a PNG
    return to_resolution(info['aspect'], None)
  return to_resolution(info['dpi'], 1.0) if 'dpi' in info else None


def _decoded(text: str | bytes) -> str:
  if isinstance(text, bytes):
    encoding = 'utf-8'
    try:
      text.decode()
    except UnicodeDecodeError:
      encoding = 'latin-1'
    text = str(text, encoding)
  return str(text).rstrip('\0').replace('\0', ' ')  # some programs end a comment with a zero


def _iptc_in_text(text: str) -> bytes:
  """Return the IPTC datasets in ImageMagick's hexadecimal text, the usual place in a PNG."""
  with contextlib.suppress(ValueError):
    return iptc_in(bytes.fromhex(''.join(str(text).split()[2:])))
  return b''


def iptc_text(iptc: bytes) -> tuple[str, str]:
  """Return IPTC datasets as keyword and text of a PNG, as ImageMagick writes them."""
  content = as_resource(iptc)
  digits = '\n'.join(content[i : i + 36].hex() for i in range(0, len(content), 36))
  return _IPTC_TEXT, f'\niptc\n{len(content):8d}\n{digits}\n'


def orientation(exif: Image.Exif) -> int:
  """Return the EXIF orientation, from 1 (upright) to 8; 1 if missing."""
  with contextlib.suppress(Exception):
    return int(exif.get(ExifTags.Base.Orientation, 1))
  return 1


def kept(
  exif: Image.Exif,
  size: tuple[int, int] | None = None,
  enlarged: tuple[float, float] = (1.0, 1.0),
) -> Image.Exif:
  """Return a copy without orientation, thumbnail, TIFF storage tags and damaged tags.

  Args:
    exif: EXIF as read from a file.
    size: width and height to set in the tags that hold them; None keeps those tags.
    enlarged: factors of the resolutions in x and y.
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
  if enlarged != (1, 1):
    details = copy.get(ExifTags.IFD.Exif, {})
    for group, names in ((copy, _RESOLUTIONS), (details, _FOCAL_RESOLUTIONS)):
      for name, factor in zip(names, enlarged, strict=True):
        with contextlib.suppress(Exception):
          group[name] = _rational(group[name] * factor)
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
