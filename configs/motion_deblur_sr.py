"""Shoyan et al.'s network on LR-GOPRO, with the schedule of the authors' code.

    python run_train.py --config=configs/motion_deblur_sr.py --workdir=W --config.data_dir=DIR

Data: as configs/gfn.py; the paper names no blur, and the authors' code points at GFN's data.
Expected: 28.27 dB, SSIM 0.909 (3-D) on the 1111 test images, which the authors reach from MPRNet's
weights. Nobody has run it with this code yet.

Their start: `python -m gfn_jax.interop.import_torch model_deblurring.pth mprnet.safetensors --model
mprnet`, then `--config.init_from=mprnet.safetensors`; what is not in the file is drawn.
`--config.loss.edge_weight=1` is the paper's weight in place of the code's. `:paper` stops after 21
of the 100 epochs, where the published weights seem to be from.
"""

from ml_collections import ConfigDict

from configs import gfn
from gfn_jax.errors import UserError


def phase(epochs, learning_rate, end_learning_rate, cosine_epochs, warmup_epochs, lr_weight):
  """One phase: once an epoch the learning rate follows a cosine over `cosine_epochs`.

  Before that it rises over `warmup_epochs`, which count among these.
  """
  return ConfigDict(
    dict(
      model=dict(),
      epochs=epochs,
      learning_rate=learning_rate,
      end_learning_rate=end_learning_rate,
      cosine_epochs=cosine_epochs,
      warmup_epochs=warmup_epochs,
      lr_weight=lr_weight,
      hr_weight=1.0,
      reset_optimizer=False,
    )
  )


def get_config(variant=''):
  """configs/gfn.py with another network, loss and schedule; `variant` is '' or 'paper'."""
  if variant not in ('', 'paper'):
    raise UserError(f"configs/motion_deblur_sr.py has the variants '' and 'paper', not {variant!r}")
  config = gfn.get_config()
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
  config.init_except = ('fusion', 'reconstruction')
  config.batch_size = 13
  config.loss.update(hr='mse', lr='charbonnier', edge_weight=0.05)
  epochs = 21 if variant == 'paper' else 100
  config.phases = ConfigDict()
  config.phases.phase_1 = phase(epochs, 1e-4, 1e-5, 100, 0, lr_weight=0.5)
  return config
