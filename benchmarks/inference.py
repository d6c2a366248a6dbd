"""Time inference in JAX and in PyTorch: medians, called in turns.

    python -m benchmarks.inference --output=benchmarks/results/inference_cpu.json
    python -m benchmarks.inference --features=8 --size=64x48 --rounds=1    # a quick test

Both networks have the same parameters, and are first checked to return the same images. Input and
output stay on the device, without files or tiles. PyTorch runs in a process of its own. It requires
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
from gfn_jax.models import init_variables

SIZES = flags.DEFINE_list('size', ['320x180', '640x360'], 'Widths and heights of the input.')
BATCHES = flags.DEFINE_list(
  'batch_size', None, 'Images per batch; default: 1, on accelerators 1 and 8.'
)
FEATURES = flags.DEFINE_integer('features', 64, 'Width of the network.', lower_bound=1)
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed calls of each.', lower_bound=1)
PEER = flags.DEFINE_bool('peer', True, 'Also time PyTorch.')
PEER_PYTHON = flags.DEFINE_string('peer_python', sys.executable, 'Python that has PyTorch.')
NOTE = flags.DEFINE_string('note', '', 'Note for the record, such as other load on the machine.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Measure, print and write the figures."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # leave memory to PyTorch
  platform = jax.default_backend()
  model = create_model('gfn', features=FEATURES.value)
  variables = init_variables(model, seed=0)
  matmul_side = timing.matmul_side(platform)
  figures = {'features': FEATURES.value, 'rounds': ROUNDS.value, 'inputs': {}}
  with contextlib.ExitStack() as stack:
    peer = PEER.value and stack.enter_context(TorchPeer(model, variables, PEER_PYTHON.value))
    for size in SIZES.value:
      width, height = timing.parse_size(size)
      for batch in map(int, BATCHES.value or (['1'] if platform == 'cpu' else ['1', '8'])):
        x = workloads.noise(batch, height, width, 3)
        calls = workloads.inference_workloads(model, variables, x)
        if peer:
          calls |= peer.inference_workloads(x)
        seconds = timing.time_in_turns(
          calls | workloads.matmul_workloads(matmul_side), ROUNDS.value
        )
        flops = workloads.forward_flops(model, variables, x.shape)
        rows = timing.summarize(seconds, platform, flops, matmul_side)
        figures['inputs'][f'{batch} x {size}'] = {'gflop': timing.digits(flops / 1e9)} | rows
  timing.report(timing.machine(NOTE.value) | figures, OUTPUT.value)


if __name__ == '__main__':
  run_command(main)
