"""How well does a network tell what moved? Its seven frames, and the true ones of synthetic blur.

    python -m benchmarks.frames --weights=bmdsrnet --photos=PHOTOS --output=results.json

On photos that were held out in training, in the order of time that fits better, as a blur does not
tell it. Beside them, for each moment: the blurred image itself, and the frame in the middle, which
is the deblurred image.
"""

import statistics
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from gfn_jax import Restorer, evaluate, metrics
from gfn_jax.errors import run_command
from gfn_jax.files import write_json
from gfn_jax.pretrained import load_card

WEIGHTS = flags.DEFINE_string('weights', 'bmdsrnet', 'A file, or a released name.')
PHOTOS = flags.DEFINE_string('photos', None, 'Folder of photographs.', required=True)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')

METHODS = {'blurred': 'the blurred image', 'middle': 'the middle frame', 'frames': 'the frames'}


def main(_):
  """Compares, prints and writes the means."""
  restorer = Restorer.from_pretrained(WEIGHTS.value, output='frames')
  card = load_card(WEIGHTS.value)
  changes = {'photos': PHOTOS.value, 'frames': True, 'real_pairs': ''}
  dataset = evaluate.open_dataset(card['config'] | changes)
  count = dataset.num_examples('test')
  rows = [compare(restorer, image) for image in tqdm(dataset.images(), total=count, leave=False)]
  figures = {'sha256': card['sha256'], 'device': jax.devices()[0].device_kind, 'images': len(rows)}
  figures['psnr'] = {
    method: [round(statistics.fmean(values), 3) for values in zip(*runs, strict=True)]
    for method, runs in ((method, [row[method] for row in rows]) for method in METHODS)
  }
  print(format_table(figures))
  if OUTPUT.value:
    write_json(OUTPUT.value, figures)


def compare(restorer: Restorer, image: dict[str, Any]) -> dict[str, list[float]]:
  """PSNR in dB of each method, from the middle of the exposure to its ends: 4 values."""
  frames, targets = restorer(image['lr_blur']), image['frames']
  middle = frames[len(frames) // 2]
  both = [_psnr(frames, order) for order in (targets, targets[::-1])]
  return {
    'blurred': _from_the_middle(_psnr([image['lr_blur']] * len(targets), targets)),
    'middle': _from_the_middle(_psnr([middle] * len(targets), targets)),
    'frames': _from_the_middle(max(both, key=statistics.fmean)),
  }


def _psnr(frames: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> list[float]:
  return [metrics.psnr(frame, target) for frame, target in zip(frames, targets, strict=True)]


def _from_the_middle(values: Sequence[float]) -> list[float]:
  """The value of the middle frame, then the means of the two frames 1, 2 and 3 steps from it."""
  middle = len(values) // 2
  steps = range(len(values) - middle)
  return [statistics.fmean((values[middle - n], values[middle + n])) for n in steps]


def format_table(figures: dict[str, Any]) -> str:
  """PSNR as Markdown: a line a method, a column a distance from the middle."""
  steps = range(len(figures['psnr']['frames']))
  lines = ['| | ' + ' | '.join(f'±{n}' if n else 'middle' for n in steps) + ' |']
  lines.append('|---' * (len(steps) + 1) + '|')
  for method, title in METHODS.items():
    cells = ' | '.join(f'{value:.2f}' for value in figures['psnr'][method])
    lines.append(f'| {title} | {cells} |')
  return '\n'.join(lines)


if __name__ == '__main__':
  run_command(main)
