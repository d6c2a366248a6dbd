r"""Deblurring networks of the papers' tables on the frames of GOPRO_Large.

    gfn-prepare lr_gopro --manual_dir=GOPRO_Large --data_dir=tfds --scale=1
    gfn-train --config=deblurring:deepdeblur --workdir=W \
      --config.data.data_dir=tfds/lr_gopro/x1_blur_gamma

| variant | network | schedule, as its authors have it |
|---|---|---|
| deepdeblur | DeepDeblur, without its discriminator | 1,000 epochs, halved after 500, 750 and 900 |
| dmphn | DMPHN(1-2-4-8) | 4,000 epochs, a tenth every 1,000 |
| srn | SRN-Deblur, colour | 4,000 epochs, a polynomial of power 0.3 to 0 |
| deblurgan | DeblurGAN's generator, alone | 300 epochs, in the second half linearly to 0 |

The examples are 256x256 windows of frames at three sizes, in any of eight orientations; the authors
draw crops of that size. An epoch has as many steps as theirs, who take one crop of each of 2,103
frames. The losses are theirs but for the adversarial ones, which are left out, and for DeblurGAN's
perceptual loss, in whose place stands the mean squared error. Gradients are clipped at a norm of 1,
which no author does. On data without `--scale=1` the networks learn to deblur LR images. None has
been run with this code yet.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import defaults
from gfn_jax.configs.defaults import phase, step_decay

FRAMES = 2103  # in GOPRO_Large's training split

_MILESTONES = dict(
  name='milestones', learning_rate=1e-4, decay_rate=0.5, decay_epochs=(500, 750, 900)
)
_POLYNOMIAL = dict(name='polynomial', learning_rate=1e-4, power=0.3)
_LINEAR = dict(
  name='constant',
  learning_rate=1e-4,
  end_learning_rate=0.0,
  warmup_steps=0,
  decay_steps=150 * FRAMES,
)

# Epochs, schedule, batch, and loss.
RECIPES = {
  'deepdeblur': (1000, _MILESTONES, 16, 'l1'),
  'dmphn': (4000, step_decay(1e-4, 0.1, 1000), 2, 'mse'),
  'srn': (4000, _POLYNOMIAL, 16, 'mse'),
  'deblurgan': (300, _LINEAR, 1, 'mse'),
}


def get_config(variant='deepdeblur'):
  """Return the config of one of the variants above."""
  defaults.check_variant('deblurring', variant, tuple(RECIPES))
  epochs, schedule, batch_size, loss = RECIPES[variant]
  config = defaults.tfrecords()
  config.model = ConfigDict(dict(name=variant))
  config.loss = ConfigDict(dict(lr=dict(on='lr', loss=loss, weight=1.0)))
  config.training.update(batch_size=batch_size, steps_per_epoch=FRAMES // batch_size)
  config.phases.phase_1 = phase(epochs, schedule, lr_weight=1.0, hr_weight=0.0)
  if variant == 'deblurgan':
    config.optimizer.b1 = 0.5
  return config
