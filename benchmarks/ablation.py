"""Train the rows of the GFN paper's Table 2 at a size for CPUs, with equal data and steps.

    python -m benchmarks.ablation --photos=PHOTOS --pairs=GOPRO_Large --workdir=W

This trains the networks of `configs/tables/gfn_table2.py:...,small` with each seed, on photos
with synthetic blur and the real pairs of `PAIRS/train`. It compares them on the real pairs of
`PAIRS/test` and on held-out photos. Published numbers are of networks of full size and do not stand
in the table; Kendall's tau compares the order of the rows with the paper's. The same command
continues after an interruption. `--output=F.json` writes the figures, and the table to `F.md`.
"""

import sys
from collections.abc import Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from scipy import stats

from benchmarks import table_rows
from gfn_jax.cli.runner import run_command
from gfn_jax.configs.tables import gfn_table2

FEATURES = flags.DEFINE_integer('features', 16, 'Width of the networks.', lower_bound=1)

PROTOCOL = 'gfn'
TICKS = ('deblur loss', 'deblur module', 'dual branch', 'feature level', 'gate', 'SR first')
# Ticks of the rows of the paper's Table 2.
ROWS = {
  'srresnet': (),
  'model_1': (0, 1),
  'model_2': (0, 1, 5),
  'model_3': (0, 1, 2),
  'model_4': (1, 2, 3),
  'model_5': (0, 1, 2, 3),
  'gfn': (0, 1, 2, 3, 4),
}


def main(_):
  """Train and score the missing runs, then print and write the table."""
  runs = {name: [] for name in ROWS}
  for seed in map(int, table_rows.SEEDS.value):
    for number, name in enumerate(ROWS, 1):
      print(f'{name}, seed {seed}: row {number} of {len(ROWS)}', file=sys.stderr)
      runs[name].append(table_rows.run(name, row_config(name, seed), [PROTOCOL]))
  figures = summarize(runs, table_rows.time_networks(ROWS))
  table_rows.report(figures, format_table(figures))


def row_config(name: str, seed: int) -> ConfigDict:
  """Return the config of a row with the flags applied."""
  config = table_rows.set_budget(gfn_table2.get_config(f'{name},small'), seed)
  config.model.features = FEATURES.value
  return config


def summarize(runs: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
  """Return the figures of each row and of bicubic, and the agreement with the paper's order."""
  table = {}
  for name, ticks in ROWS.items():
    row = gfn_table2.TABLE.rows[name]
    table[name] = {'model': row.title, 'ticks': [TICKS[i] for i in ticks]}
    table[name] |= {'parameters': runs[name][0]['parameters'], 'seconds': seconds[name]}
    table[name]['minutes'] = runs[name][0]['minutes']
    table[name] |= table_rows.of_seeds(runs[name], PROTOCOL)
  first = runs['srresnet'][0]
  figures = {'protocol': PROTOCOL, **table_rows.budget(first, PROTOCOL)}
  figures['features'] = FEATURES.value
  bicubic = table_rows.of_bicubic(first, PROTOCOL)
  return figures | {'bicubic': bicubic, 'rows': table, 'order': order(table)}


def order(table: Mapping[str, Any]) -> dict[str, Any]:
  """Rank the rows by PSNR and compare with the order of the paper's PSNR on LR-GOPRO.

  Returns:
    By test set, the names in ascending order and Kendall's tau: 1 for the paper's order, -1 for its
    reverse.
  """
  found = {}
  for part in table_rows.PARTS:
    names = sorted(table, key=lambda name: table[name][f'{part}_psnr'])
    psnr = [row[f'{part}_psnr'] for row in table.values()]
    paper = [gfn_table2.TABLE.rows[name].published['lr_gopro']['psnr'] for name in table]
    tau = float(stats.kendalltau(psnr, paper).statistic)
    found[part] = {'ascending': names, 'kendall_tau': round(tau, 3)}
  return found


def format_table(figures: Mapping[str, Any]) -> str:
  """Format the figures as a Markdown table with Table 2's ticks, between lines on its settings."""
  marks = ' | '.join(TICKS)
  rows = list(figures['rows'].values())
  lines = [
    table_rows.heading(figures, rows, f'{figures["features"]} features'),
    f'| model | {marks} | parameters | PSNR | of each seed | SSIM | held out | seconds |',
    '|---' * (len(TICKS) + 7) + '|',
  ]
  bicubic = figures['bicubic']
  lines.append(
    f'| bicubic |{" |" * len(TICKS)} 0 | {bicubic["pairs_psnr"]:.2f} | - '
    f'| {bicubic["pairs_ssim"]:.4f} | {bicubic["held_out_psnr"]:.2f} | - |'
  )
  for row in rows:
    ticks = ' | '.join('x' if tick in row['ticks'] else '' for tick in TICKS)
    each = ', '.join(f'{psnr:.2f}' for psnr in row['pairs_psnr_runs'])
    lines.append(
      f'| {row["model"]} | {ticks} | {row["parameters"]:,} | {row["pairs_psnr"]:.2f} | {each} '
      f'| {row["pairs_ssim"]:.4f} | {row["held_out_psnr"]:.2f} | {row["seconds"]:.2f} |'
    )
  images, tau = figures['images'], figures['order']
  lines.append(
    f'\nPSNR (dB) and SSIM: {images["pairs"]} real pairs ({figures["blur_name"]}), protocol '
    f'{figures["protocol"]}, {table_rows.describe_seeds(figures)}; held out: PSNR on '
    f'{images["held_out"]} photos with synthetic blur; seconds: of an image of 320x180 on '
    f'{figures["device"]}, in turns. The order of the rows against that in the paper: Kendall tau '
    f'{tau["pairs"]["kendall_tau"]:.2f} on the pairs, {tau["held_out"]["kendall_tau"]:.2f} held '
    'out (1: the same, -1: the reverse).'
  )
  return '\n'.join(lines)


if __name__ == '__main__':
  run_command(main)
