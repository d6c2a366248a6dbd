"""GFN on LR-GOPRO with the paper's two phases (section 3.3).

    gfn-train --config=gfn_paper --workdir=W --config.data.data_dir=DIR

Data, initialisation, clipping and the variant `:paper` are as in configs/gfn.py. Expected: the
paper's 27.74 dB, SSIM 0.896 on the 1111 test images under protocol `gfn`. It has not been trained
to its end with this code yet.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import gfn
from gfn_jax.configs.defaults import phase, step_decay


def get_config(variant=''):
  """Return a variant of configs/gfn.py with the paper's phases."""
  config = gfn.get_config(variant)
  config.phases = ConfigDict(
    dict(
      phase_1=phase(60, step_decay(1e-4, 0.1, 30), model=dict(gated=False), lr_weight=0.5),
      phase_2=phase(
        50,
        step_decay(5e-5, 0.1, 25),
        model=dict(gated=True),
        lr_weight=0.5,
        reset_optimizer=True,
      ),
    )
  )
  return config
