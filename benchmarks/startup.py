"""Measure the time until the first training step and the first restored photo.

    python -m benchmarks.startup --output=benchmarks/results/startup_cpu.json
    python -m benchmarks.startup --workloads=command --output=benchmarks/results/command_cpu.json
    python -m benchmarks.startup --features=8 --crop_size=16 --size=64x48    # a quick test

The figures are seconds in a separate process: `cold` with an empty folder for JAX's compilation
cache, then `cached` with the filled one. `steady` is the second step or photo, which compiles
nothing and is not in the sum. Training uses a batch of noise, and restoring the released weights.

`command` runs `gfn-restore` on one photo with a filled cache, in float32 and in bfloat16, whose
programs cannot be cached. The peer is a process that imports JAX and adds three numbers. All run in
turns. Processor time is that of the whole process, with all its threads.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import psutil
from absl import flags

from gfn_jax.cli.runner import run_command

WORKLOADS = flags.DEFINE_list(
  'workloads', ['train_step', 'restore'], "What to start: 'train_step', 'restore', 'command'."
)
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Runs of each command.', lower_bound=1)
SIZE = flags.DEFINE_string('size', '320x180', 'Width and height of the photo.')
BATCH = flags.DEFINE_integer('batch_size', 4, 'Patches per training step.', lower_bound=1)
CROP = flags.DEFINE_integer('crop_size', 64, 'Side of a training patch.', lower_bound=8)
FEATURES = flags.DEFINE_integer('features', 64, 'Width of the trained network.', lower_bound=1)
NOTE = flags.DEFINE_string('note', '', 'Note for the record, such as other load on the machine.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')
CHILD = flags.DEFINE_list('child', None, 'Internal: workload and output file.')


def main(_):
  """Measure, print and write the figures."""
  if CHILD.value:
    workload, path = CHILD.value
    figures = start_training() if workload == 'train_step' else start_restoring()
    from gfn_jax.system.files import write_json

    write_json(path, figures)
    return
  figures = {}
  for workload in WORKLOADS.value:
    with tempfile.TemporaryDirectory() as folder:
      if workload == 'command':
        figures[workload] = time_commands(folder)
      else:
        figures[workload] = {state: in_child(workload, folder) for state in ('cold', 'cached')}
  from benchmarks import timing

  about = timing.machine(NOTE.value) | {'features': FEATURES.value, 'batch_size': BATCH.value}
  about |= {'crop_size': CROP.value, 'photo': SIZE.value}
  timing.report(about | {'seconds': figures}, OUTPUT.value)


def in_child(workload: str, folder: str) -> dict[str, float]:
  """Measure in a separate process, whose compilation cache is in the folder."""
  import json

  path = os.path.join(folder, 'figures.json')
  command = [sys.executable, '-m', 'benchmarks.startup', f'--child={workload},{path}']
  command += [f'--features={FEATURES.value}', f'--crop_size={CROP.value}']
  command += [f'--batch_size={BATCH.value}', f'--size={SIZE.value}']
  cache = {
    'JAX_COMPILATION_CACHE_DIR': os.path.join(folder, 'cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  subprocess.run(command, check=True, env=os.environ | cache)
  with open(path) as file:
    return json.load(file)


def time_commands(folder: str) -> dict[str, dict[str, float]]:
  """Run the commands in turns, after a first run of each, which fills the cache in the folder."""
  from PIL import Image

  photo = os.path.join(folder, 'photo.jpg')
  width, height = map(int, SIZE.value.split('x'))
  Image.effect_noise((width, height), 60).convert('RGB').save(photo)
  restore = [sys.executable, '-m', 'gfn_jax', 'restore', photo, os.path.join(folder, 'sharp.jpg')]
  restore += ['--overwrite']
  peer = 'import jax, add'
  commands = {
    peer: [sys.executable, '-c', 'import jax.numpy as jnp; print(jnp.arange(3).sum())'],
    'float32': [*restore, '--dtype=float32'],
    'bfloat16': [*restore, '--dtype=bfloat16'],
  }
  environment = os.environ | {'XDG_CACHE_HOME': folder}
  environment.pop('JAX_COMPILATION_CACHE_DIR', None)
  wall: dict[str, list[float]] = {name: [] for name in commands}
  cpu: dict[str, list[float]] = {name: [] for name in commands}
  for number in range(1 + ROUNDS.value):
    for name, command in commands.items():
      start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
      subprocess.run(command, check=True, env=environment, capture_output=True)
      seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
      if number:
        wall[name].append(seconds)
        cpu[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
  from benchmarks import timing

  return {
    name: {
      'seconds': timing.digits(statistics.median(wall[name])),
      'cpu_seconds': timing.digits(statistics.median(cpu[name])),
      'times the peer': timing.digits(timing.ratio(wall[name], wall[peer])),
      'cpu times the peer': timing.digits(timing.ratio(cpu[name], cpu[peer])),
    }
    for name in commands
  }


class Laps:
  """Seconds between consecutive laps; the first one begins with the process."""

  def __init__(self):
    self.seconds: dict[str, float] = {}
    self._last = psutil.Process().create_time()

  def lap(self, name: str) -> None:
    """End a lap."""
    now = time.time()
    self.seconds[name] = round(now - self._last, 2)
    self._last = now

  def figures(self) -> dict[str, float]:
    """Return the laps, and their sum without 'steady'."""
    total = sum(seconds for name, seconds in self.seconds.items() if name != 'steady')
    return self.seconds | {'sum': round(total, 2)}


def start_training() -> dict[str, Any]:
  """Take two training steps."""
  laps = Laps()
  import jax

  from benchmarks import workloads
  from gfn_jax import create_model
  from gfn_jax.system import parallel
  from gfn_jax.training.train_state import create_train_state

  laps.lap('imports')
  model = create_model('gfn', features=FEATURES.value)
  optimizer, step = workloads.optimizer_and_step(model)
  state = parallel.replicate(create_train_state(model, optimizer, seed=0))
  jax.block_until_ready(state)
  laps.lap('initialization')
  batch = parallel.shard(workloads.noise_batch(BATCH.value, CROP.value))
  laps.lap('data')
  step = parallel.parallel_step(step)
  for name in ('first_step', 'steady'):
    state, _ = jax.block_until_ready(step(state, batch))
    laps.lap(name)
  return laps.figures()


def start_restoring() -> dict[str, Any]:
  """Restore a photo twice."""
  laps = Laps()
  from benchmarks import timing, workloads
  from gfn_jax import Restorer

  laps.lap('imports')
  restorer = Restorer.from_pretrained('gfn')
  laps.lap('weights')
  width, height = timing.parse_size(SIZE.value)
  photo = workloads.noise(height, width, 3)
  laps.lap('data')
  for name in ('first_photo', 'steady'):
    restorer(photo)
    laps.lap(name)
  return laps.figures()


if __name__ == '__main__':
  run_command(main)
