"""Score weights and the released ones on the selection sets, and release them.

    python -m benchmarks.release --weights=RUN/weights.safetensors --name=gfn --hours=5.5 \
      --photos=PHOTOS --gopro_large=GOPRO_Large --gopro_half=GOPRO_half --reds_quarter=REDS_quarter

`--write` writes gfn_jax/weights/NAME.safetensors in bfloat16, with its card, which names the
version of gfn_jax. Without it, the command only prints the figures, computed in float32. `python -m
benchmarks.restoring_dtype --write` then adds to the card what bfloat16 changes. The sets are:

    camera   20 held-out photographs of data_prep/photos_open.csv, blurred with a fixed seed: `hr`
             under protocol gfn, and `lr`; the same for 20 training photographs; and without blur,
             as they are and with JPEG compression of quality 60
    gopro    GOPRO_half/val, `lr`, grouped by the blur of the input
    reds     REDS_quarter/val, `lr`
    public   GOPRO_Large/test, `hr` under protocol gfn, by scene: GOPR0384_11_00 is unseen, the
             others are seen or unknown; reported, but not used for selection
"""

import functools
import json
import os
import statistics
from typing import Any

import jax
import numpy as np
from absl import flags

import gfn_jax
from gfn_jax import Restorer
from gfn_jax.cli.runner import run_command
from gfn_jax.configs import gfn_open
from gfn_jax.data.photos import PhotoDataset
from gfn_jax.data.real_pairs import RealPairs
from gfn_jax.evaluation import evaluate
from gfn_jax.evaluation.selection import score_pairs
from gfn_jax.evaluation.test_sets import pairs_test_set
from gfn_jax.ops import metrics
from gfn_jax.system.files import file_sha256
from gfn_jax.weights.pretrained import RELEASED_DIR, convert_weights, load_card, load_pretrained

WEIGHTS = flags.DEFINE_string('weights', None, 'File to score.', required=True)
NAME = flags.DEFINE_string('name', 'gfn', 'Name of the released weights.')
HOURS = flags.DEFINE_float('hours', 0.0, 'Hours of training, for the card.')
COMMIT = flags.DEFINE_string('commit', '', 'Commit of the code that trained them, for the card.')
LEGS = flags.DEFINE_multi_string('leg', [], 'Part of the training, in order, for the card.')
PHOTOS = flags.DEFINE_string(
  'photos', None, 'Folder that gfn-prepare open_photos filled.', required=True
)
GOPRO_LARGE = flags.DEFINE_string('gopro_large', None, 'Folder with train and test.', required=True)
GOPRO_HALF = flags.DEFINE_string('gopro_half', None, 'Folder with train and val.', required=True)
REDS_QUARTER = flags.DEFINE_string(
  'reds_quarter', None, 'Folder with train and val.', required=True
)
WRITE = flags.DEFINE_bool('write', False, 'Write the released file.')

PHOTO_LIST = 'data_prep/photos_open.csv'
PROTOCOL = 'gfn'

COMMANDS = {
  'gfn': (
    'python examples/train_in_background.py --dir=RUN --config=configs/gfn_open.py -- '
    '--config.data.photos=PHOTOS --config.data.real_pairs.gopro_large.path=GOPRO_Large/train '
    '--config.data.real_pairs.gopro_half.path=GOPRO_half/train '
    '--config.data.real_pairs.reds_quarter.path=REDS_quarter/train'
  ),
  'bmdsrnet': 'gfn-train --config=bmdsrnet:c,open --workdir=RUN --config.data.photos=PHOTOS',
}
"""Command that trains the network, by the name of its model."""


def main(_):
  """Score both, print the figures, and write the file if `--write` is set."""
  scores = score(WEIGHTS.value)
  released = os.path.join(RELEASED_DIR, f'{NAME.value}.safetensors')
  before = score(released) if os.path.exists(released) else {}
  for key, value in scores.items():
    print(f'{key:40} {value:8.2f}   released: {before.get(key, float("nan")):8.2f}')
  if WRITE.value:
    convert_weights(WEIGHTS.value, released, 'bfloat16', card(scores))
    print(f'wrote {released}')


def licence(config: dict[str, Any]) -> str:
  """Return the licence of weights that were trained with a config."""
  pairs = config['data']['real_pairs'] or {}
  used = any(source['path'] for source in pairs.values())
  return (
    'CC BY-SA 4.0. Trained on the photographs of data_prep/photos_open.csv (CC0, CC BY, CC BY-SA, '
    f'MIT; each names its source){" and on GOPRO and REDS (CC BY 4.0, Nah et al.)" if used else ""}'
    '. Photographs that you restore are yours.'
  )


def score(weights: str) -> dict[str, float]:
  """Return the gains in PSNR over bicubic, or over the input for `lr`, in dB."""
  model, variables = load_pretrained(weights)
  deblur, restore = Restorer(model, variables, output='lr'), Restorer(model, variables)
  scores = {}
  sets = {'gopro': (GOPRO_HALF.value, 2), 'reds': (REDS_QUARTER.value, 1)}
  for name, (folder, reduce) in sets.items():
    pairs = RealPairs(os.path.join(folder, 'val'), 'blur', reduce)
    found = score_pairs(deblur, pairs.images()).scalars()
    scores |= {f'{name}, lr, {key}': value for key, value in found.items()}
  for split, name in {'test': 'camera', 'train': 'camera, trained on'}.items():
    images = blurred_photos(split, sharp_share=0.1)
    scores[f'{name}, hr'] = gain(evaluate.evaluate(restore, images, PROTOCOL))
    deblurred = [deblur(image['lr_blur']) for image in images]
    before = statistics.fmean(metrics.psnr(i['lr_blur'], i['lr']) for i in images)
    after = statistics.fmean(map(metrics.psnr, deblurred, (i['lr'] for i in images)))
    scores[f'{name}, lr'] = after - before
    changes = [
      np.abs(y.mean(axis=(0, 1)) - image['lr_blur'].mean(axis=(0, 1))).max()
      for y, image in zip(deblurred, images, strict=True)
    ]
    scores[f'{name}, lr, largest change of a mean, of 255'] = float(max(changes))
  still = {'sharp_share': 1.0, 'shot_noise': (0.0, 0.0), 'read_noise': (0.0, 0.0)}
  for name, options in {
    'unblurred': {'jpeg_share': 0.0},
    'unblurred, JPEG 60': {'jpeg_share': 1.0, 'jpeg_quality': (60, 60)},
  }.items():
    images = blurred_photos('test', **still, **options)
    scores[f'{name}, hr'] = gain(evaluate.evaluate(restore, images, PROTOCOL))
  pairs = list(pairs_test_set(os.path.join(GOPRO_LARGE.value, 'test'), 'blur_gamma').images)
  rows = evaluate.evaluate(restore, pairs, PROTOCOL)
  scores['public, hr'] = gain(rows)
  scores['public, hr, PSNR'] = statistics.fmean(row['psnr'] for row in rows)
  for scene in sorted({pair['scene'] for pair in pairs}):
    of_scene = [row for row, pair in zip(rows, pairs, strict=True) if pair['scene'] == scene]
    scores[f'{scene}, hr'] = gain(of_scene)
  return {key: round(value, 3) for key, value in scores.items()}


@functools.cache
def blurred_photos(split: str, **options: Any) -> list[dict[str, Any]]:
  """Return 20 photographs, blurred by `camera` with a fixed seed and some other options."""
  data = gfn_open.get_config('camera').data
  motion_blur = {'camera': data.motion_blur.camera.to_dict() | options}
  dataset = PhotoDataset(
    PHOTOS.value, motion_blur=motion_blur, photo_list=PHOTO_LIST, margin=data.margin
  )
  return list(dataset.images(split, 20))


def gain(rows: list[dict[str, Any]]) -> float:
  """Return the mean gain in PSNR over bicubic."""
  return statistics.fmean(row['psnr'] - row['bicubic_psnr'] for row in rows)


def without_folders(config: Any) -> Any:
  """Return a config with every path shortened to its last two parts."""
  if isinstance(config, dict):
    return {key: without_folders(value) for key, value in config.items()}
  if isinstance(config, str) and '/' in config:
    return '/'.join(config.rstrip('/').split('/')[-2:])
  return config


def card(scores: dict[str, float]) -> dict[str, Any]:
  """Return the card of the released weights, without the entries about the file."""
  old = load_card(WEIGHTS.value)
  config = without_folders(json.loads(json.dumps(old['config'])))
  data = old['data'] | {
    'licence': licence(old['config']),
    'photo_list_sha256': file_sha256(PHOTO_LIST),
  }
  return {
    'version': gfn_jax.__version__,
    'model': old['model'] | {'dtype': 'float32'},  # default type of the computation
    'config': config,
    'data': data,
    'scores': scores
    | {'unit': 'dB in PSNR over bicubic, or over the input for lr; changes are of 255'},
    'legs': LEGS.value,
    'hours': HOURS.value,
    'command': COMMANDS[old['model']['name']],
    'commit': COMMIT.value,
    'device': jax.devices()[0].device_kind,
  }


if __name__ == '__main__':
  run_command(main)
