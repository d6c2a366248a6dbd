"""Restoration of files and folders: finished results are kept, failures are listed at the end.

The results may be written to a bucket, `gs://...`.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import jax
import numpy as np
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.images import animations
from gfn_jax.images.reading import MAX_PIXELS, Photo, read_photo, size_of
from gfn_jax.images.writing import check_target, conversion_notes, write_photo
from gfn_jax.restoration import records
from gfn_jax.restoration.animation import restore_animation
from gfn_jax.restoration.plan import Job, Plan
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.restoration.video import restore_video
from gfn_jax.system import memory, parallel
from gfn_jax.system.console import print_message
from gfn_jax.system.files import exists, file_sha256, local_copy, make_folder, printable
from gfn_jax.system.overlap import Behind, one_ahead

_SHARE_OF_MEMORY = 8
"""An image is decoded or written beside another one if that takes at most this part of the free
memory."""


@dataclasses.dataclass
class Outcome:
  """Results of `restore_files`.

  Attributes:
    restored: number of restored files.
    skipped: number of files whose result existed, made from the same file with the same settings.
    failures: for each other file, its name and what is wrong.
  """

  restored: int = 0
  skipped: int = 0
  failures: list[str] = dataclasses.field(default_factory=list)


def restore_files(
  restorer: Restorer,
  plan: Plan,
  *,
  settings: Mapping[str, Any] | None = None,
  overwrite: bool = False,
  max_pixels: int = MAX_PIXELS,
  strip: bool = False,
  keep_damaged: bool = False,
  on_result: Callable[[Job, np.ndarray, np.ndarray], None] | None = None,
) -> Outcome:
  """Restore images and videos one after the other, with a progress bar.

  While the network restores an image, a thread decodes the next one and another writes the last
  one, if both are small beside the free memory.

  Several processes call it together, with the same plan; each restores its `parallel.share`. A
  result is written to a temporary file, which is renamed when complete. What made it is recorded
  beside it. After a file that cannot be read, restored or written, the next one follows; only a
  full disk ends all. Frames are written as animations.

  Args:
    restorer: the network.
    plan: the work, from `plan_jobs`.
    settings: what the results depend on, as `records.settings_of` returns it. An existing result
      counts as finished if it was made from the same file with the same settings. Otherwise it
      fails.
    overwrite: True to restore files whose result exists, too.
    max_pixels: largest number of pixels of an image; larger images fail.
    strip: True to write no metadata of images but those of the colours.
    keep_damaged: see `restore_video`.
    on_result: called with each image's job, its input and its result, `[h, w, C]` of uint8 or
      uint16, also for results that existed. If it raises `UserError`, the image has failed. Not for
      frames, animations and videos.

  Returns:
    The results of all processes, and the failures of the plan.

  Raises:
    UserError: if the disk is full, the processes have different jobs, or `on_result` is passed for
      frames.
  """
  if on_result is not None and restorer.output == 'frames':
    raise UserError('a report shows images, not frames: omit the report, or choose another output')
  targets = '\0'.join(job.target for job in plan.jobs).encode(errors='surrogateescape')
  if len(set(parallel.gather(hashlib.sha256(targets).hexdigest()))) > 1:
    raise UserError('the processes see different images: put the images on a shared disk')
  task = _Task(
    restorer, dict(settings or {}), overwrite, max_pixels, strip, keep_damaged, on_result
  )
  with parallel.ending_together():
    outcome = _restore_share(task, parallel.share(plan.jobs))
  outcomes = [Outcome(**fields) for fields in parallel.gather(dataclasses.asdict(outcome))]
  return Outcome(
    sum(one.restored for one in outcomes),
    sum(one.skipped for one in outcomes),
    plan.failures + [reason for one in outcomes for reason in one.failures],
  )


@dataclasses.dataclass(frozen=True)
class _Task:
  """Arguments of `restore_files` that hold for all jobs."""

  restorer: Restorer
  settings: dict[str, Any]
  overwrite: bool
  max_pixels: int
  strip: bool
  keep_damaged: bool
  on_result: Callable[[Job, np.ndarray, np.ndarray], None] | None
  said: set[str] = dataclasses.field(default_factory=set)  # notes on conversions, printed once

  def is_image(self, job: Job) -> bool:
    """Return True for a job whose source is read as one image."""
    return job.kind == 'image' or self.restorer.output == 'frames'


@dataclasses.dataclass(frozen=True)
class _Prepared:
  """A job before the network.

  Attributes:
    job: the job.
    finished: True if its result exists.
    photo: its image; None if it is finished, moves, or is too large to decode ahead.
    settings: what its result depends on, if `photo` is set.
    error: why it cannot be restored, or None.
  """

  job: Job
  finished: bool = False
  photo: Photo | None = None
  settings: dict[str, Any] = dataclasses.field(default_factory=dict)
  error: Exception | None = None


@dataclasses.dataclass(frozen=True)
class _Restored:
  """A job after the network.

  Attributes:
    job: the job.
    settings: what its result depends on.
    photo: its image.
    pixels: its result, `[h, w, C]`, or frames `[7, h, w, C]`.
  """

  job: Job
  settings: dict[str, Any]
  photo: Photo
  pixels: np.ndarray


_FAILURES = (UserError, OSError, MemoryError)
"""Errors that end one job and not the others."""


def _restore_share(task: _Task, jobs: list[Job]) -> Outcome:
  quiet = len(jobs) == 1 or jax.process_index() > 0
  with (
    one_ahead(_prepare(task, job) for job in jobs) as prepared,
    Behind() as behind,
    tqdm(prepared, 'restoring', len(jobs), unit='file', disable=quiet) as bar,
  ):
    share = _Share(task, behind)
    for item in bar:
      share.restore(item, last=item.job is jobs[-1])
  return share.outcome


class _Share:
  """Jobs of this process. An image is written while the network restores the next one.

  Attributes:
    outcome: results of all jobs whose writing has ended, in the order of the jobs.
  """

  def __init__(self, task: _Task, behind: Behind):
    self.outcome = Outcome()
    self._task = task
    self._behind = behind
    # The job that is being written, and what `on_result` will show.
    self._writing: tuple[Job, tuple[np.ndarray, np.ndarray] | None] | None = None

  def restore(self, item: _Prepared, last: bool) -> None:
    """Restore a job, and begin to write its result; the last one's is also finished.

    Raises:
      UserError: if the disk is full.
    """
    if item.finished or not self._task.is_image(item.job):
      self._finish()
    restored = self._attempt(item)
    self._finish()
    if isinstance(restored, Exception):
      self._fail(item.job, restored)
    elif restored is not None:
      self._write(restored, wait=last or not _fits(2 * restored.pixels.nbytes))

  def _attempt(self, item: _Prepared) -> _Restored | Exception | None:
    """Return an image's result, which is not written yet, or why there is none."""
    task, job = self._task, item.job
    try:
      if item.error:
        return item.error
      if item.finished:
        _show_existing(task, job)
        self.outcome.skipped += 1
        return None
      if task.is_image(job):
        return _restore_image(task, item)
      _restore_moving(task, job)
      self.outcome.restored += 1
    except _FAILURES as error:
      return error
    return None

  def _write(self, restored: _Restored, wait: bool) -> None:
    """Write a result: in a thread or, to wait, here, where Ctrl-C interrupts it."""
    shown = None
    if self._task.on_result is not None:
      shown = restored.photo.pixels, restored.pixels
    self._writing = restored.job, shown
    write = functools.partial(_write_image, self._task, restored)
    if wait:
      self._finish(write)
    else:
      self._behind.call(write)

  def _finish(self, write: Callable[[], None] | None = None) -> None:
    """Count the last image once it is written: by `write`, or else by the thread."""
    if self._writing is None:
      return
    (job, shown), self._writing = self._writing, None
    try:
      (write or self._behind.wait)()
      if self._task.on_result is not None and shown is not None:
        self._task.on_result(job, *shown)
      self.outcome.restored += 1
    except _FAILURES as error:
      self._fail(job, error)

  def _fail(self, job: Job, error: Exception) -> None:
    self.outcome.failures.append(_reason(error, job))
    if getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT):
      raise UserError(f'{self.outcome.failures[-1]}; free some space and start again') from error


def _prepare(task: _Task, job: Job) -> _Prepared:
  """Look for the result of a job, and decode its image if memory allows to do so ahead."""
  try:
    if _is_finished(task, job):
      return _Prepared(job, finished=True)
    if task.is_image(job):
      width, height = size_of(job.source, task.max_pixels)
      if _fits(8 * width * height):  # at most 4 channels of 16 bits
        return _decode(task, job)
  except _FAILURES as error:
    return _Prepared(job, error=error)
  return _Prepared(job)


def _decode(task: _Task, job: Job) -> _Prepared:
  photo = read_photo(job.source, task.max_pixels)
  return _Prepared(job, photo=photo, settings=_with_source(task.settings, job))


def _is_finished(task: _Task, job: Job) -> bool:
  """Return True if the result of a job exists and is to be kept.

  Raises:
    UserError: if it exists from another source or other settings.
  """
  if task.overwrite or not exists(job.target):
    return False
  records.check_result(job.target, _with_source(task.settings, job))
  return True


def _fits(size: int) -> bool:
  """Return True if so many bytes may be used to do two things at once."""
  return size <= memory.host_bytes() / _SHARE_OF_MEMORY


def _with_source(settings: dict[str, Any], job: Job) -> dict[str, Any]:
  """Return the settings of a result, with the hash of the file it was made from."""
  if not os.path.isfile(job.source):
    raise UserError(f'cannot read {printable(job.source)}: not a file, or a link to a missing one')
  return settings | {'source': file_sha256(job.source)}


def _chosen_dtype(task: _Task, pixels: jax.typing.DTypeLike) -> dict[str, Any]:
  """Return the type of the computation, to record it, if `task.settings` allow several."""
  several = isinstance(task.settings.get('dtype'), list)
  return {'dtype': task.restorer.dtype_for(pixels)} if several else {}


def _show_existing(task: _Task, job: Job) -> None:
  if task.on_result is None or job.kind != 'image':
    return
  limit = task.max_pixels * task.restorer.scale**2
  with local_copy(job.target) as target:
    pair = read_photo(job.source, task.max_pixels), read_photo(target, limit)
  task.on_result(job, *(photo.pixels for photo in pair))


def _restore_moving(task: _Task, job: Job) -> None:
  """Restore an animation or a video."""
  settings = _with_source(task.settings, job) | _chosen_dtype(task, np.uint8)
  make_folder(os.path.dirname(job.target) or '.')
  with records.recording(job.target, settings):
    if job.kind == 'animation':
      restore_animation(
        task.restorer,
        job.source,
        job.target,
        overwrite=task.overwrite,
        max_pixels=task.max_pixels,
      )
    else:
      restore_video(
        task.restorer,
        job.source,
        job.target,
        settings=task.settings,
        overwrite=task.overwrite,
        keep_damaged=task.keep_damaged,
      )


def _restore_image(task: _Task, item: _Prepared) -> _Restored:
  job = item.job
  if item.photo is None:
    item = _decode(task, job)
  photo = cast(Photo, item.photo)
  for note in photo.notes:
    print_message(f'{printable(job.source)}: {note}')
  if task.strip:
    photo = dataclasses.replace(photo, metadata=photo.metadata.stripped())
  photo = _fit_target(task, job, photo)
  settings = item.settings | _chosen_dtype(task, photo.pixels.dtype)
  with tile_progress(job.name) as progress:
    return _Restored(job, settings, photo, task.restorer(photo.pixels, progress))


def _write_image(task: _Task, restored: _Restored) -> None:
  job, pixels = restored.job, restored.pixels
  _is_finished(task, job)  # raises if another job wrote it: names may differ in their case alone
  make_folder(os.path.dirname(job.target) or '.')
  with records.recording(job.target, restored.settings):
    if task.restorer.output == 'frames':
      animations.write_animation(job.target, pixels, restored.photo.metadata)
    else:
      write_photo(job.target, dataclasses.replace(restored.photo, pixels=pixels))


def _fit_target(task: _Task, job: Job, photo: Photo) -> Photo:
  """Return a photo that the target's format can hold once it is restored; say what gets lost.

  Raises:
    UserError: if the format cannot hold it.
  """
  if task.restorer.output == 'frames':
    return animations.for_animation(job.target, photo)
  h, w, channels = photo.pixels.shape
  size = (task.restorer.scale * w, task.restorer.scale * h)
  check_target(job.target, size, photo.pixels.dtype, channels)
  for note in conversion_notes(job.target, photo):
    if note not in task.said:
      task.said.add(note)
      print_message(f'{printable(job.source)}: {note}')
  return photo


def _reason(error: Exception, job: Job) -> str:
  """Return one line with the file and what is wrong."""
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, MemoryError):
    return f'{printable(job.source)}: out of memory'
  assert isinstance(error, OSError)
  return f'{printable(error.filename or job.target)}: {error.strerror or error}'


@contextlib.contextmanager
def tile_progress(name: str) -> Iterator[Callable[[int, int], None]]:
  """Provide a callback that shows the progress of an image of several tiles."""
  with contextlib.ExitStack() as stack:
    bars: list[tqdm] = []

    def progress(done: int, total: int) -> None:
      if total > 1 and not bars:
        label = printable(name)[-30:]
        options = {'leave': False, 'disable': jax.process_index() > 0}
        bars.append(stack.enter_context(tqdm(desc=label, total=total, unit='tile', **options)))
      for bar in bars:
        bar.update(done - bar.n)

    yield progress


def finish(plan: Plan, outcome: Outcome, page: str | os.PathLike | None = None) -> None:
  """Print the results of `restore_files`, in the first process alone.

  Args:
    plan: the work.
    outcome: its results.
    page: the report, if one was written.

  Raises:
    UserError: if files failed. If there were several files, what is wrong with each is printed on
      stderr before.
  """
  done = outcome.restored + outcome.skipped
  total = done + len(outcome.failures)
  if jax.process_index() == 0:
    if total > 1 or not outcome.failures:
      skipped = f', {outcome.skipped} existed already (--overwrite)' if outcome.skipped else ''
      outputs = ', '.join(printable(path) for path in (plan.target, page) if path)
      print(f'{outcome.restored} restored{skipped}' + (f' -> {outputs}' if done else ''))
    if plan.passed_over:
      print(plan.counted())
    for reason in outcome.failures if total > 1 else ():
      print(reason, file=sys.stderr)
  if total == 1 and outcome.failures:
    raise UserError(outcome.failures[0])
  if outcome.failures:
    raise UserError(f'{len(outcome.failures)} of {total} files could not be restored: see above')
