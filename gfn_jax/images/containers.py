"""Sizes that video containers declare, to recognise files that were cut off."""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

# Names of Matroska's and WebM's elements, RFC 9559.
_EBML, _SEGMENT, _CLUSTER = b'\x1a\x45\xdf\xa3', b'\x18\x53\x80\x67', b'\x1f\x43\xb6\x75'
_ASF_HEADER = bytes.fromhex('3026b2758e66cf11a6d900aa0062ce6c')
_ASF_DATA = bytes.fromhex('3626b2758e66cf11a6d900aa0062ce6c')
_ISO_CONTENT = {b'mdat', b'moov', b'moof'}  # other boxes may be unknown bytes after the end


def declared_size(path: str | os.PathLike) -> int | None:
  """Return the least size of a complete file in bytes, according to its container.

  Matroska and WebM, MP4 and MOV, AVI and ASF (WMV) are known. A longer file is complete too: bytes
  after the end are ignored.

  Returns:
    The size; None for other containers, and for recordings that declare no size.

  Raises:
    OSError: if the file cannot be read.
  """
  with open(path, 'rb') as file:
    head = file.read(16)
    file.seek(0)
    if head.startswith(_EBML):
      parts = _matroska(file)
    elif head[:4] == b'RIFF' and head[8:12] == b'AVI ':
      parts = _riff(file)
    elif head == _ASF_HEADER:
      parts = _asf(file)
    elif head[4:8] in {b'ftyp', b'wide', b'free', b'skip', b'pnot', *_ISO_CONTENT}:
      parts = _iso(file)
    else:
      return None
    return max(parts, default=None)


def damaged_at(path: str | os.PathLike) -> int | None:
  """Return the position of the first bytes in a Matroska or WebM file that are no element.

  FFmpeg searches for the next element behind them, and reports no error for the frames between.

  Returns:
    The position; None for an undamaged file, another container, or an undeclared size.

  Raises:
    OSError: if the file cannot be read.
  """
  with open(path, 'rb') as file:
    end = max(_matroska(file), default=0)
    position = 0
    while position < end:
      element = _element(file, position)
      if element is None:
        return position
      name, position, size = element
      if name not in (_SEGMENT, _CLUSTER):
        position += size or 0
  return None


def _matroska(file: BinaryIO) -> Iterator[int]:
  """Yield the end of the segment, unless it has no declared size (live recordings)."""
  position = 0
  for name in (_EBML, _SEGMENT):
    element = _element(file, position)
    if element is None or element[0] != name or element[2] is None:
      return
    position = element[1] + element[2]
  yield position


def _element(file: BinaryIO, position: int) -> tuple[bytes, int, int | None] | None:
  """Read the head of a Matroska element: its name, the position and the size of its content.

  Returns:
    The three; the size is None if it is not declared. None if the bytes are no element.
  """
  file.seek(position)
  head = file.read(12)
  # Names have 1 to 4 bytes and sizes 1 to 8, according to their leading zeros.
  start = 9 - head[0].bit_length() if head else 9
  if start > 4 or len(head) <= start or not head[start]:
    return None
  end = start + 9 - head[start].bit_length()
  largest = (1 << 7 * (end - start)) - 1
  size = int.from_bytes(head[start:end]) & largest
  return head[:start], position + end, None if size == largest else size


def _riff(file: BinaryIO) -> Iterator[int]:
  """Yield the ends of the RIFF chunks; files above 1 GB have several."""
  position = 0
  while (head := file.read(8))[:4] == b'RIFF' and len(head) == 8:
    size = int.from_bytes(head[4:], 'little')
    if size in (0, 2**32 - 1):  # of an interrupted or live recording
      return
    position += 8 + size + size % 2
    yield position - size % 2
    file.seek(position)


def _asf(file: BinaryIO) -> Iterator[int]:
  """Yield the ends of the header and the data."""
  position = 0
  while len(head := file.read(24)) == 24 and head[:16] in (_ASF_HEADER, _ASF_DATA):
    size = int.from_bytes(head[16:], 'little')
    if size < 24 or size >= 2**63:  # of a live recording
      return
    position += size
    yield position
    file.seek(position)


def _iso(file: BinaryIO) -> Iterator[int]:
  """Yield the ends of the boxes with frames and their index, ISO/IEC 14496-12."""
  position = 0
  while len(head := file.read(16)) >= 8:
    size, name = struct.unpack('>I4s', head[:8])
    if size == 1 and len(head) == 16:
      size = int.from_bytes(head[8:])
    if size < 8 or size >= 2**62:  # 0: until the end of the file
      return
    position += size
    if name in _ISO_CONTENT:
      yield position
    file.seek(position)
