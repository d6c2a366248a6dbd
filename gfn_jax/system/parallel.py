"""Data parallelism over the devices of all processes, and division of other work among them.

A cluster or a user starts the processes of a run, one or more on each machine, with the same
command. `initialize` joins them. Then `jax.devices()` lists the devices of all processes, and every
process feeds its own.
"""

import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from gfn_jax.errors import UserError
from gfn_jax.system.cpu_bfloat16 import without_cache_warning

AXIS = 'batch'
"""Name of the mapped axis of devices."""


def initialize(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Join the processes of a run. Call it before any other function of JAX.

  Args:
    coordinator_address: `host:port` of process 0. Without it, all arguments are taken from the
      cluster: JAX supports SLURM, TPU pods, Open MPI, MPICH and Kubernetes.
    num_processes: number of processes.
    process_id: number of this process, from 0.

  Raises:
    UserError: if only some arguments are given, no cluster is found, or a process does not connect.
  """
  arguments = (coordinator_address, num_processes, process_id)
  if any(value is not None for value in arguments) and None in arguments:
    raise UserError(
      'pass coordinator_address, num_processes and process_id together, or none of them to take '
      'them from the cluster'
    )
  try:
    jax.distributed.initialize(*arguments)
    jax.devices()  # connects the processes
  except (RuntimeError, ValueError) as error:
    reason = str(error).strip().partition('\n')[0]
    raise UserError(f'cannot join the processes of the run: {reason}') from error


def gather(value: Any) -> list[Any]:
  """Return the values that the processes pass, in their order; JSON must be able to hold them."""
  if jax.process_count() == 1:
    return [value]
  content = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.array([content.size]))[:, 0]
  padded = np.pad(content, (0, int(sizes.max()) - content.size))
  rows = multihost_utils.process_allgather(padded)
  return [json.loads(bytes(row[:size])) for row, size in zip(rows, sizes, strict=True)]


def from_first(tree: Any) -> Any:
  """Return the pytree that process 0 passes; the others pass arrays of the same shapes."""
  return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def replicate(tree: Any) -> Any:
  """Copy a pytree to all local devices, so that the first step can donate its buffers."""
  return jax.device_put(tree, jax.NamedSharding(_local_mesh(), jax.P()))


def shard(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
  """Split `[B, ...]` into `[devices, B / devices, ...]`, on this process's devices.

  Raises:
    UserError: if an array's B is not a multiple of the number of devices.
  """
  n = jax.local_device_count()
  if uneven := sorted(key for key, x in batch.items() if x.shape[0] % n):
    raise UserError(
      f'{n} devices cannot share {len(batch[uneven[0]])} examples equally ({uneven[0]}); change '
      'batch_size or, if a batch has real pairs, their shares'
    )
  parts = {key: x.reshape(n, x.shape[0] // n, *x.shape[1:]) for key, x in batch.items()}
  return jax.device_put(parts, jax.NamedSharding(_local_mesh(), jax.P(AXIS)))


def _local_mesh() -> jax.sharding.Mesh:
  return jax.sharding.Mesh(jax.local_devices(), (AXIS,))  # the sharding of a step's output


def check_batch_size(batch_size: int, parts: int = 1) -> None:
  """Raise if a global batch cannot be divided among all devices, and there into equal parts.

  Raises:
    UserError: naming the batch size and the number of devices.
  """
  devices = jax.device_count()
  if parts < 1:
    raise UserError(f'accumulate must be at least 1, not {parts}')
  if batch_size < 1 or batch_size % (devices * parts):
    times = f' times accumulate ({parts})' if parts > 1 else ''
    raise UserError(
      f'batch_size {batch_size} is not a multiple of the {devices} devices{times}; choose a '
      'multiple, or use fewer devices'
    )


def parallel_step(
  step: Callable[..., Any], compiler_options: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
  """Return `step` as a function `run(state, batch)` on all devices.

  The state is passed and returned un-replicated, and is donated: do not use the old one again.
  Batches come from `shard`. Implicit transfers from the host raise.

  Args:
    step: maps a state, a batch and a function `average` to a state and scalars. `average` returns
      the mean of a pytree over all devices; a step that does not average its gradients lets the
      replicas diverge silently.
    compiler_options: XLA's options for this step, as `jax.jit` takes them, or None.
  """
  run = pmap_step(step)
  if compiler_options:  # pmap takes none
    run = jax.jit(run, donate_argnums=0, compiler_options=dict(compiler_options))
    run = without_cache_warning(run)

  def run_on_devices(state: Any, batch: Any) -> Any:
    with jax.transfer_guard_host_to_device('disallow'):
      return run(state, batch)

  return run_on_devices


def pmap_step(step: Callable[..., Any], devices: Sequence[jax.Device] | None = None) -> Any:
  """Return the `jax.pmap` of `parallel_step`, on all devices or the given ones."""

  def step_on_device(state: Any, batch: Any) -> Any:
    return step(state, batch, functools.partial(jax.lax.pmean, axis_name=AXIS))

  return jax.pmap(
    step_on_device,
    axis_name=AXIS,
    in_axes=(None, 0),
    out_axes=None,
    devices=devices,
    donate_argnums=0,
  )


def share(items: Sequence | Iterable) -> Any:
  """Return the items that this process works on: every n-th item for n processes.

  Args:
    items: items that are the same in every process. The share of a sequence is a sequence, the
      share of another iterable an iterator.
  """
  index, count = jax.process_index(), jax.process_count()
  if isinstance(items, Sequence):
    return items[index::count]
  return itertools.islice(items, index, None, count)


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
  """Wait for all processes at the end of the context; if one has failed, all raise.

  Processes must not wait for each other inside the context.

  Raises:
    UserError: in processes that did not fail, with the message of the first one that did.
  """
  mine = None
  try:
    yield
  except Exception as error:
    if jax.process_count() == 1:
      raise
    mine = error
  reasons = gather(mine and (str(mine) or type(mine).__name__))
  if mine is not None:
    raise mine
  if reason := next(filter(None, reasons), None):
    raise UserError(reason)
