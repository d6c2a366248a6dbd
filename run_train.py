"""Train a network, as `gfn-train` without installation.

python run_train.py --config=configs/gfn.py --workdir=W --config.data.data_dir=DIR
"""

from gfn_jax.cli import train

if __name__ == '__main__':
  train.run()
