"""Rows of a table: networks that are trained with the same budget, then scored and timed."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from tqdm import tqdm

from gfn_jax import Restorer
from gfn_jax.evaluation import evaluate, test_sets
from gfn_jax.models import param_count
from gfn_jax.system.files import write_file, write_json
from gfn_jax.training import loop
from gfn_jax.training.hooks import WEIGHTS_FILE

PHOTOS = flags.DEFINE_string('photos', None, 'Folder of sharp photos.', required=True)
PAIRS = flags.DEFINE_string('pairs', None, 'Folder in the layout of GOPRO_Large.', required=True)
BLUR_NAME = flags.DEFINE_string('blur_name', 'blur_gamma', 'Name of the folders of blurred photos.')
WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the runs; existing runs are continued.', required=True
)
SEEDS = flags.DEFINE_list('seeds', ['0', '1'], 'Seeds; each network is trained once with each.')
STEPS = flags.DEFINE_integer('steps', 2000, 'Steps of each run.', lower_bound=1)
CROP_SIZE = flags.DEFINE_integer('crop_size', 24, 'Side of the crops in LR pixels.', lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer('batch_size', 8, 'Crops per step.', lower_bound=1)
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed calls of each network.', lower_bound=1)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures; .md beside it.')

TIMED_STEPS = 20
"""Steps of each phase that determine the speed of training."""

SIZE = (180, 320)
"""Height and width of the timed image: the size of LR-GOPRO."""

PHOTO_LIST = flags.DEFINE_string(
  'photo_list', '', 'CSV file that names the photos and the held-out ones, as data_prep writes it.'
)

PARTS = ('pairs', 'held_out')
"""Test sets: the real pairs of `PAIRS/test`, and held-out photos with synthetic blur."""


def set_budget(config: ConfigDict, seed: int) -> ConfigDict:
  """Apply the flags and a seed to a config of configs/tables, and return it."""
  config.training.seed = seed
  config.data.photos, config.data.photo_list = PHOTOS.value, PHOTO_LIST.value
  if not config.data.frames:  # real pairs have no sub-frames
    pairs = os.path.join(PAIRS.value, 'train')
    config.data.real_pairs.gopro.update(path=pairs, blur=BLUR_NAME.value)
  config.training.crop_size = CROP_SIZE.value
  config.training.batch_size = BATCH_SIZE.value
  config.training.steps_per_epoch = STEPS.value // len(config.phases)
  for phase in config.phases.values():
    phase.schedule.warmup_steps = config.training.steps_per_epoch // 10
  return config


def run(name: str, config: ConfigDict, protocols: Sequence[str]) -> dict[str, Any]:
  """Train and score a network, or read the scores of an earlier call.

  Args:
    name: name of the row, for its folder.
    config: the run's config.
    protocols: protocols to score under.

  Returns:
    `config`, `parameters`, `minutes` of training, and by protocol the result of `score`.
  """
  workdir = run_dir(name, config.training.seed)
  scores_path = os.path.join(workdir, 'scores.json')
  plain = json.loads(json.dumps(config.to_dict()))
  scores = {}
  if os.path.exists(scores_path):
    with open(scores_path) as file:
      scores = json.load(file)
  if scores.get('config') != plain:
    loop.train_and_evaluate(config, workdir)
    variables = network(name, config.training.seed).variables
    scores = {'config': plain, 'parameters': param_count(variables)}
    scores['minutes'] = training_minutes(plain)
    write_json(scores_path, scores)
  for protocol in protocols:
    if protocol not in scores:
      scores[protocol] = score(network(name, config.training.seed), plain, protocol)
      write_json(scores_path, scores)
  jax.clear_caches()
  return scores


def training_minutes(config: Mapping[str, Any]) -> float:
  """Return the minutes that the steps of a run take, at the speed of its first ones.

  A run itself may have been interrupted or slowed by other work. Compilation is left out.

  Args:
    config: the run's config as a dictionary.
  """
  phases = config['phases']
  without_warmup = {
    name: phase | {'schedule': phase['schedule'] | {'warmup_steps': 0}}
    for name, phase in phases.items()
  }
  short = dict(config) | {
    'phases': without_warmup,
    'training': config['training'] | {'steps_per_epoch': TIMED_STEPS},
    'run': config['run'] | {'log_every': TIMED_STEPS},
  }
  with tempfile.TemporaryDirectory() as workdir:
    loop.train_and_evaluate(short, workdir)
    with open(os.path.join(workdir, 'metrics.jsonl')) as file:
      rows = [json.loads(line) for line in file]
  jax.clear_caches()
  seconds = statistics.fmean(row['system/step_seconds'] for row in rows)
  steps = config['training']['steps_per_epoch'] * sum(phase['epochs'] for phase in phases.values())
  return round(seconds * steps / 60, 2)


def run_dir(name: str, seed: int) -> str:
  """Return the folder of a run."""
  return os.path.join(WORKDIR.value, f'{name}_{seed}')


def network(name: str, seed: int) -> Restorer:
  """Return the network of a run, for whole images without tiles."""
  weights = os.path.join(run_dir(name, seed), WEIGHTS_FILE)
  return Restorer.from_pretrained(weights, tile=None)


def score(restorer: Restorer, config: Mapping[str, Any], protocol: str) -> dict[str, Any]:
  """Return mean PSNR and SSIM, also of bicubic, and `images`, for each of `PARTS`."""
  test_pairs = os.path.join(PAIRS.value, 'test')
  pairs = test_sets.pairs_test_set(test_pairs, BLUR_NAME.value, restorer.scale)
  held_out = test_sets.dataset_test_set(config)
  keys = ('psnr', 'ssim', 'bicubic_psnr', 'bicubic_ssim')
  means = {}
  for part, test_set in zip(PARTS, (pairs, held_out), strict=True):
    rows = evaluate.evaluate(restorer, test_set.images, protocol, total=test_set.count)
    means[part] = {key: statistics.fmean(row[key] for row in rows) for key in keys}
    means[part]['images'] = len(rows)
  return means


def time_networks(names: Iterable[str]) -> dict[str, float]:
  """Return the median seconds for an image of `SIZE`, with the networks timed in turns."""
  image = np.zeros((*SIZE, 3), np.uint8)
  networks = {name: network(name, int(SEEDS.value[0])) for name in names}
  seconds = {name: [] for name in networks}
  for number in tqdm(range(1 + ROUNDS.value), 'timing', leave=False):
    for name, restore in networks.items():
      start = time.perf_counter()
      restore(image)
      if number:  # the first call compiles
        seconds[name].append(time.perf_counter() - start)
  return {name: round(statistics.median(times), 3) for name, times in seconds.items()}


def memory_mib(name: str) -> int:
  """Return the MiB that XLA plans for restoring an image of `SIZE`, without the weights."""
  restorer = network(name, int(SEEDS.value[0]))
  x = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)
  forward = jax.jit(lambda variables, x: restorer.model.apply(variables, x).hr)
  plan = forward.lower(restorer.variables, x).compile().memory_analysis()
  return round((plan.temp_size_in_bytes + plan.output_size_in_bytes) / 2**20)


def of_seeds(runs: Sequence[Mapping[str, Any]], protocol: str) -> dict[str, Any]:
  """Return means over a row's runs as `pairs_psnr` and so on, and the values of each run."""
  figures = {}
  for part in PARTS:
    for key in ('psnr', 'ssim'):
      values = [scores[protocol][part][key] for scores in runs]
      figures[f'{part}_{key}'] = round(statistics.fmean(values), 4)
      figures[f'{part}_{key}_runs'] = [round(value, 4) for value in values]
  return figures


def of_bicubic(scores: Mapping[str, Any], protocol: str) -> dict[str, float]:
  """Return the scores of bicubic enlargement as `pairs_psnr` and so on."""
  return {
    f'{part}_{key}': round(scores[protocol][part][f'bicubic_{key}'], 4)
    for part in PARTS
    for key in ('psnr', 'ssim')
  }


def budget(scores: Mapping[str, Any], protocol: str) -> dict[str, Any]:
  """Return the settings and versions that the figures depend on."""
  return {
    'blur_name': BLUR_NAME.value,
    'images': {part: scores[protocol][part]['images'] for part in PARTS},
    'seeds': list(map(int, SEEDS.value)),
    'steps': STEPS.value,
    'batch_size': BATCH_SIZE.value,
    'crop_size': CROP_SIZE.value,
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
  }


def heading(figures: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], widths: str) -> str:
  """Return the line above a table of narrow networks: their widths, sizes, steps and minutes.

  Args:
    figures: the figures of the table, with the entries of `budget`.
    rows: figures of the trained rows; `minutes` is None for figures of an earlier version.
    widths: widths of the networks, in words.
  """
  parameters = [row['parameters'] for row in rows]
  minutes = [row['minutes'] for row in rows if row.get('minutes') is not None]
  crop = figures['crop_size']
  if minutes:
    time_taken = f'{min(minutes):.1f} to {max(minutes):.1f} minutes of training'
  else:
    time_taken = 'the minutes of training were not recorded'
  return (
    f'Narrow networks, {widths}: {min(parameters):,} to {max(parameters):,} parameters. '
    f'{figures["steps"]:,} steps of {figures["batch_size"]} crops of {crop}x{crop} LR pixels on '
    f'{figures["device"]}; {time_taken}.\n'
  )


def describe_seeds(figures: Mapping[str, Any]) -> str:
  """Return 'one seed', or 'means over 2 seeds', for the line below a table."""
  count = len(figures['seeds'])
  return 'one seed' if count == 1 else f'means over {count} seeds'


def report(figures: Mapping[str, Any], table: str) -> None:
  """Print the table, and write it and the figures if `--output` is set."""
  print(table)
  if OUTPUT.value:
    write_json(OUTPUT.value, figures)
    write_file(os.path.splitext(OUTPUT.value)[0] + '.md', (table + '\n').encode())
