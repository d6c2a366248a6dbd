"""Measure the memory of inference and training, each in a separate process.

    python -m benchmarks.memory --output=benchmarks/results/memory_cpu.json
    python -m benchmarks.memory --features=8 --size=64x48 --batch_size=2    # a quick test
    python -m benchmarks.memory --model=mprnet --batch_size=    # another network, inference only

On CPUs the figures are the resident memory of the process: `at_rest` with the network and the input
in memory, `first_run` the peak while it compiles and runs, `second_run` the peak of another run. On
other devices they are the peak of the device's allocator. PyTorch runs with channels_last and
float32, and requires `pip install 'gfn_jax[benchmark]'`. It is left out with `--nopeer` or with
another network.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

import jax
from absl import flags
from tqdm import tqdm

from benchmarks import timing, workloads
from gfn_jax import create_model
from gfn_jax.cli.runner import run_command
from gfn_jax.errors import UserError, install_extra
from gfn_jax.models import init_variables
from gfn_jax.system.files import write_json

SIZES = flags.DEFINE_list('size', ['320x180', '640x360'], 'Widths and heights to restore.')
BATCHES = flags.DEFINE_list('batch_size', ['4', '16'], 'Numbers of patches to train on.')
CROP = flags.DEFINE_integer('crop_size', 64, 'Side of a patch.', lower_bound=8)
MODEL = flags.DEFINE_string('model', 'gfn', 'Name of the network.')
FEATURES = flags.DEFINE_integer(
  'features', None, 'Width of the network, if not the default.', lower_bound=1
)
PEER = flags.DEFINE_bool('peer', True, 'Also measure PyTorch.')
NOTE = flags.DEFINE_string('note', '', 'Note for the record, such as other load on the machine.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')
CHILD = flags.DEFINE_list('child', None, 'Internal: file, workload, size and framework.')

PEERS = {
  'cpu': 'torch channels_last',
  'cuda': 'torch channels_last tf32',
}  # the fastest with float32
RESET_PEAK = '5'  # man proc_pid_clear_refs


def main(_):
  """Measure, print and write the figures."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  if CHILD.value:
    path, workload, size, framework = CHILD.value
    write_json(path, measure(make_workload(workload, size, framework), framework))
    return
  create_model(MODEL.value)  # report an unknown name before any process starts
  figures = {'inference': {}, 'train_step': {}}
  frameworks = ['jax', 'torch'] if PEER.value and MODEL.value == 'gfn' else ['jax']
  for workload, sizes in (('inference', SIZES.value), ('train_step', BATCHES.value)):
    for size in tqdm(sizes, desc=workload):
      figures[workload][size] = {name: in_child(workload, size, name) for name in frameworks}
  about = timing.machine(NOTE.value) | {'model': MODEL.value, 'features': FEATURES.value}
  about |= {'crop_size': CROP.value}
  timing.report(about | {'mib': figures}, OUTPUT.value)


def in_child(*workload: str) -> dict[str, int]:
  """Measure a workload in a separate process."""
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'figures.json')
    command = [sys.executable, '-m', 'benchmarks.memory', f'--child={",".join([path, *workload])}']
    command += [f'--model={MODEL.value}', f'--crop_size={CROP.value}']
    command += [f'--features={FEATURES.value}'] if FEATURES.value else []
    subprocess.run(command, check=True)
    with open(path) as file:
      return json.load(file)


def make_workload(workload: str, size: str, framework: str) -> workloads.Workload:
  """Create a workload.

  Args:
    workload: 'inference' or 'train_step'.
    size: width and height such as '320x180', or the number of patches.
    framework: 'jax' or 'torch'.
  """
  if workload == 'inference':
    width, height = timing.parse_size(size)
    data = workloads.noise(1, height, width, 3)
  else:
    data = workloads.noise_batch(int(size), CROP.value)
  width = {'features': FEATURES.value} if FEATURES.value else {}
  if framework == 'jax':
    model = create_model(MODEL.value, **width)
    variables = init_variables(model, seed=0)
    make = workloads.inference_workload if workload == 'inference' else workloads.train_workload
    return make(model, variables, data)
  try:
    from benchmarks import torch_gfn
  except ImportError as error:
    raise UserError(
      f'the memory of PyTorch requires {error.name}: {install_extra("benchmark")}, or pass --nopeer'
    ) from error
  device = {'gpu': 'cuda'}.get(jax.default_backend(), 'cpu')
  network, variant = torch_gfn.GFN(**width), torch_gfn.VARIANTS[device][PEERS[device]]
  if workload == 'inference':
    return torch_gfn.inference_workload(network, variant, device, data)
  return torch_gfn.train_workload(network, variant, device, data, workloads.LEARNING_RATE)


def measure(workload: workloads.Workload, framework: str) -> dict[str, int]:
  """Return the MiB before, during the first call and during the second."""
  on_cpu = jax.default_backend() == 'cpu'
  read = peak_of_process if on_cpu else PEAK_OF_DEVICE[framework]
  gc.collect()
  figures = {}
  for name, call in (('at_rest', lambda: None), ('first_run', workload), ('second_run', workload)):
    if on_cpu:
      with open('/proc/self/clear_refs', 'w') as file:
        file.write(RESET_PEAK)
    call()
    figures[name] = round(read() / 2**20)
  return figures


def peak_of_process() -> int:
  """Return the peak of resident memory since the last reset, in bytes; Linux only."""
  with open('/proc/self/status') as file:
    [line] = [line for line in file if line.startswith('VmHWM:')]
  return int(line.split()[1]) * 1024


def peak_of_jax() -> int:
  """Return the peak of device memory that JAX has used, in bytes."""
  return jax.local_devices()[0].memory_stats()['peak_bytes_in_use']


def peak_of_torch() -> int:
  """Return the peak of device memory that PyTorch has used, in bytes."""
  import torch

  return torch.cuda.max_memory_allocated()


PEAK_OF_DEVICE: dict[str, Callable[[], int]] = {'jax': peak_of_jax, 'torch': peak_of_torch}


if __name__ == '__main__':
  run_command(main)
