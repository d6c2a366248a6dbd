"""GFN on any folder of sharp photos, with motion blur made on the device, without TensorFlow.

    gfn-train --config=gfn_photos --workdir=W --config.data.photos=DIR

`--config=gfn_photos:small` is a network and a schedule for CPUs: about two hours on two
cores. `:small_sr` leaves out the deblurring module, for comparison. `:small_finetune` continues
from the released weights, to adapt them to your photographs.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import defaults, gfn
from gfn_jax.configs.defaults import cosine, phase
from gfn_jax.errors import UserError


def get_config(variant=''):
  """Return the config of one of the variants above."""
  if variant == '':
    config = defaults.photos()
    config.model = gfn.model()
    config.phases.phase_1 = _phase(100, 3e-4, warmup_steps=1000)
    return config
  config = defaults.cpu_photos()
  config.phases = ConfigDict(
    dict(
      phase_1=_phase(10, 3e-3, warmup_steps=200, hr_weight=0.0),
      phase_2=_phase(5, 3e-3, warmup_steps=200),
    )
  )
  if variant == 'small':
    config.model = gfn.model()
    config.model.update(features=24, deblur_blocks=4, sr_blocks=3, reconstruction_blocks=3)
    config.model.global_skip = 'deblurred'
  elif variant == 'small_sr':
    config.model = ConfigDict(
      dict(
        name='sr_branch',
        features=24,
        sr_blocks=3,
        reconstruction_blocks=3,
        initialization='scaled',
        global_skip='input',
      )
    )
    config.phases = ConfigDict(dict(phase_2=_phase(5, 3e-3, warmup_steps=200, gated=False)))
  elif variant == 'small_finetune':
    config.model = light_model()
    config.phases = ConfigDict(dict(phase_1=_phase(2, 5e-4, warmup_steps=200)))
    config.run.init_from = 'gfn'
  else:
    raise UserError(
      f"unknown variant of configs/gfn_photos.py: {variant!r}; choose from '', 'small', "
      "'small_sr', 'small_finetune'"
    )
  return config


def _phase(epochs, learning_rate, warmup_steps, hr_weight=1.0, gated=True):
  """Return one phase; an `hr_weight` of 0 trains the deblurring module alone."""
  return phase(
    epochs,
    cosine(learning_rate, warmup_steps),
    model=dict(gated=True) if gated else {},
    lr_weight=0.5,
    hr_weight=hr_weight,
    reset_optimizer=True,
  )


def light_model():
  """Return the options of the released network: GFN for CPUs, with a U-shaped deblurring module."""
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
