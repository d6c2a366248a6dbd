"""MPRNet (Zamir et al., CVPR 2021) as a deblurrer of the inputs of LR-GOPRO.

    python run_train.py --config=configs/mprnet.py --workdir=W --config.data_dir=DIR

The recipe of its authors, who train on crops of 256x256 of GOPRO's full-size frames. There are
2,103 of them: here an epoch is as many steps as theirs. What is scored is `lr`, beside the input.
Nobody has run it with this code yet.
"""

from ml_collections import ConfigDict

from configs import gfn
from configs.motion_deblur_sr import phase


def get_config():
  """configs/gfn.py with another network, loss and schedule."""
  config = gfn.get_config()
  config.model = ConfigDict(
    dict(name='mprnet', features=96, unet_step=48, orsnet_step=32, unet_blocks=2, orsnet_blocks=8)
  )
  config.loss.update(hr='mse', lr='charbonnier', edge_weight=0.05)
  config.steps_per_epoch = 131  # of 16 examples
  config.phases = ConfigDict()
  config.phases.phase_1 = phase(3000, 2e-4, 1e-6, 3000, 3, lr_weight=1.0)
  return config
