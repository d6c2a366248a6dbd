"""GFN on LR-GOPRO, with the three phases of the authors' released code.

    python run_train.py --config=configs/gfn.py --workdir=W --config.data.data_dir=DIR

Data: LR-GOPRO x4 from GOPRO_Large's `blur_gamma`, 107,584 patches (docs/datasets.md).
Expected: 27.81 dB on the 1111 test images under protocol `gfn`, as the authors report for this
schedule after three to four days on one GTX 1080 Ti. It has not been run with this code yet.

`--config=configs/gfn.py:literal` also uses the authors' initialisation and no gradient clipping.
The first gated loss is then about 1e12, and training may not recover.
"""

from ml_collections import ConfigDict

from configs import defaults
from configs.defaults import phase, step_decay
from gfn_jax.errors import UserError


def get_config(variant=''):
  """Return the config; `variant` is '' or 'literal'."""
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
  if variant == 'literal':
    config.model.initialization = 'authors'
    config.optimizer.clip_norm = 0.0
  elif variant:
    raise UserError(f"unknown variant of configs/gfn.py: {variant!r}; choose from '', 'literal'")
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
