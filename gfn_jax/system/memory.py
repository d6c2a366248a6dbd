"""Estimates of the free memory and of the memory that a computation takes."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend
import psutil

CGROUP_ROOT = '/sys/fs/cgroup'
PROCESS_CGROUP = '/proc/self/cgroup'
# Files of cgroup versions 2 and 1: limit, use, and the part of the use that is reclaimable cache.
CGROUP_FILES = (
  ('memory.max', 'memory.current', 'inactive_file'),
  ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
)


def available_bytes(device: jax.Device) -> int:
  """Return the free memory of a device; for a CPU, of the machine or its container, if less."""
  if device.platform == 'cpu':
    return host_bytes()
  stats = device.memory_stats() or {}
  if 'bytes_limit' not in stats:
    return 8 * 2**30  # unknown; the tiles are halved if they do not fit
  return stats['bytes_limit'] - stats.get('bytes_in_use', 0)


def host_bytes() -> int:
  """Return the free memory of the machine, or of the process's container, if less."""
  return min([psutil.virtual_memory().available, *_left_in_cgroups()])


def _left_in_cgroups() -> Iterator[int]:
  """Yield the memory left under each limit of the process's control groups and their parents."""
  groups = ['']  # in a container, the process's own group appears as the root
  with contextlib.suppress(OSError), open(PROCESS_CGROUP) as file:
    groups += [line.rstrip('\n').split(':', 2)[2].strip('/') for line in file]
  folders = {CGROUP_ROOT, os.path.join(CGROUP_ROOT, 'memory')}
  for folder in list(folders):
    for group in groups:
      parts = group.split('/')
      folders |= {os.path.join(folder, *parts[: i + 1]) for i in range(len(parts))}
  for folder in folders:
    for limit, use, cache in CGROUP_FILES:
      with contextlib.suppress(OSError, ValueError):  # no such file, or 'max'
        used = _read_int(folder, use) - _read_stat(folder, cache)
        yield max(0, _read_int(folder, limit) - used)


def _read_int(folder: str, name: str) -> int:
  with open(os.path.join(folder, name)) as file:
    return int(file.read())


def _read_stat(folder: str, key: str) -> int:
  with open(os.path.join(folder, 'memory.stat')) as file:
    return int(dict(line.split() for line in file).get(key, 0))


def peak_bytes(function: Callable[..., Any], *args: Any) -> int:
  """Estimate the memory that `function(*args)` takes besides its arguments, without running it.

  The estimate is twice the largest sum of one operation's inputs and outputs. Compilers fuse some
  operations, and keep some arrays for later.
  """
  return 2 * max(_bytes_of_equations(jax.make_jaxpr(function)(*args).jaxpr))


def _bytes_of_equations(jaxpr: Any) -> Iterator[int]:
  for equation in jaxpr.eqns:
    values = [v.aval for v in (*equation.invars, *equation.outvars)]
    yield sum(value.size * value.dtype.itemsize for value in values)
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from _bytes_of_equations(inner)
