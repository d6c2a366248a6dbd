"""Restoration of files, with a page that shows them before and after."""

import os

import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.images import folders
from gfn_jax.images.preview import to_picture
from gfn_jax.images.reading import MAX_PIXELS
from gfn_jax.images.writing import EXTENSIONS
from gfn_jax.ops.scores import score
from gfn_jax.restoration.files import Job, Outcome, restore_files
from gfn_jax.restoration.report import open_report
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system.files import printable


def restore_and_report(
  restorer: Restorer,
  jobs: list[Job],
  page: str | os.PathLike,
  *,
  weights: str,
  target_dir: str | os.PathLike | None = None,
  protocol: str = 'gfn',
  overwrite: bool = False,
  max_pixels: int = MAX_PIXELS,
  strip: bool = False,
) -> Outcome:
  """Restore images as `restore_files` does, and write a page that shows them.

  Args:
    restorer: the network.
    jobs: jobs from `plan_jobs`.
    page: the HTML file to write.
    weights: name of the network's weights.
    target_dir: folder of sharp images, as large as the results, with the sources' structure; or
      None.
    protocol: protocol of the comparison with them, a key of `PROTOCOLS`.
    overwrite: see `restore_files`.
    max_pixels: see `restore_files`.
    strip: see `restore_files`.

  Raises:
    UserError: as `restore_files`, or if an image has no target.
  """
  targets = {job.name: _find_target(target_dir, job.name) for job in jobs} if target_dir else {}
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
      restorer, jobs, overwrite=overwrite, max_pixels=max_pixels, strip=strip, on_result=add
    )


def _find_target(target_dir: str | os.PathLike, name: str) -> str:
  stem = os.path.join(target_dir, os.path.splitext(name)[0])
  for extension in EXTENSIONS:
    if os.path.isfile(stem + extension):
      return stem + extension
  raise UserError(f'{printable(name)} has no target in {printable(target_dir)}')
