"""What does making blur cost? Times training steps with and without it, in turns.

    python -m benchmarks.synthesis --variant=small --output=benchmarks/results/synthesis_cpu.json

With: batches of photos, from which the step makes its examples. Without: the examples ready-made.
Reading and cropping photos is apart from both; it runs beside the device, in threads.
"""

import functools
import statistics
import time

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from configs import gfn_photos
from gfn_jax import create_model
from gfn_jax.data.motion_blur import MotionBlur, synthesize
from gfn_jax.errors import run_command
from gfn_jax.models.gfn import SCALE
from gfn_jax.system import parallel
from gfn_jax.system.files import write_json
from gfn_jax.training import loop, losses, schedules
from gfn_jax.training.optimizers import make_optimizer

VARIANT = flags.DEFINE_string('variant', '', 'Of configs/gfn_photos.py.')
BATCH = flags.DEFINE_integer('batch_size', 0, "0: the config's.", lower_bound=0)
STEPS = flags.DEFINE_integer('steps', 20, 'Steps of each kind.', lower_bound=1)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Measures, prints and writes the figures."""
  config = gfn_photos.get_config(VARIANT.value)
  size = BATCH.value or config.batch_size
  options = config.motion_blur.camera.to_dict()
  options.pop('share')
  prepare = functools.partial(make_examples, MotionBlur(**options), config.margin)
  batch = parallel.shard(photo_batch(size, SCALE * config.crop_size + 2 * config.margin))
  ready = jax.pmap(lambda batch: {k: prepare(batch)[k] for k in ('lr_blur', 'lr', 'hr')})(batch)

  optimizer = make_optimizer(**config.optimizer)
  model = create_model(**config.model)
  state = parallel.replicate(loop.create_train_state(model, optimizer, config.seed))
  phases = list(config.phases.values())
  fixed = dict(
    model=model,
    optimizer=optimizer,
    learning_rate=schedules.learning_rate(phases, config.steps_per_epoch),
    loss=functools.partial(losses.restoration_loss, lr_weight=phases[0].lr_weight),
  )
  steps = {
    'with': (parallel.parallel_step(lambda s, b: loop.train_step(s, prepare(b), **fixed)), batch),
    'without': (parallel.parallel_step(lambda s, b: loop.train_step(s, b, **fixed)), ready),
  }
  seconds = {kind: [] for kind in steps}
  for number in tqdm(range(1 + STEPS.value)):
    for kind, (step, data) in steps.items():
      start = time.perf_counter()
      state, scalars = jax.block_until_ready(step(state, data))
      if number:  # the first compiles
        seconds[kind].append(time.perf_counter() - start)
  medians = {kind: statistics.median(times) for kind, times in seconds.items()}
  figures = {
    'variant': VARIANT.value,
    'batch_size': size,
    'crop_size': config.crop_size,
    'precision': config.precision,
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
  """What `PhotoDataset` gives, of noise: the time does not depend on what is seen."""
  rng = np.random.default_rng(0)
  return {
    'photo': rng.integers(256, size=(size, side, side, 3), dtype=np.uint8),
    'key': rng.integers(2**32, size=(size, 2), dtype=np.uint32),
  }


if __name__ == '__main__':
  run_command(main)
