"""CNLRN on REDS, with the two phases of the authors' code.

    python run_train.py --config=configs/cnlrn.py --workdir=W --config.data_dir=DIR

Data: REDS (docs/datasets.md), random crops of whole frames. Expected: 27.77 dB, SSIM 0.7784 on
Val300 under protocol `cnlrn`. Nobody has run it with this code yet.

First the deblurring network is trained alone, with one convolution more that makes an image; then
both networks together, the first one with a lower learning rate. An epoch is 1,000 steps.

| variant | what it is | Val300, in the paper |
|---|---|---|
| '' | the authors' code | 27.770 dB |
| paper | Adam's beta2 is 0.999, one cosine for a phase, crops of 64x64 in both | |
| no_deblurring | without the deblurring network, and the first phase | 27.532 |
| no_nonlocal | without the non-local blocks | 27.541 |
| no_progressive | both enlargements follow all groups | 27.588 |
| no_gradient_loss | | 27.660 |

The paper gives no number of steps; they are the code's.
"""

from ml_collections import ConfigDict

from configs import gfn
from gfn_jax.errors import UserError

OPTIONS = {
  'no_deblurring': dict(deblur=False, deblur_head=False),
  'no_nonlocal': dict(use_nonlocal=False),
  'no_progressive': dict(progressive=False),
}
VARIANTS = ('', 'paper', *OPTIONS, 'no_gradient_loss')


def phase(model, epochs, learning_rate, restart_factor, lr_weight, hr_weight, crop_size):
  """One phase of four cosines; the later ones start at `restart_factor` times the rate."""
  return ConfigDict(
    dict(
      model=model,
      epochs=epochs,
      learning_rate=learning_rate,
      periods=4,
      restart_factor=restart_factor,
      end_learning_rate=1e-7,
      lr_weight=lr_weight,
      hr_weight=hr_weight,
      crop_size=crop_size,
      reset_optimizer=True,
    )
  )


def get_config(variant=''):
  """configs/gfn.py with another network, loss and schedule, and the variants above."""
  if variant not in VARIANTS:
    raise UserError(f'configs/cnlrn.py has the variants {VARIANTS}, not {variant!r}')
  config = gfn.get_config()
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
  config.loss.update(hr='l1', lr='l1', gradient_weight=0.1)
  config.optimizer.update(b2=0.99, clip_norm=0.0)
  config.batch_size = 32
  config.crop_size = 64
  config.shuffle_buffer = 64  # whole frames
  config.steps_per_epoch = 1000
  config.checkpoint_every = config.eval_every = 2000
  config.protocol = 'cnlrn'
  config.phases = ConfigDict()
  config.phases.phase_1 = phase({}, 600, 1e-4, 1.0, 1.0, 0.0, crop_size=128)
  config.phases.phase_2 = phase({'deblur_head': False}, 1000, 2e-4, 0.5, 0.0, 1.0, crop_size=64)
  config.phases.phase_2.module_learning_rates = ConfigDict(dict(deblur=1e-5))

  config.model.update(OPTIONS.get(variant, {}))
  if variant == 'paper':
    config.optimizer.b2 = 0.999
    for one in config.phases.values():
      one.update(periods=1, crop_size=64)
  elif variant == 'no_deblurring':
    del config.phases.phase_1, config.phases.phase_2.module_learning_rates
  elif variant == 'no_gradient_loss':
    config.loss.gradient_weight = 0.0
  return config
