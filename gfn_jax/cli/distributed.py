"""Flags of commands that run in several processes (docs/cluster.md).

A command adopts them with `flags.adopt_module_key_flags(distributed)`, and first calls `join`.
"""

import jax
from absl import flags

from gfn_jax.system import parallel

DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Join the processes that the cluster (SLURM, TPU pod, Open MPI) started.'
)
COORDINATOR = flags.DEFINE_string(
  'coordinator_address', None, 'Without a cluster: host:port of process 0.'
)
NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'Without a cluster: number of processes.'
)
PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Without a cluster: number of this process, from 0.'
)


def join() -> None:
  """Join the other processes, if the flags ask for it. Call it before any other use of JAX.

  Raises:
    UserError: as `parallel.initialize`.
  """
  processes = COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value
  if DISTRIBUTED.value or processes != (None, None, None):
    # The service would catch SIGTERM, which training handles itself and which ends other commands.
    jax.config.update('jax_enable_preemption_service', False)
    parallel.initialize(*processes)
