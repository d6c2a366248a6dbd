"""Restores a file or a whole folder: what is finished stays, what fails is named at the end.

The results may go into a bucket, `gs://...`.
"""

import contextlib
import dataclasses
import errno
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.evaluation.evaluate import score
from gfn_jax.images import animations, folders, videos
from gfn_jax.images.reading import MAX_PIXELS, Photo, read_photo
from gfn_jax.images.writing import EXTENSIONS, check_target, write_photo
from gfn_jax.restoration.report import open_report, to_picture
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system import parallel
from gfn_jax.system.files import exists, is_remote, local_copy, make_folder, printable

# What makes a target a file. Not all can be written, and a folder is hardly meant.
_FILE_EXTENSIONS = (*EXTENSIONS, *animations.EXTENSIONS, *videos.FORMATS)


@dataclasses.dataclass(frozen=True)
class Job:
  """One image to restore.

  Attributes:
    name: for reports: the source's path below its folder.
    source: path of the image.
    target: path of the result.
  """

  name: str
  source: str
  target: str


@dataclasses.dataclass
class Outcome:
  """What became of a folder.

  Attributes:
    restored: how many images were restored.
    skipped: how many were there already.
    failures: the reasons of the others, which name their images.
  """

  restored: int = 0
  skipped: int = 0
  failures: list[str] = dataclasses.field(default_factory=list)


def plan_jobs(
  source: str | os.PathLike, target: str | os.PathLike, extension: str | None = None
) -> list[Job]:
  """What `restore_files` will do.

  Args:
    source: an image, or a folder of images with all below it.
    target: for an image, a file with the extension of an image, an animation or a video, or a
      folder; for a folder, a folder, which gets the same structure.
    extension: of the results, such as '.png'; None keeps each file's own.

  Raises:
    UserError: if the source is missing, a source would be overwritten, or two images would become
      one.
  """
  source, target = os.fspath(source), os.fspath(target)
  if os.path.isdir(source):
    jobs = _jobs_of_folder(source, target, extension)
  else:
    name = os.path.basename(source)
    if not target.lower().endswith(_FILE_EXTENSIONS) or os.path.isdir(target):
      target = os.path.join(target, _renamed(name, extension))
    jobs = [Job(name, source, target)]
  seen = {}
  for job in jobs:
    if not is_remote(target) and _is_same(job.source, job.target):
      raise UserError(f'{printable(job.source)} would be overwritten; choose another output')
    if job.target in seen:
      raise UserError(
        f'{printable(job.source)} and {printable(seen[job.target])} would both become '
        f'{printable(job.target)}; rename one'
      )
    seen[job.target] = job.source
  return jobs


def _is_same(source: str, target: str) -> bool:
  return os.path.exists(target) and os.path.samefile(source, target)


def _jobs_of_folder(source: str, target: str, extension: str | None) -> list[Job]:
  if os.path.isfile(target):
    raise UserError(f'{printable(target)} is a file; pass a folder for the images of a folder')
  inside = os.path.realpath(target) + os.sep  # a target below the source is no source
  jobs = []
  for path in folders.list_images(source, recursive=True):
    if os.path.realpath(path).startswith(inside) and not os.path.samefile(source, target):
      continue
    name = os.path.relpath(path, source)
    jobs.append(Job(name, path, os.path.join(target, _renamed(name, extension))))
  return jobs


def _renamed(name: str, extension: str | None) -> str:
  return os.path.splitext(name)[0] + extension if extension else name


def restore_files(
  restorer: Restorer,
  jobs: list[Job],
  *,
  overwrite: bool = False,
  max_pixels: int = MAX_PIXELS,
  on_result: Callable[[Job, np.ndarray, np.ndarray], None] | None = None,
) -> Outcome:
  """Restores images one after the other, with a progress bar.

  A result is written aside and renamed when it is whole. An image that cannot be read, restored or
  written does not keep the others from being done; only a full disk does. Frames become animations.

  Args:
    restorer: the network.
    jobs: of `plan_jobs`.
    overwrite: restore also what is there already.
    max_pixels: of an input; larger ones are refused.
    on_result: called with each job, the input and its result, `[h, w, C]` of uint8 or uint16. A
      `UserError` of it counts as the image's failure. Not for frames.

  Returns:
    What became of them.

  Raises:
    UserError: if the disk is full, or a report is to show frames.
  """
  if on_result is not None and restorer.output == 'frames':
    raise UserError('a report shows images, not frames: leave it out, or choose another output')
  outcome = Outcome()
  quiet = len(jobs) == 1 or jax.process_index() > 0
  for job in tqdm(jobs, 'restoring', unit='image', disable=quiet):
    try:
      if exists(job.target) and not overwrite:
        outcome.skipped += 1
        if on_result is not None:
          limit = max_pixels * restorer.scale**2
          with local_copy(job.target) as target:
            pair = read_photo(job.source, max_pixels), read_photo(target, limit)
          on_result(job, *(photo.pixels for photo in pair))
        continue
      photo = read_photo(job.source, max_pixels)
      restored = _restore_file(restorer, photo, job)
      outcome.restored += 1
      if on_result is not None:
        on_result(job, photo.pixels, restored)
    except (UserError, OSError, MemoryError) as error:
      outcome.failures.append(_reason(error, job))
      if getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT):
        raise UserError(f'{outcome.failures[-1]}; make room and start again') from error
  return outcome


def restore_together(restorer: Restorer, jobs: list[Job], **options: Any) -> Outcome:
  """Restores images as `restore_files` does, in all processes of a run, each its `parallel.share`.

  Args:
    restorer: the network.
    jobs: of `plan_jobs`, the same in all processes.
    **options: of `restore_files`.

  Returns:
    What became of all of them, in every process.

  Raises:
    UserError: as `restore_files`; or if the processes have other jobs.
  """
  targets = '\0'.join(job.target for job in jobs).encode(errors='surrogateescape')
  if len(set(parallel.gather(hashlib.sha256(targets).hexdigest()))) > 1:
    raise UserError('the processes do not see the same images: put them on a shared disk')
  with parallel.ending_together():
    outcome = restore_files(restorer, parallel.share(jobs), **options)
  outcomes = [Outcome(**fields) for fields in parallel.gather(dataclasses.asdict(outcome))]
  return Outcome(
    sum(one.restored for one in outcomes),
    sum(one.skipped for one in outcomes),
    [reason for one in outcomes for reason in one.failures],
  )


def restore_and_report(
  restorer: Restorer,
  jobs: list[Job],
  page: str | os.PathLike,
  *,
  weights: str,
  target_dir: str | os.PathLike | None = None,
  protocol: str = 'gfn',
  **options: Any,
) -> Outcome:
  """Restores images as `restore_files` does, and writes a page that shows them.

  Args:
    restorer: the network.
    jobs: of `plan_jobs`.
    page: the HTML file to write.
    weights: what the page calls the network.
    target_dir: sharp images, as large as the results, in the structure of the sources; or None.
    protocol: how to compare with them, a key of `metrics.PROTOCOLS`.
    **options: of `restore_files`.

  Raises:
    UserError: as `restore_files`; or naming an image without a target.
  """
  targets = {job.name: _find_target(target_dir, job.name) for job in jobs} if target_dir else {}
  title = f'{type(restorer.model).__name__}: before and after'
  with open_report(page, title, weights=weights, protocol=protocol if targets else None) as report:

    def add(job: Job, before: np.ndarray, restored: np.ndarray) -> None:
      target = scores = None
      if targets:
        target = folders.read_rgb(targets[job.name])
        pair = (np.asarray(to_picture(image)) for image in (before, restored))
        scores = score(job.name, *pair, target, protocol)
      report.add(job.name, before, restored, target, scores)

    return restore_files(restorer, jobs, on_result=add, **options)


def _find_target(target_dir: str | os.PathLike, name: str) -> str:
  stem = os.path.join(target_dir, os.path.splitext(name)[0])
  for extension in EXTENSIONS:
    if os.path.isfile(stem + extension):
      return stem + extension
  raise UserError(f'{printable(name)} has no target of its name in {printable(target_dir)}')


def _restore_file(restorer: Restorer, photo: Photo, job: Job) -> np.ndarray:
  h, w, channels = photo.pixels.shape
  frames = restorer.output == 'frames'
  if frames:
    animations.check_animation(job.target, (w, h), channels)
  else:
    size = (restorer.scale * w, restorer.scale * h)
    check_target(job.target, size, photo.pixels.dtype, channels)
  with tile_progress(job.name) as progress:
    restored = restorer(photo.pixels, progress)
  make_folder(os.path.dirname(job.target) or '.')
  if frames:
    animations.write_animation(job.target, restored, photo.exif, photo.icc_profile)
  else:
    write_photo(job.target, dataclasses.replace(photo, pixels=restored))
  return restored


def _reason(error: Exception, job: Job) -> str:
  """One line that names the file."""
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, MemoryError):
    return f'{printable(job.source)}: out of memory'
  return f'{printable(error.filename or job.target)}: {error.strerror or error}'


@contextlib.contextmanager
def tile_progress(name: str) -> Iterator[Callable[[int, int], None]]:
  """A progress bar over the tiles of an image that has several."""
  with contextlib.ExitStack() as stack:
    bars = []

    def progress(done: int, total: int) -> None:
      if total > 1 and not bars:
        label = printable(name)[-30:]
        options = {'leave': False, 'disable': jax.process_index() > 0}
        bars.append(stack.enter_context(tqdm(desc=label, total=total, unit='tile', **options)))
      for bar in bars:
        bar.update(done - bar.n)

    yield progress


def finish(outcome: Outcome) -> None:
  """Prints what became of the images, in the first process alone.

  Raises:
    UserError: if some failed; their reasons go to stderr before.
  """
  total = outcome.restored + outcome.skipped + len(outcome.failures)
  if total == 1 and outcome.failures:
    raise UserError(outcome.failures[0])
  skipped = f', {outcome.skipped} were there already (--overwrite)' if outcome.skipped else ''
  if jax.process_index() == 0:
    print(f'{outcome.restored} restored{skipped}')
    for reason in outcome.failures:
      print(reason, file=sys.stderr)
  if outcome.failures:
    raise UserError(f'{len(outcome.failures)} of {total} images could not be restored: see above')
