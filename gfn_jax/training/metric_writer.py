"""Training logs: `metrics.jsonl`, TensorBoard without TensorFlow, and `curves.png`."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gfn_jax.errors import UserError, missing_package
from gfn_jax.system.files import FolderToFill, naming, printable, read_file, write_file
from gfn_jax.training.curves import write_curves

if TYPE_CHECKING:
  from tensorboardX.event_file_writer import EventsWriter

MINUTE = 60.0


class MetricWriter:
  """Writer of scalars to `workdir/metrics.jsonl` and, with pictures, to TensorBoard event files.

  `sync()` redraws `curves.png` at most once a minute. For remote workdirs, files are buffered
  locally until `sync()`, which also runs on exit.

  Without tensorboardX there are no event files, and without Matplotlib no `curves.png`; one line on
  stderr says so. `metrics.jsonl` needs neither.

  Args:
    workdir: the run's folder.
    start_step: step at which the run starts or continues. Rows of later steps, left by a run that
      was killed after its last checkpoint, are dropped; so are damaged rows, with a message.
    writes: False writes nothing, for all processes of a run but the first.

  Raises:
    UserError: if the workdir is in a bucket that cannot be reached.
  """

  def __init__(self, workdir: str | os.PathLike, start_step: int = 0, writes: bool = True):
    self._writes = writes
    if not writes:
      return
    self._workdir = os.fspath(workdir)
    self._start_step = start_step
    rows = _rows_until(os.path.join(self._workdir, 'metrics.jsonl'), start_step)
    self._folder = FolderToFill(workdir)
    path = os.path.join(self._folder.path, 'metrics.jsonl')
    write_file(path, rows)
    self._file = open(path, 'a')  # noqa: SIM115 (closed by __exit__)
    self._events: EventsWriter | None = None
    self._event_files = 0
    self._has_tensorboard = _can_import_tensorboard()
    self._draws = True
    self._drawn = time.monotonic()

  def __enter__(self) -> 'MetricWriter':
    return self

  def __exit__(self, error_type: type | None, *_) -> None:
    if not self._writes:
      return
    try:
      if error_type is None:
        self._draw_curves(0)
      self.sync()
    except (UserError, OSError):
      if error_type is None:  # otherwise the first error matters
        raise
    finally:
      with contextlib.suppress(OSError):  # raised before: all has been flushed
        self._close_events()
        self._file.close()
      self._folder.close()

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Write one row: the step, the time (seconds since 1970) and the scalars."""
    if not self._writes:
      return
    row = {'step': step, 'time': round(time.time(), 3)} | {k: float(v) for k, v in scalars.items()}
    with naming(self._file.name):
      self._file.write(json.dumps(row) + '\n')
      self._file.flush()
    if self._has_tensorboard:
      from tensorboardX import summary

      for key, value in scalars.items():
        self._write_event(step, summary=summary.scalar(key, float(value)))
    self._flush_events()

  def write_image(self, step: int, name: str, image: np.ndarray) -> None:
    """Write a picture, `[H, W, 3]` uint8, to TensorBoard."""
    if self._writes and self._has_tensorboard:
      from tensorboardX import summary

      self._write_event(step, summary=summary.image(name, image, dataformats='HWC'))

  def sync(self) -> None:
    """Flush what was written so far to the workdir. Call it before a checkpoint is saved.

    Raises:
      UserError: if the workdir is in a bucket that cannot be reached.
    """
    if not self._writes:
      return
    self._flush_events()
    self._draw_curves(MINUTE)
    if not self._folder.temporary:
      return
    self._close_events()  # a bucket's files cannot grow: the next event begins another one
    self._folder.send()
    folder = os.path.join(self._folder.path, 'tensorboard')
    with contextlib.suppress(FileNotFoundError):
      for name in os.listdir(folder):
        os.remove(os.path.join(folder, name))

  def _write_event(self, step: int, **content) -> None:
    from tensorboardX.proto.event_pb2 import Event

    events = self._events or self._open_events()
    events.write_event(Event(wall_time=time.time(), step=step, **content))

  def _open_events(self) -> 'EventsWriter':
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import SessionLog

    folder = os.path.join(self._folder.path, 'tensorboard')
    os.makedirs(folder, exist_ok=True)
    suffix = f'.{self._start_step:09}.{self._event_files:05}'  # TensorBoard reads them in order
    self._events = events = EventsWriter(os.path.join(folder, 'events'), suffix)
    self._event_files += 1
    if self._event_files == 1:  # hides the later ones of a killed run
      self._write_event(self._start_step + 1, session_log=SessionLog(status=SessionLog.START))
    return events

  def _flush_events(self) -> None:
    if self._events:
      with naming(os.path.join(self._folder.path, 'tensorboard')):
        self._events.flush()

  def _close_events(self) -> None:
    if self._events:
      self._events.close()
      self._events = None

  def _draw_curves(self, seconds: float) -> None:
    """Draw `curves.png`, unless it was drawn within the last `seconds`."""
    if not self._draws or time.monotonic() - self._drawn < seconds:
      return
    self._drawn = time.monotonic()
    with open(self._file.name) as file:
      rows = [json.loads(line) for line in file]
    try:
      if rows:
        write_curves(os.path.join(self._folder.path, 'curves.png'), rows)
    except ImportError as error:
      self._draws = False
      print(f'curves.png is left out: {missing_package("matplotlib", error)}', file=sys.stderr)


def _can_import_tensorboard() -> bool:
  try:
    import tensorboardX.event_file_writer  # noqa: F401
  except ImportError as error:
    reason = missing_package('tensorboardX', error)
    print(f'TensorBoard files are left out: {reason}', file=sys.stderr)
    return False
  return True


def _rows_until(path: str, step: int) -> bytes:
  """Return the whole lines of a log up to a step."""
  try:
    lines = read_file(path).splitlines(keepends=True)
  except FileNotFoundError:
    return b''
  whole = [line for line in lines if line.endswith(b'\n')]  # a kill may leave half of the last one
  steps = [_step_of(line) for line in whole]
  if damaged := steps.count(None):
    print(f'{printable(path)}: dropped {damaged} rows that cannot be read', file=sys.stderr)
  rows = zip(whole, steps, strict=True)
  return b''.join(line for line, of in rows if of is not None and of <= step)


def _step_of(line: bytes) -> int | None:
  try:
    return int(json.loads(line)['step'])
  except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
    return None
