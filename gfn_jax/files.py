"""Writing files whole or not at all."""

import hashlib
import json
import os
from typing import Any


def write_file(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file aside and renames it: `path` never holds half of it."""
  temporary = f'{os.fspath(path)}.tmp'
  with open(temporary, 'wb') as file:
    file.write(content)
  os.replace(temporary, path)


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes a value as indented JSON, whole or not at all."""
  write_file(path, (json.dumps(value, indent=2) + '\n').encode())


def file_sha256(path: str | os.PathLike) -> str:
  """The SHA-256 of a file, in hexadecimal."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
