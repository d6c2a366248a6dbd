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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import jax
import numpy as np
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.images import animations, folders, videos
from gfn_jax.images.reading import MAX_PIXELS, Photo, is_animated, read_photo, size_of
from gfn_jax.images.writing import (
  EXTENSIONS,
  check_target,
  conversion_notes,
  write_photo,
)
from gfn_jax.restoration import records
from gfn_jax.restoration.animation import restore_animation
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.restoration.video import restore_video
from gfn_jax.system import memory, parallel
from gfn_jax.system.console import print_message
from gfn_jax.system.files import (
  exists,
  extension_of,
  file_sha256,
  is_folder,
  is_remote,
  is_same_file,
  local_copy,
  make_folder,
  printable,
)
from gfn_jax.system.overlap import Behind, one_ahead

_SHARE_OF_MEMORY = 8
"""An image is decoded or written beside another one if that takes at most this part of the free
memory."""

# A target with one of these extensions is a file, even if its format cannot be written.
_FILE_EXTENSIONS = tuple(dict.fromkeys((*EXTENSIONS, *animations.EXTENSIONS, *videos.FORMATS)))


Kind = Literal['image', 'animation', 'video']
"""What a file is restored as."""


@dataclasses.dataclass(frozen=True)
class Job:
  """One file to restore.

  Attributes:
    name: path of the source relative to its folder.
    source: path of the source.
    target: path of the result.
    kind: what it is restored as.
  """

  name: str
  source: str
  target: str
  kind: Kind = 'image'


@dataclasses.dataclass
class Plan:
  """Work for `restore_files`.

  Attributes:
    target: path of the one result, or of the folder of all.
    jobs: the images, animations and videos.
    passed_over: number of files that are neither, by kind.
    failures: for each source that cannot be restored, its name and the reason.
  """

  target: str
  jobs: list[Job] = dataclasses.field(default_factory=list)
  passed_over: dict[str, int] = dataclasses.field(default_factory=dict)
  failures: list[str] = dataclasses.field(default_factory=list)

  @property
  def into_folder(self) -> bool:
    """True if the results go into a folder, whose path ends in a slash."""
    return self.target.endswith(('/', os.sep))

  def pass_over_videos(self, reason: str) -> None:
    """Count the videos as passed over, for a reason that their kind names."""
    for job in self.jobs:
      if job.kind == 'video':
        self.pass_over(f'{printable(extension_of(job.source))} ({reason})')
    self.jobs = [job for job in self.jobs if job.kind != 'video']

  def pass_over(self, kind: str, count: int = 1) -> None:
    """Count files of a kind as passed over."""
    self.passed_over[kind] = self.passed_over.get(kind, 0) + count


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


def plan_jobs(
  sources: str | os.PathLike | Sequence[str | os.PathLike],
  target: str | os.PathLike,
  extension: str | None = None,
) -> Plan:
  """Plan the work of `restore_files`.

  One file may become a file, whose extension the target has. Everything else goes into a folder: a
  folder keeps its structure, and several folders get a subfolder each.

  Sources that cannot be restored become failures of the plan: those that do not exist, would be
  overwritten, or would become one target with another source.

  Args:
    sources: an image, a video, a folder that is searched recursively, or a list of them.
    target: a file or a folder. A name with an extension is a file, unless the folder exists or the
      name ends in a slash.
    extension: extension of restored images, such as '.png'; None keeps each image's own.

  Raises:
    UserError: if the target has an unknown extension or is a file for several results, there is
      nothing to restore, the only source does not exist or would be overwritten, or there are only
      videos and PyAV is missing.
  """
  if isinstance(sources, (str, os.PathLike)):
    sources = [sources]
  paths, target = [os.fspath(source) for source in sources], os.fspath(target)
  if len(paths) == 1 and not os.path.lexists(paths[0]):
    raise UserError(f'no such file or folder: {printable(paths[0])}')
  one_file = len(paths) == 1 and not os.path.isdir(paths[0])
  to_file = _names_file(target)
  if to_file and not one_file:
    raise UserError(
      f'{printable(target)} is a file, but several images need a folder; choose another output, or '
      f'write {printable(target)}/ for a folder of this name'
    )
  plan = Plan(target if to_file else os.path.join(target or '.', ''))
  for path in paths:
    if os.path.isdir(path):
      _plan_folder(plan, path, extension, alone=len(paths) == 1)
    elif os.path.lexists(path):
      plan.jobs.append(_plan_file(path, plan.target, extension))
    else:
      plan.failures.append(f'no such file or folder: {printable(path)}')
  if not (plan.jobs or plan.failures):
    others = f'; {_counted(plan.passed_over)}' if plan.passed_over else ''
    raise UserError(
      f'no image in {", ".join(map(printable, paths))}; extensions are {", ".join(EXTENSIONS)}'
      f'{others}'
    )
  kinds = {job.kind for job in plan.jobs}
  if 'video' in kinds:
    try:
      videos.pyav()
    except UserError as error:
      if len(kinds) == 1:
        raise
      plan.pass_over_videos(str(error))
  _drop_conflicts(plan)
  return plan


def _names_file(target: str) -> bool:
  """Return True if a target is a file, and False if it is a folder, by its name.

  Raises:
    UserError: for a file with an unknown extension.
  """
  if target.endswith(('/', os.sep)) or is_folder(target):
    return False
  extension = extension_of(target)
  if extension and extension not in _FILE_EXTENSIONS:
    raise UserError(
      f'{printable(target)}: unknown extension; choose one of {", ".join(_FILE_EXTENSIONS)}, or '
      f'write {printable(target)}/ for a folder of this name'
    )
  return bool(extension) or os.path.isfile(target)


def _plan_file(path: str, target: str, extension: str | None) -> Job:
  """Return the job of a file that the user names, which may have any extension."""
  name, into_folder = os.path.basename(path), target.endswith(('/', os.sep))
  kind: Kind = _kind_of(path, extension if into_folder else extension_of(target))
  if kind == 'image' and videos.is_video(path):
    kind = 'video'
  if into_folder:
    return _job(name, path, target, extension, kind)
  return Job(name, path, target, kind)


def _kind_of(path: str, extension: str | None) -> Kind:
  """Return what an image becomes: an animation if it is one and its result's format allows it."""
  animated = (extension or extension_of(path)) in animations.EXTENSIONS and is_animated(path)
  return 'animation' if animated else 'image'


def _plan_folder(plan: Plan, folder: str, extension: str | None, alone: bool) -> None:
  """Add the files of a folder to a plan, without earlier results if the target is in it."""
  itself = is_same_file(folder, plan.target)
  if itself and not extension:
    if alone:
      raise UserError(f'{printable(folder)} would be overwritten; choose another output')
    plan.pass_over('folder of the results')
    return
  found = folders.find_files(folder, skip=None if itself else plan.target)
  top = '' if alone else os.path.basename(os.path.abspath(folder))
  kinds: dict[str, Kind] = {path: _kind_of(path, extension) for path in found.images}
  kinds.update({path: 'video' for path in found.videos})
  for path, kind in kinds.items():
    if not (itself and records.is_result(path)):
      name = os.path.join(top, os.path.relpath(path, folder))
      plan.jobs.append(_job(name, path, plan.target, extension, kind))
  for other, count in found.others.items():
    plan.pass_over(other, count)
  plan.failures += found.failures


def _job(name: str, source: str, folder: str, extension: str | None, kind: Kind) -> Job:
  """Return the job of a file whose result goes into a folder."""
  stem, own = os.path.splitext(name)
  if kind == 'video':  # Matroska holds every audio
    renamed = stem + (own if own.lower() in videos.FORMATS else '.mkv')
  elif kind == 'animation' or own.lower() in EXTENSIONS:
    renamed = stem + (extension or own)
  else:
    renamed = stem + (extension or '.png')
  return Job(name, source, os.path.join(folder, renamed), kind)


def _drop_conflicts(plan: Plan) -> None:
  """Turn jobs that would overwrite a source, or share a target, into failures."""
  identities = {_identity(job.source) for job in plan.jobs}
  by_target: dict[str, list[Job]] = {}
  for job in plan.jobs:
    same = by_target.setdefault(job.target, [])
    if not any(is_same_file(job.source, other.source) for other in same):
      same.append(job)  # a source that is passed twice counts once
  plan.jobs = []
  for target, jobs in by_target.items():
    if len(jobs) > 1:
      for job, other in zip(jobs, jobs[1:] + jobs[:1], strict=True):
        plan.failures.append(
          f'{printable(job.source)} and {printable(other.source)} would both become '
          f'{printable(target)}; rename one'
        )
    elif not is_remote(target) and _identity(target) in identities - {None}:
      plan.failures.append(
        f'{printable(jobs[0].source)}: its result would overwrite {printable(target)}; choose '
        'another output'
      )
    else:
      plan.jobs += jobs


def _identity(path: str) -> tuple[int, int] | None:
  """Return device and inode of a file, which links share; None for a missing one."""
  try:
    status = os.stat(path)
  except (OSError, ValueError):
    return None
  return status.st_dev, status.st_ino


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
      print(_counted(plan.passed_over))
    for reason in outcome.failures if total > 1 else ():
      print(reason, file=sys.stderr)
  if total == 1 and outcome.failures:
    raise UserError(outcome.failures[0])
  if outcome.failures:
    raise UserError(f'{len(outcome.failures)} of {total} files could not be restored: see above')


def _counted(passed_over: Mapping[str, int]) -> str:
  counts = (f'{count} {kind}' for kind, count in passed_over.items())
  return f'passed over: {", ".join(counts)}'
