"""Train a network.

    gfn-train --config=configs/gfn.py --workdir=W --config.data.data_dir=DIR

On several machines, run the same command with `--distributed` in each process (docs/cluster.md).
After SIGTERM it saves a checkpoint and exits with status 143, after Ctrl-C with 130. A second
Ctrl-C ends it at once. The same command continues the run.
"""

import os
import sys

from absl import flags
from ml_collections import config_flags

from gfn_jax.cli import distributed
from gfn_jax.cli.runner import run_command
from gfn_jax.system import compilation_cache
from gfn_jax.training import loop

CONFIG = config_flags.DEFINE_config_file('config', None, 'Config of the run.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; an existing run is continued.')
flags.adopt_module_key_flags(distributed)
flags.mark_flags_as_required(['config', 'workdir'])


def main(_: list[str]) -> None:
  """Train the network that the flags ask for."""
  distributed.join()
  overrides = config_flags.get_override_values(flags.FLAGS['config'])
  loop.train_and_evaluate(CONFIG.value, WORKDIR.value, overrides)


def run() -> None:
  """Run the command `gfn-train`."""
  sys.path.insert(0, os.getcwd())  # configs import each other from the project's folder
  compilation_cache.enable()
  run_command(main)


if __name__ == '__main__':
  run()
