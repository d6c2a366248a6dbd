"""How fast is the network, and how fast in PyTorch? In turns, medians.

    python -m benchmarks.inference --output=benchmarks/results/inference_cpu.json
    python -m benchmarks.inference --features=8 --size=64x48 --rounds=1    # does it run?

Both have the same parameters, and give the same images, which is checked first. The input is on the
device, and the output stays there: no files, no tiles. Needs `pip install 'gfn_jax[benchmark]'`;
with `--nopeer` nothing but JAX.
"""

import os

import jax
from absl import flags

from benchmarks import timing, works
from gfn_jax import create_model
from gfn_jax.errors import run_command
from gfn_jax.models import init_params

SIZES = flags.DEFINE_list('size', ['320x180', '640x360'], 'Widths and heights of the input.')
BATCHES = flags.DEFINE_list('batch_size', None, 'Default: 1; on accelerators 1 and 8.')
FEATURES = flags.DEFINE_integer('features', 64, "The network's.", lower_bound=1)
ROUNDS = flags.DEFINE_integer('rounds', 5, 'How often each is timed.', lower_bound=1)
PEER = flags.DEFINE_bool('peer', True, 'Whether to time PyTorch too.')
NOTE = flags.DEFINE_string('note', '', 'For the record: what else the machine does, for example.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Measures, prints and writes the figures."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # PyTorch is in the same process
  platform = jax.default_backend()
  model = create_model('gfn', features=FEATURES.value)
  params = init_params(model, seed=0)
  matmul_side = timing.matmul_side(platform)
  figures = {'features': FEATURES.value, 'rounds': ROUNDS.value, 'inputs': {}}
  for size in SIZES.value:
    width, height = timing.parse_size(size)
    for batch in map(int, BATCHES.value or (['1'] if platform == 'cpu' else ['1', '8'])):
      x = works.noise(batch, height, width, 3)
      all_works = works.inference_works(model, params, x, PEER.value)
      seconds = timing.time_in_turns(all_works | works.matmul_works(matmul_side), ROUNDS.value)
      flops = works.forward_flops(model, params, x.shape)
      rows = timing.summarize(seconds, platform, flops, matmul_side)
      figures['inputs'][f'{batch} x {size}'] = {'gflop': timing.digits(flops / 1e9)} | rows
  timing.report(timing.machine(NOTE.value) | figures, OUTPUT.value)


if __name__ == '__main__':
  run_command(main)
