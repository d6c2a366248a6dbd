"""Time training steps of the light network with and without the synthesis of blur, in turns.

    python -m benchmarks.synthesis --output=benchmarks/results/synthesis_cpu.json

The step is that of configs/gfn_open.py, on synthetic examples of its three worlds. With synthesis,
it makes its examples from batches of photos. Without, it gets finished examples. 'vmap' makes them
with `jax.vmap` instead of `map_examples`. None includes reading and cropping photos, which runs in
threads.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np
import optax
from absl import flags

from benchmarks import timing
from gfn_jax import create_model
from gfn_jax.cli.runner import run_command
from gfn_jax.configs import gfn_open
from gfn_jax.data.blur_options import MotionBlur, select_world
from gfn_jax.data.map_examples import map_examples
from gfn_jax.data.motion_blur import synthesize
from gfn_jax.models.gfn import SCALE
from gfn_jax.system import cpu_bfloat16, parallel
from gfn_jax.training.losses import make_loss
from gfn_jax.training.optimizers import OTHERS, make_optimizer
from gfn_jax.training.train_state import create_train_state
from gfn_jax.training.train_step import train_step

BATCH = flags.DEFINE_integer('batch_size', 0, "Examples per step; 0: the config's.", lower_bound=0)
DTYPE = flags.DEFINE_enum('dtype', 'bfloat16', ['bfloat16', 'float32'], 'Type of the network.')
STEPS = flags.DEFINE_integer('steps', 20, 'Steps of each kind.', lower_bound=1)
NOTE = flags.DEFINE_string('note', '', 'Note for the record, such as other load on the machine.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Measure, print and write the figures."""
  config = gfn_open.get_config()
  size = BATCH.value or config.training.batch_size
  make = maker(config.data)
  batch = parallel.shard(
    photo_batch(size, SCALE * config.training.crop_size + 2 * config.data.margin)
  )
  step, state = step_and_state(config)
  ready = jax.pmap(lambda batch: training_images(map_examples(make, batch)))(batch)
  workloads = {
    'without': workload(step, state, ready),
    'with': workload(prepared(step, functools.partial(map_examples, make)), state, batch),
    'vmap': workload(prepared(step, jax.vmap(make)), state, batch),
  }
  seconds = timing.time_in_turns(workloads, STEPS.value)
  without = seconds.pop('without')
  figures = timing.machine(NOTE.value) | {
    'batch_size': size,
    'crop_size': config.training.crop_size,
    'dtype': DTYPE.value,
    'steps': STEPS.value,
    'synthesis_share_of_the_step': {
      kind: timing.digits(1 - timing.ratio(without.wall, times.wall))
      for kind, times in seconds.items()
    },
    'synthesis_share_of_the_processor_time': {
      kind: timing.digits(1 - timing.ratio(without.cpu, times.cpu))
      for kind, times in seconds.items()
    },
  }
  timing.report(figures, OUTPUT.value)


def step_and_state(config) -> tuple[Callable, object]:
  """Return the training step of a config and its initial state."""
  [phase] = config.phases.values()
  schedule = optax.constant_schedule(phase.schedule.learning_rate)
  optimizer = make_optimizer({OTHERS: schedule}, **config.optimizer)
  loss = make_loss(config.loss, {'hr': phase.hr_weight, 'lr': phase.lr_weight})
  model = create_model(**config.model.to_dict() | {'dtype': DTYPE.value})
  state = create_train_state(model, optimizer, config.training.seed)
  return functools.partial(train_step, model=model, optimizer=optimizer, loss=loss), state


def maker(data) -> Callable[[dict[str, jax.Array]], dict[str, jax.Array]]:
  """Return a function that makes an example of `photo_batch`, for the data of a config."""
  options = [world.to_dict() for world in data.motion_blur.values()]
  worlds = [MotionBlur(**{k: v for k, v in world.items() if k != 'share'}) for world in options]

  def make(example: dict[str, jax.Array]) -> dict[str, jax.Array]:
    key = jax.random.wrap_key_data(example['key'], impl='threefry2x32')
    world = select_world(worlds, example['key'][0] % len(worlds))
    return synthesize(key, example['photo'], world, data.margin)

  return make


def prepared(step: Callable, make: Callable) -> Callable:
  """Return a step that makes its examples itself."""

  def step_with_synthesis(state, batch, average):
    return step(state, training_images(make(batch)), average)

  return step_with_synthesis


def training_images(examples: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """Return the images that the step uses."""
  return {key: examples[key] for key in ('lr_blur', 'lr', 'hr')}


def workload(step: Callable, state: object, batch: dict[str, jax.Array]) -> Callable[[], None]:
  """Return a call that takes one step, each from the state of the last."""
  run = parallel.parallel_step(step, cpu_bfloat16.compiler_options(DTYPE.value))
  states = [parallel.replicate(jax.tree.map(np.asarray, state))]

  def call():
    states.append(jax.block_until_ready(run(states.pop(), batch))[0])

  return call


def photo_batch(size: int, side: int) -> dict[str, np.ndarray]:
  """Return a batch of noise in the format of `PhotoDataset`."""
  rng = np.random.default_rng(0)
  return {
    'photo': rng.integers(256, size=(size, side, side, 3), dtype=np.uint8),
    'key': rng.integers(2**32, size=(size, 2), dtype=np.uint32),
  }


if __name__ == '__main__':
  run_command(main)
