"""Time the light network of configs/gfn_open.py beside that of configs/gfn_photos.py:small.

    python -m benchmarks.light --output=benchmarks/results/light_cpu.json

Both run in float32 and in bfloat16, through oneDNN if the processor supports it, called in turns.
Input and output stay on the device, without files or tiles.
"""

import statistics

import jax
from absl import flags

from benchmarks import timing, workloads
from gfn_jax import create_model
from gfn_jax.cli.runner import run_command
from gfn_jax.configs import gfn_open, gfn_photos
from gfn_jax.models import init_variables, param_count
from gfn_jax.system import cpu_bfloat16

SIZE = flags.DEFINE_string('size', '320x180', 'Width and height of the input.')
ROUNDS = flags.DEFINE_integer('rounds', 9, 'Timed calls of each.', lower_bound=1)
NOTE = flags.DEFINE_string('note', '', 'Note for the record, such as other load on the machine.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')

NETWORKS = {
  'gfn_photos:small': gfn_photos.get_config('small').model.to_dict(),
  'gfn_open': gfn_open.get_config().model.to_dict(),
}


def main(_):
  """Measure, print and write the figures."""
  width, height = timing.parse_size(SIZE.value)
  x = workloads.noise(1, height, width, 3)
  calls, figures = {}, {}
  for name, options in NETWORKS.items():
    variables = init_variables(create_model(**options), seed=0)
    for dtype in ('float32', 'bfloat16'):
      calls[name, dtype] = forward(options, dtype, variables, x)
      figures[f'{name}, {dtype}'] = {'parameters': param_count(variables)}
  seconds = timing.time_in_turns(calls, ROUNDS.value)
  slow = statistics.median(seconds['gfn_photos:small', 'float32'].wall)
  for (name, dtype), times in seconds.items():
    median = statistics.median(times.wall)
    figures[f'{name}, {dtype}'] |= {
      'seconds': round(median, 4),
      'of gfn_photos:small in float32': round(median / slow, 3),
    }
  facts = {'size': SIZE.value, 'rounds': ROUNDS.value}
  facts['onednn'] = cpu_bfloat16.compiler_options('bfloat16') is not None
  timing.report(timing.machine(NOTE.value) | facts | {'networks': figures}, OUTPUT.value)


def forward(options: dict, dtype: str, variables: dict, x: jax.Array):
  """Return a call that restores `x` with a network that computes in `dtype`."""
  model = create_model(**options | {'dtype': dtype})
  run = jax.jit(
    lambda variables, x: model.apply(variables, x).hr,
    compiler_options=cpu_bfloat16.compiler_options(dtype),
  )
  run = cpu_bfloat16.without_cache_warning(run)
  return lambda: jax.block_until_ready(run(variables, x))


if __name__ == '__main__':
  run_command(main)
