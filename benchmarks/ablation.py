"""The GFN paper's Table 2 at a size for CPUs: every variant on the same data, for the same steps.

    python -m benchmarks.ablation --photos=PHOTOS --pairs=GOPRO_Large --workdir=W

trains the networks of `configs/gfn_ablation.py:...,small`, one after the other, with each of the
seeds, on photos with synthetic blur and the real pairs of `PAIRS/train`, and compares them on the
real pairs of `PAIRS/test` and on photos held out. The same command continues where it was
interrupted. `--output=F.json` writes the figures, and the table to `F.md`.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from scipy import stats
from tqdm import tqdm

from benchmarks.gopro_pairs import load_pairs
from configs import gfn_ablation
from gfn_jax import Restorer, evaluate, train
from gfn_jax.errors import run_command
from gfn_jax.files import write_file, write_json
from gfn_jax.pretrained import param_count

PHOTOS = flags.DEFINE_string('photos', None, 'Folder of sharp photos.', required=True)
PAIRS = flags.DEFINE_string('pairs', None, 'Folder in the layout of GOPRO_Large.', required=True)
BLUR_NAME = flags.DEFINE_string('blur_name', 'blur_gamma', 'Of the folders of blurred photos.')
WORKDIR = flags.DEFINE_string('workdir', None, 'For the runs; one is continued.', required=True)
SEEDS = flags.DEFINE_list('seeds', ['0', '1'], 'A run of every network with each.')
STEPS = flags.DEFINE_integer('steps', 2000, 'Of each run.', lower_bound=1)
FEATURES = flags.DEFINE_integer('features', 16, 'Width of the networks.', lower_bound=1)
CROP_SIZE = flags.DEFINE_integer('crop_size', 24, 'Of the crops, LR pixels.', lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer('batch_size', 8, 'Crops a step.', lower_bound=1)
ROUNDS = flags.DEFINE_integer('rounds', 5, 'How often each network is timed.', lower_bound=1)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures; .md beside it.')

PROTOCOL = 'gfn'
TICKS = ('deblur loss', 'deblur module', 'dual branch', 'feature level', 'gate', 'SR first')
# The paper's Table 2: its rows in its order, their ticks, and PSNR in dB on LR-GOPRO.
TABLE_2 = {
  'srresnet': ('SRResNet', (), 26.20),
  'model_1': ('Model-1', (0, 1), 26.82),
  'model_2': ('Model-2', (0, 1, 5), 27.00),
  'model_3': ('Model-3', (0, 1, 2), 27.01),
  'model_4': ('Model-4', (1, 2, 3), 27.39),
  'model_5': ('Model-5', (0, 1, 2, 3), 27.53),
  'gfn': ('GFN', (0, 1, 2, 3, 4), 27.74),
}


def main(_):
  """Trains what is not trained yet, then measures, prints and writes the table."""
  runs = {}
  for seed in map(int, SEEDS.value):
    for number, name in enumerate(TABLE_2, 1):
      print(f'{name}, seed {seed}: row {number} of {len(TABLE_2)}', file=sys.stderr)
      runs[name, seed] = run(name, seed)
      jax.clear_caches()
  figures = summarize(runs, time_networks())
  table = format_table(figures)
  print(table)
  if OUTPUT.value:
    write_json(OUTPUT.value, figures)
    write_file(os.path.splitext(OUTPUT.value)[0] + '.md', (table + '\n').encode())


def row_config(name: str, seed: int) -> ConfigDict:
  """A row's config with this script's settings."""
  config = gfn_ablation.get_config(f'{name},small')
  config.seed = seed
  config.photos = PHOTOS.value
  config.real_pairs = os.path.join(PAIRS.value, 'train')
  config.real_blur = BLUR_NAME.value
  config.model.features = FEATURES.value
  config.crop_size = CROP_SIZE.value
  config.batch_size = BATCH_SIZE.value
  config.steps_per_epoch = STEPS.value
  config.phases.phase_1.warmup_steps = STEPS.value // 10
  return config


def run(name: str, seed: int) -> dict[str, Any]:
  """Trains and scores one row with one seed, or reads what an earlier call has found."""
  config, workdir = row_config(name, seed), run_dir(name, seed)
  scores_path = os.path.join(workdir, 'scores.json')
  plain = json.loads(json.dumps(config.to_dict()))
  if os.path.exists(scores_path):
    with open(scores_path) as file:
      scores = json.load(file)
    if scores['config'] == plain:
      return scores
  train.train_and_evaluate(config, workdir)
  restorer = network(name, seed)
  count, pairs = load_pairs(os.path.join(PAIRS.value, 'test'), BLUR_NAME.value)
  held_out = evaluate.dataset_test_set(plain)
  scores = {
    'config': plain,
    'parameters': param_count(restorer.params),
    'pairs': means(evaluate.evaluate(restorer, pairs, PROTOCOL, total=count)),
    'held_out': means(evaluate.evaluate(restorer, held_out.images, PROTOCOL, total=held_out.count)),
  }
  write_json(scores_path, scores)
  return scores


def run_dir(name: str, seed: int) -> str:
  """The folder of a run."""
  return os.path.join(WORKDIR.value, f'{name}_{seed}')


def network(name: str, seed: int) -> Restorer:
  """A run's network, for whole images."""
  weights = os.path.join(run_dir(name, seed), train.WEIGHTS_FILE)
  return Restorer.from_pretrained(weights, tile=None)


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
  """Of each score over the images."""
  keys = ('psnr', 'ssim', 'bicubic_psnr', 'bicubic_ssim')
  return {'images': len(rows)} | {key: statistics.fmean(row[key] for row in rows) for key in keys}


def time_networks() -> dict[str, float]:
  """Seconds for an image of 320x180 to 1280x720: in turns, medians."""
  image = np.zeros((180, 320, 3), np.uint8)
  networks = {name: network(name, int(SEEDS.value[0])) for name in TABLE_2}
  seconds = {name: [] for name in networks}
  for number in tqdm(range(1 + ROUNDS.value), 'timing', leave=False):
    for name, restore in networks.items():
      start = time.perf_counter()
      restore(image)
      if number:  # the first compiles
        seconds[name].append(time.perf_counter() - start)
  return {name: statistics.median(times) for name, times in seconds.items()}


def summarize(runs: Mapping[tuple[str, int], Any], seconds: Mapping[str, float]) -> dict[str, Any]:
  """All figures: of each row, of bicubic, and how the order of the rows is like the paper's."""
  rows = {}
  for name, (title, ticks, paper) in TABLE_2.items():
    mine = [scores for (other, _), scores in runs.items() if other == name]
    rows[name] = {'model': title, 'ticks': [TICKS[i] for i in ticks]}
    rows[name] |= {'parameters': mine[0]['parameters'], 'seconds': round(seconds[name], 3)}
    for part in ('pairs', 'held_out'):
      for key in ('psnr', 'ssim'):
        values = [scores[part][key] for scores in mine]
        rows[name][f'{part}_{key}'] = round(statistics.fmean(values), 4)
        rows[name][f'{part}_{key}_runs'] = [round(value, 4) for value in values]
    rows[name]['paper_psnr'] = paper
  first = next(iter(runs.values()))
  bicubic = {
    f'{part}_{key}': round(first[part][f'bicubic_{key}'], 4)
    for part in ('pairs', 'held_out')
    for key in ('psnr', 'ssim')
  }
  return {
    'protocol': PROTOCOL,
    'blur_name': BLUR_NAME.value,
    'images': {part: first[part]['images'] for part in ('pairs', 'held_out')},
    'seeds': list(map(int, SEEDS.value)),
    'steps': STEPS.value,
    'batch_size': BATCH_SIZE.value,
    'crop_size': CROP_SIZE.value,
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
    'bicubic': bicubic,
    'rows': rows,
    'order': order(rows),
  }


def order(rows: Mapping[str, Any]) -> dict[str, Any]:
  """The rows by PSNR, and Kendall's tau against the paper: 1 is the same order, -1 its reverse."""
  found = {}
  for part in ('pairs', 'held_out'):
    names = sorted(rows, key=lambda name: rows[name][f'{part}_psnr'])
    psnr = [row[f'{part}_psnr'] for row in rows.values()]
    paper = [row['paper_psnr'] for row in rows.values()]
    tau = float(stats.kendalltau(psnr, paper).statistic)
    found[part] = {'ascending': names, 'kendall_tau': round(tau, 3)}
  return found


def format_table(figures: Mapping[str, Any]) -> str:
  """Table 2's columns as Markdown, bicubic first, a line on what they depend on below."""
  marks = ' | '.join(TICKS)
  lines = [
    f'| model | {marks} | parameters | PSNR | of each seed | SSIM | held out | seconds | paper |',
    '|---' * (len(TICKS) + 8) + '|',
  ]
  bicubic = figures['bicubic']
  lines.append(
    f'| bicubic |{" |" * len(TICKS)} 0 | {bicubic["pairs_psnr"]:.2f} | - '
    f'| {bicubic["pairs_ssim"]:.4f} | {bicubic["held_out_psnr"]:.2f} | - | - |'
  )
  for row in figures['rows'].values():
    ticks = ' | '.join('x' if tick in row['ticks'] else '' for tick in TICKS)
    each = ', '.join(f'{psnr:.2f}' for psnr in row['pairs_psnr_runs'])
    lines.append(
      f'| {row["model"]} | {ticks} | {row["parameters"]:,} | {row["pairs_psnr"]:.2f} | {each} '
      f'| {row["pairs_ssim"]:.4f} | {row["held_out_psnr"]:.2f} | {row["seconds"]:.2f} '
      f'| {row["paper_psnr"]:.2f} |'
    )
  images, tau = figures['images'], figures['order']
  lines.append(
    f'\nPSNR (dB) and SSIM: {images["pairs"]} real pairs ({figures["blur_name"]}), protocol '
    f'{figures["protocol"]}, means over {len(figures["seeds"])} seeds; held out: PSNR on '
    f'{images["held_out"]} photos with synthetic blur; seconds: of an image of 320x180 on '
    f'{figures["device"]}, in turns; paper: PSNR of its Table 2. {figures["steps"]} steps of '
    f'{figures["batch_size"]} crops of {figures["crop_size"]}x{figures["crop_size"]} LR pixels. '
    f'Order against the paper: Kendall tau {tau["pairs"]["kendall_tau"]:.2f} on the pairs, '
    f'{tau["held_out"]["kendall_tau"]:.2f} held out.'
  )
  return '\n'.join(lines)


if __name__ == '__main__':
  run_command(main)
