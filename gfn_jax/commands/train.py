"""Trains a network.

    gfn-train --config=configs/gfn.py --workdir=W --config.data_dir=DIR

On several machines the same command with `--distributed` runs in each process (docs/cluster.md). It
exits with 143 after SIGTERM, when what was reached is saved: the same command goes on from there.
"""

import os
import sys

from absl import flags
from ml_collections import config_flags

from gfn_jax import parallel, train
from gfn_jax.errors import run_command

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; an existing run is continued.')
DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Join the processes that the cluster (SLURM, TPU pod, Open MPI) started.'
)
COORDINATOR = flags.DEFINE_string(
  'coordinator_address', None, 'Without a cluster: host:port of the process 0.'
)
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'And how many there are.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'And the number of this one.')
flags.mark_flags_as_required(['config', 'workdir'])


def main(_):
  """Flags to a call."""
  processes = COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value
  if DISTRIBUTED.value or processes != (None, None, None):
    parallel.initialize(*processes)
  overrides = config_flags.get_override_values(flags.FLAGS['config'])
  train.train_and_evaluate(CONFIG.value, WORKDIR.value, overrides)


def run() -> None:
  """The command `gfn-train`."""
  sys.path.insert(0, os.getcwd())  # configs import each other from the project's folder
  run_command(main)
