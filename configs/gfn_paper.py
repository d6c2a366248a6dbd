"""GFN on LR-GOPRO with the paper's two phases (section 3.3).

    python run_train.py --config=configs/gfn_paper.py --workdir=W --config.data_dir=DIR

Data: as configs/gfn.py. Expected: the paper's 27.74 dB, SSIM 0.896 on the 1111 test images under
protocol `gfn`. Nobody has run it with this code yet.
"""

from ml_collections import ConfigDict

from configs import gfn


def get_config():
  """configs/gfn.py with other phases."""
  config = gfn.get_config()
  config.phases = ConfigDict()
  config.phases.phase_1 = gfn.phase(False, 60, 1e-4, 0.1, 30, lr_weight=0.5)
  config.phases.phase_2 = gfn.phase(True, 50, 5e-5, 0.1, 25, lr_weight=0.5, reset_optimizer=True)
  return config
