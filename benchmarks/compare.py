"""Compare methods on real pairs of blurred and sharp photos, with one table per scene.

    python -m benchmarks.compare --pairs=DIR --weights=GFN.safetensors --sr_weights=SR.safetensors

The blurred photos are reduced to 1/4 as in LR-GOPRO. The rows are bicubic, super-resolution alone
(`--sr_weights` of the model sr_branch), the network's deblurred image enlarged bicubically, and the
network.
"""

import statistics
from collections.abc import Callable

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from gfn_jax import Restorer
from gfn_jax.cli.runner import run_command
from gfn_jax.evaluation.test_sets import pairs_test_set
from gfn_jax.models import param_count
from gfn_jax.ops import metrics
from gfn_jax.ops.protocols import PROTOCOLS
from gfn_jax.ops.scores import bicubic
from gfn_jax.system.files import file_sha256, write_json
from gfn_jax.weights.pretrained import weights_path

PAIRS = flags.DEFINE_string(
  'pairs', None, 'Folder with sibling folders sharp/ and BLUR_NAME/ at any depth.', required=True
)
BLUR_NAME = flags.DEFINE_string('blur_name', 'blur_gamma', 'Name of the folders of blurred photos.')
WEIGHTS = flags.DEFINE_string(
  'weights', None, 'A .safetensors file or a released name.', required=True
)
SR_WEIGHTS = flags.DEFINE_string('sr_weights', None, 'Weights of super-resolution alone.')
PROTOCOL = flags.DEFINE_enum('protocol', 'gfn', sorted(PROTOCOLS), 'Protocol of the scores.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')

Method = Callable[[np.ndarray], np.ndarray]  # `lr_blur` to `hr`, uint8


def main(_):
  """Evaluate, and print and write one table per scene and one for all."""
  methods, parameters = make_methods()
  rows = []
  test_set = pairs_test_set(PAIRS.value, BLUR_NAME.value)
  for pair in tqdm(test_set.images, total=test_set.count, unit='pair'):
    for method, restore in methods.items():
      scores = metrics.evaluate_pair(restore(pair['lr_blur']), pair['hr'], PROTOCOL.value)
      rows.append({'scene': pair['scene'], 'name': pair['name'], 'method': method, **scores})
  scenes = sorted({row['scene'] for row in rows})
  tables = {scene: table(rows, [scene]) for scene in scenes}
  tables['all'] = table(rows, scenes)
  for scene, lines in tables.items():
    print_table(scene, lines, parameters)
  if OUTPUT.value:
    write_json(OUTPUT.value, report(tables, rows, parameters))


def make_methods() -> tuple[dict[str, Method], dict[str, int]]:
  """Return the methods, and the number of parameters of each."""
  methods, parameters = {'bicubic': bicubic}, {'bicubic': 0}
  if SR_WEIGHTS.value:
    methods['sr_branch'] = Restorer.from_pretrained(SR_WEIGHTS.value)
    parameters['sr_branch'] = param_count(methods['sr_branch'].variables)
  restorer = Restorer.from_pretrained(WEIGHTS.value)
  name = type(restorer.model).__name__.lower()
  deblur = Restorer(restorer.model, restorer.variables, output='lr')
  methods['deblurred, bicubic'] = lambda lr_blur: bicubic(deblur(lr_blur))
  parameters['deblurred, bicubic'] = param_count({'params': restorer.variables['params']['deblur']})
  methods[name], parameters[name] = restorer, param_count(restorer.variables)
  return methods, parameters


def table(rows: list[dict], scenes: list[str]) -> dict[str, dict]:
  """Return the means over the images of some scenes, by method."""
  means = {}
  for method in dict.fromkeys(row['method'] for row in rows):
    mine = [row for row in rows if row['method'] == method and row['scene'] in scenes]
    means[method] = {
      key: round(statistics.fmean(row[key] for row in mine), 4) for key in ('psnr', 'ssim')
    }
    means[method]['images'] = len(mine)
  return means


def print_table(scene: str, lines: dict[str, dict], parameters: dict[str, int]) -> None:
  """Print the table of one scene as Markdown."""
  images = next(iter(lines.values()))['images']
  print(f'\n{scene} ({images} images, protocol {PROTOCOL.value})\n')
  print('| method | parameters | PSNR | SSIM |\n|---|---|---|---|')
  for method, line in lines.items():
    print(f'| {method} | {parameters[method]:,} | {line["psnr"]:.2f} | {line["ssim"]:.4f} |')


def report(tables: dict, rows: list[dict], parameters: dict[str, int]) -> dict:
  """Return the content of the output file: settings, tables and the scores of each image."""
  weights = {'weights': WEIGHTS.value, 'sr_weights': SR_WEIGHTS.value}
  hashes = {key: file_sha256(weights_path(path)) for key, path in weights.items() if path}
  return {
    'protocol': PROTOCOL.value,
    'blur_name': BLUR_NAME.value,
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
    'sha256': hashes,
    'parameters': parameters,
    'tables': tables,
    'images': rows,
  }


if __name__ == '__main__':
  run_command(main)
