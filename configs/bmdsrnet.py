"""BMDSRNet on Motion-Blurred LR, or on photos with synthetic blur.

    python run_train.py --config=configs/bmdsrnet.py:x4,f+c+b --workdir=W --config.data_dir=DIR
    python run_train.py --config=configs/bmdsrnet.py:x4,f+c+b,photos --workdir=W --config.photos=DIR

What follows the colon, in any order; without it, x4 and f+c+b:

| word | what it is | Motion-Blurred LR x2, x3, x4, in the paper |
|---|---|---|
| x2, x3, x4 | the scale, which the data must have, too | |
| srnet | CoreNet on the blurred image | 30.88, 29.49, 28.06 dB |
| c | BMDNet, then CoreNet | 31.28, 29.95, 28.43 |
| f+c | and ForNet and FuNet | 31.45, 30.21, 28.62 |
| f+c+b | and BackNet | 31.62, 30.44, 28.78 |
| table2 | a recurrent module as wide as in the paper's Table 2: 43.6 million parameters | |
| photos | sub-frames of synthetic blur are the seven sharp frames: no video is needed | |
| small | on photos, a narrow network for CPUs with the budget of configs/comparison.py | |

Data: Motion-Blurred LR x4 (docs/datasets.md) in patches of 128x128. With data that have no frames,
such as LR-GOPRO, only the deblurred image in the middle is compared. Nobody has run the paper's
schedule with this code yet. The paper gives the patch, the batch, the learning rate and 400 epochs,
but no optimiser; Adam is a guess. `--config.perceptual_weights=vgg19-dcbb9e9d.pth` adds the paper's
perceptual loss (gfn_jax/training/perceptual.py says where to get it).

The paper's eq. 2 has signed differences of pairs of frames; this has those of Jin et al. (CVPR
2018), whose sign is free (`loss.pair_difference=absolute`). `photos` has a third rule, `either`:
they differ in place then, not in colour, at the same PSNR (docs/restoring.md). `python -m
benchmarks.bmdsrnet` trains the small ones and prints the table.
"""

from ml_collections import ConfigDict

from configs import comparison, gfn, gfn_photos
from gfn_jax.errors import UserError
from gfn_jax.models.bmdsrnet import SCALES, VARIANTS

_SCALES = {f'x{scale}': scale for scale in SCALES}
_WORDS = (*_SCALES, *VARIANTS, 'table2', 'photos', 'small')


def get_config(variant=''):
  """The config that the words of `variant` make."""
  words = variant.split(',') if variant else []
  scales = [_SCALES[word] for word in words if word in _SCALES]
  variants = [word for word in words if word in VARIANTS]
  if set(words) - set(_WORDS) or len(scales) > 1 or len(variants) > 1:
    raise UserError(
      f'configs/bmdsrnet.py takes one of {", ".join(_SCALES)}, one of {", ".join(VARIANTS)}, and '
      f'table2, photos and small, with commas, not {variant!r}'
    )
  if 'small' in words:
    config = comparison.one_budget()
    config.motion_blur.camera.gamma = (
      1.0,
      1.0,
    )  # means of the values as stored, as the paper's data
  else:
    config = gfn_photos.get_config() if 'photos' in words else _motion_blurred_lr()
  if 'photos' in config:
    config.scale = scales[0] if scales else 4
    config.frames = True  # seven sharp frames in each example
  config.model = ConfigDict(
    dict(
      name='bmdsrnet',
      variant=variants[0] if variants else 'f+c+b',
      scale=scales[0] if scales else 4,
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
  config.loss = ConfigDict(dict(hr='mse', lr='l1', frames_weight=1.0, pair_difference='absolute'))
  if 'photos' in words:
    config.loss.pair_difference = 'either'
  config.perceptual_weights = ''  # torchvision's VGG19; '': no perceptual loss
  for phase in config.phases.values():
    phase.model, phase.lr_weight = ConfigDict(), 1.0
  return config


def _motion_blurred_lr():
  config = gfn.get_config()
  config.batch_size = 4
  config.phases = ConfigDict()
  config.phases.phase_1 = gfn.phase(False, 400, 1e-4, 1.0, 400, lr_weight=1.0)
  config.checkpoint_every = config.eval_every = 2000
  return config
