"""Measurement of a paper's table: scores on test sets, and the time of each network.

`table.json` is written after each measurement. What it has for the same inputs is not measured
again. Networks compute in float32.
"""

import dataclasses
import datetime
import functools
import json
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from gfn_jax.errors import UserError, missing_package
from gfn_jax.evaluation.evaluate import evaluate
from gfn_jax.evaluation.lpips import LPIPS
from gfn_jax.evaluation.paper_tables import Table
from gfn_jax.evaluation.table_format import format_csv, format_markdown
from gfn_jax.evaluation.table_plot import write_plot
from gfn_jax.evaluation.table_results import (
  Measurement,
  Results,
  ScoreInputs,
  Scores,
  Timing,
  TimingInputs,
  read_results,
  write_results,
)
from gfn_jax.evaluation.table_weights import Weights, find_weights
from gfn_jax.evaluation.test_sets import TestSet, open_test_set
from gfn_jax.models import (
  RestorationModel,
  create_model,
  init_variables,
  param_count,
  variable_shapes,
)
from gfn_jax.ops.scores import DIGITS
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system.console import print_message
from gfn_jax.system.files import file_sha256, make_folder, write_file
from gfn_jax.weights.pretrained import load_pretrained

Save = Callable[[Results], None]
"""Writes the results; called after each measurement."""


def measure_table(
  name: str,
  table: Table,
  get_config: Callable[[str], Mapping[str, Any]],
  output_dir: str | os.PathLike,
  *,
  weights_dir: str | os.PathLike | None = None,
  test_sets: Mapping[str, str] | None = None,
  blur_name: str = 'blur_gamma',
  lpips_weights: Sequence[str | os.PathLike] = (),
  rounds: int = 5,
) -> str:
  """Measure a table, and write `table.json`, `table.md`, `table.csv` and `table.png`.

  Args:
    name: name of the table.
    table: the table.
    get_config: as for `find_weights`.
    output_dir: folder of the files, made if needed; may be in a bucket, `gs://...`. Measurements
      that it holds are kept, and those with other inputs are replaced.
    weights_dir: folder of weights, as for `find_weights`. Without it nothing is scored.
    test_sets: path of the images of each data set to score on, as for `open_test_set`. None times
      the networks at the sizes of all data sets.
    blur_name: as for `open_test_set`.
    lpips_weights: files for `LPIPS.from_files`. Without them LPIPS is left out.
    rounds: timed runs of each network; 0 times nothing.

  Returns:
    The table as Markdown.

  Raises:
    UserError: for unknown data sets, and as `find_weights`, `open_test_set`, `read_results`,
      `evaluate` and `LPIPS.from_files`.
  """
  test_sets = test_sets or {}
  if unknown := sorted(test_sets.keys() - table.data_sets.keys()):
    raise UserError(
      f'{name} has no data set {unknown[0]!r}; choose from {", ".join(table.data_sets)}'
    )
  opened = {
    data_set: functools.partial(open_test_set, path, blur_name=blur_name)
    for data_set, path in test_sets.items()
  }
  for open_images in opened.values():
    open_images(scale=1)  # raises now if there are no images
  weights = find_weights(weights_dir, table, opened, get_config) if weights_dir else {}
  files = {kind: os.path.join(output_dir, f'table.{kind}') for kind in ('json', 'md', 'csv', 'png')}
  results = read_results(files['json'], name, table)

  def save(results: Results) -> None:
    make_folder(output_dir)
    write_results(files['json'], name, results)
    write_file(files['md'], format_markdown(table, results).encode())
    write_file(files['csv'], format_csv(table, results).encode())

  score_rows(table, results, save, weights, opened, lpips_weights)
  if rounds:
    time_rows(table, results, save, opened or table.data_sets, rounds)
  save(results)
  try:
    write_plot(files['png'], table, results)
  except ImportError as error:
    print_message(f'table.png is left out: {missing_package("matplotlib", error)}')
  return format_markdown(table, results)


def score_rows(
  table: Table,
  results: Results,
  save: Save,
  weights: Mapping[str, Weights],
  test_sets: Mapping[str, Callable[[int], TestSet]],
  lpips_weights: Sequence[str | os.PathLike] = (),
) -> None:
  """Score the rows that have weights, and add the scores to the results.

  Args:
    table: the table.
    results: earlier measurements; changed in place.
    save: writes the results.
    weights: weights by variant, from `find_weights`.
    test_sets: by data set, a function that opens the images for a network's scale.
    lpips_weights: files for `LPIPS.from_files`. Without them LPIPS is left out.

  Raises:
    UserError: as `evaluate` and `LPIPS.from_files`.
  """
  lpips = LPIPS.from_files(lpips_weights) if lpips_weights else None
  lpips_hashes = tuple(map(file_sha256, lpips_weights))
  for data_set, open_images in test_sets.items():
    for name, model in _networks(table, data_set).items():
      file = weights.get(table.rows[name].variant(name, data_set))
      if file is None:
        continue
      test_set = open_images(model.scale)
      facts = json.loads(json.dumps(dict(test_set.facts)))  # as they are read back
      inputs = ScoreInputs(table.protocol, facts, file.sha256, lpips_hashes)
      found = _find(results, data_set, name).scores
      if found and found.inputs == inputs:
        continue
      print_message(
        f'{table.rows[name].title}: scoring {test_set.count} images of '
        f'{table.data_sets[data_set].title}'
      )
      restorer = Restorer(model, load_pretrained(file.path)[1])
      images, count = test_set.images, test_set.count
      rows = evaluate(restorer, images, table.protocol, total=count, lpips=lpips)
      scores = Scores(
        inputs=inputs,
        means=_means(rows, ''),
        bicubic=_means(rows, 'bicubic_'),
        images=len(rows),
        steps=file.steps,
        device=_device(),
        jax=jax.__version__,
        date=_today(),
      )
      _add(results, data_set, name, model, scores=scores)
      save(results)


def time_rows(
  table: Table, results: Results, save: Save, data_sets: Iterable[str], rounds: int
) -> None:
  """Time the forward pass of every network, and add the times to the results.

  The networks have their initial variables, on which the time does not depend.

  Args:
    table: the table.
    results: earlier measurements; changed in place.
    save: writes the results.
    data_sets: the data sets at whose sizes networks are timed.
    rounds: number of runs of each network.

  Raises:
    UserError: if the device has too little memory.
  """
  hint = '; a large network takes minutes on a CPU' if jax.default_backend() == 'cpu' else ''
  for data_set in data_sets:
    height, width = size = table.data_sets[data_set].timed_size
    inputs = TimingInputs(size, rounds, _device(), jax.__version__)
    networks = _networks(table, data_set)
    for number, (name, model) in enumerate(networks.items(), 1):
      timing = _find_timing(table, results, data_set, name, inputs)
      if timing is None:
        print_message(
          f'{table.rows[name].title}, row {number} of {len(networks)}: timing an image of '
          f'{width}x{height}{hint}'
        )
        hint = ''
        restorer = Restorer(model, init_variables(model, seed=0))
        image = np.zeros((height, width, 3), np.uint8)
        runs = tqdm(range(rounds), 'timing', unit='run', leave=False)
        seconds = statistics.median(restorer.time_forward(image) for _ in runs)
        timing = Timing(inputs, seconds, _today())
      _add(results, data_set, name, model, timing=timing)
      save(results)


def _networks(table: Table, data_set: str) -> dict[str, RestorationModel]:
  """Return the networks of a table on a data set, by row."""
  networks = {name: row.network(data_set) for name, row in table.rows.items()}
  return {name: create_model(**network) for name, network in networks.items() if network}


def _find(results: Results, data_set: str, name: str) -> Measurement:
  return results.get(data_set, {}).get(name, Measurement(0))


def _find_timing(
  table: Table, results: Results, data_set: str, name: str, inputs: TimingInputs
) -> Timing | None:
  """Return the time of a row's network, measured with equal inputs for this or another data set."""
  row = table.rows[name]
  for other in table.data_sets:
    timing = _find(results, other, name).timing
    if timing and timing.inputs == inputs and row.network(other) == row.network(data_set):
      return timing
  return None


def _add(
  results: Results, data_set: str, name: str, model: RestorationModel, **measured: Any
) -> None:
  """Add `scores` or `timing` to the results of a row."""
  count = param_count(variable_shapes(model))
  old = _find(results, data_set, name)
  results.setdefault(data_set, {})[name] = dataclasses.replace(old, parameters=count, **measured)


def _means(rows: list[dict[str, Any]], prefix: str) -> dict[str, float]:
  return {
    key: statistics.fmean(row[prefix + key] for row in rows) for key in DIGITS if key in rows[0]
  }


def _device() -> str:
  """Return the kind of the device; for a CPU, also its number of cores."""
  device = jax.local_devices()[0]
  cores = f', {os.cpu_count()} cores' if device.platform == 'cpu' else ''
  return device.device_kind + cores


def _today() -> str:
  return datetime.datetime.now(datetime.UTC).date().isoformat()
