"""Builds a folder aside and puts it in place whole: what is there is always complete."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator

from absl import logging
from etils import epath

_PREFIX = '.incomplete.'


@contextlib.contextmanager
def staging_folder(data_dir: epath.Path, target: epath.Path) -> Iterator[epath.Path]:
  """Gives an empty folder to build in; removes it afterwards, whatever happened.

  What earlier builds of the same target left behind when they were killed is removed first. A
  build that is still running holds a lock on its folder, and is left alone.

  Args:
    data_dir: where to make the folder; created if missing.
    target: the folder in `data_dir` that is being built.

  Yields:
    The folder's path.
  """
  data_dir.mkdir(parents=True, exist_ok=True)
  prefix = f'{_PREFIX}{".".join(target.relative_to(data_dir).parts)}.'
  for leftover in data_dir.glob(f'{prefix}*'):
    _remove_leftover(leftover, target)
  staging = epath.Path(tempfile.mkdtemp(prefix=prefix, dir=data_dir))
  try:
    with _lock(staging):
      yield staging
  finally:
    shutil.rmtree(staging)


def _remove_leftover(leftover: epath.Path, target: epath.Path) -> None:
  with _lock(leftover) as held:
    if held:
      _restore(leftover, target)
  if held:
    shutil.rmtree(leftover, ignore_errors=True)
  else:
    logging.warning('%s is of a build that may be running; remove it if none is', leftover)


@contextlib.contextmanager
def _lock(staging: epath.Path) -> Iterator[bool]:
  """Locks the folder until the process ends, however it ends; gives whether that succeeded."""
  with open(staging / 'lock', 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      held = True
    except OSError:  # taken, or a file system without locks
      held = False
    yield held


def put_in_place(built: epath.Path, target: epath.Path, staging: epath.Path) -> None:
  """Moves a finished folder to its place; the one it replaces survives until then.

  Args:
    built: the finished folder, inside `staging`.
    target: its place.
    staging: what `staging_folder` gave.
  """
  target.parent.mkdir(parents=True, exist_ok=True)
  if target.exists():
    target.rename(staging / 'replaced')
  try:
    built.rename(target)
  except BaseException:
    _restore(staging, target)
    raise


def _restore(staging: epath.Path, target: epath.Path) -> None:
  replaced = staging / 'replaced'
  if replaced.exists() and not target.exists():
    replaced.rename(target)
