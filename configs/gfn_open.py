"""GFN for CPUs, on openly licensed photographs and real pairs: the released weights' config.

    python run_train.py --config=configs/gfn_open.py:deblur --workdir=W1 --config.photos=PHOTOS \
      --config.real_pairs.gopro_large.path=GOPRO_Large/train \
      --config.real_pairs.gopro_half.path=GOPRO_half/train \
      --config.real_pairs.reds_quarter.path=REDS_quarter/train
    python run_train.py --config=configs/gfn_open.py --workdir=W2 \
      --config.init_from=W1/weights.safetensors ...

PHOTOS is what `data_prep.open_photos` fetches, and nothing else: other photographs are refused.
The rate is constant and the run does not end; `:decay` is the leg that makes its weights good,
taken from any point. docs/weights.md has the figures.

Words of the variant, with commas between them:

    deblur              the deblurring module alone, at half the photos' size, which is cheaper
    camera, gopro, reds one world alone, with the real pairs of that world
    decay               a short run whose rate falls to 2 %, from `init_from`
"""

from ml_collections import ConfigDict

from configs import gfn_photos
from gfn_jax.errors import UserError

WORLDS = ('camera', 'gopro', 'reds')
"""Kinds of blur: a camera's, which averages light, and those of two data sets of frames."""

WORDS = ('deblur', 'decay', *WORLDS)

_IN_PIXELS = ('translation', 'region_translation', 'region_edge')


def camera():
  """Blur averaged in light, with noise, saturation, JPEG, and sharp photos among the blurred."""
  world = gfn_photos.camera()
  world.frames = 11  # GOPRO has 7 to 13
  world.gamma = (1.8, 2.6)  # response curves of cameras, around sRGB's
  world.exposure = (1.0, 1.5)  # highlights saturate
  world.shot_noise = (0.0, 2e-4)
  world.read_noise = (0.0, 2e-3)
  world.sharp_share = 0.1
  world.jpeg_share = 0.5
  world.jpeg_quality = (50, 95)
  return world


def gopro():
  """Blur of GOPRO (Nah et al., CVPR 2017): means of 7 to 13 frames as they are stored."""
  world = gfn_photos.camera()
  world.frames = 11
  world.gamma = (1.0, 1.0)  # the mean of stored values is kept to 0.03 of 255 in 75 pairs
  world.skew = 1.0  # exponent; fits the PSNR of 136 patches of 34 GOPRO pairs at half size
  world.wobble = 0.1  # 1/30 s is nearly straight
  world.exposure = (1.0, 1.0)
  world.shot_noise = world.read_noise = (0.0, 0.0)  # averaged away
  world.sharp_share = 0.05
  return world


def reds():
  """Blur of REDS (Nah et al., CVPRW 2019): frames averaged through a camera's response curve."""
  world = gopro()
  # Exponent; brightens by 5.7 of 255, as 40 pairs do. Frames at 1/4, blurred, show 90 % of that.
  world.gamma = (4.0, 5.0)
  # The next four fit the PSNR of 240 patches of 40 REDS pairs at 1/4.
  world.skew = 2.0  # exponent
  world.translation = (0.0, 32.0)  # pixels
  world.region_rotation = (0.0, 1.0)  # degrees
  world.region_zoom = (0.0, 1.0)  # percent
  world.sharp_share = 0.0  # of the photos; of these patches, 5 % are above 33 dB, none above 37
  return world


def real_pairs():
  """Folders of real pairs: their share of the examples, and how much larger than LR they are."""
  return ConfigDict(
    dict(
      gopro_large=dict(path='', blur='blur_gamma', reduce=4, share=0.08),
      gopro_half=dict(path='', blur='blur', reduce=2, share=0.14),
      reds_quarter=dict(path='', blur='blur', reduce=1, share=0.1),
    )
  )


def get_config(variant=''):
  """The config that the words of `variant` make."""
  words = variant.split(',') if variant else []
  worlds = [word for word in words if word in WORLDS]
  if set(words) - set(WORDS) or len(set(words)) < len(words) or len(worlds) > 1:
    raise UserError(
      f'configs/gfn_open.py takes the words {", ".join(WORDS)}, with commas, one world at most, '
      f'not {variant!r}'
    )
  config = gfn_photos.get_config()
  config.photo_list = 'data_prep/photos_open.csv'
  config.motion_blur = ConfigDict({'camera': camera(), 'gopro': gopro(), 'reds': reds()})
  config.real_pairs = real_pairs()
  config.test_pairs = ConfigDict(
    dict(gopro=dict(path='', blur='blur', reduce=2), reds=dict(path='', blur='blur', reduce=1))
  )
  config.model = gfn_photos.light_model()
  config.optimizer.name = 'muon'
  config.ema_decay = 0.998
  config.batch_size = 16
  config.crop_size = 48
  config.steps_per_epoch = 1000
  config.checkpoint_every = 1000
  config.eval_every = 3000
  phase = dict(epochs=10_000, warmup_steps=100, decay_steps=0)  # until it is stopped
  if 'decay' in words:
    phase = dict(epochs=2, warmup_steps=100, decay_steps=1900)
  config.phases = ConfigDict(
    dict(
      phase_1=dict(
        model=dict(gated=True),
        learning_rate=3e-3,
        end_learning_rate=6e-5,
        lr_weight=1.0,
        hr_weight=1.0,
        reset_optimizer=True,
        **phase,
      )
    )
  )
  if 'deblur' in words:
    _halve(config)
  if worlds:
    _keep_world(config, worlds[0])
  return config


def _halve(config):
  """Take photos at half their size for the deblurred image alone, which is the same size as LR."""
  config.phases.phase_1.hr_weight = 0.0
  config.scale = 2
  config.photo_scales = tuple(0.5 * scale for scale in config.photo_scales)
  config.margin //= 2
  for world in config.motion_blur.values():
    world.focal_length *= 0.5
    for name in _IN_PIXELS:
      world[name] = tuple(0.5 * value for value in world[name])


def _keep_world(config, world):
  """Train on one world: more of its real pairs, as far as it has any, and none of the others'."""
  config.motion_blur = ConfigDict({world: config.motion_blur[world]})
  for name, source in list(config.real_pairs.items()):
    if not name.startswith(world):
      del config.real_pairs[name]
    else:
      source.share *= 2 if world == 'gopro' else 5
