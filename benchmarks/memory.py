"""How much memory do restoring and training take? Each in a process of its own.

    python -m benchmarks.memory --output=benchmarks/results/memory_cpu.json
    python -m benchmarks.memory --features=8 --size=64x48 --batch_size=2    # does it run?
    python -m benchmarks.memory --model=mprnet --batch_size=    # another network, inference only

On CPUs it is the resident memory of the whole process: `at_rest` with the network and the input in
place, `first_run` the peak while it compiles and runs, `second_run` the peak of another run. On
others it is what the device's allocator has given out. PyTorch runs with channels_last and float32.
Needs `pip install 'gfn_jax[benchmark]'`; with `--nopeer`, or another network, nothing but JAX.
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

from benchmarks import timing, works
from gfn_jax import create_model
from gfn_jax.errors import run_command
from gfn_jax.models import init_params
from gfn_jax.system.files import write_json

SIZES = flags.DEFINE_list('size', ['320x180', '640x360'], 'Widths and heights to restore.')
BATCHES = flags.DEFINE_list('batch_size', ['4', '16'], 'Numbers of patches to train on.')
CROP = flags.DEFINE_integer('crop_size', 64, 'Side of a patch.', lower_bound=8)
MODEL = flags.DEFINE_string('model', 'gfn', 'Name of the network.')
FEATURES = flags.DEFINE_integer('features', None, 'Its width, if not the default.', lower_bound=1)
PEER = flags.DEFINE_bool('peer', True, 'Whether to measure PyTorch too.')
NOTE = flags.DEFINE_string('note', '', 'For the record: what else the machine does, for example.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')
CHILD = flags.DEFINE_list('child', None, 'For its own use: file, work, size and framework.')

PEERS = {'cpu': 'torch channels_last', 'cuda': 'torch channels_last tf32'}  # float32 at its best
RESET_PEAK = '5'  # man proc_pid_clear_refs


def main(_):
  """Measures, prints and writes the figures."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  if CHILD.value:
    path, work, size, framework = CHILD.value
    write_json(path, measure(make_work(work, size, framework), framework))
    return
  create_model(MODEL.value)  # or a clear line, before any process
  figures = {'inference': {}, 'train_step': {}}
  frameworks = ['jax', 'torch'] if PEER.value and MODEL.value == 'gfn' else ['jax']
  for work, sizes in (('inference', SIZES.value), ('train_step', BATCHES.value)):
    for size in tqdm(sizes, desc=work):
      figures[work][size] = {name: in_child(work, size, name) for name in frameworks}
  about = timing.machine(NOTE.value) | {'model': MODEL.value, 'features': FEATURES.value}
  about |= {'crop_size': CROP.value}
  timing.report(about | {'mib': figures}, OUTPUT.value)


def in_child(*work: str) -> dict[str, int]:
  """Measures a work in a process of its own."""
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'figures.json')
    command = [sys.executable, '-m', 'benchmarks.memory', f'--child={",".join([path, *work])}']
    command += [f'--model={MODEL.value}', f'--crop_size={CROP.value}']
    command += [f'--features={FEATURES.value}'] if FEATURES.value else []
    subprocess.run(command, check=True)
    with open(path) as file:
      return json.load(file)


def make_work(work: str, size: str, framework: str) -> works.Work:
  """Makes 'inference' on a size such as '320x180', or 'train_step' on so many patches."""
  if work == 'inference':
    width, height = timing.parse_size(size)
    data = works.noise(1, height, width, 3)
  else:
    data = works.noise_batch(int(size), CROP.value)
  width = {'features': FEATURES.value} if FEATURES.value else {}
  if framework == 'jax':
    model = create_model(MODEL.value, **width)
    params = init_params(model, seed=0)
    make = works.inference_work if work == 'inference' else works.train_work
    return make(model, params, data)
  torch_gfn = works.import_peer()
  device = torch_gfn.device()
  network, variant = torch_gfn.GFN(**width), torch_gfn.VARIANTS[device][PEERS[device]]
  if work == 'inference':
    return torch_gfn.inference_work(network, variant, data)
  return torch_gfn.train_work(network, variant, data, works.LEARNING_RATE)


def measure(work: works.Work, framework: str) -> dict[str, int]:
  """MiB before, during the first call and during the second."""
  on_cpu = jax.default_backend() == 'cpu'
  read = peak_of_process if on_cpu else PEAK_OF_DEVICE[framework]
  gc.collect()
  figures = {}
  for name, call in (('at_rest', lambda: None), ('first_run', work), ('second_run', work)):
    if on_cpu:
      with open('/proc/self/clear_refs', 'w') as file:
        file.write(RESET_PEAK)
    call()
    figures[name] = round(read() / 2**20)
  return figures


def peak_of_process() -> int:
  """The most resident memory since it was last reset, in bytes; Linux only."""
  with open('/proc/self/status') as file:
    [line] = [line for line in file if line.startswith('VmHWM:')]
  return int(line.split()[1]) * 1024


def peak_of_jax() -> int:
  """The most that JAX has had of its device, in bytes."""
  return jax.local_devices()[0].memory_stats()['peak_bytes_in_use']


def peak_of_torch() -> int:
  """The most that PyTorch has had of its device, in bytes."""
  import torch

  return torch.cuda.max_memory_allocated()


PEAK_OF_DEVICE: dict[str, Callable[[], int]] = {'jax': peak_of_jax, 'torch': peak_of_torch}


if __name__ == '__main__':
  run_command(main)
