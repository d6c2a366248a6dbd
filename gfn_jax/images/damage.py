"""Repair of image files that are damaged beside their pixels.

If every pixel is there, a repaired copy of the content and notes on the damage are returned. If
pixels are missing, the error names how many.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'

_NO_END = 'the end of the file is missing, but no pixel'


class UnreadableError(Exception):
  """Reason why a file cannot be read, without its name."""


def check_missing(missing: int, size: tuple[int, int]) -> None:
  """Raise `UnreadableError` if pixels are missing.

  Args:
    missing: number of missing pixels.
    size: width and height of the image.
  """
  if missing > 0:
    total = size[0] * size[1]
    raise UnreadableError(
      f'truncated or damaged file: {min(missing, total):,} of {total:,} pixels are missing; copy '
      'it again'
    )


class Png(NamedTuple):
  """Parts of a PNG.

  Attributes:
    header: a PNG without pixels, up to their first chunk's content: all other intact chunks.
    chunks: kinds and contents of these chunks.
    data: start, length and checksum of each chunk of pixels. The last one's checksum may be b''.
    notes: notes on damage.
    ended: False if the end of the file is missing.
  """

  header: bytes
  chunks: tuple[tuple[bytes, bytes], ...]
  data: tuple[tuple[int, int, bytes], ...]
  notes: tuple[str, ...]
  ended: bool


def read_png(file: BinaryIO) -> Png:
  """Read the chunks of a PNG, but not its pixels.

  Raises:
    UnreadableError: if the header, the palette or the transparent colours are damaged, or pixels
      are missing altogether.
  """
  chunks, data, notes = [], [], []
  ended = False
  for kind, start, length, checksum in _png_chunks(file):
    if kind == b'IEND':
      ended = True
      break
    if kind == b'IDAT':
      data.append((start, length, checksum))
      continue
    file.seek(start)
    content = file.read(length)
    if checksum == _checksum(kind, content):
      chunks.append((kind, content))
    elif kind in (b'IHDR', b'PLTE', b'tRNS'):
      raise UnreadableError(f'damaged file: the checksum of {kind.decode()} is wrong')
    else:
      notes.append(f'damaged {kind.decode()} left out; every pixel is there')
  if not chunks or chunks[0][0] != b'IHDR' or len(chunks[0][1]) != 13:
    raise UnreadableError('damaged file: no header')
  if not data:
    raise UnreadableError('truncated or damaged file: all pixels are missing')
  return _png(chunks, data, notes, ended)


def _png(
  chunks: Sequence[tuple[bytes, bytes]],
  data: Sequence[tuple[int, int, bytes]],
  notes: Sequence[str],
  ended: bool,
) -> Png:
  header = PNG_SIGNATURE + b''.join(png_chunk(*chunk) for chunk in chunks)
  header += struct.pack('>I4s', data[0][1], b'IDAT')
  return Png(header, tuple(chunks), tuple(data), tuple(notes), ended)


def without_metadata(png: Png) -> Png:
  """Return a PNG without the chunks that its pixels do not need, and a note on it."""
  chunks = [chunk for chunk in png.chunks if chunk[0] in (b'IHDR', b'PLTE', b'tRNS', b'acTL')]
  return _png(
    chunks, png.data, [*png.notes, 'damaged metadata left out; every pixel is there'], png.ended
  )


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int, bytes]]:
  """Yield kind, start, length and checksum of chunks, up to the first that is cut or nonsense."""
  size = file.seek(0, io.SEEK_END)
  at = len(PNG_SIGNATURE)
  while at + 8 <= size:
    file.seek(at)
    length, kind = struct.unpack('>I4s', file.read(8))
    if not kind.isalpha():
      return
    if kind == b'IDAT':
      length = min(length, size - at - 8)
    elif at + 12 + length > size and kind != b'IEND':
      return
    file.seek(at + 8 + length)
    yield kind, at + 8, length, file.read(4)
    at += 12 + length


def png_content(file: BinaryIO, png: Png) -> tuple[bytes, tuple[str, ...]]:
  """Return the content of an intact PNG with the same pixels, and notes on damage.

  Raises:
    UnreadableError: if pixels are missing or damaged.
  """
  pieces, intact = [], png.ended
  for start, length, checksum in png.data:
    file.seek(start)
    pieces.append(file.read(length))
    intact = intact and checksum == _checksum(b'IDAT', pieces[-1])
  notes, header = png.notes, png.chunks[0][1]
  if not intact or header[-1]:  # Pillow does not find out if an interlaced PNG has few pixels
    pixels = _inflated_pixels(b''.join(pieces), header)
    if not intact:
      pieces = [zlib.compress(pixels, 1)]
      notes += ('a checksum is wrong, but no pixel is missing' if png.ended else _NO_END,)
  data = b''.join(png_chunk(b'IDAT', piece) for piece in pieces)
  return png.header[:-8] + data + png_chunk(b'IEND', b''), notes


def check_png_pixels(png: Png, content: bytes) -> None:
  """Raise `UnreadableError` if the content that `png_content` returned has too few pixels."""
  start, data = len(png.header) - 8, []
  for _, length, _ in png.data:
    data.append(content[start + 8 : start + 8 + length])
    start += 12 + length
  _inflated_pixels(b''.join(data), png.chunks[0][1])


def png_chunk(kind: bytes, content: bytes) -> bytes:
  """Return a chunk of a PNG."""
  return struct.pack('>I', len(content)) + kind + content + _checksum(kind, content)


def _checksum(kind: bytes, content: bytes) -> bytes:
  return zlib.crc32(content, zlib.crc32(kind)).to_bytes(4)


def _inflated_pixels(data: bytes, header: bytes) -> bytes:
  """Return the decompressed rows of a PNG.

  Raises:
    UnreadableError: if pixels are missing, or their own checksum is wrong.
  """
  width, height, depth, colour, *_, interlaced = struct.unpack('>IIBBBBB', header)
  bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
  passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
  pixels, error = _inflate(data, limit=(height + 8) * (9 + width * bits // 8))
  count, present = len(pixels), 0
  for x, y, dx, dy in passes:
    columns, rows = -((x - width) // dx), -((y - height) // dy)
    if columns <= 0 or rows <= 0:
      continue
    row = 1 + (columns * bits + 7) // 8  # with the byte of the filter
    whole = min(rows, count // row)
    count -= whole * row
    present += whole * columns
    if whole < rows:
      present += min(columns, max(0, count - 1) * 8 // bits)
      break
  check_missing(width * height - present, (width, height))
  if error:
    raise UnreadableError('damaged file: the checksum of the pixels is wrong; copy it again')
  return pixels


# Start and step in x and y of the passes of an interlaced PNG.
_ADAM7 = (
  (0, 0, 8, 8),
  (4, 0, 8, 8),
  (0, 4, 4, 8),
  (2, 0, 4, 4),
  (0, 2, 2, 4),
  (1, 0, 2, 2),
  (0, 1, 1, 2),
)


def _inflate(data: bytes, limit: int) -> tuple[bytes, bool]:
  """Return all that can be decompressed, up to a limit, and True if an error follows it."""
  stream, pixels, step = zlib.decompressobj(), bytearray(), 2**14
  for at in range(0, len(data), step):
    before, piece = stream.copy(), data[at : at + step]
    try:
      pixels += stream.decompress(piece)
    except zlib.error:
      try:
        for i in range(len(piece)):
          pixels += before.decompress(piece[i : i + 1])
      except zlib.error:
        return bytes(pixels), True
    if stream.eof or len(pixels) > limit:
      break
  return bytes(pixels), False


def jpeg_content(content: bytes) -> tuple[bytes, tuple[str, ...]]:
  """Return the content of a JPEG with its end, and notes on damage.

  Raises:
    UnreadableError: if the end and pixels are missing.
  """
  start = _jpeg_scan(content)
  if start == len(content) or content.find(b'\xff\xd9', start) >= 0:
    return content, ()
  if content.endswith(bytes(64)):  # an interrupted copy may end in zeros
    content = content.rstrip(b'\0')
  content = content.removesuffix(b'\xff')  # the first half of the end
  check_jpeg(content)
  return content + b'\xff\xd9', (_NO_END,)


def check_jpeg(content: bytes) -> None:
  """Raise `UnreadableError` if a JPEG ends before its last pixel.

  A decoder reads on where the content ends: whatever follows changes the missing pixels, but no
  others. So the content is decoded with two different endings.

  Args:
    content: a JPEG; all from its end marker on is ignored.
  """
  end = content.find(b'\xff\xd9', _jpeg_scan(content))
  content = content if end < 0 else content[:end]
  image = JpegImageFile(io.BytesIO(content))
  if not _has_all_scans(content, [layer[0] for layer in image.layer]):
    check_missing(image.width * image.height, image.size)
  filler = np.random.default_rng(0).integers(0, 255, 4096, np.uint8).tobytes()
  sides = [8 * max(layer[i] for layer in image.layer) for i in (1, 2)]
  # Luma, and colours at half the size, are not smoothed across blocks. They lack fine colours.
  for modes in ((('L', 1), ('YCbCr', 2)), (('YCbCr', 1),)):
    missing = 0
    for mode, scale in modes:
      one, other = (_decode_jpeg(content + end, mode, scale) for end in (b'', filler))
      missing = max(missing, _count_from_first_block(one != other, sides, scale, image.size))
    check_missing(missing, image.size)


def _decode_jpeg(content: bytes, mode: str, scale: int) -> np.ndarray:
  image = JpegImageFile(io.BytesIO(content + b'\xff\xd9'))
  image.draft(mode, (max(1, image.width // scale), max(1, image.height // scale)))
  return np.atleast_3d(np.asarray(image))


def _count_from_first_block(
  differs: np.ndarray, sides: list[int], scale: int, size: tuple[int, int]
) -> int:
  """Return the number of pixels from the first block with a True on, in the order of blocks.

  Args:
    differs: `[h, w, C]` bool, at a scale of 1 / `scale`.
    sides: width and height of a block at full scale.
    scale: 1 or 2.
    size: width and height of the image at full scale.
  """
  rows, columns = differs.any(axis=-1).nonzero()
  if not rows.size:
    return 0
  width, height = sides
  per_row = -(-size[0] // width)
  first = (rows * scale // height * per_row + columns * scale // width).min()
  row, column = divmod(int(first), per_row)
  top, bottom = row * height, min((row + 1) * height, size[1])
  return size[0] * (size[1] - top) - column * width * (bottom - top)


def _jpeg_scan(content: bytes) -> int:
  """Return where the first scan of a JPEG begins; the end of the content without a scan."""
  at = 2
  while at + 4 <= len(content) and content[at] == 0xFF:
    if content[at + 1] == 0xFF:  # padding
      at += 1
    elif content[at + 1] == 0xDA:
      return at
    else:
      at += 2 + int.from_bytes(content[at + 2 : at + 4])
  return len(content)


def _has_all_scans(content: bytes, components: list[int]) -> bool:
  """Return True if the scans of a JPEG have all bits of all coefficients of all components.

  A progressive JPEG has several scans, of which later ones refine earlier ones.
  """
  missing: dict[tuple[int, int], int] = {}
  at = _jpeg_scan(content)
  while 0 <= at < len(content) - 4:
    count = content[at + 4]
    first, last, bits = struct.unpack('3B', content[at + 5 + 2 * count :][:3].ljust(3, b'\xff'))
    for component in content[at + 5 : at + 5 + 2 * count : 2]:
      missing.update({(component, k): bits & 15 for k in range(first, min(last, 63) + 1)})
    at = content.find(b'\xff\xda', at + 8)
  return all(missing.get((name, k)) == 0 for name in components for k in range(64))


def webp_content(content: bytes) -> tuple[bytes, tuple[str, ...]]:
  """Return the content of an intact WebP with the same pixels, and notes on damage.

  Raises:
    UnreadableError: if pixels are missing.
  """
  if len(content) >= 8 + int.from_bytes(content[4:8], 'little'):
    return content, ()
  pieces, at, pixels = [], 12, False
  while at + 8 <= len(content):
    kind, length = struct.unpack('<4sI', content[at : at + 8])
    piece = content[at : at + 8 + length]
    if missing := 8 + length - len(piece):
      if kind in (b'VP8 ', b'VP8L', b'ALPH', b'ANMF'):
        raise UnreadableError(
          f'truncated file: {missing:,} of {length:,} bytes of pixels are missing; copy it again'
        )
      break
    pixels = pixels or kind in (b'VP8 ', b'VP8L', b'ANMF')
    pieces.append(piece + bytes(length % 2))
    at += len(pieces[-1])
  if not pixels:
    raise UnreadableError('truncated file: all pixels are missing; copy it again')
  body = b'WEBP' + b''.join(pieces)
  return b'RIFF' + struct.pack('<I', len(body)) + body, (_NO_END,)


def bmp_content(
  content: bytes, size: tuple[int, int], start: int, stride: int
) -> tuple[bytes, tuple[str, ...]]:
  """Return the content of an uncompressed BMP with its last padding, and notes on damage.

  Args:
    content: the file's content.
    size: width and height.
    start: where the pixels begin.
    stride: bytes of a row, with padding.

  Raises:
    UnreadableError: if pixels are missing.
  """
  width, height = size
  if len(content) >= start + stride * height:
    return content, ()
  bits = int.from_bytes(content[28:30] if content[14] > 12 else content[24:26], 'little')
  rows, rest = divmod(max(0, len(content) - start), stride)
  check_missing(width * height - rows * width - min(width, rest * 8 // bits), size)
  return content.ljust(start + stride * height, b'\0'), (_NO_END,)
