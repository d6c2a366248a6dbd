"""Rows of a table: each a network that is trained with the same budget, then scored and timed."""

import json
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from tqdm import tqdm

from benchmarks.gopro_pairs import load_pairs
from gfn_jax import Restorer
from gfn_jax.evaluation import evaluate
from gfn_jax.models import as_variables
from gfn_jax.system.files import write_file, write_json
from gfn_jax.training import loop
from gfn_jax.weights.pretrained import param_count

PHOTOS = flags.DEFINE_string('photos', None, 'Folder of sharp photos.', required=True)
PAIRS = flags.DEFINE_string('pairs', None, 'Folder in the layout of GOPRO_Large.', required=True)
BLUR_NAME = flags.DEFINE_string('blur_name', 'blur_gamma', 'Of the folders of blurred photos.')
WORKDIR = flags.DEFINE_string('workdir', None, 'For the runs; one is continued.', required=True)
SEEDS = flags.DEFINE_list('seeds', ['0', '1'], 'A run of every network with each.')
STEPS = flags.DEFINE_integer('steps', 2000, 'Of each run.', lower_bound=1)
CROP_SIZE = flags.DEFINE_integer('crop_size', 24, 'Of the crops, LR pixels.', lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer('batch_size', 8, 'Crops a step.', lower_bound=1)
ROUNDS = flags.DEFINE_integer('rounds', 5, 'How often each network is timed.', lower_bound=1)
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures; .md beside it.')

SIZE = (180, 320)
"""Height and width of the image that is timed, that of LR-GOPRO."""

PARTS = ('pairs', 'held_out')
"""What is scored on: the real pairs of `PAIRS/test`, and photos with synthetic blur."""


def set_budget(config: ConfigDict, seed: int) -> ConfigDict:
  """Gives a config of configs/comparison.py this call's settings."""
  config.seed = seed
  config.photos = PHOTOS.value
  if not config.get('frames'):  # which real pairs do not have
    config.real_pairs.gopro.update(path=os.path.join(PAIRS.value, 'train'), blur=BLUR_NAME.value)
  config.crop_size = CROP_SIZE.value
  config.batch_size = BATCH_SIZE.value
  config.steps_per_epoch = STEPS.value // len(config.phases)
  for phase in config.phases.values():
    phase.warmup_steps = config.steps_per_epoch // 10
  return config


def run(name: str, config: ConfigDict, protocols: Sequence[str]) -> dict[str, Any]:
  """Trains a network and scores it, or reads what an earlier call has found."""
  workdir = run_dir(name, config.seed)
  scores_path = os.path.join(workdir, 'scores.json')
  plain = json.loads(json.dumps(config.to_dict()))
  scores = {}
  if os.path.exists(scores_path):
    with open(scores_path) as file:
      scores = json.load(file)
  if scores.get('config') != plain:
    loop.train_and_evaluate(config, workdir)
    scores = {'config': plain, 'parameters': param_count(network(name, config.seed).params)}
    write_json(scores_path, scores)
  for protocol in protocols:
    if protocol not in scores:
      scores[protocol] = score(network(name, config.seed), plain, protocol)
      write_json(scores_path, scores)
  jax.clear_caches()
  return scores


def run_dir(name: str, seed: int) -> str:
  """The folder of a run."""
  return os.path.join(WORKDIR.value, f'{name}_{seed}')


def network(name: str, seed: int) -> Restorer:
  """A run's network, for whole images."""
  weights = os.path.join(run_dir(name, seed), loop.WEIGHTS_FILE)
  return Restorer.from_pretrained(weights, tile=None)


def score(restorer: Restorer, config: Mapping[str, Any], protocol: str) -> dict[str, Any]:
  """Means over the images of each of `PARTS`: `images`, `psnr`, `ssim`, and those of bicubic."""
  test_pairs = os.path.join(PAIRS.value, 'test')
  count, pairs = load_pairs(test_pairs, BLUR_NAME.value, restorer.scale)
  held_out = evaluate.dataset_test_set(config)
  parts = (pairs, count), (held_out.images, held_out.count)
  keys = ('psnr', 'ssim', 'bicubic_psnr', 'bicubic_ssim')
  means = {}
  for part, (images, total) in zip(PARTS, parts, strict=True):
    rows = evaluate.evaluate(restorer, images, protocol, total=total)
    means[part] = {key: statistics.fmean(row[key] for row in rows) for key in keys}
    means[part]['images'] = len(rows)
  return means


def time_networks(names: Iterable[str]) -> dict[str, float]:
  """Seconds for an image of `SIZE`: in turns, medians."""
  image = np.zeros((*SIZE, 3), np.uint8)
  networks = {name: network(name, int(SEEDS.value[0])) for name in names}
  seconds = {name: [] for name in networks}
  for number in tqdm(range(1 + ROUNDS.value), 'timing', leave=False):
    for name, restore in networks.items():
      start = time.perf_counter()
      restore(image)
      if number:  # the first compiles
        seconds[name].append(time.perf_counter() - start)
  return {name: round(statistics.median(times), 3) for name, times in seconds.items()}


def memory_mib(name: str) -> int:
  """What restoring an image of `SIZE` takes beside the weights, as XLA plans it."""
  restorer = network(name, int(SEEDS.value[0]))
  x = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)
  forward = jax.jit(lambda params, x: restorer.model.apply(as_variables(params), x).hr)
  plan = forward.lower(restorer.params, x).compile().memory_analysis()
  return round((plan.temp_size_in_bytes + plan.output_size_in_bytes) / 2**20)


def of_seeds(runs: Sequence[Mapping[str, Any]], protocol: str) -> dict[str, Any]:
  """`pairs_psnr` and so on, means over a row's runs, and those of each run."""
  figures = {}
  for part in PARTS:
    for key in ('psnr', 'ssim'):
      values = [scores[protocol][part][key] for scores in runs]
      figures[f'{part}_{key}'] = round(statistics.fmean(values), 4)
      figures[f'{part}_{key}_runs'] = [round(value, 4) for value in values]
  return figures


def of_bicubic(scores: Mapping[str, Any], protocol: str) -> dict[str, float]:
  """`pairs_psnr` and so on, of the bicubic enlargement."""
  return {
    f'{part}_{key}': round(scores[protocol][part][f'bicubic_{key}'], 4)
    for part in PARTS
    for key in ('psnr', 'ssim')
  }


def budget(scores: Mapping[str, Any], protocol: str) -> dict[str, Any]:
  """What the figures depend on, for the record."""
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


def report(figures: Mapping[str, Any], table: str) -> None:
  """Prints the table, and writes it and the figures if a file is named."""
  print(table)
  if OUTPUT.value:
    write_json(OUTPUT.value, figures)
    write_file(os.path.splitext(OUTPUT.value)[0] + '.md', (table + '\n').encode())
