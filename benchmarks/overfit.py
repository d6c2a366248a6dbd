"""Can the full-size GFN learn at all? Drives it on four real crops until it beats bicubic by 3 dB.

    python benchmarks/overfit.py --data_dir=TFDS --output=benchmarks/results/overfit.json

A check of the training path (default initialisation, gate, losses, optimiser), not of quality: the
scores are on the crops it is trained on. About five minutes on two CPU cores.
"""

import functools
import json
import sys
import time

import jax
import numpy as np
import optax
from absl import flags
from tqdm import tqdm

from gfn_jax import Restorer, create_model
from gfn_jax.data.tfrecords import TFRecordDataset
from gfn_jax.errors import run_command
from gfn_jax.evaluation.evaluate import bicubic
from gfn_jax.ops import metrics
from gfn_jax.system import parallel
from gfn_jax.training import loop, losses
from gfn_jax.training.optimizers import make_optimizer
from gfn_jax.weights.pretrained import param_count

DATA_DIR = flags.DEFINE_string('data_dir', None, 'A dataset of data_prep.lr_gopro.', required=True)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')
STEPS = flags.DEFINE_integer('steps', 2000, 'Steps at most.')
RATE = flags.DEFINE_float('learning_rate', 3e-4, "Adam's.")
SEED = flags.DEFINE_integer('seed', 0, 'Of the crops and the initialisation.')

GAIN = 3.0  # dB


def main(_):
  """Trains, reports, and fails if the gain is not reached."""
  dataset = TFRecordDataset(DATA_DIR.value)
  batch = next(dataset.train_batches(4, SEED.value, crop_size=24))
  target = batch['hr']
  baseline = metrics.psnr(np.stack([bicubic(x) for x in batch['lr_blur']]), target)

  model = create_model('gfn')
  optimizer = make_optimizer(0.9, 0.999, 1e-8, clip_norm=1.0)
  state = parallel.replicate(loop.create_train_state(model, optimizer, SEED.value))
  step = functools.partial(
    loop.train_step,
    model=model,
    optimizer=optimizer,
    learning_rate=optax.constant_schedule(RATE.value),
    loss=functools.partial(losses.restoration_loss, lr_weight=0.5),
  )
  step = parallel.parallel_step(step)

  curve = []
  start = time.perf_counter()
  for number in tqdm(range(1, STEPS.value + 1), mininterval=10):
    state, _ = step(state, parallel.shard(batch))
    if number % 50:
      continue
    restorer = Restorer(model, state.params)
    psnr = metrics.psnr(np.stack([restorer(x) for x in batch['lr_blur']]), target)
    curve.append({'step': number, 'psnr': round(psnr, 2)})
    tqdm.write(f'step {number}: {psnr:.2f} dB, bicubic {baseline:.2f} dB', file=sys.stderr)
    if psnr >= baseline + GAIN:
      break

  figures = {
    'parameters': param_count(state.params),
    'data': 'four 24x24 crops of LR-GOPRO training patches; whole crops, RGB, 8 bit',
    'bicubic_psnr': round(baseline, 2),
    'curve': curve,
    'seconds': round(time.perf_counter() - start),
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'jax': jax.__version__,
  }
  print(json.dumps(figures, indent=2))
  if OUTPUT.value:
    with open(OUTPUT.value, 'w') as file:
      file.write(json.dumps(figures, indent=2) + '\n')
  if curve[-1]['psnr'] < baseline + GAIN:
    sys.exit(f'failed: less than {GAIN} dB beyond bicubic after {STEPS.value} steps')


if __name__ == '__main__':
  run_command(main)
