"""A small GFN for CPUs: the same code, about 1/50 of the work.

python run_train.py --config=configs/gfn_small.py --workdir=W --config.data_dir=DIR
"""

from ml_collections import ConfigDict

from configs import gfn


def get_config():
  """configs/gfn.py with a narrow network and short phases, counted in epochs of 100 steps."""
  config = gfn.get_config()
  config.model.update(features=16, deblur_blocks=2, sr_blocks=3, reconstruction_blocks=3)
  config.batch_size = 8
  config.crop_size = 32
  config.shuffle_buffer = 512
  config.steps_per_epoch = 100

  config.phases = ConfigDict()
  config.phases.phase_1 = gfn.phase(False, 6, 2e-3, 0.5, 3, lr_weight=0.5)
  config.phases.phase_2 = gfn.phase(True, 6, 1e-3, 0.5, 2, lr_weight=0.5, reset_optimizer=True)

  config.log_every = 20
  config.checkpoint_every = 100
  config.eval_every = 200
  config.eval_images = 3
  return config
