"""Time exported files: medians of JAX, StableHLO and ONNX Runtime, called in turns.

    .venv-onnx/bin/python -m benchmarks.exported --output=benchmarks/results/exported_cpu.json

Run this in the environment of `make onnx`. The network processes a whole image, without tiles.
"""

import json
import os
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from absl import flags
from tqdm import tqdm

from gfn_jax.cli.runner import run_command
from gfn_jax.interop import export
from gfn_jax.system.files import write_json
from gfn_jax.weights.pretrained import load_card, load_pretrained

WEIGHTS = flags.DEFINE_string('weights', 'gfn', 'A .safetensors file or a released name.')
SIZE = flags.DEFINE_list('size', ['320', '180'], 'Width and height of the image.')
ROUNDS = flags.DEFINE_integer('rounds', 7, 'Timed calls of each.', lower_bound=1)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Measure, print and write the figures."""
  width, height = map(int, SIZE.value)
  lr_blur = np.random.default_rng(0).random((1, height, width, 3), np.float32)
  programs = load_programs()
  seconds = {name: [] for name in programs}
  for number in tqdm(range(1 + ROUNDS.value)):
    for name, restore in programs.items():
      start = time.perf_counter()
      jax.block_until_ready(restore(lr_blur))
      if number:  # the first call compiles
        seconds[name].append(time.perf_counter() - start)
  figures = {
    'weights': WEIGHTS.value,
    'sha256': load_card(WEIGHTS.value)['sha256'],
    'size': 'x'.join(SIZE.value),
    'seconds': {name: round(statistics.median(times), 3) for name, times in seconds.items()},
    'rounds': ROUNDS.value,
    'device': f'{os.cpu_count()} x {jax.devices()[0].device_kind}',
    'jax': jax.__version__,
    'onnxruntime': onnxruntime.__version__,
  }
  print(json.dumps(figures, indent=2))
  if OUTPUT.value:
    write_json(OUTPUT.value, figures)


def load_programs():
  """Return the network in each format, as functions of `lr_blur` `[1, h, w, 3]`."""
  model, variables = load_pretrained(WEIGHTS.value)
  device_variables = jax.tree.map(jnp.asarray, variables)
  forward = jax.jit(lambda variables, lr_blur: export.restore_images(model, variables, lr_blur))
  with tempfile.TemporaryDirectory() as folder:
    stablehlo, onnx = (os.path.join(folder, name) for name in ('a.stablehlo', 'a.onnx'))
    export.write_stablehlo(model, variables, stablehlo)
    export.write_onnx(model, variables, onnx, {})
    return {
      'jax': lambda lr_blur: forward(device_variables, lr_blur),
      'stablehlo': export.load_stablehlo(stablehlo),
      'onnx': export.load_onnx(onnx),
    }


if __name__ == '__main__':
  run_command(main)
