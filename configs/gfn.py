"""GFN on LR-GOPRO, with the three phases of the authors' released code.

    gfn-train --config=gfn --workdir=W --config.data.data_dir=DIR

Data: LR-GOPRO x4 from GOPRO_Large's `blur_gamma`, 107,584 patches (docs/datasets.md). Expected:
27.81 dB on the 1111 test images under protocol `gfn`, as the authors report for this schedule after
three to four days on one GTX 1080 Ti. It has not been trained to its end with this code yet.

The default scales the residual branches at first and clips gradients at a norm of 1. The authors do
neither: with their initialisation the first gated loss is about 1e12, and training may not recover.
`:paper` has the authors' initialisation and no clipping (docs/recipes.md).
"""

from ml_collections import ConfigDict

from gfn_jax.configs import defaults
from gfn_jax.configs.defaults import phase, step_decay


def get_config(variant=''):
  """Return the config; `variant` is '' or 'paper'."""
  defaults.check_variant('gfn', variant, ('', 'paper'))
  config = defaults.tfrecords()
  config.model = model()
  config.phases = ConfigDict(
    dict(
      phase_1=phase(25, step_decay(1e-4, 0.5, 7), model=dict(gated=False), lr_weight=0.5),
      phase_2=phase(60, step_decay(1e-4, 0.1, 30), model=dict(gated=False), lr_weight=0.5),
      phase_3=phase(
        55,
        step_decay(5e-5, 0.1, 25),
        model=dict(gated=True),
        lr_weight=0.0,
        reset_optimizer=True,
      ),
    )
  )
  if variant == 'paper':
    config.model.initialization = 'authors'
    config.optimizer.clip_norm = 0.0
  return config


def model():
  """Return the options of the paper's network."""
  return ConfigDict(
    dict(
      name='gfn',
      features=64,
      deblur_blocks=6,
      sr_blocks=8,
      reconstruction_blocks=8,
      gate_recursions=1,
      initialization='scaled',
      global_skip='none',
    )
  )
