"""MPRNet (Zamir et al., CVPR 2021) as a deblurrer of the inputs of LR-GOPRO.

    gfn-train --config=mprnet --workdir=W --config.data.data_dir=DIR

The schedule is the authors', who train on 256x256 crops of GOPRO's 2,103 full-size frames; an epoch
here has as many steps as theirs. The default clips gradients at a norm of 1; `:paper` does not, as
the authors. The evaluation scores `lr`, beside the input. It has not been trained to its end with
this code yet.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import defaults, motion_deblur_sr
from gfn_jax.configs.defaults import phase


def get_config(variant=''):
  """Return the config of configs/motion_deblur_sr.py with MPRNet and its schedule."""
  defaults.check_variant('mprnet', variant, ('', 'paper'))
  config = motion_deblur_sr.get_config()
  config.model = ConfigDict(
    dict(name='mprnet', features=96, unet_step=48, orsnet_step=32, unet_blocks=2, orsnet_blocks=8)
  )
  config.training.update(batch_size=16, steps_per_epoch=131)
  schedule = motion_deblur_sr.cosine_by_epoch(2e-4, 1e-6, 3000, 3)
  config.phases.phase_1 = phase(3000, schedule, lr_weight=1.0)
  config.run.init_except = ()
  if variant == 'paper':
    config.optimizer.clip_norm = 0.0
  return config
