"""Score weights on the selection sets, beside the released ones, and release them.

    python -m benchmarks.release --weights=RUN/weights.safetensors --name=gfn --hours=5.5 \
      --photos=PHOTOS --gopro_large=GOPRO_Large --gopro_half=GOPRO_half --reds_quarter=REDS_quarter

`--write` writes gfn_jax/weights/NAME.safetensors in bfloat16, with its card. Without it the figures
are printed only. Float32 computes them. The sets:

    camera   20 photographs of data_prep/photos_open.csv that are held out, blurred with a fixed
             seed: `hr` under protocol gfn, and `lr`; and 20 that were trained on
    gopro    GOPRO_half/val, `lr`, apart by how blurred the input is
    reds     REDS_quarter/val, `lr`
    public   GOPRO_Large/test, `hr` under protocol gfn, by scene: GOPR0384_11_00 is unseen, the
             others are seen or unknown. Reported, never selected on
"""

import json
import os
import statistics
from typing import Any

import jax
from absl import flags

from benchmarks.gopro_pairs import load_pairs
from configs import gfn_open
from gfn_jax import Restorer
from gfn_jax.data.photos import PhotoDataset
from gfn_jax.data.real_pairs import RealPairs
from gfn_jax.errors import run_command
from gfn_jax.evaluation import evaluate
from gfn_jax.evaluation.selection import score_pairs
from gfn_jax.ops import metrics
from gfn_jax.system.files import file_sha256
from gfn_jax.weights.pretrained import RELEASED_DIR, convert_weights, load_card, load_pretrained

WEIGHTS = flags.DEFINE_string('weights', None, 'File to score.', required=True)
NAME = flags.DEFINE_string('name', 'gfn', 'Name of the released weights.')
HOURS = flags.DEFINE_float('hours', 0.0, 'Hours of training, for the card.')
COMMIT = flags.DEFINE_string('commit', '', 'For the card: of the code that trained them.')
LEGS = flags.DEFINE_multi_string('leg', [], 'For the card: what was trained, in order.')
PHOTOS = flags.DEFINE_string('photos', None, 'Folder of open_photos.', required=True)
GOPRO_LARGE = flags.DEFINE_string('gopro_large', None, 'Has train and test.', required=True)
GOPRO_HALF = flags.DEFINE_string('gopro_half', None, 'Has train and val.', required=True)
REDS_QUARTER = flags.DEFINE_string('reds_quarter', None, 'Has train and val.', required=True)
WRITE = flags.DEFINE_bool('write', False, 'Write the released file.')

PHOTO_LIST = 'data_prep/photos_open.csv'
COMMAND = (
  'python examples/train_in_background.py --dir=RUN --config=configs/gfn_open.py -- '
  '--config.photos=PHOTOS --config.real_pairs.gopro_large.path=GOPRO_Large/train '
  '--config.real_pairs.gopro_half.path=GOPRO_half/train '
  '--config.real_pairs.reds_quarter.path=REDS_quarter/train'
)
LICENCE = (
  'CC BY-SA 4.0. Trained on the photographs of data_prep/photos_open.csv (CC0, CC BY, CC BY-SA, '
  'MIT; each names its source) and on GOPRO and REDS (CC BY 4.0, Nah et al.). Photographs that you '
  'restore are yours.'
)


def main(_):
  """Score both, print the figures, and write the file if asked to."""
  scores = score(WEIGHTS.value)
  released = os.path.join(RELEASED_DIR, f'{NAME.value}.safetensors')
  before = score(released) if os.path.exists(released) else {}
  for key, value in scores.items():
    print(f'{key:40} {value:8.2f}   released: {before.get(key, float("nan")):8.2f}')
  if WRITE.value:
    convert_weights(WEIGHTS.value, released, 'bfloat16', card(scores))
    print(f'written: {released}')


def score(weights: str) -> dict[str, float]:
  """Return gains in PSNR over bicubic, or over the input for `lr`, in dB."""
  model, params = load_pretrained(weights)
  deblur, restore = Restorer(model, params, output='lr'), Restorer(model, params)
  scores = {}
  sets = {'gopro': (GOPRO_HALF.value, 2), 'reds': (REDS_QUARTER.value, 1)}
  for name, (folder, reduce) in sets.items():
    pairs = RealPairs(os.path.join(folder, 'val'), 'blur', reduce)
    found = score_pairs(deblur, pairs.images()).scalars()
    scores |= {f'{name}, lr, {key}': value for key, value in found.items()}
  config = gfn_open.get_config('camera')
  dataset = PhotoDataset(
    PHOTOS.value,
    motion_blur=config.motion_blur.to_dict(),
    photo_list=PHOTO_LIST,
    margin=config.margin,
  )
  for split, name in {'test': 'camera', 'train': 'camera, trained on'}.items():
    images = list(dataset.images(split, 20))
    scores[f'{name}, hr'] = gain(evaluate.evaluate(restore, images, config.protocol))
    before = statistics.fmean(metrics.psnr(i['lr_blur'], i['lr']) for i in images)
    after = statistics.fmean(metrics.psnr(deblur(i['lr_blur']), i['lr']) for i in images)
    scores[f'{name}, lr'] = after - before
  _, pairs = load_pairs(os.path.join(GOPRO_LARGE.value, 'test'), 'blur_gamma')
  pairs = list(pairs)
  rows = evaluate.evaluate(restore, pairs, config.protocol)
  scores['public, hr'] = gain(rows)
  scores['public, hr, PSNR'] = statistics.fmean(row['psnr'] for row in rows)
  for scene in sorted({pair['scene'] for pair in pairs}):
    of_scene = [row for row, pair in zip(rows, pairs, strict=True) if pair['scene'] == scene]
    scores[f'{scene}, hr'] = gain(of_scene)
  return {key: round(value, 3) for key, value in scores.items()}


def gain(rows: list[dict[str, Any]]) -> float:
  """Return the mean gain in PSNR over bicubic."""
  return statistics.fmean(row['psnr'] - row['bicubic_psnr'] for row in rows)


def card(scores: dict[str, float]) -> dict[str, Any]:
  """Return what the card of released weights says beside the facts of the file."""
  old = load_card(WEIGHTS.value)
  config = json.loads(json.dumps(old['config']))
  config['photos'] = PHOTO_LIST
  config['init_from'] = os.path.basename(config['init_from'])
  for sources in (config['real_pairs'], config['test_pairs']):
    for source in sources.values():
      source['path'] = '/'.join(source['path'].rstrip('/').split('/')[-2:])
  data = old['data'] | {'licence': LICENCE, 'photo_list_sha256': file_sha256(PHOTO_LIST)}
  return {
    'model': old['model'] | {'dtype': 'float32'},  # how they compute unless asked otherwise
    'config': config,
    'data': data,
    'scores': scores | {'unit': 'dB in PSNR over bicubic, or over the input for lr'},
    'legs': LEGS.value,
    'hours': HOURS.value,
    'command': COMMAND,
    'commit': COMMIT.value,
    'device': jax.devices()[0].device_kind,
  }


if __name__ == '__main__':
  run_command(main)
