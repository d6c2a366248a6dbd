"""Time training steps with and without the synthesis of blur, in turns.

    python -m benchmarks.synthesis --variant=small --output=benchmarks/results/synthesis_cpu.json

With synthesis, the step makes its examples from batches of photos. Without, it gets finished
examples. Neither includes reading and cropping photos, which runs in threads.
"""

import functools
import statistics
import time

import jax
import numpy as np
import optax
from absl import flags
from tqdm import tqdm

from gfn_jax import create_model
from gfn_jax.cli.runner import run_command
from gfn_jax.configs import gfn_photos
from gfn_jax.data.motion_blur import MotionBlur, synthesize
from gfn_jax.models.gfn import SCALE
from gfn_jax.system import parallel
from gfn_jax.system.files import write_json
from gfn_jax.training.losses import make_loss
from gfn_jax.training.optimizers import OTHERS, make_optimizer
from gfn_jax.training.train_state import create_train_state
from gfn_jax.training.train_step import train_step

VARIANT = flags.DEFINE_string('variant', '', 'Variant of configs/gfn_photos.py.')
BATCH = flags.DEFINE_integer('batch_size', 0, "Examples per step; 0: the config's.", lower_bound=0)
STEPS = flags.DEFINE_integer('steps', 20, 'Steps of each kind.', lower_bound=1)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Measure, print and write the figures."""
  config = gfn_photos.get_config(VARIANT.value)
  size = BATCH.value or config.training.batch_size
  options = config.data.motion_blur.camera.to_dict()
  options.pop('share')
  prepare = functools.partial(make_examples, MotionBlur(**options), config.data.margin)
  side = SCALE * config.training.crop_size + 2 * config.data.margin
  batch = parallel.shard(photo_batch(size, side))
  ready = jax.pmap(lambda batch: {k: prepare(batch)[k] for k in ('lr_blur', 'lr', 'hr')})(batch)

  phase = next(iter(config.phases.values()))
  schedule = optax.constant_schedule(phase.schedule.learning_rate)
  optimizer = make_optimizer({OTHERS: schedule}, **config.optimizer)
  loss = make_loss(config.loss, {'hr': phase.hr_weight, 'lr': phase.lr_weight})
  model = create_model(**config.model)
  state = parallel.replicate(create_train_state(model, optimizer, config.training.seed))
  step = functools.partial(train_step, model=model, optimizer=optimizer, loss=loss)

  def step_with_synthesis(state, batch, average):
    return step(state, prepare(batch), average)

  steps = {
    'with': (parallel.parallel_step(step_with_synthesis), batch),
    'without': (parallel.parallel_step(step), ready),
  }
  seconds = {kind: [] for kind in steps}
  for number in tqdm(range(1 + STEPS.value)):
    for kind, (step, data) in steps.items():
      start = time.perf_counter()
      state, scalars = jax.block_until_ready(step(state, data))
      if number:  # the first call compiles
        seconds[kind].append(time.perf_counter() - start)
  medians = {kind: statistics.median(times) for kind, times in seconds.items()}
  figures = {
    'variant': VARIANT.value,
    'batch_size': size,
    'crop_size': config.training.crop_size,
    'precision': config.training.precision,
    'images_per_second': {kind: round(size / median, 2) for kind, median in medians.items()},
    'synthesis_share_of_the_step': round(1 - medians['without'] / medians['with'], 4),
    'steps': STEPS.value,
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'jax': jax.__version__,
  }
  print(figures)
  if OUTPUT.value:
    write_json(OUTPUT.value, figures)


def make_examples(options: MotionBlur, margin: int, batch: dict[str, jax.Array]) -> dict:
  """Make the examples of a batch of `photo_batch`."""

  def make(photo: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    key = jax.random.wrap_key_data(key, impl='threefry2x32')
    return synthesize(key, photo, options, margin)

  return jax.vmap(make)(batch['photo'], batch['key'])


def photo_batch(size: int, side: int) -> dict[str, np.ndarray]:
  """Return a batch of noise in the format of `PhotoDataset`."""
  rng = np.random.default_rng(0)
  return {
    'photo': rng.integers(256, size=(size, side, side, 3), dtype=np.uint8),
    'key': rng.integers(2**32, size=(size, 2), dtype=np.uint32),
  }


if __name__ == '__main__':
  run_command(main)
