"""Atomic writes and other access to files, on this machine or in a bucket such as `gs://runs`.

This is the only module that accesses buckets. A file in a bucket appears in one piece when it is
written, and cannot be renamed or appended to. Folders there are only prefixes of names.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gfn_jax.errors import UserError, install_extra

if TYPE_CHECKING:
  from etils import epath


def is_remote(path: str | os.PathLike) -> bool:
  """Return True if a path is an address such as `gs://bucket/run`."""
  return '://' in os.fspath(path)


@contextlib.contextmanager
def write_aside(path: str | os.PathLike) -> Iterator[str]:
  """Yield a temporary path to write to; it replaces `path` on success, and is removed on failure.

  Its name begins with a dot and has the extension of `path`, by which libraries choose a format. A
  file for a bucket is written on this machine and then sent.
  """
  folder, name = os.path.split(os.fspath(path))
  stem, extension = os.path.splitext(name)
  if is_remote(path):
    with naming(path), tempfile.TemporaryDirectory() as folder:
      temporary = os.path.join(folder, f'file{extension}')
      yield temporary
      _send(temporary, path)
    return
  # Names are limited to 255 bytes, and this one is longer than the name of `path`.
  short = os.fsdecode(os.fsencode(stem)[:200])
  temporary = os.path.join(folder, f'.{short}.tmp{extension}')
  try:
    with naming(path):
      yield temporary
      os.replace(temporary, path)
  except BaseException:  # Ctrl-C too
    with contextlib.suppress(FileNotFoundError):
      os.remove(temporary)
    raise


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
  """Add the file's name to an `OSError` that has none, such as the error of a full disk."""
  try:
    yield
  except OSError as error:
    if error.errno is not None and error.filename is None:
      error.filename = os.fspath(path)
    raise


def write_file(path: str | os.PathLike, content: bytes) -> None:
  """Write a file atomically, under a temporary name that is then replaced."""
  with write_aside(path) as temporary, open(temporary, 'wb') as file:
    file.write(content)


def extension_of(path: str | os.PathLike) -> str:
  """Return the extension of a path in lower case, with its dot."""
  return os.path.splitext(path)[1].lower()


def printable(path: str | os.PathLike) -> str:
  """Return a path for a message of one line: unprintable characters are escaped."""
  text = os.fspath(path)
  return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def check_new_file(path: str | os.PathLike, overwrite: bool) -> None:
  """Raise, before long work, if a new file cannot be written to a path.

  Raises:
    UserError: if its folder is missing, it is a folder, or it exists and `overwrite` is False.
  """
  folder, name = os.path.split(os.fspath(path))
  if folder and not is_remote(path) and not os.path.isdir(folder):
    raise UserError(f'no such folder: {printable(folder)}')
  if not name or is_folder(path):
    raise UserError(f'{printable(path)} is a folder; choose another output')
  if exists(path) and not overwrite:
    raise UserError(f'{printable(path)} exists already; choose another output, or pass --overwrite')


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Write a value as indented JSON, atomically."""
  write_file(path, to_json(value))


def to_json(value: Any) -> bytes:
  """Return a value as the indented JSON of a file."""
  return (json.dumps(value, indent=2) + '\n').encode()


def file_sha256(path: str | os.PathLike) -> str:
  """Return the SHA-256 of a file, in hexadecimal."""
  with local_copy(path) as copy, open(copy, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def read_file(path: str | os.PathLike) -> bytes:
  """Return the content of a file.

  Raises:
    OSError: if it cannot be read.
    UserError: if its bucket cannot be reached.
  """
  with local_copy(path) as copy, open(copy, 'rb') as file:
    return file.read()


@contextlib.contextmanager
def local_copy(path: str | os.PathLike) -> Iterator[str]:
  """Yield a path on this machine with the content of `path`: itself, or a temporary copy."""
  if not is_remote(path):
    yield os.fspath(path)
    return
  with tempfile.TemporaryDirectory() as folder:
    copy = os.path.join(folder, 'file' + os.path.splitext(path)[1])
    _fetch(path, copy)
    yield copy


def exists(path: str | os.PathLike) -> bool:
  """Return True if a file or folder exists; in a bucket, a folder exists if it is not empty."""
  if not is_remote(path):
    return os.path.exists(path)
  with reaching(path):
    return as_path(path).exists()


def is_folder(path: str | os.PathLike) -> bool:
  """Return True if a path is a folder; in a bucket, one that is not empty."""
  if not is_remote(path):
    return os.path.isdir(path)
  with reaching(path):
    return as_path(path).is_dir()


def is_file(path: str | os.PathLike) -> bool:
  """Return True if a path is a file; in a bucket, if anything has that name."""
  return exists(path) if is_remote(path) else os.path.isfile(path)


def is_same_file(a: str | os.PathLike, b: str | os.PathLike) -> bool:
  """Return True if two paths exist on this machine and are the same file or folder."""
  if is_remote(a) or is_remote(b) or not (os.path.exists(a) and os.path.exists(b)):
    return False
  return os.path.samefile(a, b)


def absolute(path: str | os.PathLike) -> str:
  """Return an absolute path with `~` expanded; an address unchanged."""
  return os.fspath(path) if is_remote(path) else os.path.abspath(os.path.expanduser(path))


def split_paths(text: str) -> tuple[str, str] | None:
  """Return the two paths of 'A:B'; None for one path, also if it exists or is an address."""
  first, colon, second = text.rpartition(':')
  return None if not colon or is_remote(text) or os.path.exists(text) else (first, second)


def holds_file(folder: str | os.PathLike, name: str) -> bool:
  """Return True if a folder holds a file of a name, at any depth."""
  with reaching(folder):
    walk = as_path(folder).walk() if is_remote(folder) else os.walk(os.fspath(folder))
    return any(name in names for *_, names in walk)


def special_files(folder: str | os.PathLike) -> list[str]:
  """Return entries of a folder that are neither files nor folders, such as pipes."""
  if is_remote(folder):
    return []
  with os.scandir(os.fspath(folder)) as entries:
    return [entry.path for entry in entries if not (entry.is_file() or entry.is_dir())]


def check_local(path: str | os.PathLike, what: str) -> None:
  """Raise a UserError if a path is in a bucket; `what` is what would be written there."""
  if is_remote(path):
    raise UserError(f'{what} is written on this machine, not to {printable(path)}')


def make_folder(path: str | os.PathLike) -> None:
  """Make a folder and its parents if they are missing; no effect in a bucket."""
  if not is_remote(path):
    os.makedirs(path, exist_ok=True)


def remove(path: str | os.PathLike) -> None:
  """Remove a file if it exists."""
  with reaching(path), contextlib.suppress(FileNotFoundError):
    as_path(path).unlink() if is_remote(path) else os.remove(path)


class FolderToFill:
  """Folder on this machine to write into: `target`, made if needed, or a temporary one.

  Attributes:
    path: the folder on this machine.
    temporary: True for a target in a bucket.
  """

  def __init__(self, target: str | os.PathLike):
    self._target = os.fspath(target)
    self.temporary = is_remote(target)
    self._holder = tempfile.TemporaryDirectory() if self.temporary else None
    self.path = self._holder.name if self._holder else self._target
    make_folder(self.path)

  def send(self) -> None:
    """Send all files of a temporary folder, at any depth, to the bucket, one by one."""
    if not self.temporary:
      return
    for parent, _, names in os.walk(self.path):
      for name in names:
        file = os.path.join(parent, name)
        _send(file, f'{self._target}/{os.path.relpath(file, self.path)}')

  def close(self) -> None:
    """Remove a temporary folder."""
    if self._holder:
      self._holder.cleanup()


@contextlib.contextmanager
def folder_to_fill(path: str | os.PathLike) -> Iterator[str]:
  """Yield the path of a `FolderToFill`, whose files are sent at the end."""
  folder = FolderToFill(path)
  try:
    yield folder.path
    folder.send()
  finally:
    folder.close()


@contextlib.contextmanager
def local_folder(path: str | os.PathLike) -> Iterator[str]:
  """Yield a folder on this machine with the files of `path`: itself, or a temporary copy."""
  if not is_remote(path):
    yield os.fspath(path)
    return
  with tempfile.TemporaryDirectory() as folder:
    _fetch_folder(path, folder)
    yield folder


@contextlib.contextmanager
def reaching(path: str | os.PathLike) -> Iterator[None]:
  """Convert errors of the libraries that access buckets to errors of one line.

  Args:
    path: the file or folder that is accessed.

  Raises:
    FileNotFoundError: for a missing file.
    OSError: for errors of this machine, such as a full disk.
    UserError: for all others, such as a missing bucket or package.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    if not is_remote(path) or getattr(error, 'errno', None) == errno.ENOSPC:  # local
      raise
    if isinstance(error, FileNotFoundError):
      raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from error
    reason = ' '.join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, ImportError) and os.fspath(path).startswith('gs://'):
      reason = f'{reason}: {install_extra("gcs")}'
    raise UserError(f'cannot access {printable(path)}: {reason}') from error


def as_path(path: str | os.PathLike) -> 'epath.Path':
  """Return an `epath.Path`, which can access buckets.

  Raises:
    UserError: for an unsupported kind of address.
  """
  from etils import epath  # slow, and needed for buckets only

  logging.getLogger('gcsfs').setLevel(logging.CRITICAL)  # `reaching` reports its errors
  try:
    return epath.Path(os.fspath(path))
  except (KeyError, ValueError, NotImplementedError) as error:
    raise UserError(
      f'{printable(path)}: unsupported kind of address; use gs://BUCKET/...'
    ) from error


def _send(file: str, path: str | os.PathLike) -> None:
  with open(file, 'rb') as source:
    content = source.read()
  try:
    with reaching(path), as_path(path).open('wb') as target:
      target.write(content)  # in one piece: a file that is closed early would appear unfinished
  except FileNotFoundError as error:
    raise UserError(f'cannot write {printable(path)}: no such bucket') from error


def _fetch(path: str | os.PathLike, file: str) -> None:
  with reaching(path), as_path(path).open('rb') as source, open(file, 'wb') as target:
    shutil.copyfileobj(source, target, 2**22)


def _fetch_folder(path: str | os.PathLike, folder: str) -> None:
  with reaching(path):
    children = list(as_path(path).iterdir())
  for child in children:
    if child.name in ('', '..') or os.fspath(child) == os.fspath(path):  # the folder itself
      continue
    copy = os.path.join(folder, child.name)
    if is_folder(child):
      os.mkdir(copy)
      _fetch_folder(child, copy)
    else:
      _fetch(child, copy)
