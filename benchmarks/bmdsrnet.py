"""Train the rows of BMDSRNet's Table 4 at a size for CPUs: what frames and streams contribute.

    python -m benchmarks.bmdsrnet --photos=PHOTOS --pairs=GOPRO_Large --workdir=W

This trains the variants of `configs/bmdsrnet.py:x4,f+c+b,small` at every scale with each seed, on
photos with synthetic blur, whose sub-frames are the sharp frames. It compares them on the real
pairs of `PAIRS/test` and on held-out photos. Published numbers are of networks of full size and do
not stand in the table. The same command continues after an interruption. `--output=F.json` writes
the figures, and the table to `F.md`.
"""

import sys
from collections.abc import Mapping
from typing import Any

from absl import flags

from benchmarks import table_rows
from gfn_jax.cli.runner import run_command
from gfn_jax.configs import bmdsrnet
from gfn_jax.configs.tables import bmdsrnet_table4
from gfn_jax.errors import UserError
from gfn_jax.models.bmdsrnet import VARIANTS
from gfn_jax.ops.sizes import SCALES
from gfn_jax.training import losses

SCALE = flags.DEFINE_list('scales', list(map(str, SCALES)), 'Scales of the networks.')
PROTOCOL = flags.DEFINE_string('protocol', 'gfn', 'Protocol of the scores.')
PAIR_DIFFERENCE = flags.DEFINE_enum(
  'pair_difference',
  'absolute',
  losses.PAIR_DIFFERENCES,
  "Rule of the frame loss: 'signed' as the paper's eq. 2, 'absolute' as Jin et al.",
)

# Rows of the paper's Table 4 by variant.
ROWS = {
  variant: bmdsrnet_table4.TABLE.rows[name] for name, variant in bmdsrnet_table4.WORDS.items()
}


def main(_):
  """Train and score the missing runs, then print and write the table."""
  if unknown := sorted(set(SCALE.value) - set(map(str, SCALES))):
    raise UserError(f'unknown scale {unknown[0]!r}; choose from {", ".join(map(str, SCALES))}')
  names = [(scale, variant) for scale in map(int, SCALE.value) for variant in VARIANTS]
  runs = {name: [] for name in names}
  for scale, variant in names:
    for seed in map(int, table_rows.SEEDS.value):
      print(f'{variant} at x{scale}, seed {seed}', file=sys.stderr)
      config = table_rows.set_budget(bmdsrnet.get_config(f'x{scale},{variant},small'), seed)
      if variant != 'srnet':  # SRNet outputs no frames
        config.loss.frames.pair_difference = PAIR_DIFFERENCE.value
      scores = table_rows.run(run_name(scale, variant), config, [PROTOCOL.value])
      runs[scale, variant].append(scores)
  seconds = table_rows.time_networks(run_name(*name) for name in names)
  figures = summarize(runs, seconds)
  table_rows.report(figures, format_table(figures))


def run_name(scale: int, variant: str) -> str:
  """Return the name of a row, for the folders of its runs."""
  return f'x{scale}_{variant}'


def summarize(runs: Mapping[Any, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
  """Return the figures of bicubic and of each row, by scale."""
  first = next(iter(runs.values()))[0]
  figures = {'protocol': PROTOCOL.value, 'pair_difference': PAIR_DIFFERENCE.value}
  figures |= table_rows.budget(first, PROTOCOL.value)
  figures |= {'features': first['config']['model']['features'], 'scales': {}}
  for (scale, variant), mine in runs.items():
    bicubic = {'model': 'bicubic', **table_rows.of_bicubic(mine[0], PROTOCOL.value)}
    table = figures['scales'].setdefault(str(scale), {'bicubic': bicubic})
    table[variant] = {
      'model': ROWS[variant].title,
      'parameters': mine[0]['parameters'],
      'minutes': mine[0]['minutes'],
      'seconds': seconds[run_name(scale, variant)],
      **table_rows.of_seeds(mine, PROTOCOL.value),
    }
  return figures


def format_table(figures: Mapping[str, Any]) -> str:
  """Format the figures as a Markdown table, between lines on its settings."""
  trained = [
    row for table in figures['scales'].values() for row in table.values() if 'parameters' in row
  ]
  columns = 'scale | model | parameters | seconds | PSNR | SSIM | of each seed | held out'
  lines = [
    table_rows.heading(figures, trained, f'{figures["features"]} features'),
    f'| {columns} |',
    '|---' * (columns.count('|') + 1) + '|',
  ]
  for scale, table in figures['scales'].items():
    for row in table.values():
      each = ', '.join(f'{psnr:.2f}' for psnr in row.get('pairs_psnr_runs', [])) or '-'
      seconds = f'{row["seconds"]:.2f}' if 'seconds' in row else '-'
      lines.append(
        f'| x{scale} | {row["model"]} | {row.get("parameters", 0):,} | {seconds} '
        f'| {row["pairs_psnr"]:.2f} | {row["pairs_ssim"]:.4f} | {each} '
        f'| {row["held_out_psnr"]:.2f} |'
      )
  images = figures['images']
  lines.append(
    f'\nPSNR (dB) and SSIM: {images["pairs"]} real pairs ({figures["blur_name"]}), protocol '
    f'{figures["protocol"]}, {table_rows.describe_seeds(figures)}; held out: PSNR on '
    f'{images["held_out"]} photos with synthetic blur; seconds: of an image of '
    f'{table_rows.SIZE[1]}x{table_rows.SIZE[0]} on {figures["device"]}, in turns.'
  )
  return '\n'.join(lines)


if __name__ == '__main__':
  run_command(main)
