"""Time training steps in JAX and in PyTorch: medians, called in turns.

    python -m benchmarks.train_step --output=benchmarks/results/train_step_cpu.json
    python -m benchmarks.train_step --features=8 --crop_size=16 --rounds=1    # a quick test

A step is forward, GFN's loss, backward and Adam, without clipping; the batch is on the device. The
step in JAX also returns the norms of the gradients. Both begin with the same parameters, and their
first losses are compared. PyTorch runs in a process of its own. It requires
`pip install 'gfn_jax[benchmark]'`, or `--peer_python` names another Python; `--nopeer` leaves it
out.
"""

import contextlib
import os
import sys

import jax
from absl import flags

from benchmarks import timing, workloads
from benchmarks.torch_peer import TorchPeer
from gfn_jax import create_model
from gfn_jax.cli.runner import run_command
from gfn_jax.errors import UserError
from gfn_jax.models import init_variables

BATCHES = flags.DEFINE_list(
  'batch_size', None, 'Patches per step; default: 4, on accelerators 16, 64 and 128.'
)
CROP = flags.DEFINE_integer('crop_size', 64, 'Side of the input.', lower_bound=8)
FEATURES = flags.DEFINE_integer('features', 64, 'Width of the network.', lower_bound=1)
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed calls of each.', lower_bound=1)
PEER = flags.DEFINE_bool('peer', True, 'Also time PyTorch.')
PEER_PYTHON = flags.DEFINE_string('peer_python', sys.executable, 'Python that has PyTorch.')
NOTE = flags.DEFINE_string('note', '', 'Note for the record, such as other load on the machine.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Measure, print and write the figures."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # leave memory to PyTorch
  if CROP.value % 4:
    raise UserError(f'crop_size {CROP.value}: pass a multiple of 4')
  platform = jax.default_backend()
  model = create_model('gfn', features=FEATURES.value)
  variables = init_variables(model, seed=0)
  matmul_side = timing.matmul_side(platform)
  figures = {'features': FEATURES.value, 'crop_size': CROP.value, 'rounds': ROUNDS.value}
  figures['batch_sizes'] = {}
  with contextlib.ExitStack() as stack:
    peer = PEER.value and stack.enter_context(TorchPeer(model, variables, PEER_PYTHON.value))
    for size in map(int, BATCHES.value or (['4'] if platform == 'cpu' else ['16', '64', '128'])):
      batch = workloads.noise_batch(size, CROP.value)
      steps = workloads.train_workloads(model, variables, batch)
      if peer:
        steps |= peer.train_workloads(batch, workloads.LEARNING_RATE)
      seconds = timing.time_in_turns(steps | workloads.matmul_workloads(matmul_side), ROUNDS.value)
      workloads.check_losses({name: float(seconds[name].first_result) for name in steps})
      # The usual estimate of a step is three forward passes.
      flops = 3 * workloads.forward_flops(model, variables, batch['lr_blur'].shape)
      rows = timing.summarize(seconds, platform, flops, matmul_side)
      for name in steps:
        rows[name]['patches_per_second'] = timing.digits(size / rows[name]['seconds'])
      figures['batch_sizes'][str(size)] = {'gflop': timing.digits(flops / 1e9)} | rows
  timing.report(timing.machine(NOTE.value) | figures, OUTPUT.value)


if __name__ == '__main__':
  run_command(main)
