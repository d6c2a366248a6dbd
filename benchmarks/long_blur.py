"""Score photos that are reduced before they are restored, at their own size.

    python -m benchmarks.long_blur --pairs=GOPRO_Large/test --output=results.json

The blur is up to about 40 pixels long, which is longer than the networks know. Each photo is
reduced by several factors, restored as `gfn-restore --blur` does, and compared with the sharp photo
of its size. Figures are PSNR (dB) of the whole RGB image.
"""

import statistics

import jax
from absl import flags
from tqdm import tqdm

from gfn_jax import Restorer
from gfn_jax.cli.runner import run_command
from gfn_jax.evaluation.test_sets import pairs_test_set
from gfn_jax.ops import metrics
from gfn_jax.restoration.restorer import KNOWN_BLUR
from gfn_jax.system.files import write_json

WEIGHTS = flags.DEFINE_string('weights', 'gfn', 'File or name of released weights.')
PAIRS = flags.DEFINE_string('pairs', None, 'Folder in the layout of GOPRO_Large.', required=True)
BLUR_NAME = flags.DEFINE_string('blur_name', 'blur_gamma', 'Name of the blurred folders.')
REDUCTIONS = flags.DEFINE_list('reductions', ['1', '1.5', '2', '3', '4'], 'Factors.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Compare the reductions, and print and write PSNR by photo."""
  restorers = {
    f'reduced by {factor}': Restorer.from_pretrained(WEIGHTS.value, blur=KNOWN_BLUR * float(factor))
    for factor in REDUCTIONS.value
  }
  rows = {}
  for pair in tqdm(pairs_test_set(PAIRS.value, BLUR_NAME.value, scale=1).images, leave=False):
    blurred, sharp = pair['lr_blur'], pair['hr']
    row = {'blurred': metrics.psnr(blurred, sharp)}
    row |= {name: metrics.psnr(restore(blurred), sharp) for name, restore in restorers.items()}
    rows[f'{pair["scene"]} {pair["name"]}'] = {name: round(psnr, 2) for name, psnr in row.items()}
  rows['mean'] = {
    name: round(statistics.fmean(row[name] for row in rows.values()), 2)
    for name in ('blurred', *restorers)
  }
  for name, row in rows.items():
    print(f'{name}: {", ".join(f"{method} {psnr:.2f}" for method, psnr in row.items())}')
  if OUTPUT.value:
    write_json(
      OUTPUT.value,
      {'device': jax.devices()[0].device_kind, 'jax': jax.__version__, 'psnr': rows},
    )


if __name__ == '__main__':
  run_command(main)
