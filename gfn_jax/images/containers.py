"""Sizes that video containers declare, to recognise files that were cut off."""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

_EBML, _SEGMENT = b'\x1a\x45\xdf\xa3', b'\x18\x53\x80\x67'  # Matroska and WebM, RFC 9559
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


def _matroska(file: BinaryIO) -> Iterator[int]:
  """Yield the end of the segment, unless it has no declared size (live recordings)."""
  position = 0
  for name in (_EBML, _SEGMENT):
    file.seek(position)
    head = file.read(12)
    if len(head) < 12 or head[:4] != name or not head[4]:
      return
    length = 9 - head[4].bit_length()  # bytes of the size: 1 to 8, by its leading zeros
    size = int.from_bytes(head[4 : 4 + length]) & ((1 << 7 * length) - 1)
    if size == (1 << 7 * length) - 1:
      return
    position += 4 + length + size
  yield position


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
