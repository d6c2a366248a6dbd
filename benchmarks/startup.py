"""How long until the first training step is done, and until the first photo is restored?

    python -m benchmarks.startup --output=benchmarks/results/startup_cpu.json
    python -m benchmarks.startup --features=8 --crop_size=16 --size=64x48    # does it run?

Seconds in a process of its own: `cold` with an empty folder for JAX's compilation cache, then
`cached` with what the first one left there. `steady` is the second step or photo, which compiles
nothing, and not in the sum. Training takes a batch of noise, restoring the released weights.
"""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import psutil
from absl import flags

from gfn_jax.errors import run_command

SIZE = flags.DEFINE_string('size', '320x180', 'Width and height of the photo.')
BATCH = flags.DEFINE_integer('batch_size', 4, 'Of a training step.', lower_bound=1)
CROP = flags.DEFINE_integer('crop_size', 64, 'Side of a patch to train on.', lower_bound=8)
FEATURES = flags.DEFINE_integer('features', 64, 'Of the network that is trained.', lower_bound=1)
NOTE = flags.DEFINE_string('note', '', 'For the record: what else the machine does, for example.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')
CHILD = flags.DEFINE_list('child', None, 'For its own use: the work and the file for the figures.')


def main(_):
  """Measures, prints and writes the figures."""
  if CHILD.value:
    work, path = CHILD.value
    figures = start_training() if work == 'train_step' else start_restoring()
    from gfn_jax.system.files import write_json

    write_json(path, figures)
    return
  figures = {}
  for work in ('train_step', 'restore'):
    with tempfile.TemporaryDirectory() as folder:
      figures[work] = {state: in_child(work, folder) for state in ('cold', 'cached')}
  from benchmarks import timing

  about = timing.machine(NOTE.value) | {'features': FEATURES.value, 'batch_size': BATCH.value}
  about |= {'crop_size': CROP.value, 'photo': SIZE.value}
  timing.report(about | {'seconds': figures}, OUTPUT.value)


def in_child(work: str, folder: str) -> dict[str, float]:
  """Measures in a process of its own, whose compilation cache is in the folder."""
  import json

  path = os.path.join(folder, 'figures.json')
  command = [sys.executable, '-m', 'benchmarks.startup', f'--child={work},{path}']
  command += [f'--features={FEATURES.value}', f'--crop_size={CROP.value}']
  command += [f'--batch_size={BATCH.value}', f'--size={SIZE.value}']
  cache = {
    'JAX_COMPILATION_CACHE_DIR': os.path.join(folder, 'cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  subprocess.run(command, check=True, env=os.environ | cache)
  with open(path) as file:
    return json.load(file)


class Laps:
  """Seconds from one lap to the next, the first from the start of the process."""

  def __init__(self):
    self.seconds: dict[str, float] = {}
    self._last = psutil.Process().create_time()

  def lap(self, name: str) -> None:
    """Ends a lap."""
    now = time.time()
    self.seconds[name] = round(now - self._last, 2)
    self._last = now

  def figures(self) -> dict[str, float]:
    """The laps, and their sum but for the last, 'steady'."""
    total = sum(seconds for name, seconds in self.seconds.items() if name != 'steady')
    return self.seconds | {'sum': round(total, 2)}


def start_training() -> dict[str, Any]:
  """Takes two steps."""
  laps = Laps()
  import functools

  import jax
  import optax

  from benchmarks import works
  from gfn_jax import create_model
  from gfn_jax.system import parallel
  from gfn_jax.training import loop, losses
  from gfn_jax.training.optimizers import make_optimizer

  laps.lap('imports')
  model = create_model('gfn', features=FEATURES.value)
  optimizer = make_optimizer(0.9, 0.999, 1e-8, clip_norm=1.0)
  state = parallel.replicate(loop.create_train_state(model, optimizer, seed=0))
  jax.block_until_ready(state)
  laps.lap('initialization')
  batch = parallel.shard(works.noise_batch(BATCH.value, CROP.value))
  laps.lap('data')
  step = functools.partial(
    loop.train_step,
    model=model,
    optimizer=optimizer,
    learning_rate=optax.constant_schedule(1e-4),
    loss=functools.partial(losses.restoration_loss, lr_weight=0.5),
  )
  step = parallel.parallel_step(step)
  for name in ('first_step', 'steady'):
    state, _ = jax.block_until_ready(step(state, batch))
    laps.lap(name)
  return laps.figures()


def start_restoring() -> dict[str, Any]:
  """Restores a photo twice."""
  laps = Laps()
  from benchmarks import timing, works
  from gfn_jax import Restorer

  laps.lap('imports')
  restorer = Restorer.from_pretrained('gfn')
  laps.lap('weights')
  width, height = timing.parse_size(SIZE.value)
  photo = works.noise(height, width, 3)
  laps.lap('data')
  for name in ('first_photo', 'steady'):
    restorer(photo)
    laps.lap(name)
  return laps.figures()


if __name__ == '__main__':
  run_command(main)
