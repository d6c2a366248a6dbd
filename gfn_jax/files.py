"""Writing files whole or not at all."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

from gfn_jax.errors import UserError


@contextlib.contextmanager
def write_aside(path: str | os.PathLike) -> Iterator[str]:
  """Gives a path beside `path` to write to; it becomes `path` if all went well, or is removed.

  It has the extension of `path`, by which libraries choose a format, and begins with a dot.
  """
  folder, name = os.path.split(os.fspath(path))
  stem, extension = os.path.splitext(name)
  # A name may have 255 bytes, and this one is longer.
  short = os.fsdecode(os.fsencode(stem)[:200])
  temporary = os.path.join(folder, f'.{short}.tmp{extension}')
  try:
    yield temporary
    os.replace(temporary, path)
  except BaseException:  # Ctrl-C too
    with contextlib.suppress(FileNotFoundError):
      os.remove(temporary)
    raise


def write_file(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file aside and renames it: `path` never holds half of it."""
  with write_aside(path) as temporary, open(temporary, 'wb') as file:
    file.write(content)


def printable(path: str | os.PathLike) -> str:
  """A path for a message of one line: line breaks and what cannot be shown are escaped."""
  text = os.fspath(path)
  return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def check_new_file(path: str | os.PathLike, overwrite: bool) -> None:
  """Checks, before long work, that a file can be written where nothing is yet.

  Raises:
    UserError: if its folder is missing, it is a folder, or it exists and is not to be overwritten.
  """
  folder, name = os.path.split(os.fspath(path))
  if folder and not os.path.isdir(folder):
    raise UserError(f'no such folder: {printable(folder)}')
  if not name or os.path.isdir(path):
    raise UserError(f'{printable(path)} is a folder; choose another output')
  if os.path.exists(path) and not overwrite:
    raise UserError(f'{printable(path)} exists already; choose another output, or --overwrite')


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes a value as indented JSON, whole or not at all."""
  write_file(path, (json.dumps(value, indent=2) + '\n').encode())


def file_sha256(path: str | os.PathLike) -> str:
  """The SHA-256 of a file, in hexadecimal."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
