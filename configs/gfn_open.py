r"""GFN for CPUs on openly licensed photographs and real pairs: config of the released weights.

    gfn-train --config=gfn_open:deblur --workdir=W1 \
      --config.data.photos=PHOTOS \
      --config.data.real_pairs.gopro_large.path=GOPRO_Large/train \
      --config.data.real_pairs.gopro_half.path=GOPRO_half/train \
      --config.data.real_pairs.reds_quarter.path=REDS_quarter/train
    gfn-train --config=gfn_open --workdir=W2 \
      --config.run.init_from=W1/weights.safetensors ...

PHOTOS is the folder from `gfn-prepare open_photos`; other photographs are rejected. The rate is
constant and the run does not end by itself. From any point, a `:decay` run starts from its weights
and improves their scores. docs/weights.md has the figures.

Words of the variant, separated by commas:

    deblur              the deblurring module alone, at half the size of the photos, which is faster
    camera, gopro, reds only these worlds, with their real pairs
    decay               a short run from `init_from`, whose rate falls to 2 %
"""

from ml_collections import ConfigDict

from gfn_jax.configs import defaults, gfn_photos
from gfn_jax.configs.defaults import phase
from gfn_jax.errors import UserError

WORLDS = ('camera', 'gopro', 'reds')
"""Kinds of blur: of a camera, which averages light, and of two data sets of frames."""

WORDS = ('deblur', 'decay', *WORLDS)

_IN_PIXELS = ('translation', 'region_translation', 'region_edge')


def camera():
  """Return options of blur averaged in light, with noise, saturation, JPEG and sharp photos."""
  world = defaults.camera()
  world.frames = 11  # GOPRO has 7 to 13
  world.gamma = (1.8, 2.6)  # response curves of cameras, around sRGB
  world.exposure = (1.0, 1.5)  # highlights saturate
  world.shot_noise = (0.0, 2e-4)
  world.read_noise = (0.0, 2e-3)
  world.sharp_share = 0.25  # with 0.1, sharp photos changed by 1.5 of 255; with this, by 1.0
  world.jpeg_share = 0.5
  world.jpeg_quality = (50, 95)
  return world


def gopro():
  """Return options of the blur of GOPRO (Nah et al., CVPR 2017): means of 7 to 13 stored frames."""
  world = defaults.camera()
  world.frames = 11
  world.gamma = (1.0, 1.0)  # in 75 pairs, blur keeps the mean of stored values to 0.03 of 255
  world.skew = 1.0  # exponent; fits the PSNR of 136 patches of 34 GOPRO pairs at half size
  world.wobble = 0.1  # 1/30 s is nearly straight
  world.exposure = (1.0, 1.0)
  world.shot_noise = world.read_noise = (0.0, 0.0)  # removed by the averaging
  world.sharp_share = 0.25  # as of camera, for the same reason
  return world


def reds():
  """Return options of the blur of REDS (Nah et al., CVPRW 2019): means through a response curve."""
  world = gopro()
  # Exponent; brightens by 5.7 of 255, as in 40 pairs. Blurred frames at 1/4 show 90 % of that.
  world.gamma = (4.0, 5.0)
  # The next four fit the PSNR of 240 patches of 40 REDS pairs at 1/4.
  world.skew = 2.0  # exponent
  world.translation = (0.0, 32.0)  # pixels
  world.region_rotation = (0.0, 1.0)  # degrees
  world.region_zoom = (0.0, 1.0)  # percent
  world.sharp_share = 0.0  # 5 % of those patches are above 33 dB, none above 37
  return world


def real_pairs():
  """Return options of the real pairs: folder, share of the examples, and size relative to LR."""
  return ConfigDict(
    dict(
      gopro_large=dict(path='', blur='blur_gamma', reduce=4, share=0.08),
      gopro_half=dict(path='', blur='blur', reduce=2, share=0.14),
      reds_quarter=dict(path='', blur='blur', reduce=1, share=0.1),
    )
  )


def get_config(variant=''):
  """Return the config for the words of `variant`, separated by commas."""
  words = variant.split(',') if variant else []
  worlds = [word for word in words if word in WORLDS]
  if set(words) - set(WORDS) or len(set(words)) < len(words):
    raise UserError(
      f'configs/gfn_open.py takes the words {", ".join(WORDS)}, separated by commas, each once, '
      f'not {variant!r}'
    )
  config = defaults.photos(camera=camera(), gopro=gopro(), reds=reds())
  config.data.photo_list = 'data_prep/photos_open.csv'
  config.data.real_pairs = real_pairs()
  config.model = gfn_photos.light_model()
  config.optimizer.name = 'muon'
  config.training.update(batch_size=16, crop_size=48, steps_per_epoch=1000, ema_decay=0.998)
  epochs, warmup_steps, decay_steps = 10_000, 100, 0  # runs until it is stopped
  if 'decay' in words:
    epochs, decay_steps = 2, 1900
  schedule = dict(
    name='constant',
    learning_rate=3e-3,
    end_learning_rate=6e-5,
    warmup_steps=warmup_steps,
    decay_steps=decay_steps,
  )
  config.phases.phase_1 = phase(
    epochs, schedule, model=dict(gated=True), lr_weight=1.0, reset_optimizer=True
  )
  config.evaluation.every = 3000
  config.evaluation.test_pairs = ConfigDict(
    dict(gopro=dict(path='', blur='blur', reduce=2), reds=dict(path='', blur='blur', reduce=1))
  )
  if 'deblur' in words:
    _halve(config)
  if worlds:
    _keep_worlds(config, worlds)
  return config


def _halve(config):
  """Change a config in place to train the deblurring module alone, at half the size of photos."""
  config.phases.phase_1.hr_weight = 0.0
  config.data.scale = 2
  config.data.photo_scales = tuple(0.5 * scale for scale in config.data.photo_scales)
  config.data.margin //= 2
  for world in config.data.motion_blur.values():
    world.focal_length *= 0.5
    for name in _IN_PIXELS:
      world[name] = tuple(0.5 * value for value in world[name])


def _keep_worlds(config, worlds):
  """Change a config in place to some worlds, with a larger share of their real pairs, if any."""
  config.data.motion_blur = ConfigDict({world: config.data.motion_blur[world] for world in worlds})
  kept = {
    name: source.to_dict()
    for name, source in config.data.real_pairs.items()
    if name.startswith(tuple(worlds))
  }
  wanted = 0.5 if len(worlds) == 1 else 0.33
  total = sum(source['share'] for source in kept.values())
  for source in kept.values():
    source['share'] *= wanted / total
  config.data.real_pairs = ConfigDict(kept)
