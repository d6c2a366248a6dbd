"""Data parallelism over the local devices of every process, and nothing else."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from gfn_jax.errors import UserError

AXIS = 'batch'
"""The axis over which a step averages its gradients: `jax.lax.pmean(grads, AXIS)`."""


def replicate(tree: Any) -> Any:
  """Places a pytree on all local devices, so that a donated first step has buffers everywhere."""
  mesh = jax.sharding.Mesh(jax.local_devices(), (AXIS,))  # as the step returns it: compiled once
  return jax.device_put(tree, jax.NamedSharding(mesh, jax.P()))


def shard(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Splits `[B, ...]` into `[devices, B / devices, ...]` for this process's devices."""
  n = jax.local_device_count()
  return {key: x.reshape(n, x.shape[0] // n, *x.shape[1:]) for key, x in batch.items()}


def check_batch_size(batch_size: int) -> None:
  """Checks that a global batch can be divided among all devices.

  Raises:
    UserError: if it cannot.
  """
  if batch_size < 1 or batch_size % jax.device_count():
    raise UserError(
      f'batch_size {batch_size} is not a multiple of the {jax.device_count()} devices; '
      'choose one that is, or use fewer devices'
    )


def parallel_step(step: Callable[..., Any]) -> Callable[..., Any]:
  """Runs `step(state, batch)` on every device.

  The state goes in and comes out un-replicated, and is donated: the caller must not use the old
  one again. Batches come from `shard`. The step itself must average over `AXIS`; one that forgets
  to makes the replicas drift apart, of which only the first is seen.
  """
  return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)
