"""Compare the PSNR of whole images and of tiles, for networks with a global receptive field.

    python -m benchmarks.tiles --pairs=GOPRO_Large --weights=W/cnlrn_0/weights.safetensors

Channel attention, instance normalisation and attention over patches depend on the whole input. They
were trained on crops, so a tile can be closer to their training data than a whole photograph.
"""

import json
import os
import statistics
from typing import Any

import jax
from absl import flags

from gfn_jax import Restorer
from gfn_jax.cli.runner import run_command
from gfn_jax.evaluation import evaluate, test_sets
from gfn_jax.system.files import write_json

PAIRS = flags.DEFINE_string('pairs', None, 'Folder in the layout of GOPRO_Large.', required=True)
BLUR_NAME = flags.DEFINE_string('blur_name', 'blur_gamma', 'Name of the folders of blurred photos.')
WEIGHTS = flags.DEFINE_list('weights', None, 'Files or names of released weights.', required=True)
TILES = flags.DEFINE_list('tile', ['256', '128', '64'], 'Largest sides of tiles.')
OVERLAP = flags.DEFINE_integer('overlap', 32, 'Overlap of neighbouring tiles in pixels.')
PROTOCOL = flags.DEFINE_string('protocol', 'gfn', 'Protocol of the scores.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Score each network on whole images and in tiles, and print and write the scores."""
  figures = {}
  for weights in WEIGHTS.value:
    tiles = [None, *map(int, TILES.value)]
    figures[weights] = {str(tile or 'whole'): score(weights, tile) for tile in tiles}
  about = {'protocol': PROTOCOL.value, 'blur_name': BLUR_NAME.value, 'overlap': OVERLAP.value}
  about |= {'device': jax.devices()[0].device_kind, 'jax': jax.__version__}
  print(json.dumps(about | figures, indent=2))
  if OUTPUT.value:
    names = {os.path.basename(os.path.dirname(path)) or path: path for path in figures}
    write_json(OUTPUT.value, about | {name: figures[path] for name, path in names.items()})


def score(weights: str, tile: int | None) -> dict[str, Any]:
  """Return the mean scores over the real pairs of `PAIRS/test`."""
  restorer = Restorer.from_pretrained(weights, tile=tile, overlap=OVERLAP.value)
  pairs = test_sets.pairs_test_set(os.path.join(PAIRS.value, 'test'), BLUR_NAME.value)
  rows = evaluate.evaluate(restorer, pairs.images, PROTOCOL.value, total=pairs.count)
  figures = {key: statistics.fmean(row[key] for row in rows) for key in ('psnr', 'ssim')}
  return {key: round(value, 4) for key, value in figures.items()} | {'images': pairs.count}


if __name__ == '__main__':
  run_command(main)
