"""How fast is a training step, and how fast in PyTorch? In turns, medians.

    python -m benchmarks.train_step --output=benchmarks/results/train_step_cpu.json
    python -m benchmarks.train_step --features=8 --crop_size=16 --rounds=1    # does it run?

A step is forward, GFN's loss, backward and Adam, without clipping; the batch is on the device. Ours
also gives norms of the gradients. Both begin with the same parameters, and their first losses are
compared. Needs `pip install 'gfn_jax[benchmark]'`; with `--nopeer` nothing but JAX.
"""

import os

import jax
from absl import flags

from benchmarks import timing, works
from gfn_jax import create_model
from gfn_jax.errors import UserError, run_command
from gfn_jax.models import init_params

BATCHES = flags.DEFINE_list('batch_size', None, 'Default: 4; on accelerators 16, 64 and 128.')
CROP = flags.DEFINE_integer('crop_size', 64, 'Side of the input.', lower_bound=8)
FEATURES = flags.DEFINE_integer('features', 64, "The network's.", lower_bound=1)
ROUNDS = flags.DEFINE_integer('rounds', 5, 'How often each is timed.', lower_bound=1)
PEER = flags.DEFINE_bool('peer', True, 'Whether to time PyTorch too.')
NOTE = flags.DEFINE_string('note', '', 'For the record: what else the machine does, for example.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Measures, prints and writes the figures."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # PyTorch is in the same process
  if CROP.value % 4:
    raise UserError(f'crop_size {CROP.value}: pass a multiple of 4')
  platform = jax.default_backend()
  model = create_model('gfn', features=FEATURES.value)
  params = init_params(model, seed=0)
  matmul_side = timing.matmul_side(platform)
  figures = {'features': FEATURES.value, 'crop_size': CROP.value, 'rounds': ROUNDS.value}
  figures['batch_sizes'] = {}
  for size in map(int, BATCHES.value or (['4'] if platform == 'cpu' else ['16', '64', '128'])):
    batch = works.noise_batch(size, CROP.value)
    steps = works.train_works(model, params, batch, PEER.value)
    seconds = timing.time_in_turns(steps | works.matmul_works(matmul_side), ROUNDS.value)
    works.check_losses({name: float(seconds[name].first_result) for name in steps})
    flops = 3 * works.forward_flops(model, params, batch['lr_blur'].shape)  # as is the custom
    rows = timing.summarize(seconds, platform, flops, matmul_side)
    for name in steps:
      rows[name]['patches_per_second'] = timing.digits(size / rows[name]['seconds'])
    figures['batch_sizes'][str(size)] = {'gflop': timing.digits(flops / 1e9)} | rows
  timing.report(timing.machine(NOTE.value) | figures, OUTPUT.value)


if __name__ == '__main__':
  run_command(main)
