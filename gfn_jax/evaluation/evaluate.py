"""Scores of a network on a test set, beside bicubic, in the form of the papers' tables.

Of several processes each takes every n-th image; all get the scores of all images.
"""

import contextlib
import csv
import dataclasses
import io
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from gfn_jax.data.photos import PhotoDataset
from gfn_jax.errors import UserError
from gfn_jax.evaluation.lpips import LPIPS
from gfn_jax.images import folders
from gfn_jax.ops import metrics
from gfn_jax.ops.imresize import imresize
from gfn_jax.restoration.report import DIGITS, open_report
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system import parallel
from gfn_jax.system.files import (
  file_sha256,
  is_remote,
  make_folder,
  printable,
  read_file,
  write_file,
  write_json,
)
from gfn_jax.weights.pretrained import param_count, weights_path


def bicubic(lr_blur: np.ndarray, scale: int = 4) -> np.ndarray:
  """The baseline of every table: `lr_blur`, uint8 or float in [0, 1], enlarged, as uint8."""
  lr_blur = lr_blur / 255 if lr_blur.dtype == np.uint8 else lr_blur
  return metrics.to_uint8(imresize(lr_blur.astype(np.float64), scale))


@dataclasses.dataclass(frozen=True)
class TestSet:
  """Images to evaluate on.

  Attributes:
    images: dicts with `name`, `lr_blur` `[h, w, 3]` and `hr` `[s * h, s * w, 3]`, uint8 or float
      in [0, 1]; can be gone through once. In a run of several processes, its `parallel.share`.
    count: how many there are, in all processes.
    facts: where they come from, for the record.
  """

  images: Iterable[Mapping[str, Any]]
  count: int
  facts: Mapping[str, Any]


def folder_test_set(
  input_dir: str | os.PathLike, target_dir: str | os.PathLike, limit: int = 0
) -> TestSet:
  """Test images of two folders, paired by name; the first `limit` of them, or all.

  Raises:
    UserError: naming every file without a partner.
  """
  pairs = folders.pair_images(input_dir, target_dir)[: limit or None]
  images = (
    {'name': name, 'lr_blur': folders.read_rgb(input_path), 'hr': folders.read_rgb(target_path)}
    for name, input_path, target_path in parallel.share(pairs)
  )
  facts = {'input_dir': os.path.abspath(input_dir), 'target_dir': os.path.abspath(target_dir)}
  return TestSet(images, len(pairs), facts)


def dataset_test_set(config: Mapping[str, Any], limit: int = 0) -> TestSet:
  """The test split of a config's dataset; `limit` of its images, or all.

  Raises:
    UserError: if there is no such dataset or split, or TensorFlow is missing.
  """
  dataset = open_dataset(config)
  count = dataset.num_examples('test')
  facts = {'dataset': dataset.path, **dataset.metadata}
  return TestSet(parallel.share(dataset.images('test', limit)), min(limit or count, count), facts)


def open_dataset(config: Mapping[str, Any]):
  """What a config trains and tests on: a `PhotoDataset` if it has `photos`, or a `TFRecordDataset`.

  TensorFlow is imported here, and only for TFRecords.

  Raises:
    UserError: if there is no such dataset, or TensorFlow is missing.
  """
  if 'photos' in config:
    return PhotoDataset(
      config['photos'],
      motion_blur=config['motion_blur'],
      held_out=config['held_out'],
      photo_list=config['photo_list'],
      margin=config['margin'],
      photo_scales=config['photo_scales'],
      memory=config['photo_memory'],
      real_pairs=config['real_pairs'],
      **{key: config[key] for key in ('scale', 'frames') if key in config},
    )
  if not config['data_dir']:
    raise UserError('no dataset: pass --config.data_dir=DIR, built by data_prep (docs/datasets.md)')
  try:
    from gfn_jax.data.tfrecords import TFRecordDataset
  except ImportError as error:
    raise UserError(f"TFRecords need {error.name}: pip install 'gfn_jax[train]'") from error
  return TFRecordDataset(config['data_dir'])


def run_config(workdir: str | os.PathLike) -> dict[str, Any]:
  """The config of a run, from its `config.json`; the folder may be in a bucket, `gs://...`.

  Raises:
    UserError: if the folder is not a run's.
  """
  try:
    return json.loads(read_file(os.path.join(workdir, 'config.json')))
  except (OSError, ValueError) as error:
    raise UserError(f'{os.fspath(workdir)} is not the folder of a run: {error}') from error


def evaluate_and_report(
  weights: str | os.PathLike,
  test_set: TestSet,
  protocol: str,
  output_dir: str | os.PathLike,
  page: str | os.PathLike | None = None,
  lpips_weights: Sequence[str | os.PathLike] = (),
  **options: Any,
) -> None:
  """Evaluates weights, writes the images, `images.csv` and `summary.json`, and prints the table.

  Of several processes each writes its images, and the first one the rest; a mistake in one of them
  ends all.

  Args:
    weights: a file or a name, as for `load_pretrained`.
    test_set: the images.
    protocol: a key of `metrics.PROTOCOLS`.
    output_dir: made if needed; may be in a bucket, `gs://...`.
    page: where to write a page that shows the images, or None. For one process only.
    lpips_weights: files for `LPIPS.from_files`, which add LPIPS to the scores; none: without it.
    **options: of `Restorer`.

  Raises:
    UserError: for unreadable weights, images that do not fit each other, or processes that do not
      see the same ones.
  """
  check_page(page)
  with parallel.ending_together():
    lpips = LPIPS.from_files(lpips_weights) if lpips_weights else None
    path = weights_path(weights)
    restorer = Restorer.from_pretrained(path, **options)
    image_dir = os.path.join(output_dir, 'images')
    make_folder(image_dir)
  with contextlib.ExitStack() as stack:
    on_result = None
    if page is not None:
      title = f'{type(restorer.model).__name__}: before and after'
      report = open_report(page, title, weights=os.fspath(weights), protocol=protocol)
      on_result = stack.enter_context(report).add
    rows = evaluate(
      restorer,
      test_set.images,
      protocol,
      output_dir=image_dir,
      on_result=on_result,
      total=len(parallel.share(range(test_set.count))),
      lpips=lpips,
    )
  if len({row['name'] for row in rows}) != test_set.count and jax.process_count() > 1:
    raise UserError('the processes do not see the same test images: put them on a shared disk')
  with parallel.ending_together():
    if jax.process_index() == 0:
      facts = {'protocol': protocol, 'data': dict(test_set.facts)}
      facts['options'] = {key: value for key, value in options.items() if value is not None}
      facts['weights'] = _file_facts(path)
      if lpips is not None:
        facts['lpips'] = {'network': 'alex', 'version': '0.1', 'border': 0}
        facts['lpips']['weights'] = [_file_facts(file) for file in lpips_weights]
      methods = summarize(rows, restorer)
      write_results(output_dir, rows, methods, facts)
      print(f'{len(rows)} images, protocol {protocol}, {jax.devices()[0].device_kind}\n')
      print(format_table(methods))
      print(f'\nimages, images.csv and summary.json are in {os.fspath(output_dir)}')


def _file_facts(path: str | os.PathLike) -> dict[str, str]:
  place = os.fspath(path) if is_remote(path) else os.path.abspath(path)
  return {'path': place, 'sha256': file_sha256(path)}


def evaluate(
  restorer: Restorer,
  images: Iterable[Mapping[str, Any]],
  protocol: str,
  *,
  output_dir: str | os.PathLike | None = None,
  on_result: Callable[..., None] | None = None,
  total: int | None = None,
  lpips: LPIPS | None = None,
) -> list[dict[str, Any]]:
  """Restores test images and compares them, and bicubic, with their targets.

  Several processes call it together, each with its `parallel.share` of the images.

  Args:
    restorer: the network.
    images: `name`, `lr_blur` `[h, w, 3]` and `hr` `[s * h, s * w, 3]` with the network's scale s,
      uint8 or float in [0, 1].
    protocol: a key of `metrics.PROTOCOLS`.
    output_dir: where the restored images go, as `name.png`; None to write none.
    on_result: called as `on_result(name, lr_blur, restored, hr, scores)`.
    total: number of images, for the progress bar.
    lpips: a further metric, or None.

  Returns:
    For each image, of all processes and in their order, `name`, what `score` gives, and `seconds`:
    the time of the network's forward pass with the transfers, after compilation.

  Raises:
    UserError: if a target is not as large as the restored image or too small for a metric, or no
      image came; in every process, if it happens in one.
  """
  with parallel.ending_together():
    rows = _evaluate_share(restorer, images, protocol, output_dir, on_result, total, lpips)
  shares = parallel.gather(rows)
  rows = [row for some in itertools.zip_longest(*shares) for row in some if row]
  if not rows:
    raise UserError('there is no image to evaluate')
  return rows


def _evaluate_share(
  restorer: Restorer,
  images: Iterable[Mapping[str, Any]],
  protocol: str,
  output_dir: str | os.PathLike | None,
  on_result: Callable[..., None] | None,
  total: int | None,
  lpips: LPIPS | None,
) -> list[dict[str, Any]]:
  rows = []
  sizes = set()
  quiet = jax.process_index() > 0
  for image in tqdm(images, 'evaluating', total, unit='image', leave=False, disable=quiet):
    name, lr_blur, hr = image['name'], image['lr_blur'], target_of(image, restorer)
    if lr_blur.shape not in sizes:  # compile outside the timing
      restorer(lr_blur)
      sizes.add(lr_blur.shape)
    start = time.perf_counter()
    restored = metrics.to_uint8(restorer(lr_blur))
    seconds = time.perf_counter() - start
    scores = score(name, lr_blur, restored, hr, protocol, lpips)
    rows.append({'name': name, **scores, 'seconds': seconds})
    if on_result is not None:
      on_result(name, lr_blur, restored, hr, scores)
    if output_dir is not None:
      path = os.path.join(output_dir, name + '.png')
      make_folder(os.path.dirname(path))
      folders.write_png(path, restored)
  return rows


def target_of(image: Mapping[str, Any], restorer: Restorer) -> np.ndarray:
  """What a restored test image should be: `hr`, or `lr`, if there is one, without enlargement."""
  return image['lr'] if restorer.scale == 1 and 'lr' in image else image['hr']


def check_page(page: str | os.PathLike | None) -> None:
  """Refuses a page of images where they lie in several processes, or for a bucket."""
  if page is None:
    return
  if jax.process_count() > 1:
    raise UserError('a report needs the images of all processes; use one process for it')
  if is_remote(page):
    raise UserError(f'a report is written on this machine, not to {printable(page)}')


def score(
  name: str,
  lr_blur: np.ndarray,
  restored: np.ndarray,
  hr: np.ndarray,
  protocol: str,
  lpips: LPIPS | None = None,
) -> dict[str, float]:
  """Compares an image, and the bicubic enlargement of its input, with the target.

  Args:
    name: for the errors.
    lr_blur: `[h, w, 3]` uint8 or float in [0, 1].
    restored: `[s * h, s * w, 3]`, s from 1 to 4; with 1 it is compared with `lr_blur` itself.
    hr: the target, as large as `restored`.
    protocol: a key of `metrics.PROTOCOLS`.
    lpips: a further metric, of the whole images as uint8, whatever border the protocol cuts.

  Returns:
    `psnr`, `ssim`, `bicubic_psnr`, `bicubic_ssim`; with LPIPS also `lpips` and `bicubic_lpips`.

  Raises:
    UserError: if the target is not as large as the image, or too small for a metric.
  """
  if hr.shape != restored.shape:
    (h, w), (height, width) = lr_blur.shape[:2], restored.shape[:2]
    raise UserError(
      f'{name}: the target is {hr.shape[1]}x{hr.shape[0]}, but the input of {w}x{h} gives '
      f'{width}x{height}'
    )

  scale = hr.shape[0] // lr_blur.shape[0]

  def compare(image: np.ndarray) -> dict[str, float]:
    scores = metrics.evaluate_pair(image, hr, protocol, scale)
    if lpips is not None:
      scores['lpips'] = lpips(metrics.to_uint8(image), metrics.to_uint8(hr))
    return scores

  try:
    scores = compare(restored)
    baseline = compare(bicubic(lr_blur, scale) if scale > 1 else lr_blur)
  except ValueError as error:
    raise UserError(f'{name}: {error}') from error
  return scores | {f'bicubic_{key}': value for key, value in baseline.items()}


def summarize(rows: list[dict[str, Any]], restorer: Restorer) -> list[dict[str, Any]]:
  """The rows of a table: bicubic, or the input where nothing is enlarged, then the network.

  Returns:
    For each `method`, `parameters`, the means `psnr`, `ssim` and (if the rows have it) `lpips` of
    the images' values, and the median `seconds` of a forward pass (None for the first).
  """

  def means(prefix: str) -> dict[str, float]:
    keys = [key for key in DIGITS if key in rows[0]]
    return {key: statistics.fmean(row[prefix + key] for row in rows) for key in keys}

  seconds = statistics.median(row['seconds'] for row in rows)
  baseline = 'bicubic' if restorer.scale > 1 else 'input'
  name, count = type(restorer.model).__name__, param_count(restorer.params)
  return [
    {'method': baseline, 'parameters': 0, **means('bicubic_'), 'seconds': None},
    {'method': name, 'parameters': count, **means(''), 'seconds': seconds},
  ]


def format_table(methods: list[dict[str, Any]]) -> str:
  """The columns of the GFN paper's Table 1, and LPIPS if it was computed, as Markdown."""
  keys = [key for key in DIGITS if key in methods[0]]
  columns = ['method', 'parameters', *(key.upper() for key in keys), 'seconds']
  lines = [f'| {" | ".join(columns)} |', '|---' * len(columns) + '|']
  for row in methods:
    scores = ' | '.join(f'{row[key]:.{DIGITS[key]}f}' for key in keys)
    seconds = '-' if row['seconds'] is None else f'{row["seconds"]:.3f}'
    lines.append(f'| {row["method"]} | {row["parameters"]:,} | {scores} | {seconds} |')
  return '\n'.join(lines)


def write_results(
  output_dir: str | os.PathLike,
  rows: list[dict[str, Any]],
  methods: list[dict[str, Any]],
  facts: Mapping[str, Any],
) -> None:
  """Writes `images.csv`, a row an image, and `summary.json`: the table, the facts, the device.

  Args:
    output_dir: must exist.
    rows: of `evaluate`.
    methods: of `summarize`.
    facts: what the numbers depend on: `protocol`, `data`, `weights`, `options`, `lpips`.
  """
  table = io.StringIO(newline='')
  writer = csv.DictWriter(table, rows[0].keys())
  writer.writeheader()
  writer.writerows(sorted(rows, key=lambda row: row['name']))
  write_file(os.path.join(output_dir, 'images.csv'), table.getvalue().encode())
  device = {'device': jax.devices()[0].device_kind, 'jax': jax.__version__}
  summary = {**facts, 'images': len(rows), **device, 'methods': methods}
  write_json(os.path.join(output_dir, 'summary.json'), summary)
