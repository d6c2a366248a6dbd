"""Train variants of configs/gfn_open.py with equal steps and compare what they learn.

    python -m benchmarks.trials --photos=PHOTOS --gopro_large=GOPRO_Large --gopro_half=GOPRO_half \
      --reds_quarter=REDS_quarter --workdir=W --output=benchmarks/results/trials.json

Each row trains 6,000 steps of 8 crops of 48x48; with fewer, networks differ by when learning sets
in. The rate is constant for 60 % of the steps, then falls to 2 %. Finished rows are not run again,
and an interrupted row continues. A row takes about 25 minutes on two idle cores.

Seeds differ by up to 0.17 dB, so one run does not decide between closer rows.
"""

import json
import os
import statistics
import time
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from gfn_jax import Restorer
from gfn_jax.cli.runner import run_command
from gfn_jax.configs import gfn_open
from gfn_jax.data.real_pairs import RealPairs
from gfn_jax.errors import UserError
from gfn_jax.evaluation import evaluate, test_sets
from gfn_jax.evaluation.selection import score_pairs
from gfn_jax.models import param_count
from gfn_jax.ops import metrics
from gfn_jax.system.files import write_file, write_json
from gfn_jax.training import loop
from gfn_jax.training.hooks import WEIGHTS_FILE
from gfn_jax.weights.pretrained import load_pretrained

PHOTOS = flags.DEFINE_string(
  'photos', None, 'Folder that gfn-prepare open_photos filled.', required=True
)
GOPRO_LARGE = flags.DEFINE_string('gopro_large', None, 'Folder with train and test.', required=True)
GOPRO_HALF = flags.DEFINE_string('gopro_half', None, 'Folder with train and val.', required=True)
REDS_QUARTER = flags.DEFINE_string(
  'reds_quarter', None, 'Folder with train and val.', required=True
)
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the runs; existing runs are continued.', required=True
)
ROWS = flags.DEFINE_multi_string('row', [], 'Name of a row; may be repeated; default: all.')
STEPS = flags.DEFINE_integer('steps', 6000, 'Steps of each row.', lower_bound=10)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures; .md beside it.')

_PAPERS_MODULE = dict(deblur_module='encoder_decoder', deblur_blocks=(2, 4, 6))

# Words of the variant and changes of the config, by row.
TRIALS = {
  'unet (1, 2, 3)': ('deblur', {}),
  'unet (1, 2, 4)': ('deblur', {'model.deblur_blocks': (1, 2, 4)}),
  'unet (2, 2, 2)': ('deblur', {'model.deblur_blocks': (2, 2, 2)}),
  "the paper's module (2, 4, 6)": (
    'deblur',
    {f'model.{key}': value for key, value in _PAPERS_MODULE.items()},
  ),
  '24 features': ('deblur', {'model.features': 24}),
  '40 features (1, 1, 2)': ('deblur', {'model.features': 40, 'model.deblur_blocks': (1, 1, 2)}),
  '16 crops of 32': ('deblur', {'training.batch_size': 16, 'training.crop_size': 32}),
  '16 crops of 48': ('deblur', {'training.batch_size': 16}),
  'rate 0.001': ('deblur', {'phases.phase_1.schedule.learning_rate': 1e-3}),
  'rate 0.006': ('deblur', {'phases.phase_1.schedule.learning_rate': 6e-3}),
  'Adam, rate 0.0005': (
    'deblur',
    {'optimizer.name': 'adam', 'phases.phase_1.schedule.learning_rate': 5e-4},
  ),
  'no real pairs': ('deblur', {'share': 0.0}),
  'twice the real pairs': ('deblur', {'share': 2.0}),
  'gopro alone': ('deblur,gopro', {}),
  'reds alone': ('deblur,reds', {}),
  'camera alone': ('deblur,camera', {}),
  'float32': ('deblur', {'training.precision': 'float32'}),
  'joint from the start': ('', {}),
  "joint, the paper's module": (
    '',
    {f'model.{key}': value for key, value in _PAPERS_MODULE.items()},
  ),
}


def main(_):
  """Train and score the rows, then print and write the table."""
  names = ROWS.value or list(TRIALS)
  if unknown := sorted(set(names) - set(TRIALS)):
    raise UserError(f'unknown row {unknown[0]!r}; choose from {", ".join(TRIALS)}')
  rows = {}
  for name in names:
    rows[name] = run(name)
    report(rows)


def make_config(name: str) -> ConfigDict:
  """Return the config of a row."""
  variant, changes = TRIALS[name]
  config = gfn_open.get_config(variant)
  config.data.photos = PHOTOS.value
  folders = {
    'gopro_large': (GOPRO_LARGE.value, 'train'),
    'gopro_half': (GOPRO_HALF.value, 'train'),
    'reds_quarter': (REDS_QUARTER.value, 'train'),
  }
  for source, folder in folders.items():
    if source in config.data.real_pairs:
      config.data.real_pairs[source].path = os.path.join(*folder)
      config.data.real_pairs[source].share *= changes.get('share', 1.0)
  config.evaluation.test_pairs.gopro.path = os.path.join(GOPRO_HALF.value, 'val')
  config.evaluation.test_pairs.reds.path = os.path.join(REDS_QUARTER.value, 'val')
  config.training.batch_size = 8
  config.training.steps_per_epoch = STEPS.value
  phase = config.phases.phase_1
  phase.epochs, phase.schedule.decay_steps = 1, round(0.4 * STEPS.value)
  phase.schedule.warmup_steps = min(100, STEPS.value // 10)
  config.evaluation.every = config.training.steps_per_epoch // 2
  for key, value in changes.items():
    if key != 'share':
      config.update_from_flattened_dict({key: value})
  return config


def run(name: str) -> dict[str, Any]:
  """Train and score a row, or read the scores of an earlier call."""
  variant = ''.join(letter if letter.isalnum() else '_' for letter in name)
  workdir = os.path.join(WORKDIR.value, variant)
  scores_path = os.path.join(workdir, 'row.json')
  if os.path.exists(scores_path):
    with open(scores_path) as file:
      return json.load(file)
  config = make_config(name)
  start = time.perf_counter()
  loop.train_and_evaluate(config, workdir)
  row = {'minutes': round((time.perf_counter() - start) / 60, 1)}
  weights = os.path.join(workdir, WEIGHTS_FILE)
  model, variables = load_pretrained(weights)
  row['parameters'] = param_count(variables)
  row |= score(Restorer(model, variables, output='lr'))
  if config.phases.phase_1.hr_weight:
    restorer = Restorer(model, variables)
    held_out = test_sets.dataset_test_set(json.loads(json.dumps(config.to_dict())))
    images = evaluate.evaluate(restorer, held_out.images, config.evaluation.protocol)
    row['held out, hr'] = statistics.fmean(r['psnr'] - r['bicubic_psnr'] for r in images)
    pairs = test_sets.pairs_test_set(os.path.join(GOPRO_LARGE.value, 'test'), 'blur_gamma')
    images = evaluate.evaluate(restorer, pairs.images, config.evaluation.protocol)
    row['GOPRO test, hr'] = statistics.fmean(r['psnr'] - r['bicubic_psnr'] for r in images)
  write_json(scores_path, row)
  jax.clear_caches()
  return row


def score(restorer: Restorer) -> dict[str, float]:
  """Return gains in PSNR at LR size on the selection sets and on GOPRO's public test pairs.

  Of the test scenes, only GOPR0384_11_00 is certainly absent from the training pairs.
  """
  row = {}
  sets = {'GOPRO_half val': (GOPRO_HALF.value, 2), 'REDS_quarter val': (REDS_QUARTER.value, 1)}
  for name, (folder, reduce) in sets.items():
    scores = score_pairs(restorer, RealPairs(os.path.join(folder, 'val'), 'blur', reduce).images())
    row |= {f'{name} {key}': value for key, value in scores.scalars().items()}
  gains = {}
  for image in RealPairs(os.path.join(GOPRO_LARGE.value, 'test'), 'blur_gamma', 4).images():
    after = metrics.psnr(restorer(image['lr_blur']), image['lr'])
    gain = after - metrics.psnr(image['lr_blur'], image['lr'])
    gains.setdefault(image['scene'], []).append(gain)
  return row | {scene: statistics.fmean(values) for scene, values in gains.items()}


def report(rows: dict[str, dict[str, Any]]) -> None:
  """Print the table of the finished rows, and write it if `--output` is set."""
  keys = list(dict.fromkeys(key for row in rows.values() for key in row))
  lines = [f'| trial | {" | ".join(keys)} |', '|---' * (len(keys) + 1) + '|']
  for name, row in rows.items():
    lines.append(f'| {name} | {" | ".join(_cell(row.get(key)) for key in keys)} |')
  table = '\n'.join(lines)
  print(table, flush=True)
  if OUTPUT.value:
    facts = {'steps': STEPS.value, 'device': jax.devices()[0].device_kind, 'jax': jax.__version__}
    write_json(OUTPUT.value, facts | {'rows': rows})
    write_file(os.path.splitext(OUTPUT.value)[0] + '.md', (table + '\n').encode())


def _cell(value: float | None) -> str:
  if value is None:
    return ''
  return f'{value:,}' if isinstance(value, int) else f'{value:+.2f}'


if __name__ == '__main__':
  run_command(main)
