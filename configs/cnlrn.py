"""CNLRN on REDS, with the two phases of the authors' code.

    gfn-train --config=cnlrn --workdir=W --config.data.data_dir=DIR

Data: REDS (docs/datasets.md), random crops of whole frames. Expected: 27.77 dB, SSIM 0.7784 on
Val300 under protocol `cnlrn`. It has not been trained to its end with this code yet.

The deblurring network is trained alone first, with an additional convolution that outputs an image.
Then both networks are trained together, the first one with a lower learning rate. An epoch is 1,000
steps.

| variant | difference | Val300, in the paper |
|---|---|---|
| '' | the authors' code | 27.770 dB |
| paper | Adam's beta2 is 0.999, one cosine per phase, crops of 64x64 in both | |
| no_deblurring | without the deblurring network and the first phase | 27.532 |
| no_nonlocal | without the non-local blocks | 27.541 |
| no_progressive | both enlargements follow all groups | 27.588 |
| no_gradient_loss | without the gradient loss | 27.660 |

The number of steps is from the authors' code; the paper does not state it.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import defaults
from gfn_jax.configs.defaults import phase

OPTIONS = {
  'no_deblurring': dict(deblur=False, deblur_head=False),
  'no_nonlocal': dict(use_nonlocal=False),
  'no_progressive': dict(progressive=False),
}
VARIANTS = ('', 'paper', *OPTIONS, 'no_gradient_loss')


def _phase(model, epochs, learning_rate, restart_factor, lr_weight, hr_weight, crop_size):
  """Return a phase of four cosines; later ones start at `restart_factor` times the rate."""
  schedule = dict(
    name='cosine_restarts',
    learning_rate=learning_rate,
    end_learning_rate=1e-7,
    periods=4,
    restart_factor=restart_factor,
  )
  made = phase(
    epochs,
    schedule,
    model=model,
    lr_weight=lr_weight,
    hr_weight=hr_weight,
    reset_optimizer=True,
  )
  made.crop_size = crop_size
  return made


def get_config(variant=''):
  """Return the config of one of the variants above."""
  defaults.check_variant('cnlrn', variant, VARIANTS)
  config = defaults.tfrecords()
  config.model = ConfigDict(
    dict(
      name='cnlrn',
      features=64,
      deblur_features=64,
      deblur_blocks=20,
      deblur_stage_blocks=3,
      groups=6,
      upsample_groups=2,
      subgroups=2,
      rcabs=4,
      heads=4,
      patch_size=4,
      reduction=16,
      deblur=True,
      deblur_head=True,
      use_nonlocal=True,
      progressive=True,
      global_skip='none',
    )
  )
  config.loss = ConfigDict(
    dict(
      hr=dict(on='hr', loss='l1', weight=1.0),
      lr=dict(on='lr', loss='l1', weight=1.0),
      gradient=dict(on='hr', loss='gradient', weight=0.1),
    )
  )
  config.optimizer.update(b2=0.99, clip_norm=0.0)
  config.training.update(batch_size=32, crop_size=64, steps_per_epoch=1000)
  config.phases.phase_1 = _phase({}, 600, 1e-4, 1.0, 1.0, 0.0, crop_size=128)
  joint = _phase({'deblur_head': False}, 1000, 2e-4, 0.5, 0.0, 1.0, crop_size=64)
  config.phases.phase_2 = joint
  joint.module_learning_rates = ConfigDict(dict(deblur=1e-5))
  config.evaluation.update(every=2000, protocol='cnlrn')
  config.run.checkpoint_every = 2000
  config.data.shuffle_buffer = 64  # whole frames

  config.model.update(OPTIONS.get(variant, {}))
  if variant == 'paper':
    config.optimizer.b2 = 0.999
    for one in config.phases.values():
      one.schedule.periods = 1
      one.crop_size = 64
  elif variant == 'no_deblurring':
    joint.module_learning_rates = ConfigDict()
    config.phases = ConfigDict(dict(phase_2=joint))
  elif variant == 'no_gradient_loss':
    config.loss.gradient.weight = 0.0
  return config
