"""How fast is restoring, and how much memory does it take? In turns, medians.

    python -m benchmarks.restore --output=benchmarks/results/restore_cpu.json

Times one image whole, in tiles of several sizes, in batches of tiles, and with the self-ensemble.
Then a process of its own restores a large image from a PNG to a PNG, as `gfn-restore` does, and
says its peak memory.
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
from gfn_jax.errors import run_command
from gfn_jax.images import folders
from gfn_jax.restoration.files import plan_jobs, restore_files
from gfn_jax.system.files import write_json
from gfn_jax.weights.pretrained import load_card

WEIGHTS = flags.DEFINE_string('weights', 'gfn', 'A .safetensors file or a name.')
SIZE = flags.DEFINE_list('size', ['1280', '720'], 'Width and height of the image that is timed.')
TILES = flags.DEFINE_list('tiles', ['512', '256'], 'Sides of tiles.')
DTYPE = flags.DEFINE_string('dtype', None, "Of the computation; default: the network's.")
ROUNDS = flags.DEFINE_integer('rounds', 3, 'How often each is timed.', lower_bound=1)
LARGE = flags.DEFINE_list(
  'large', ['4000', '3000'], 'Width and height of the image whose memory is measured; 0,0: none.'
)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')
CHILD = flags.DEFINE_string('child', None, 'For its own use: the folder of the large image.')


def main(_):
  """Measures, prints and writes the figures."""
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
      if number:  # the first compiles
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
  """A restorer with the flags' weights and type."""
  return Restorer.from_pretrained(WEIGHTS.value, dtype=DTYPE.value, **options)


def noise(width: int, height: int) -> np.ndarray:
  """An image; the time does not depend on what is seen."""
  return np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)


def time_ensemble(image: np.ndarray) -> float:
  """How much longer the self-ensemble takes, on a quarter of the image."""
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
  """Restores a large PNG in a process of its own."""
  with tempfile.TemporaryDirectory() as folder:
    folders.write_png(os.path.join(folder, 'large.png'), noise(*map(int, LARGE.value)))
    command = [sys.executable, '-m', 'benchmarks.restore', f'--child={folder}']
    command += [f'--weights={WEIGHTS.value}', *([f'--dtype={DTYPE.value}'] if DTYPE.value else [])]
    subprocess.run(command, check=True)
    with open(os.path.join(folder, 'figures.json')) as file:
      return {'size': 'x'.join(LARGE.value), **json.load(file)}


def restore_large(folder: str) -> None:
  """In the process of its own: restores, and leaves the figures in the folder."""
  start = time.perf_counter()
  restore = restorer()
  jobs = plan_jobs(os.path.join(folder, 'large.png'), os.path.join(folder, 'restored.png'))
  outcome = restore_files(restore, jobs)
  figures = {
    'tile': restore.tile,
    'seconds_from_file_to_file': round(time.perf_counter() - start, 1),
    'peak_memory_gib': round(peak_kilobytes() / 2**20, 2),
    'restored': outcome.restored,
  }
  write_json(os.path.join(folder, 'figures.json'), figures)


def peak_kilobytes() -> int:
  """The most memory that this process had, on Linux; `ru_maxrss` counts its parent too."""
  with open('/proc/self/status') as file:
    [line] = [line for line in file if line.startswith('VmHWM:')]
  return int(line.split()[1])


if __name__ == '__main__':
  run_command(main)
