"""Score the seven frames that a network restores against the true ones of synthetic blur.

    python -m benchmarks.frames --weights=bmdsrnet --photos=PHOTOS --output=results.json

The photos are the held-out ones of a variant of configs/bmdsrnet.py, with its blur. Frames are
compared in the order of time that fits better, because blur does not determine it. Baselines are
the blurred image and the middle frame, which is the deblurred image, in place of every frame.
"""

import os
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from gfn_jax import Restorer
from gfn_jax.cli.runner import run_command
from gfn_jax.configs import bmdsrnet
from gfn_jax.data import datasets
from gfn_jax.ops import metrics
from gfn_jax.system.files import write_json

WEIGHTS = flags.DEFINE_list('weights', ['bmdsrnet'], 'Files or names of released weights.')
VARIANT = flags.DEFINE_string('variant', 'open', 'Words of configs/bmdsrnet.py.')
PHOTOS = flags.DEFINE_string('photos', None, 'Folder of photographs.', required=True)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')

Values = list[float]
"""PSNR in dB of the middle frame, then means of the two frames 1, 2 and 3 steps from it."""


def main(_):
  """Compare the frames, and print and write the means."""
  data = bmdsrnet.get_config(VARIANT.value).data.to_dict()
  data |= {'photos': PHOTOS.value, 'real_pairs': {}}
  dataset = datasets.open_dataset(data)
  images = list(dataset.images('test'))
  figures = {'device': jax.devices()[0].device_kind, 'jax': jax.__version__}
  figures |= {'variant': VARIANT.value, 'images': len(images), 'psnr': {}}
  for weights in WEIGHTS.value:
    restorer = Restorer.from_pretrained(weights, output='frames')
    rows = [compare(restorer, image) for image in tqdm(images, leave=False)]
    name = weights if os.sep not in weights else f'run {os.path.basename(os.path.dirname(weights))}'
    figures['psnr']['the blurred image'] = _means(row['blurred'] for row in rows)
    for method in ('middle frame', 'frames'):
      figures['psnr'][f'{name}: {method}'] = _means(row[method] for row in rows)
  print(format_table(figures))
  if OUTPUT.value:
    write_json(OUTPUT.value, figures)


def compare(restorer: Restorer, image: dict[str, Any]) -> dict[str, Values]:
  """Return the PSNR of the blurred image, of the middle frame, and of the frames."""
  frames, targets = restorer(image['lr_blur']), image['frames']
  middle = frames[len(frames) // 2]
  both = [_psnr(frames, order) for order in (targets, targets[::-1])]
  return {
    'blurred': _from_the_middle(_psnr([image['lr_blur']] * len(targets), targets)),
    'middle frame': _from_the_middle(_psnr([middle] * len(targets), targets)),
    'frames': _from_the_middle(max(both, key=statistics.fmean)),
  }


def _psnr(frames: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> list[float]:
  return [metrics.psnr(frame, target) for frame, target in zip(frames, targets, strict=True)]


def _from_the_middle(psnr: Sequence[float]) -> Values:
  middle = len(psnr) // 2
  return [statistics.fmean((psnr[middle - n], psnr[middle + n])) for n in range(middle + 1)]


def _means(rows: Iterable[Values]) -> Values:
  return [round(statistics.fmean(column), 3) for column in zip(*rows, strict=True)]


def format_table(figures: dict[str, Any]) -> str:
  """Format PSNR as a Markdown table with a row per method."""
  lines = ['| | middle | ±1 | ±2 | ±3 |', '|---|---|---|---|---|']
  for method, values in figures['psnr'].items():
    lines.append(f'| {method} | ' + ' | '.join(f'{value:.2f}' for value in values) + ' |')
  return '\n'.join(lines)


if __name__ == '__main__':
  run_command(main)
