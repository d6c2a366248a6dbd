"""Train the full-size GFN on four real crops until it exceeds bicubic by 3 dB.

    python -m benchmarks.overfit --data_dir=TFDS --output=benchmarks/results/overfit.json

This checks the training path (default initialisation, gate, losses, optimiser), not the quality:
the scores are on the training crops. It takes about five minutes on two CPU cores.
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

from benchmarks import workloads
from gfn_jax import Restorer, create_model
from gfn_jax.cli.runner import run_command
from gfn_jax.data.tfrecords import TFRecordDataset
from gfn_jax.models import param_count
from gfn_jax.ops import metrics
from gfn_jax.ops.scores import bicubic
from gfn_jax.system import parallel
from gfn_jax.system.console import print_message
from gfn_jax.training.optimizers import OTHERS, make_optimizer
from gfn_jax.training.train_state import create_train_state
from gfn_jax.training.train_step import train_step

DATA_DIR = flags.DEFINE_string('data_dir', None, 'Dataset of data_prep.lr_gopro.', required=True)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')
STEPS = flags.DEFINE_integer('steps', 2000, 'Maximum number of steps.')
RATE = flags.DEFINE_float('learning_rate', 3e-4, 'Learning rate of Adam.')
SEED = flags.DEFINE_integer('seed', 0, 'Seed of the crops and the initialisation.')

GAIN = 3.0  # dB


def main(_):
  """Train, report, and exit with status 1 if the gain is not reached."""
  dataset = TFRecordDataset(DATA_DIR.value)
  batch = next(dataset.train_batches(4, SEED.value, crop_size=24))
  target = batch['hr']
  baseline = metrics.psnr(np.stack([bicubic(x) for x in batch['lr_blur']]), target)

  model = create_model('gfn')
  optimizer = make_optimizer({OTHERS: optax.constant_schedule(RATE.value)}, clip_norm=1.0)
  state = parallel.replicate(create_train_state(model, optimizer, SEED.value))
  step = functools.partial(train_step, model=model, optimizer=optimizer, loss=workloads.gfn_loss())
  step = parallel.parallel_step(step)

  curve = []
  start = time.perf_counter()
  for number in tqdm(range(1, STEPS.value + 1), mininterval=10):
    state, _ = step(state, parallel.shard(batch))
    if number % 50:
      continue
    restorer = Restorer(model, state.eval_variables)
    psnr = metrics.psnr(np.stack([restorer(x) for x in batch['lr_blur']]), target)
    curve.append({'step': number, 'psnr': round(psnr, 2)})
    print_message(f'step {number}: {psnr:.2f} dB, bicubic {baseline:.2f} dB')
    if psnr >= baseline + GAIN:
      break

  figures = {
    'parameters': param_count(state.eval_variables),
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
