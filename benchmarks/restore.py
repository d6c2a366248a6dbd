"""Measure the time and the memory of restoring images.

    python -m benchmarks.restore --output=benchmarks/results/restore_cpu.json

Times are medians of calls in turns: one image whole, in tiles of several sizes, in batches of
tiles, and with the self-ensemble. Then a separate process restores a large PNG to a PNG, as
`gfn-restore` does, and reports its peak memory.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from gfn_jax import Restorer
from gfn_jax.cli.runner import run_command
from gfn_jax.images import folders
from gfn_jax.restoration.files import restore_files
from gfn_jax.restoration.plan import plan_jobs
from gfn_jax.system.files import write_json
from gfn_jax.weights.pretrained import load_card

WEIGHTS = flags.DEFINE_string('weights', 'gfn', 'A .safetensors file or a released name.')
SIZE = flags.DEFINE_list('size', ['1280', '720'], 'Width and height of the timed image.')
TILES = flags.DEFINE_list('tiles', ['768', '512', '256'], 'Sides of tiles.')
DTYPE = flags.DEFINE_string('dtype', None, "Type of the computation; default: the network's.")
ROUNDS = flags.DEFINE_integer('rounds', 3, 'Timed calls of each.', lower_bound=1)
LARGE = flags.DEFINE_list(
  'large', ['4000', '3000'], 'Width and height of the image to measure memory with; 0,0: none.'
)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')
CHILD = flags.DEFINE_string('child', None, 'Internal: folder of the large image.')


def main(_):
  """Measure, print and write the figures."""
  if CHILD.value:
    restore_large(CHILD.value)
    return
  image = noise(*map(int, SIZE.value))
  restorers = {'whole': restorer(tile=None)}
  for tile in map(int, TILES.value):
    restorers[f'tile {tile}'] = restorer(tile=tile)
    restorers[f'tile {tile}, batches of 4'] = restorer(tile=tile, batch_size=4)
  seconds = {name: [] for name in restorers}
  for number in tqdm(range(1 + ROUNDS.value)):
    for name, restore in restorers.items():
      start = time.perf_counter()
      restore(image)
      if number:  # the first call compiles
        seconds[name].append(time.perf_counter() - start)
  medians = {name: statistics.median(times) for name, times in seconds.items()}
  figures = {
    'weights': WEIGHTS.value,
    'sha256': load_card(WEIGHTS.value)['sha256'],
    'dtype': restorers['whole'].model.dtype,
    'size': 'x'.join(SIZE.value),
    'seconds': {name: round(value, 2) for name, value in medians.items()},
    'output_megapixels_per_second': {
      name: round(16e-6 * image.shape[0] * image.shape[1] / value, 2)
      for name, value in medians.items()
    },
    'times_whole': {name: round(value / medians['whole'], 3) for name, value in medians.items()},
    'ensemble_times_plain': round(time_ensemble(image), 2),
    'rounds': ROUNDS.value,
    'device': f'1 x {jax.devices()[0].device_kind}',
    'jax': jax.__version__,
  }
  if LARGE.value != ['0', '0']:
    figures['large'] = measure_large()
  print(json.dumps(figures, indent=2))
  if OUTPUT.value:
    write_json(OUTPUT.value, figures)


def restorer(**options) -> Restorer:
  """Return a restorer with the weights and the type of the flags."""
  return Restorer.from_pretrained(WEIGHTS.value, dtype=DTYPE.value, **options)


def noise(width: int, height: int) -> np.ndarray:
  """Return a random image; the time does not depend on the content."""
  return np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)


def time_ensemble(image: np.ndarray) -> float:
  """Return the time with the self-ensemble over that without, on a quarter of the image."""
  quarter = image[: image.shape[0] // 2, : image.shape[1] // 2]
  seconds = []
  for ensemble in (False, True):
    restore = restorer(ensemble=ensemble)
    restore(quarter)
    start = time.perf_counter()
    restore(quarter)
    seconds.append(time.perf_counter() - start)
  return seconds[1] / seconds[0]


def measure_large() -> dict[str, Any]:
  """Restore a large PNG in a separate process."""
  with tempfile.TemporaryDirectory() as folder:
    folders.write_png(os.path.join(folder, 'large.png'), noise(*map(int, LARGE.value)))
    command = [sys.executable, '-m', 'benchmarks.restore', f'--child={folder}']
    command += [f'--weights={WEIGHTS.value}', *([f'--dtype={DTYPE.value}'] if DTYPE.value else [])]
    subprocess.run(command, check=True)
    with open(os.path.join(folder, 'figures.json')) as file:
      return {'size': 'x'.join(LARGE.value), **json.load(file)}


def restore_large(folder: str) -> None:
  """Restore the large image and write the figures, in the separate process."""
  start = time.perf_counter()
  restore = restorer()
  plan = plan_jobs(os.path.join(folder, 'large.png'), os.path.join(folder, 'restored.png'))
  outcome = restore_files(restore, plan)
  figures = {
    'tile': restore.tile,
    'seconds_from_file_to_file': round(time.perf_counter() - start, 1),
    'peak_memory_gib': round(peak_kilobytes() / 2**20, 2),
    'restored': outcome.restored,
  }
  write_json(os.path.join(folder, 'figures.json'), figures)


def peak_kilobytes() -> int:
  """Return the peak memory of this process, on Linux; `ru_maxrss` includes its parent."""
  with open('/proc/self/status') as file:
    [line] = [line for line in file if line.startswith('VmHWM:')]
  return int(line.split()[1])


if __name__ == '__main__':
  run_command(main)
