"""The papers' systems on the same data, for the same steps, at a size for CPUs.

    python -m benchmarks.comparison --photos=PHOTOS --pairs=GOPRO_Large --workdir=W

trains networks of `configs/comparison.py`, one after the other, with each of the seeds, on photos
with synthetic blur and the real pairs of `PAIRS/train`, and compares them on the real pairs of
`PAIRS/test` and on photos held out. The same command continues where it was interrupted.
`--output=F.json` writes the figures, and the table to `F.md`.
"""

import sys
from collections.abc import Mapping
from typing import Any

from absl import flags

from benchmarks import rows
from configs import comparison
from gfn_jax.errors import UserError, run_command

ROWS = flags.DEFINE_list('rows', list(comparison.MODELS), 'Variants of configs/comparison.py.')
PROTOCOLS = flags.DEFINE_list('protocols', ['gfn', 'mprnet'], 'Of the scores.')

TITLES = {
  'gfn': 'GFN',
  'deblur_first': 'MPRNet, then SRResNet',
  'sr_first': 'SRResNet, then MPRNet',
  'motion_deblur_sr': 'Shoyan et al.',
  'cnlrn': 'CNLRN',
  'cnlrn_apart': 'CNLRN, its networks trained apart',
}


def main(_):
  """Trains what is not trained yet, then measures, prints and writes the table."""
  if unknown := sorted(set(ROWS.value) - set(comparison.MODELS)):
    raise UserError(f'no row {unknown[0]!r}; there are {", ".join(comparison.MODELS)}')
  runs = {name: [] for name in ROWS.value}
  for seed in map(int, rows.SEEDS.value):
    for number, name in enumerate(runs, 1):
      print(f'{name}, seed {seed}: row {number} of {len(runs)}', file=sys.stderr)
      config = rows.set_budget(comparison.get_config(name), seed)
      runs[name].append(rows.run(name, config, PROTOCOLS.value))
  figures = summarize(runs, rows.time_networks(runs))
  rows.report(figures, format_table(figures))


def summarize(runs: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
  """All figures: of bicubic and of each row, by protocol."""
  [first, *_] = next(iter(runs.values()))
  figures = rows.budget(first, PROTOCOLS.value[0]) | {'rows': {}}
  figures['bicubic'] = {name: rows.of_bicubic(first, name) for name in PROTOCOLS.value}
  for name, mine in runs.items():
    figures['rows'][name] = {
      'model': TITLES[name],
      'parameters': mine[0]['parameters'],
      'seconds': seconds[name],
      'mib': rows.memory_mib(name),
      **{protocol: rows.of_seeds(mine, protocol) for protocol in PROTOCOLS.value},
    }
  return figures


def format_table(figures: Mapping[str, Any]) -> str:
  """The figures as Markdown, bicubic first, a line on what they depend on below."""
  protocols = PROTOCOLS.value
  scores = [f'PSNR {name} | SSIM {name}' for name in protocols]
  columns = ['model', 'parameters', 'seconds', 'MiB', *scores, 'of each seed', 'held out']
  head = f'| {" | ".join(columns)} |'
  lines = [head, '|---' * (head.count('|') - 1) + '|']
  for row in ({'model': 'bicubic', **figures['bicubic']}, *figures['rows'].values()):
    first = row[protocols[0]]
    cells = [row['model']]
    if 'mib' in row:
      cells += [f'{row["parameters"]:,}', f'{row["seconds"]:.2f}', str(row['mib'])]
    else:
      cells += ['0', '-', '-']
    for name in protocols:
      cells += [f'{row[name]["pairs_psnr"]:.2f}', f'{row[name]["pairs_ssim"]:.4f}']
    cells.append(', '.join(f'{psnr:.2f}' for psnr in first.get('pairs_psnr_runs', [])) or '-')
    cells.append(f'{first["held_out_psnr"]:.2f}')
    lines.append(f'| {" | ".join(cells)} |')
  images, crop = figures['images'], figures['crop_size']
  lines.append(
    f'\nPSNR (dB) and SSIM: {images["pairs"]} real pairs ({figures["blur_name"]}), under each '
    f'protocol, means over {len(figures["seeds"])} seeds; of each seed and held out, on '
    f'{images["held_out"]} photos with synthetic blur: PSNR, protocol {protocols[0]}; seconds and '
    f'memory (beside the weights, as XLA plans it): of an image of '
    f'{rows.SIZE[1]}x{rows.SIZE[0]} on {figures["device"]}. {figures["steps"]} steps of '
    f'{figures["batch_size"]} crops of {crop}x{crop} LR pixels.'
  )
  return '\n'.join(lines)


if __name__ == '__main__':
  run_command(main)
