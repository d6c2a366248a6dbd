"""Shoyan et al.'s network on LR-GOPRO, with the schedule of the authors' code.

    gfn-train --config=motion_deblur_sr --workdir=W --config.data.data_dir=DIR

Data: as configs/gfn.py; the paper names no blur, and the authors' code refers to GFN's data.
Expected: 28.27 dB, SSIM 0.909 (3-D) on the 1111 test images, probably under protocol `mprnet`. The
authors reach it from MPRNet's weights. It has not been trained to its end with this code yet.

| variant | difference |
|---|---|
| '' | scaled initialisation of the reconstruction, gradients clipped at a norm of 1 |
| code | the authors' code: its initialisation, unclipped |
| paper | as code, with the paper's weight of 1 for the edge loss and its 21 epochs |

The published weights probably are of epoch 21 of 100. The paper's data are windows of frames at
full size alone, 75,708 of them: build them with `gfn-prepare lr_gopro --windows=full_size`.

To start from MPRNet's weights, run `gfn-import model_deblurring.pth mprnet.safetensors --model
mprnet` and pass `--config.run.init_from=mprnet.safetensors`. Modules missing in the file keep their
initialisation.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import defaults
from gfn_jax.configs.defaults import phase


def get_config(variant=''):
  """Return the config of one of the variants above."""
  defaults.check_variant('motion_deblur_sr', variant, ('', 'code', 'paper'))
  config = defaults.tfrecords()
  config.model = ConfigDict(
    dict(
      name='motion_deblur_sr',
      features=96,
      unet_step=48,
      orsnet_step=32,
      unet_blocks=2,
      orsnet_blocks=8,
      sr_features=64,
      reconstruction_blocks=8,
      final_activation='sigmoid',
      initialization='scaled',
      global_skip='none',
    )
  )
  config.loss = loss()
  config.training.batch_size = 13
  epochs = 21 if variant == 'paper' else 100
  config.phases.phase_1 = phase(epochs, cosine_by_epoch(1e-4, 1e-5, 100, 0), lr_weight=0.5)
  config.run.init_except = ('fusion', 'reconstruction')
  config.evaluation.protocol = 'mprnet'
  if variant:
    config.model.initialization = 'authors'
    config.optimizer.clip_norm = 0.0
  if variant == 'paper':
    config.loss.edge.weight = 1.0
  return config


def loss():
  """Return MPRNet's loss of the deblurred images and the mean squared error of the large one."""
  return ConfigDict(
    dict(
      hr=dict(on='hr', loss='mse', weight=1.0),
      lr=dict(on='lr', loss='charbonnier', weight=1.0),
      edge=dict(on='lr', loss='edge', weight=0.05),
    )
  )


def cosine_by_epoch(learning_rate, end_learning_rate, cosine_epochs, warmup_epochs):
  """Return a schedule that follows a cosine in steps of an epoch, including warm-up epochs."""
  return dict(
    name='cosine_by_epoch',
    learning_rate=learning_rate,
    end_learning_rate=end_learning_rate,
    cosine_epochs=cosine_epochs,
    warmup_epochs=warmup_epochs,
  )
