"""Writing files whole or not at all, on this machine or in a bucket such as `gs://runs`.

Only this module knows what is in a bucket. There a file, once written, appears in one piece; it
cannot be renamed or appended to, and folders are but beginnings of names.
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
from typing import Any

from gfn_jax.errors import UserError


def is_remote(path: str | os.PathLike) -> bool:
  """Whether a path is an address such as `gs://bucket/run`."""
  return '://' in os.fspath(path)


@contextlib.contextmanager
def write_aside(path: str | os.PathLike) -> Iterator[str]:
  """Gives a path beside `path` to write to; it becomes `path` if all went well, or is removed.

  It has the extension of `path`, by which libraries choose a format, and begins with a dot. What is
  for a bucket is written on this machine and then sent.
  """
  folder, name = os.path.split(os.fspath(path))
  stem, extension = os.path.splitext(name)
  if is_remote(path):
    with naming(path), tempfile.TemporaryDirectory() as folder:
      temporary = os.path.join(folder, f'file{extension}')
      yield temporary
      _send(temporary, path)
    return
  # A name may have 255 bytes, and this one is longer.
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
  """Names a file in an `OSError` that names none, such as that of a full disk."""
  try:
    yield
  except OSError as error:
    if error.errno is not None and error.filename is None:
      error.filename = os.fspath(path)
    raise


def write_file(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file aside and renames it: `path` never holds half of it."""
  with write_aside(path) as temporary, open(temporary, 'wb') as file:
    file.write(content)


def extension_of(path: str | os.PathLike) -> str:
  """In lower case, with its dot."""
  return os.path.splitext(path)[1].lower()


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
  if folder and not is_remote(path) and not os.path.isdir(folder):
    raise UserError(f'no such folder: {printable(folder)}')
  if not name or is_folder(path):
    raise UserError(f'{printable(path)} is a folder; choose another output')
  if exists(path) and not overwrite:
    raise UserError(f'{printable(path)} exists already; choose another output, or --overwrite')


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes a value as indented JSON, whole or not at all."""
  write_file(path, (json.dumps(value, indent=2) + '\n').encode())


def file_sha256(path: str | os.PathLike) -> str:
  """The SHA-256 of a file, in hexadecimal."""
  with local_copy(path) as copy, open(copy, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def read_file(path: str | os.PathLike) -> bytes:
  """The content of a file.

  Raises:
    OSError: if it cannot be read.
    UserError: if its bucket cannot be reached.
  """
  with local_copy(path) as copy, open(copy, 'rb') as file:
    return file.read()


@contextlib.contextmanager
def local_copy(path: str | os.PathLike) -> Iterator[str]:
  """Gives a path of this machine with the content of `path`: itself, or a copy for the while."""
  if not is_remote(path):
    yield os.fspath(path)
    return
  with tempfile.TemporaryDirectory() as folder:
    copy = os.path.join(folder, 'file' + os.path.splitext(path)[1])
    _fetch(path, copy)
    yield copy


def exists(path: str | os.PathLike) -> bool:
  """Whether there is a file or folder; in a bucket, a folder is there if it is not empty."""
  if not is_remote(path):
    return os.path.exists(path)
  with reaching(path):
    return as_path(path).exists()


def is_folder(path: str | os.PathLike) -> bool:
  """Whether there is a folder; in a bucket, one that is not empty."""
  if not is_remote(path):
    return os.path.isdir(path)
  with reaching(path):
    return as_path(path).is_dir()


def make_folder(path: str | os.PathLike) -> None:
  """Makes a folder, and those above it, where it is missing; a bucket needs none."""
  if not is_remote(path):
    os.makedirs(path, exist_ok=True)


def remove(path: str | os.PathLike) -> None:
  """Removes a file, if there is one."""
  with reaching(path), contextlib.suppress(FileNotFoundError):
    as_path(path).unlink() if is_remote(path) else os.remove(path)


@contextlib.contextmanager
def folder_to_fill(path: str | os.PathLike) -> Iterator[str]:
  """Gives a folder of this machine to write into: `path`, made if needed, or one that is then sent.

  It is filled file by file, and not at once.
  """
  if not is_remote(path):
    make_folder(path)
    yield os.fspath(path)
    return
  with tempfile.TemporaryDirectory() as folder:
    yield folder
    send_folder(folder, path)


def send_folder(folder: str | os.PathLike, path: str | os.PathLike) -> None:
  """Sends all files of a folder, and of those below it, into a bucket."""
  for parent, _, names in os.walk(folder):
    for name in names:
      file = os.path.join(parent, name)
      _send(file, f'{os.fspath(path)}/{os.path.relpath(file, folder)}')


@contextlib.contextmanager
def local_folder(path: str | os.PathLike) -> Iterator[str]:
  """Gives a folder of this machine with the files of `path`: itself, or a copy for the while."""
  if not is_remote(path):
    yield os.fspath(path)
    return
  with tempfile.TemporaryDirectory() as folder:
    _fetch_folder(path, folder)
    yield folder


@contextlib.contextmanager
def reaching(path: str | os.PathLike) -> Iterator[None]:
  """Turns what the libraries raise that reach a bucket into one line; `path` says which bucket.

  Raises:
    FileNotFoundError: for a file that is not there.
    OSError: for what goes wrong on this machine.
    UserError: for anything else, such as a bucket that does not exist or a missing package.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    if not is_remote(path) or getattr(error, 'errno', None) == errno.ENOSPC:  # of this machine
      raise
    if isinstance(error, FileNotFoundError):
      raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from error
    reason = ' '.join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, ImportError) and os.fspath(path).startswith('gs://'):
      reason = f"{reason}: pip install 'gfn_jax[gcs]'"
    raise UserError(f'{printable(path)} cannot be reached: {reason}') from error


def as_path(path: str | os.PathLike):
  """An `epath.Path`, which reaches into buckets.

  Raises:
    UserError: for an address of a kind that is not known.
  """
  from etils import epath  # not for those who have no bucket

  logging.getLogger('gcsfs').setLevel(logging.CRITICAL)  # tracebacks of what `reaching` tells
  try:
    return epath.Path(os.fspath(path))
  except (KeyError, ValueError, NotImplementedError) as error:
    raise UserError(
      f'{printable(path)}: such an address is not known; gs://BUCKET/... is'
    ) from error


def _send(file: str, path: str | os.PathLike) -> None:
  with open(file, 'rb') as source:
    content = source.read()
  try:
    with reaching(path), as_path(path).open('wb') as target:
      target.write(content)  # in one piece: a file that is closed early would appear as it is
  except FileNotFoundError as error:
    raise UserError(f'{printable(path)} cannot be written: no such bucket') from error


def _fetch(path: str | os.PathLike, file: str) -> None:
  with reaching(path), as_path(path).open('rb') as source, open(file, 'wb') as target:
    shutil.copyfileobj(source, target, 2**22)


def _fetch_folder(path: str | os.PathLike, folder: str) -> None:
  with reaching(path):
    children = list(as_path(path).iterdir())
  for child in children:
    if child.name in ('', '..') or os.fspath(child) == os.fspath(path):  # a mark of the folder
      continue
    copy = os.path.join(folder, child.name)
    if is_folder(child):
      os.mkdir(copy)
      _fetch_folder(child, copy)
    else:
      _fetch(child, copy)
