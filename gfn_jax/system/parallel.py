"""Data parallelism over the devices of all processes, and how these share other work.

The processes of a run are started by a cluster or by hand, one or more a machine, all with the same
command. `initialize` joins them; then `jax.devices()` are those of all, and every process feeds its
own.
"""

import contextlib
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
"""The axis over which a step averages its gradients: `jax.lax.pmean(grads, AXIS)`."""


def initialize(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins the processes of a run. To be called before anything else of JAX.

  Args:
    coordinator_address: `host:port` of the process 0. Without it, this and the other arguments come
      from the cluster: JAX knows SLURM, TPU pods, Open MPI, MPICH and Kubernetes.
    num_processes: how many there are.
    process_id: this one's number, from 0.

  Raises:
    UserError: if only some arguments are given, no cluster is found, or the others do not come.
  """
  arguments = (coordinator_address, num_processes, process_id)
  if any(value is not None for value in arguments) and None in arguments:
    raise UserError(
      'coordinator_address, num_processes and process_id go together; without any of them they are '
      'taken from the cluster'
    )
  try:
    jax.distributed.initialize(*arguments)
    jax.devices()  # those of all: they connect
  except (RuntimeError, ValueError) as error:
    reason = str(error).strip().partition('\n')[0]
    raise UserError(f'the processes of the run cannot be joined: {reason}') from error


def gather(value: Any) -> list[Any]:
  """What each process passes, in their order; values that JSON can hold."""
  if jax.process_count() == 1:
    return [value]
  content = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.array([content.size]))[:, 0]
  padded = np.pad(content, (0, int(sizes.max()) - content.size))
  rows = multihost_utils.process_allgather(padded)
  return [json.loads(bytes(row[:size])) for row, size in zip(rows, sizes, strict=True)]


def from_first(tree: Any) -> Any:
  """A pytree of arrays as the process 0 passes it; the others pass any of the same shapes."""
  return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def replicate(tree: Any) -> Any:
  """Places a pytree on all local devices, so that a donated first step has buffers everywhere."""
  return jax.device_put(tree, jax.NamedSharding(_local_mesh(), jax.P()))


def shard(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
  """Split `[B, ...]` into `[devices, B / devices, ...]`, on this process's devices.

  Raises:
    UserError: if B is not a multiple of the devices, which may happen for a part of a batch.
  """
  n = jax.local_device_count()
  if uneven := sorted(key for key, x in batch.items() if x.shape[0] % n):
    raise UserError(
      f'{n} devices cannot share {len(batch[uneven[0]])} examples equally ({uneven[0]}); change '
      'batch_size or, where a batch has real pairs, their shares'
    )
  parts = {key: x.reshape(n, x.shape[0] // n, *x.shape[1:]) for key, x in batch.items()}
  return jax.device_put(parts, jax.NamedSharding(_local_mesh(), jax.P(AXIS)))


def _local_mesh() -> jax.sharding.Mesh:
  return jax.sharding.Mesh(jax.local_devices(), (AXIS,))  # as a step returns its state


def check_batch_size(batch_size: int, parts: int = 1) -> None:
  """Checks that a global batch can be divided among all devices, and there into equal parts.

  Raises:
    UserError: if it cannot.
  """
  devices = jax.device_count()
  if parts < 1:
    raise UserError(f'accumulate {parts}: pass 1 or more')
  if batch_size < 1 or batch_size % (devices * parts):
    times = f' times accumulate, {parts}' if parts > 1 else ''
    raise UserError(
      f'batch_size {batch_size} is not a multiple of the {devices} devices{times}; choose one that '
      'is, or use fewer devices'
    )


def parallel_step(
  step: Callable[..., Any], compiler_options: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
  """Runs `step(state, batch)` on every device.

  The state goes in and comes out un-replicated, and is donated: the caller must not use the old
  one again. Batches come from `shard`. The step itself must average over `AXIS`; one that forgets
  to makes the replicas drift apart, of which only the first is seen. Neither may come from the host
  unasked.

  Args:
    step: maps a state and a batch to a state and scalars.
    compiler_options: options of XLA for this step, as `jax.jit` takes them, or None.
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
  """`jax.pmap` as `parallel_step` has it, on all devices, or to compile for others."""
  layout = dict(in_axes=(None, 0), out_axes=None, donate_argnums=0)
  return jax.pmap(step, axis_name=AXIS, devices=devices, **layout)


def share(items: Sequence | Iterable) -> Any:
  """What of some items, which are the same in every process, this process works on: every n-th.

  Args:
    items: a sequence, which gives one of its kind, or an iterable, which gives an iterator.
  """
  index, count = jax.process_index(), jax.process_count()
  if isinstance(items, Sequence):
    return items[index::count]
  return itertools.islice(items, index, None, count)


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
  """Waits at its end for all processes; one that has failed inside ends all.

  Inside, processes must not wait for each other.

  Raises:
    UserError: with the message of the first process that failed, where this one did not.
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
