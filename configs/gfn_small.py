"""Small GFN for CPUs, with about 1/50 of the computation.

gfn-train --config=gfn_small --workdir=W --config.data.data_dir=DIR
"""

from ml_collections import ConfigDict

from gfn_jax.configs import gfn
from gfn_jax.configs.defaults import phase, step_decay


def get_config():
  """Return the config of configs/gfn.py with a narrow network and epochs of 100 steps."""
  config = gfn.get_config()
  config.data.shuffle_buffer = 512
  config.model.update(features=16, deblur_blocks=2, sr_blocks=3, reconstruction_blocks=3)
  config.training.update(batch_size=8, crop_size=32, steps_per_epoch=100)
  config.phases = ConfigDict(
    dict(
      phase_1=phase(6, step_decay(2e-3, 0.5, 3), model=dict(gated=False), lr_weight=0.5),
      phase_2=phase(
        6,
        step_decay(1e-3, 0.5, 2),
        model=dict(gated=True),
        lr_weight=0.5,
        reset_optimizer=True,
      ),
    )
  )
  config.evaluation.update(every=200, images=3)
  config.run.update(log_every=20, checkpoint_every=100)
  return config
