"""The flags of commands that run in several processes (docs/cluster.md).

A command shows them with `flags.adopt_module_key_flags(distributed)`, and calls `join` first.
"""

import jax
from absl import flags

from gfn_jax.system import parallel

DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Join the processes that the cluster (SLURM, TPU pod, Open MPI) started.'
)
COORDINATOR = flags.DEFINE_string(
  'coordinator_address', None, 'Without a cluster: host:port of the process 0.'
)
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'And how many there are.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'And the number of this one.')


def join() -> None:
  """Joins the other processes, if the flags say that there are any.

  To be called before anything else of JAX.

  Raises:
    UserError: as `parallel.initialize`.
  """
  processes = COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value
  if DISTRIBUTED.value or processes != (None, None, None):
    # It would swallow SIGTERM: training notes that by itself, and the rest should end.
    jax.config.update('jax_enable_preemption_service', False)
    parallel.initialize(*processes)
