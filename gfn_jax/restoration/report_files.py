"""Restoration of files, with a page that shows them before and after."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.images import folders
from gfn_jax.images.preview import to_picture
from gfn_jax.images.reading import MAX_PIXELS
from gfn_jax.ops.scores import score
from gfn_jax.restoration.files import Outcome, restore_files
from gfn_jax.restoration.plan import Job, Plan
from gfn_jax.restoration.report import open_report
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system.files import printable


def restore_and_report(
  restorer: Restorer,
  plan: Plan,
  page: str | os.PathLike,
  *,
  weights: str,
  target_dir: str | os.PathLike | None = None,
  protocol: str = 'gfn',
  settings: Mapping[str, Any] | None = None,
  overwrite: bool = False,
  max_pixels: int = MAX_PIXELS,
  strip: bool = False,
  keep_damaged: bool = False,
) -> Outcome:
  """Restore files as `restore_files` does, and write a page that shows the images.

  Args:
    restorer: the network.
    plan: the work, from `plan_jobs`.
    page: the HTML file to write.
    weights: name of the network's weights.
    target_dir: folder of sharp images, as large as the results, with the sources' structure; or
      None.
    protocol: protocol of the comparison with them, a key of `PROTOCOLS`.
    settings: see `restore_files`.
    overwrite: see `restore_files`.
    max_pixels: see `restore_files`.
    strip: see `restore_files`.
    keep_damaged: see `restore_files`.

  Raises:
    UserError: as `restore_files`, or if an image has no target.
  """
  targets = {}
  if target_dir:
    targets = _find_targets(target_dir, (job.name for job in plan.jobs if job.kind == 'image'))
  title = f'{type(restorer.model).__name__}: before and after'
  with open_report(page, title, weights=weights, protocol=protocol if targets else None) as report:

    def add(job: Job, before: np.ndarray, restored: np.ndarray) -> None:
      target = scores = None
      if targets:
        target = folders.read_rgb(targets[job.name])
        lr_blur, output = (np.asarray(to_picture(image)) for image in (before, restored))
        scores = score(job.name, lr_blur, output, target, protocol)
      report.add(job.name, before, restored, target, scores)

    return restore_files(
      restorer,
      plan,
      settings=settings,
      overwrite=overwrite,
      max_pixels=max_pixels,
      strip=strip,
      keep_damaged=keep_damaged,
      on_result=add,
    )


def _find_targets(target_dir: str | os.PathLike, names: Iterable[str]) -> dict[str, str]:
  """Return the sharp image of each name, whatever its extension.

  Raises:
    UserError: if a name has none.
  """
  targets = {}
  by_stem: dict[str, dict[str, str]] = {}  # of each subfolder
  for name in names:
    folder = os.path.dirname(name)
    if folder not in by_stem:
      found = folders.find_files(os.path.join(target_dir, folder), recursive=False)
      by_stem[folder] = {folders.stem(path): path for path in found.images}
    if folders.stem(name) not in by_stem[folder]:
      raise UserError(f'{printable(name)} has no target in {printable(target_dir)}')
    targets[name] = by_stem[folder][folders.stem(name)]
  return targets
