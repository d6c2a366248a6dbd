"""Trains a network: `gfn-train`, without installing it.

python run_train.py --config=configs/gfn.py --workdir=W --config.data_dir=DIR
"""

from gfn_jax.cli import train

if __name__ == '__main__':
  train.run()
