"""Results of an evaluation in the form of the papers' tables."""

import csv
import io
import os
import statistics
from collections.abc import Mapping
from typing import Any

import jax

from gfn_jax.models import param_count
from gfn_jax.ops.scores import DIGITS
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system.files import write_file, write_json


def summarize(rows: list[dict[str, Any]], restorer: Restorer) -> list[dict[str, Any]]:
  """Return the rows of a table: bicubic, or the input if nothing is enlarged, then the network.

  Args:
    rows: rows from `evaluate`.
    restorer: the network.

  Returns:
    For each row `method`, `parameters`, the means over the images of `psnr`, `ssim` and, if the
    rows have it, `lpips`; and the median of `seconds`, None for the baseline and if not measured.
  """

  def means(prefix: str) -> dict[str, float]:
    keys = [key for key in DIGITS if key in rows[0]]
    return {key: statistics.fmean(row[prefix + key] for row in rows) for key in keys}

  times = [row['seconds'] for row in rows if 'seconds' in row]
  seconds = statistics.median(times) if times else None
  baseline = 'bicubic' if restorer.scale > 1 else 'input'
  name, count = type(restorer.model).__name__, param_count(restorer.variables)
  return [
    {'method': baseline, 'parameters': 0, **means('bicubic_'), 'seconds': None},
    {'method': name, 'parameters': count, **means(''), 'seconds': seconds},
  ]


def format_table(methods: list[dict[str, Any]]) -> str:
  """Return the columns of the GFN paper's Table 1, and LPIPS if computed, as Markdown."""
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
  """Write `images.csv`, one row per image, and `summary.json`: the table, facts and device.

  Args:
    output_dir: an existing folder.
    rows: rows from `evaluate`.
    methods: rows from `summarize`.
    facts: facts that the numbers depend on: `protocol`, `data`, `weights`, `options`, `lpips`.
  """
  table = io.StringIO(newline='')
  writer = csv.DictWriter(table, rows[0].keys())
  writer.writeheader()
  writer.writerows(sorted(rows, key=lambda row: row['name']))
  write_file(os.path.join(output_dir, 'images.csv'), table.getvalue().encode())
  device = {'device': jax.devices()[0].device_kind, 'jax': jax.__version__}
  summary = {**facts, 'images': len(rows), **device, 'methods': methods}
  write_json(os.path.join(output_dir, 'summary.json'), summary)
