"""Plan of a restoration: which files become which results.

Nothing is read but names, folders and the first bytes of some files, and nothing is written.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Literal

from gfn_jax.errors import UserError
from gfn_jax.images import animations, folders, videos
from gfn_jax.images.reading import is_animated
from gfn_jax.images.writing import EXTENSIONS
from gfn_jax.restoration import records
from gfn_jax.system.files import extension_of, is_folder, is_same_file, printable

# A target with one of these extensions is a file, even if its format cannot be written.
_FILE_EXTENSIONS = tuple(dict.fromkeys((*EXTENSIONS, *animations.EXTENSIONS, *videos.FORMATS)))

Kind = Literal['image', 'animation', 'video']
"""Kind of a job, which decides how its file is restored."""


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

  def counted(self) -> str:
    """Return a line on the files that are passed over."""
    return (
      f'passed over: {", ".join(f"{count} {kind}" for kind, count in self.passed_over.items())}'
    )

  def pass_over(self, kind: str, count: int = 1) -> None:
    """Count files of a kind as passed over."""
    self.passed_over[kind] = self.passed_over.get(kind, 0) + count


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
    others = f'; {plan.counted()}' if plan.passed_over else ''
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
    elif _identity(target) in identities - {None}:
      plan.failures.append(
        f'{printable(jobs[0].source)}: its result would overwrite {printable(target)}; choose '
        'another output'
      )
    else:
      plan.jobs += jobs


def _identity(path: str) -> tuple[int, int] | None:
  """Return device and inode of a file, which links share; None if missing or in a bucket."""
  try:
    status = os.stat(path)
  except (OSError, ValueError):
    return None
  return status.st_dev, status.st_ino
