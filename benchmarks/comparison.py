"""Compare the systems of the papers at a size for CPUs, on the same data for the same steps.

    python -m benchmarks.comparison --photos=PHOTOS --pairs=GOPRO_Large --workdir=W

This trains the networks of `configs/tables/comparison.py` with each seed, on photos with synthetic
blur and the real pairs of `PAIRS/train`. It compares them on the real pairs of `PAIRS/test` and on
held-out photos. The same command continues after an interruption. `--output=F.json` writes the
figures, and the table to `F.md`.
"""

import sys
from collections.abc import Mapping
from typing import Any

from absl import flags

from benchmarks import table_rows
from gfn_jax.cli.runner import run_command
from gfn_jax.configs.tables import comparison
from gfn_jax.errors import UserError

ROWS = flags.DEFINE_list('rows', list(comparison.MODELS), 'Variants of the config.')
PROTOCOLS = flags.DEFINE_list('protocols', ['gfn', 'mprnet'], 'Protocols of the scores.')

TITLES = {
  'gfn': 'GFN',
  'motion_deblur_sr': 'Shoyan et al.',
  'cnlrn': 'CNLRN',
  'cnlrn_apart': 'CNLRN, its networks trained apart',
  'bmdsrnet': 'BMDSRNet, without sharp frames',
  'srresnet': 'SRResNet',
  'edsr': 'EDSR',
  'rcan': 'RCAN',
  'han': 'HAN',
  'rrdbnet': 'RRDBNet',
  'srfbn': 'SRFBN',
  'scgan_like': 'surrogate for SCGAN',
  'ed_dsrn_like': 'surrogate for ED-DSRN',
  'mprnet': 'MPRNet + bicubic',
  'deepdeblur': 'DeepDeblur + bicubic',
  'dmphn': 'DMPHN + bicubic',
  'srn': 'SRN + bicubic',
  'deblurgan': 'DeblurGAN + bicubic',
  'mprnet_srresnet': 'MPRNet + SRResNet',
  'srresnet_mprnet': 'SRResNet + MPRNet',
  'srn_rcan': 'SRN + RCAN',
  'edsr_deepdeblur': 'EDSR + DeepDeblur',
}


def main(_):
  """Train and score the missing runs, then print and write the table."""
  if unknown := sorted(set(ROWS.value) - set(comparison.MODELS)):
    raise UserError(f'unknown row {unknown[0]!r}; choose from {", ".join(comparison.MODELS)}')
  runs = {name: [] for name in ROWS.value}
  for seed in map(int, table_rows.SEEDS.value):
    for number, name in enumerate(runs, 1):
      print(f'{name}, seed {seed}: row {number} of {len(runs)}', file=sys.stderr)
      config = table_rows.set_budget(comparison.get_config(name), seed)
      runs[name].append(table_rows.run(name, config, PROTOCOLS.value))
  figures = summarize(runs, table_rows.time_networks(runs))
  table_rows.report(figures, format_table(figures))


def summarize(runs: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
  """Return the figures of bicubic and of each row, by protocol."""
  [first, *_] = next(iter(runs.values()))
  figures = table_rows.budget(first, PROTOCOLS.value[0]) | {'rows': {}}
  figures['bicubic'] = {name: table_rows.of_bicubic(first, name) for name in PROTOCOLS.value}
  for name, mine in runs.items():
    figures['rows'][name] = {
      'model': TITLES[name],
      'parameters': mine[0]['parameters'],
      'minutes': mine[0]['minutes'],
      'seconds': seconds[name],
      'mib': table_rows.memory_mib(name),
      **{protocol: table_rows.of_seeds(mine, protocol) for protocol in PROTOCOLS.value},
    }
  return figures


def format_table(figures: Mapping[str, Any]) -> str:
  """Format the figures as a Markdown table, between lines on its settings."""
  protocols = PROTOCOLS.value
  scores = [f'PSNR {name} | SSIM {name}' for name in protocols]
  columns = ['model', 'parameters', 'minutes', 'seconds', 'MiB', *scores]
  columns += ['of each seed', 'held out']
  head = f'| {" | ".join(columns)} |'
  widths = 'their options in configs/tables/comparison.py'
  heading = table_rows.heading(figures, list(figures['rows'].values()), widths)
  lines = [heading, head, '|---' * (head.count('|') - 1) + '|']
  for row in ({'model': 'bicubic', **figures['bicubic']}, *figures['rows'].values()):
    first = row[protocols[0]]
    cells = [row['model']]
    if 'mib' in row:
      cells += [f'{row["parameters"]:,}', f'{row["minutes"]:.1f}']
      cells += [f'{row["seconds"]:.2f}', str(row['mib'])]
    else:
      cells += ['0', '-', '-', '-']
    for name in protocols:
      cells += [f'{row[name]["pairs_psnr"]:.2f}', f'{row[name]["pairs_ssim"]:.4f}']
    cells.append(', '.join(f'{psnr:.2f}' for psnr in first.get('pairs_psnr_runs', [])) or '-')
    cells.append(f'{first["held_out_psnr"]:.2f}')
    lines.append(f'| {" | ".join(cells)} |')
  images = figures['images']
  lines.append(
    f'\nPSNR (dB) and SSIM: {images["pairs"]} real pairs ({figures["blur_name"]}), under each '
    f'protocol, {table_rows.describe_seeds(figures)}; of each seed and held out, on '
    f'{images["held_out"]} photos with synthetic blur: PSNR, protocol {protocols[0]}; minutes: '
    f'the steps of a run at the speed of its first {table_rows.TIMED_STEPS}; seconds and memory '
    f'(beside the weights, as XLA plans it): of an image of {table_rows.SIZE[1]}x'
    f'{table_rows.SIZE[0]} on {figures["device"]}.'
  )
  return '\n'.join(lines)


if __name__ == '__main__':
  run_command(main)
