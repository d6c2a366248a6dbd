"""Scores of a network and of bicubic interpolation on a test set, as in the papers' tables.

Several processes share the images; each returns the scores of all images.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.evaluation.lpips import LPIPS
from gfn_jax.evaluation.tables import format_table, summarize, write_results
from gfn_jax.evaluation.test_sets import TestSet
from gfn_jax.images import folders
from gfn_jax.ops.pixels import to_uint8
from gfn_jax.ops.scores import score, score_references
from gfn_jax.restoration import report
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system import parallel
from gfn_jax.system.files import absolute, file_sha256, make_folder
from gfn_jax.weights.pretrained import weights_path


def evaluate_and_report(
  weights: str | os.PathLike,
  test_set: TestSet,
  protocol: str,
  output_dir: str | os.PathLike,
  page: str | os.PathLike | None = None,
  lpips_weights: Sequence[str | os.PathLike] = (),
  *,
  tile: int | str | None = 'auto',
  ensemble: bool = False,
  dtype: str | None = None,
) -> None:
  """Evaluate weights, write the images, `images.csv` and `summary.json`, and print the table.

  Of several processes, each writes its images and the first one the rest. An error in one of them
  ends all.

  Args:
    weights: a file or a name, as for `load_pretrained`.
    test_set: the images.
    protocol: a key of `PROTOCOLS`.
    output_dir: folder of the results, made if needed; may be in a bucket, `gs://...`.
    page: an HTML file to write, which shows the images, or None. For one process only.
    lpips_weights: files for `LPIPS.from_files`. Without them LPIPS is left out.
    tile: see `Restorer`.
    ensemble: see `Restorer`.
    dtype: see `Restorer`.

  Raises:
    UserError: for unreadable weights, images that do not fit each other, or processes that see
      different images.
  """
  report.check_page(page)
  with parallel.ending_together():
    lpips = LPIPS.from_files(lpips_weights) if lpips_weights else None
    path = weights_path(weights)
    restorer = Restorer.from_pretrained(path, tile=tile, ensemble=ensemble, dtype=dtype)
    image_dir = os.path.join(output_dir, 'images')
    make_folder(image_dir)
  with contextlib.ExitStack() as stack:
    on_result = None
    if page is not None:
      title = f'{type(restorer.model).__name__}: before and after'
      new_report = report.open_report(page, title, weights=os.fspath(weights), protocol=protocol)
      on_result = stack.enter_context(new_report).add
    rows = evaluate(
      restorer,
      test_set.images,
      protocol,
      output_dir=image_dir,
      on_result=on_result,
      total=len(parallel.share(range(test_set.count))),
      lpips=lpips,
      timed=True,
    )
  if len({row['name'] for row in rows}) != test_set.count and jax.process_count() > 1:
    raise UserError('the processes see different test images: put the images on a shared disk')
  with parallel.ending_together():
    if jax.process_index() == 0:
      facts: dict[str, Any] = {'protocol': protocol, 'data': dict(test_set.facts)}
      options = {'tile': tile, 'ensemble': ensemble, 'dtype': restorer.dtype}
      facts['options'] = {key: value for key, value in options.items() if value is not None}
      facts['weights'] = _file_facts(path)
      if lpips is not None:
        facts['lpips'] = {'network': 'alex', 'version': '0.1', 'border': 0}
        facts['lpips']['weights'] = [_file_facts(file) for file in lpips_weights]
      methods = summarize(rows, restorer)
      write_results(output_dir, rows, methods, facts)
      device = jax.devices()[0].device_kind
      print(f'{len(rows)} images, protocol {protocol}, {restorer.dtype}, {device}\n')
      print(format_table(methods))
      print(f'\nimages, images.csv and summary.json are in {os.fspath(output_dir)}')


def _file_facts(path: str | os.PathLike) -> dict[str, str]:
  return {'path': absolute(path), 'sha256': file_sha256(path)}


def evaluate(
  restorer: Restorer,
  images: Iterable[Mapping[str, Any]],
  protocol: str,
  *,
  output_dir: str | os.PathLike | None = None,
  on_result: Callable[..., None] | None = None,
  total: int | None = None,
  lpips: LPIPS | None = None,
  timed: bool = False,
) -> list[dict[str, Any]]:
  """Restore test images, and compare them and bicubic interpolation with their targets.

  Several processes call it together, each with its `parallel.share` of the images.

  Args:
    restorer: the network.
    images: dicts with `name`, `lr_blur` `[h, w, 3]` and `hr` `[s * h, s * w, 3]`, where s is the
      network's scale, uint8 or float in [0, 1]. In all images, `references`, an iterable of
      `Reference`s of that size, may replace `hr`.
    protocol: a key of `PROTOCOLS`.
    output_dir: folder for the restored images, `name.png`, or None.
    on_result: called as `on_result(name, lr_blur, restored, hr, scores)`.
    total: number of images, for the progress bar.
    lpips: a further metric, or None.
    timed: True to measure `seconds`, with one more forward pass for each image.

  Returns:
    For each image of all processes, in order: `name`; the scores from `score`; with references
    `reference` and `bicubic_reference`, the names of the best ones; and if `timed` `seconds`, the
    time of the network's forward pass as `Restorer.time_forward` measures it.

  Raises:
    UserError: if a target is not as large as the restored image or too small for a metric, or there
      are no images. An error in one process is raised in all.
  """
  with parallel.ending_together():
    rows = _evaluate_share(restorer, images, protocol, output_dir, on_result, total, lpips, timed)
  shares = parallel.gather(rows)
  rows = [row for some in itertools.zip_longest(*shares) for row in some if row]
  if not rows:
    raise UserError('no image to evaluate')
  return rows


def _evaluate_share(
  restorer: Restorer,
  images: Iterable[Mapping[str, Any]],
  protocol: str,
  output_dir: str | os.PathLike | None,
  on_result: Callable[..., None] | None,
  total: int | None,
  lpips: LPIPS | None,
  timed: bool,
) -> list[dict[str, Any]]:
  rows = []
  quiet = jax.process_index() > 0
  for image in tqdm(images, 'evaluating', total, unit='image', leave=False, disable=quiet):
    name, lr_blur = image['name'], image['lr_blur']
    restored = to_uint8(restorer(lr_blur))
    matches: dict[str, str] = {}
    if 'references' in image:
      scores, reference, bicubic_reference = score_references(
        name, lr_blur, restored, image['references'], protocol, lpips
      )
      hr = reference.pixels
      matches = {'reference': reference.name, 'bicubic_reference': bicubic_reference.name}
    else:
      hr = target_of(image, restorer)
      scores = score(name, lr_blur, restored, hr, protocol, lpips)
    rows.append({'name': name, **scores, **matches})
    if timed:
      rows[-1]['seconds'] = restorer.time_forward(lr_blur)
    if on_result is not None:
      on_result(name, lr_blur, restored, hr, scores)
    if output_dir is not None:
      path = os.path.join(output_dir, name + '.png')
      make_folder(os.path.dirname(path))
      folders.write_png(path, restored)
  return rows


def target_of(image: Mapping[str, Any], restorer: Restorer) -> np.ndarray:
  """Return the target of a test image: `hr`, or `lr` if it exists and nothing is enlarged."""
  return image['lr'] if restorer.scale == 1 and 'lr' in image else image['hr']
