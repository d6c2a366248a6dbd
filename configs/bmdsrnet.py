r"""BMDSRNet on Motion-Blurred LR, or on photos with synthetic blur.

    gfn-train --config=bmdsrnet:x4,f+c+b --workdir=W --config.data.data_dir=DIR
    gfn-train --config=bmdsrnet:x4,f+c+b,photos --workdir=W \
      --config.data.photos=DIR

The words after the colon, separated by commas, in any order (default: x4 and f+c+b):

| word | meaning | Motion-Blurred LR x2, x3, x4, in the paper |
|---|---|---|
| x2, x3, x4 | scale of the network and of the data | |
| srnet | CoreNet on the blurred image | 30.88, 29.49, 28.06 dB |
| c | BMDNet, then CoreNet | 31.28, 29.95, 28.43 |
| f+c | also ForNet and FuNet | 31.45, 30.21, 28.62 |
| f+c+b | also BackNet | 31.62, 30.44, 28.78 |
| table2 | recurrent module with the width of the paper's Table 2: 43.6 million parameters | |
| paper | eq. 2 as printed, He's initialisation, unclipped, one crop per image and epoch | |
| photos | sub-frames of synthetic blur as the seven sharp frames, without video | |
| small | as photos, with a narrow network for CPUs and the budget of tables/comparison.py | |
| open | as photos, openly licensed ones, with a network for CPUs: the released weights | |

Data: Motion-Blurred LR x4 (docs/datasets.md) in patches of 128x128. For data without frames, such
as LR-GOPRO, the loss compares only the deblurred middle image. The paper's schedule has not been
run to its end with this code yet. The paper states the patch, the batch, the learning rate and 400
epochs, but no optimiser; Adam is a guess. `--config.run.perceptual_weights=vgg19-dcbb9e9d.pth` adds
the paper's perceptual loss (gfn_jax/training/perceptual.py names the source of the file).

The paper's eq. 2 has signed differences of pairs of frames: the word `paper`, which needs whole
frames: build Motion-Blurred LR with `--patch_size=0`. The default here is the rule of Jin et al.
(CVPR 2018), without the sign: `loss.frames.pair_difference=absolute`. `photos` uses a third rule,
`either`, with which frames differ in position, not in colour, at the same PSNR (docs/restoring.md).
`python -m benchmarks.bmdsrnet` trains the small variants and prints the table.

    gfn-train --config=bmdsrnet:c,open --workdir=W --config.data.photos=DIR

trains the released weights on the photographs of `data_prep.open_photos`, blurred by the `camera`
of configs/gfn_open.py.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import defaults, gfn_open
from gfn_jax.configs.defaults import cosine, phase, step_decay
from gfn_jax.errors import UserError
from gfn_jax.models.bmdsrnet import VARIANTS
from gfn_jax.ops.sizes import SCALES

_SCALES = {f'x{scale}': scale for scale in SCALES}
_WORDS = (*_SCALES, *VARIANTS, 'table2', 'paper', 'photos', 'small', 'open')
_OF_PHOTOS = ('open', 'small', 'photos')


def get_config(variant=''):
  """Return the config for the words of `variant`, separated by commas."""
  words = variant.split(',') if variant else []
  scales = [_SCALES[word] for word in words if word in _SCALES]
  variants = [word for word in words if word in VARIANTS]
  of_photos = [word for word in _OF_PHOTOS if word in words]
  others = {'open': {'photos', 'small', 'table2', 'paper'}, 'paper': {'photos', 'small'}}
  clash = any(word in words and others[word] & set(words) for word in others)
  if set(words) - set(_WORDS) or len(scales) > 1 or len(variants) > 1 or clash:
    raise UserError(
      f'configs/bmdsrnet.py takes one of {", ".join(_SCALES)}, one of {", ".join(VARIANTS)}, and '
      'table2, paper, photos, small and open, separated by commas, without contradictions, '
      f'not {variant!r}'
    )
  scale = scales[0] if scales else 4
  if of_photos:
    config = _photos(of_photos[0])
    config.data.update(scale=scale, frames=True)  # seven sharp frames in each example
  else:
    config = _motion_blurred_lr()
  config.model = ConfigDict(
    dict(
      name='bmdsrnet',
      variant=variants[0] if variants else 'f+c+b',
      scale=scale,
      features=64,
      blocks=9,
      fusion_blocks=3,
      recurrent_features=32 if 'table2' in words else 5,
      decode='last',
      upsample='nearest',
      fusion_skip='features',
      residual_input=False,
      initialization='scaled',
      global_skip='none',
    )
  )
  if 'small' in words:
    config.model.update(features=16, blocks=3, fusion_blocks=1, recurrent_features=2)
    config.model.global_skip = 'input'
  if 'open' in words:
    config.model.update(features=32, blocks=9, global_skip='input')
  config.loss = ConfigDict(
    dict(
      hr=dict(on='hr', loss='mse', weight=1.0),
      lr=dict(on='lr', loss='l1', weight=1.0),
      frames=dict(on='frames', loss='frames', weight=1.0, pair_difference='absolute'),
      perceptual=dict(on='frames', loss='perceptual', weight=1.0),
    )
  )
  if {'photos', 'open'} & set(words):
    config.loss.frames.pair_difference = 'either'
  if 'paper' in words:
    config.loss.frames.pair_difference = 'signed'
    config.model.initialization = 'he'
    config.optimizer.clip_norm = 0.0
    config.training.crop_size = 128
  return config


def _photos(word):
  if word == 'small':
    config = defaults.table_budget(lr_weight=1.0)
    config.data.motion_blur.camera.gamma = (1.0, 1.0)  # mean of stored values, as in the paper
    return config
  if word == 'open':
    return _open_photos()
  config = defaults.photos()
  schedule = cosine(3e-4, warmup_steps=1000)
  config.phases.phase_1 = phase(100, schedule, lr_weight=1.0, reset_optimizer=True)
  return config


def _open_photos():
  """Return data and schedule of the released weights: frames alone, then everything."""
  config = defaults.photos(camera=gfn_open.camera())
  config.data.motion_blur.camera.update(frames=13, sharp_share=0.1)  # 7 of 13 span the exposure
  config.data.photo_list = 'data_prep/photos_open.csv'
  config.data.real_pairs = ConfigDict()
  config.optimizer.name = 'muon'
  config.training.update(batch_size=8, crop_size=32, ema_decay=0.998)
  frames, everything = cosine(3e-3, warmup_steps=200), cosine(2e-3, warmup_steps=50)
  config.phases.phase_1 = phase(8, frames, lr_weight=1.0, hr_weight=0.0, reset_optimizer=True)
  config.phases.phase_2 = phase(1, everything, lr_weight=1.0, reset_optimizer=True)
  return config


def _motion_blurred_lr():
  config = defaults.tfrecords()
  config.training.batch_size = 4
  config.phases.phase_1 = phase(400, step_decay(1e-4, 1.0, 400), lr_weight=1.0)
  config.evaluation.every = config.run.checkpoint_every = 2000
  return config
