"""GFN on any folder of sharp photos, with motion blur made on the device. Needs no TensorFlow.

    python run_train.py --config=configs/gfn_photos.py --workdir=W --config.photos=DIR

`--config=configs/gfn_photos.py:small` is a network and a schedule for CPUs: about two hours on two
cores. `:small_sr` is the same without the deblurring module, to see what that is worth, and
`:small_finetune` continues from the released weights, on photographs like yours.
"""

from ml_collections import ConfigDict

from configs import gfn
from gfn_jax.errors import UserError


def phase(epochs, learning_rate, warmup_steps, hr_weight=1.0):
  """One phase: the learning rate rises over `warmup_steps`, then falls to 0 along a cosine.

  With an `hr_weight` of 0 only the deblurring module is trained, in less than half the time.
  """
  return ConfigDict(
    dict(
      model=dict(gated=True),
      epochs=epochs,
      learning_rate=learning_rate,
      warmup_steps=warmup_steps,
      lr_weight=0.5,
      hr_weight=hr_weight,
      reset_optimizer=True,
    )
  )


def light_model():
  """The network of the released weights: GFN for CPUs, with a U-shaped deblurring module."""
  return ConfigDict(
    dict(
      name='gfn',
      features=32,
      deblur_module='unet',
      deblur_blocks=(1, 2, 3),
      sr_blocks=0,
      reconstruction_blocks=1,
      upsampler='pixelshuffledirect',
      initialization='scaled',
      global_skip='deblurred',
    )
  )


def camera():
  """Blur of a camera, which averages light. Pixels are those of a photo at full size.

  Sources: translation to zoom and the regions fit the blur of GOPRO (docs/motion_blur.md); gamma
  is sRGB's and its neighbours'; exposure, noise and JPEG are what RSBlur (Rim et al., ECCV 2022)
  found to matter, at the strength of small cameras.
  """
  return ConfigDict(
    dict(
      share=1.0,  # how often this world is drawn beside others
      frames=15,
      gamma=(2.2, 2.2),  # of the photos; 1 averages the values as they are stored
      skew=1.5,
      wobble=0.2,
      translation=(0.0, 40.0),  # pixels
      rotation=(0.0, 1.0),  # degrees
      tilt=(0.0, 0.5),  # degrees
      focal_length=1000.0,  # pixels
      zoom=(0.0, 1.0),  # percent
      regions=1,
      region_size=(0.15, 0.6),  # of the crop's side
      region_edge=(1.0, 4.0),  # pixels
      region_translation=(0.0, 24.0),  # pixels
      region_rotation=(0.0, 4.0),  # degrees
      region_zoom=(0.0, 4.0),  # percent
      exposure=(1.0, 1.2),  # factor
      shot_noise=(0.0, 1e-4),  # variance per unit of linear light
      read_noise=(0.0, 1e-3),  # standard deviation, linear light
      sharp_share=0.0,  # of the photos, without motion
      jpeg_share=0.0,  # of the inputs, through JPEG
      jpeg_quality=(30, 95),  # as Pillow counts it
    )
  )


def get_config(variant=''):
  """configs/gfn.py with other data and one cosine phase, and the variants above."""
  config = gfn.get_config()
  del config.data_dir, config.shuffle_buffer

  config.photos = ''  # a folder of photographs, and all below it
  config.held_out = 20  # photos that are only for testing
  config.photo_list = ''  # a CSV file that names all photos, and those held out, instead
  config.photo_memory = 4.0  # GiB; photos beyond it are decoded when drawn
  config.photo_scales = (1.0, 0.84, 0.7, 0.6, 0.5)  # photos are reduced by one of them first
  config.margin = 32  # pixels around a crop, into which the motion looks
  config.motion_blur = ConfigDict(dict(camera=camera()))
  # Folders in GOPRO_Large's layout, to be mixed in: `path`, the name of the blurred folders, how
  # many times the files are larger than LR images, and the share of the examples.
  config.real_pairs = ConfigDict(dict(gopro=dict(path='', blur='blur_gamma', reduce=4, share=0.25)))

  config.loss.hr = config.loss.lr = 'charbonnier'
  config.precision = 'bfloat16'
  config.batch_size = 32
  config.crop_size = 64
  config.steps_per_epoch = 1000
  config.phases = ConfigDict()
  config.phases.phase_1 = phase(100, 3e-4, warmup_steps=1000)
  config.eval_every = 5000

  if variant.startswith('small'):
    config.model.update(features=24, deblur_blocks=4, sr_blocks=3, reconstruction_blocks=3)
    config.model.global_skip = 'deblurred'
    config.precision = 'float32'
    config.batch_size = 8
    config.crop_size = 32
    config.optimizer.name = 'muon'
    config.phases.phase_1 = phase(10, 3e-3, warmup_steps=200, hr_weight=0.0)
    config.phases.phase_2 = phase(5, 3e-3, warmup_steps=200)
    config.eval_every = 1000
  if variant == 'small_sr':
    config.model.update(name='sr_branch', global_skip='input')
    del config.model.deblur_blocks, config.model.gate_recursions
    del config.phases.phase_1
    config.phases.phase_2.model = ConfigDict()
  elif variant == 'small_finetune':
    config.init_from = 'gfn'
    config.model = light_model()
    config.phases = ConfigDict(dict(phase_1=phase(2, 5e-4, warmup_steps=200)))
  elif variant not in ('', 'small'):
    raise UserError(
      "configs/gfn_photos.py has the variants '', 'small', 'small_sr' and 'small_finetune', "
      f'not {variant!r}'
    )
  return config
