"""Evaluate the official weights of DMPHN, followed by bicubic enlargement, on real pairs.

    python -m benchmarks.dmphn_official --weights=DMPHN_1_2_4_8 --pairs=GOPRO_Large/test

The weights are the eight PyTorch files in `checkpoints/DMPHN_1_2_4_8` of the authors' repository,
HongguangZhang/DMPHN-cvpr19-master. They are read without PyTorch. The blurred photos are reduced to
1/4 as in LR-GOPRO, deblurred at that size to 8 bits, and enlarged.
"""

import statistics

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.cli.runner import run_command
from gfn_jax.evaluation.test_sets import pairs_test_set
from gfn_jax.interop import convert, load_torch_checkpoint
from gfn_jax.interop.conversion import infer_options
from gfn_jax.interop.torch_checkpoint import checkpoint_parts
from gfn_jax.models import param_count
from gfn_jax.ops import metrics
from gfn_jax.ops.protocols import PROTOCOLS
from gfn_jax.ops.scores import bicubic
from gfn_jax.system.files import file_sha256, write_json

WEIGHTS = flags.DEFINE_string('weights', None, "Folder of the authors' files.", required=True)
REFERENCE = flags.DEFINE_string(
  'reference',
  None,
  "npz file with images x0, x1, ..., [h, w, 3] uint8, and the original network's lr0, lr1, ...",
)
PAIRS = flags.DEFINE_string(
  'pairs', None, 'Folder with sibling folders sharp/ and BLUR_NAME/ at any depth.', required=True
)
BLUR_NAME = flags.DEFINE_string('blur_name', 'blur_gamma', 'Name of the folders of blurred photos.')
PROTOCOL = flags.DEFINE_enum('protocol', 'gfn', sorted(PROTOCOLS), 'Protocol of the scores.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')

METHODS = ('bicubic', 'dmphn, bicubic')

TOLERANCE = 2e-4
"""Largest difference from the original network's images, in their standard deviations."""


def main(_):
  """Import the weights, compare them with the reference, and print and write the scores."""
  state = load_torch_checkpoint(WEIGHTS.value)
  options = infer_options('dmphn', state)
  restorer = Restorer(create_model('dmphn', **options), convert('dmphn', state, **options))
  facts = {
    'protocol': PROTOCOL.value,
    'blur_name': BLUR_NAME.value,
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
    'model': {'name': 'dmphn', **options},
    'parameters': param_count(restorer.variables),
    'sha256': {name: file_sha256(file) for name, file in checkpoint_parts(WEIGHTS.value).items()},
  }
  if REFERENCE.value:
    facts['difference'] = compare_with_reference(restorer, REFERENCE.value)
  rows = evaluate(restorer)
  means = {method: mean([row['scores'][method] for row in rows]) for method in METHODS}
  print_table(rows, means)
  if OUTPUT.value:
    write_json(OUTPUT.value, facts | {'means': means, 'images': rows})


def compare_with_reference(restorer: Restorer, path: str) -> float:
  """Return the largest difference from the original network's images, in standard deviations.

  Raises:
    UserError: if it exceeds `TOLERANCE`.
  """
  differences = []
  with np.load(path) as file:
    for i in range(len(file.files) // 2):
      x, expected = file[f'x{i}'] / np.float32(255), file[f'lr{i}']
      lr = jax.jit(restorer.model.apply)(restorer.variables, x[None]).lr[0]
      differences.append(float(np.abs(lr - expected).max() / expected.std()))
  difference = max(differences)
  print(f'{path}: largest difference {difference:.1e} standard deviations')
  if not difference <= TOLERANCE:  # also true for NaN
    raise UserError(f'{path}: the difference exceeds {TOLERANCE:.0e}; these are other weights')
  return difference


def evaluate(restorer: Restorer) -> list[dict]:
  """Return the scene, the name and the scores of each pair, by method."""
  rows = []
  test_set = pairs_test_set(PAIRS.value, BLUR_NAME.value)
  for pair in tqdm(test_set.images, total=test_set.count, unit='pair'):
    inputs = (pair['lr_blur'], restorer(pair['lr_blur']))
    scores = {
      method: mean([metrics.evaluate_pair(bicubic(image), pair['hr'], PROTOCOL.value)])
      for method, image in zip(METHODS, inputs, strict=True)
    }
    rows.append({'scene': pair['scene'], 'name': pair['name'], 'scores': scores})
  return rows


def mean(scores: list[dict[str, float]]) -> dict[str, float]:
  """Return the mean of each metric, with four decimals."""
  return {key: round(statistics.fmean(each[key] for each in scores), 4) for key in scores[0]}


def print_table(rows: list[dict], means: dict[str, dict]) -> None:
  """Print PSNR and SSIM of each pair, and their means, as Markdown."""
  print(f'\n{len(rows)} images, protocol {PROTOCOL.value}\n')
  print('| image | ' + ' | '.join(METHODS) + ' |\n|---' + '|---' * len(METHODS) + '|')
  lines = [(f'{row["scene"]}/{row["name"]}', row['scores']) for row in rows]
  for name, scores in [*lines, ('mean', means)]:
    cells = [f'{scores[method]["psnr"]:.2f} / {scores[method]["ssim"]:.4f}' for method in METHODS]
    print(f'| {name} | ' + ' | '.join(cells) + ' |')


if __name__ == '__main__':
  run_command(main)
