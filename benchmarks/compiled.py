"""Compile a training step for another device and report its memory and traffic.

    python -m benchmarks.compiled --platform=tpu --topology=v5e:2x2 --batch_size=16,64
    python -m benchmarks.compiled --platform=cuda --topology=h200.txtpb --batch_size=16,64
    python -m benchmarks.compiled --features=8 --crop_size=16 --batch_size=4    # a quick test

The figures are the memory that XLA plans, and the number of operations and of bytes that they read
and write, by kind, for each batch size per device. Nothing is run or timed. This requires
`pip install 'gfn_jax[tpu]'` or `'gfn_jax[cuda12]'`. The description of a GPU comes from XLA's
sources, `xla/backends/gpu/target_config/specs`. cuDNN chooses its algorithms on the GPU, so their
workspace is not included.
"""

import time
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from absl import flags

from benchmarks import timing, workloads, xla
from gfn_jax import create_model
from gfn_jax.cli.runner import run_command
from gfn_jax.system import parallel
from gfn_jax.training.phases import PRECISIONS
from gfn_jax.training.train_state import create_train_state

PLATFORM = flags.DEFINE_enum(
  'platform', 'cpu', ['cpu', 'cuda', 'tpu'], 'Platform to compile for; cpu is this machine.'
)
TOPOLOGY = flags.DEFINE_string(
  'topology', '', 'TPU topology, such as v5e:2x2, or file with the description of a GPU.'
)
PRECISION = flags.DEFINE_enum(
  'precision', 'bfloat16', PRECISIONS, 'Precision of the network, as in configs.'
)
BATCHES = flags.DEFINE_list('batch_size', ['16', '64'], 'Patches per device.')
CROP = flags.DEFINE_integer('crop_size', 64, 'Side of the input.', lower_bound=8)
FEATURES = flags.DEFINE_integer('features', 64, 'Width of the network.', lower_bound=1)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Compile, and print and write the figures."""
  devices = xla.find_devices(PLATFORM.value, TOPOLOGY.value)
  figures = {
    'device': f'{len(devices)} x {devices[0].device_kind}',
    'jax': jax.__version__,
    'precision': PRECISION.value,
    'features': FEATURES.value,
    'crop_size': CROP.value,
    'batch_sizes': {},
  }
  for size in map(int, BATCHES.value):
    started = time.perf_counter()
    compiled = compile_step(devices, size)
    memory = compiled.memory_analysis()
    operations = xla.summarize(compiled.as_text())
    figures['batch_sizes'][str(size)] = {
      'compile_seconds': timing.digits(time.perf_counter() - started),
      'state_and_batch_mib': round(memory.argument_size_in_bytes / 2**20),
      'temporary_mib': round(memory.temp_size_in_bytes / 2**20),
      'moved_gb': timing.digits(sum(row['gb'] for row in operations.values())),
      'operations': operations,
    }
  timing.report(figures, OUTPUT.value)


def compile_step(devices: list[Any], batch_size: int) -> Any:
  """Compile a step of Adam on GFN's loss, without clipping, on `batch_size` patches a device."""
  dtype, precision = PRECISIONS[PRECISION.value]
  model = create_model('gfn', features=FEATURES.value, dtype=dtype, precision=precision)
  optimizer, step = workloads.optimizer_and_step(model)
  state = jax.eval_shape(lambda: create_train_state(model, optimizer, seed=0))
  side = {'lr_blur': CROP.value, 'lr': CROP.value, 'hr': 4 * CROP.value}
  batch = {
    key: jax.ShapeDtypeStruct((len(devices), batch_size, side, side, 3), jnp.uint8)
    for key, side in side.items()
  }
  run = parallel.pmap_step(step, devices)
  # The network chooses its convolutions by the default backend.
  with mock.patch.object(jax, 'default_backend', lambda: devices[0].platform):
    return run.lower(state, batch).compile()


if __name__ == '__main__':
  run_command(main)
