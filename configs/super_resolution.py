r"""Super-resolution networks of the papers' tables on LR-GOPRO, sharp or blurred.

    gfn-train --config=super_resolution:edsr --workdir=W \
      --config.data.data_dir=DIR

| variant | network | schedule, as its authors have it |
|---|---|---|
| edsr, edsr_baseline | EDSR | 300 epochs, halved after 200 |
| rcan | RCAN | 1,000 epochs, halved every 200 |
| han | HAN | 1,000 epochs, halved every 200 |
| srfbn | SRFBN | 1,000 epochs, halved every 200 |
| rrdbnet | RRDBNet | 1,000 epochs, four cosines |
| srresnet | SRResNet, preset `srresnet_gfn` | 500 epochs, a tenth every 200 |

An epoch is 1,000 steps. The input is the sharp LR image: the half of a cascade that enlarges.
`edsr,blurred` and so on train on blurred LR images, as the rows of the tables without a deblurring
network that were retrained. The losses and the schedules are the authors', who train on other data,
DIV2K or ImageNet, and start the scales 3 and 4 from a network for 2. The counts of epochs of HAN
and RCAN, and all but the loss of SRResNet, are choices: their papers do not state them in epochs.
Gradients are clipped at a norm of 1, which no author does. None has been trained to its end with
this code yet.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import defaults
from gfn_jax.configs.defaults import phase, step_decay

_HALVED = step_decay(1e-4, 0.5, 200)
_COSINES = dict(
  name='cosine_restarts',
  learning_rate=2e-4,
  end_learning_rate=1e-7,
  periods=4,
  restart_factor=1.0,
)

# Epochs, schedule, side of the LR crops, and loss.
RECIPES = {
  'edsr': (300, _HALVED, 48, 'l1'),
  'edsr_baseline': (300, _HALVED, 48, 'l1'),
  'rcan': (1000, _HALVED, 48, 'l1'),
  'han': (1000, _HALVED, 48, 'l1'),
  'srfbn': (1000, _HALVED, 40, 'l1'),
  'rrdbnet': (1000, _COSINES, 32, 'l1'),
  'srresnet': (500, step_decay(1e-4, 0.1, 200), 64, 'mse'),
}
VARIANTS = tuple(name + blurred for name in RECIPES for blurred in ('', ',blurred'))


def get_config(variant='edsr'):
  """Return the config of one of the variants above."""
  defaults.check_variant('super_resolution', variant, VARIANTS)
  name, _, blurred = variant.partition(',')
  epochs, schedule, crop_size, loss = RECIPES[name]
  config = defaults.tfrecords()
  config.data.clean = not blurred
  config.model = ConfigDict(dict(name=name))
  config.loss = ConfigDict(dict(hr=dict(on='hr', loss=loss, weight=1.0)))
  config.training.update(batch_size=16, crop_size=crop_size, steps_per_epoch=1000)
  config.phases.phase_1 = phase(epochs, schedule, lr_weight=0.0)
  if name == 'rrdbnet':
    config.optimizer.b2 = 0.99
    config.training.ema_decay = 0.999
  return config
