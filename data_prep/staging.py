"""Atomic creation of folders: build in a temporary folder, then move it into place."""

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
  """Create an empty folder to build in, and remove it on exit.

  Remains of killed builds of the same target are removed first. A running build holds a lock on its
  folder, which is kept.

  Args:
    data_dir: parent of the folder; created if missing.
    target: the folder in `data_dir` that is being built.

  Yields:
    Path of the folder.
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
    logging.warning('%s belongs to a build that may be running; remove it if not', leftover)


@contextlib.contextmanager
def _lock(staging: epath.Path) -> Iterator[bool]:
  """Lock the folder until exit or the end of the process, and yield True if that succeeded."""
  with open(staging / 'lock', 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      held = True
    except OSError:  # taken, or a file system without locks
      held = False
    yield held


def put_in_place(built: epath.Path, target: epath.Path, staging: epath.Path) -> None:
  """Move a finished folder to its target, and replace an existing one only then.

  Args:
    built: the finished folder, inside `staging`.
    target: path to move it to.
    staging: the folder from `staging_folder`.
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
