"""Restoration of a file or a folder: finished results are kept, failures are listed at the end.

The results may be written to a bucket, `gs://...`.
"""

import contextlib
import dataclasses
import errno
import hashlib
import os
import sys
from collections.abc import Callable, Iterator

import jax
import numpy as np
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.images import animations, folders, videos
from gfn_jax.images.reading import MAX_PIXELS, Photo, read_photo
from gfn_jax.images.writing import (
  EXTENSIONS,
  check_target,
  conversion_notes,
  result_name,
  write_photo,
)
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system import parallel
from gfn_jax.system.console import print_message
from gfn_jax.system.files import exists, is_same_file, local_copy, make_folder, printable

# A target with one of these extensions is a file, even if its format cannot be written.
_FILE_EXTENSIONS = (*EXTENSIONS, *animations.EXTENSIONS, *videos.FORMATS)


@dataclasses.dataclass(frozen=True)
class Job:
  """One image to restore.

  Attributes:
    name: path of the image relative to its folder.
    source: path of the image.
    target: path of the result.
  """

  name: str
  source: str
  target: str


@dataclasses.dataclass
class Outcome:
  """Results of `restore_files`.

  Attributes:
    restored: number of restored images.
    skipped: number of images whose result existed.
    failures: for each other image, its name and what is wrong.
  """

  restored: int = 0
  skipped: int = 0
  failures: list[str] = dataclasses.field(default_factory=list)


def plan_jobs(
  source: str | os.PathLike, target: str | os.PathLike, extension: str | None = None
) -> list[Job]:
  """Return the jobs for `restore_files`.

  Args:
    source: an image, or a folder that is searched for images recursively.
    target: for an image, a file with the extension of an image, an animation or a video, or a
      folder; for a folder, a folder, which gets the same structure.
    extension: extension of the results, such as '.png'; None keeps each image's own.

  Raises:
    UserError: if the source does not exist or would be overwritten, or two images have the same
      target.
  """
  source, target = os.fspath(source), os.fspath(target)
  if os.path.isdir(source):
    jobs = _jobs_of_folder(source, target, extension)
  else:
    name = os.path.basename(source)
    if not target.lower().endswith(_FILE_EXTENSIONS) or os.path.isdir(target):
      target = os.path.join(target, result_name(name, extension))
    jobs = [Job(name, source, target)]
  seen: dict[str, str] = {}
  for job in jobs:
    if is_same_file(job.source, job.target):
      raise UserError(f'{printable(job.source)} would be overwritten; choose another output')
    if job.target in seen:
      raise UserError(
        f'{printable(job.source)} and {printable(seen[job.target])} would both become '
        f'{printable(job.target)}; rename one'
      )
    seen[job.target] = job.source
  return jobs


def _jobs_of_folder(source: str, target: str, extension: str | None) -> list[Job]:
  if os.path.isfile(target):
    raise UserError(f'{printable(target)} is a file; pass a folder for the images of a folder')
  inside = os.path.realpath(target) + os.sep  # earlier results, if the target is in the source
  jobs = []
  for path in folders.list_images(source, recursive=True):
    if os.path.realpath(path).startswith(inside) and not os.path.samefile(source, target):
      continue
    name = os.path.relpath(path, source)
    jobs.append(Job(name, path, os.path.join(target, result_name(name, extension))))
  return jobs


def restore_files(
  restorer: Restorer,
  jobs: list[Job],
  *,
  overwrite: bool = False,
  max_pixels: int = MAX_PIXELS,
  strip: bool = False,
  on_result: Callable[[Job, np.ndarray, np.ndarray], None] | None = None,
) -> Outcome:
  """Restore images one after the other, with a progress bar.

  Several processes call it together, with the same jobs; each restores its `parallel.share`. A
  result is written to a temporary file, which is renamed when complete. After an image that cannot
  be read, restored or written, the next one follows; only a full disk ends all. Frames are written
  as animations.

  Args:
    restorer: the network.
    jobs: jobs from `plan_jobs`.
    overwrite: True to restore images whose result exists, too.
    max_pixels: largest number of pixels of an input; larger images fail.
    strip: True to write no metadata but those of the colours.
    on_result: called with each job, its input and its result, `[h, w, C]` of uint8 or uint16, also
      for results that existed. If it raises `UserError`, the image has failed. Not for frames.

  Returns:
    The results of all processes.

  Raises:
    UserError: if the disk is full, the processes have different jobs, or `on_result` is passed for
      frames.
  """
  if on_result is not None and restorer.output == 'frames':
    raise UserError('a report shows images, not frames: omit the report, or choose another output')
  targets = '\0'.join(job.target for job in jobs).encode(errors='surrogateescape')
  if len(set(parallel.gather(hashlib.sha256(targets).hexdigest()))) > 1:
    raise UserError('the processes see different images: put the images on a shared disk')
  with parallel.ending_together():
    outcome = _restore_share(
      restorer, parallel.share(jobs), overwrite, max_pixels, strip, on_result
    )
  outcomes = [Outcome(**fields) for fields in parallel.gather(dataclasses.asdict(outcome))]
  return Outcome(
    sum(one.restored for one in outcomes),
    sum(one.skipped for one in outcomes),
    [reason for one in outcomes for reason in one.failures],
  )


def _restore_share(
  restorer: Restorer,
  jobs: list[Job],
  overwrite: bool,
  max_pixels: int,
  strip: bool,
  on_result: Callable[[Job, np.ndarray, np.ndarray], None] | None,
) -> Outcome:
  outcome = Outcome()
  conversions: set[str] = set()  # said once, not for each image
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
      for note in photo.notes:
        print_message(f'{printable(job.source)}: {note}')
      if strip:
        photo = dataclasses.replace(photo, metadata=photo.metadata.stripped())
      restored = _restore_file(restorer, photo, job, conversions)
      outcome.restored += 1
      if on_result is not None:
        on_result(job, photo.pixels, restored)
    except (UserError, OSError, MemoryError) as error:
      outcome.failures.append(_reason(error, job))
      if getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT):
        raise UserError(f'{outcome.failures[-1]}; free some space and start again') from error
  return outcome


def _restore_file(restorer: Restorer, photo: Photo, job: Job, conversions: set[str]) -> np.ndarray:
  h, w, channels = photo.pixels.shape
  frames = restorer.output == 'frames'
  if frames:
    photo = animations.for_animation(job.target, photo)
  else:
    size = (restorer.scale * w, restorer.scale * h)
    check_target(job.target, size, photo.pixels.dtype, channels)
    for note in conversion_notes(job.target, photo):
      if note not in conversions:
        conversions.add(note)
        print_message(f'{printable(job.source)}: {note}')
  with tile_progress(job.name) as progress:
    restored = restorer(photo.pixels, progress)
  make_folder(os.path.dirname(job.target) or '.')
  if frames:
    animations.write_animation(job.target, restored, photo.metadata)
  else:
    write_photo(job.target, dataclasses.replace(photo, pixels=restored))
  return restored


def _reason(error: UserError | OSError | MemoryError, job: Job) -> str:
  """Return one line with the file and what is wrong."""
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, MemoryError):
    return f'{printable(job.source)}: out of memory'
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


def finish(outcome: Outcome) -> None:
  """Print the results of `restore_files`, in the first process alone.

  Raises:
    UserError: if images failed. If there were several images, what is wrong with each is printed on
      stderr before.
  """
  total = outcome.restored + outcome.skipped + len(outcome.failures)
  if total == 1 and outcome.failures:
    raise UserError(outcome.failures[0])
  skipped = f', {outcome.skipped} existed already (--overwrite)' if outcome.skipped else ''
  if jax.process_index() == 0:
    print(f'{outcome.restored} restored{skipped}')
    for reason in outcome.failures:
      print(reason, file=sys.stderr)
  if outcome.failures:
    raise UserError(f'{len(outcome.failures)} of {total} images could not be restored: see above')
