"""Trains a network.

    gfn-train --config=configs/gfn.py --workdir=W --config.data_dir=DIR

On several machines the same command with `--distributed` runs in each process (docs/cluster.md). It
exits with 143 after SIGTERM, when what was reached is saved: the same command goes on from there.
"""

import os
import sys

from absl import flags
from ml_collections import config_flags

from gfn_jax.cli import distributed
from gfn_jax.errors import run_command
from gfn_jax.system import compilation_cache
from gfn_jax.training import loop

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; an existing run is continued.')
flags.adopt_module_key_flags(distributed)
flags.mark_flags_as_required(['config', 'workdir'])


def main(_):
  """Flags to a call."""
  distributed.join()
  overrides = config_flags.get_override_values(flags.FLAGS['config'])
  loop.train_and_evaluate(CONFIG.value, WORKDIR.value, overrides)


def run() -> None:
  """The command `gfn-train`."""
  sys.path.insert(0, os.getcwd())  # configs import each other from the project's folder
  compilation_cache.enable()
  run_command(main)
