"""What the steps since the last log were like: losses, speed, memory; and a trace of some."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.system.files import folder_to_fill

Value = TypeVar('Value')

SYSTEM = 'system/'
"""Begins the names of scalars that tell of the machine. They differ from run to run."""

FIRST_TRACED, LAST_TRACED = 11, 15
"""The steps that `Trace` takes, counted from where a run starts or continues."""


def check_finite(scalars: Mapping[str, float], step: int) -> None:
  """Stops a run that has diverged.

  Raises:
    UserError: naming the step and every scalar that is not finite.
  """
  bad = [f'{key} is {value}' for key, value in scalars.items() if not math.isfinite(value)]
  if bad:
    raise UserError(
      f'training diverged at step {step}: {", ".join(bad)}; the checkpoints before it are kept. '
      'Lower the learning rate or optimizer.clip_norm'
    )


class StepLog:
  """Scalars of the steps since the last log, fetched one step late so that the device never waits.

  Attributes:
    rows: of these steps.
    stop: whether a process asked for the end of the run, in the steps that were fetched.
  """

  def __init__(self, batch_size: int):
    self.rows: list[dict[str, float]] = []
    self.stop = False
    self._batch_size = batch_size
    self._pending: tuple[int, Mapping[str, jax.Array]] | None = None
    self.restart()

  def time_data(self, get: Callable[[], Value]) -> Value:
    """Gets a batch; the time that it takes is waiting for data."""
    start = time.perf_counter()
    value = get()
    self._waited += time.perf_counter() - start
    return value

  def add(self, step: int, scalars: Mapping[str, jax.Array]) -> None:
    """Takes what a step gave, and checks what the one before it gave.

    Raises:
      UserError: if that is not finite.
    """
    self.flush()
    self._pending = step, scalars

  def flush(self) -> None:
    """Waits for the newest step, and checks it."""
    if self._pending is None:
      return
    step, scalars = self._pending
    self._pending = None
    row = {key: float(value) for key, value in jax.device_get(scalars).items()}
    self.stop |= row.pop('stop') > 0
    check_finite(row, step)
    self.rows.append(row)

  def restart(self) -> None:
    """Leaves the steps so far, and what was done meanwhile, out of the speed."""
    self.flush()
    self._start = time.perf_counter()
    self._timed_rows = len(self.rows)
    self._waited = 0.0

  def means(self) -> dict[str, float]:
    """The mean of each scalar since the last call, and `system/...`.

    These are `images_per_second` over all processes; `step_seconds`, and how many of them this
    process waited for data, `data_wait_seconds`, while the device may have worked; and
    `device_memory_gib`, the most so far in the first device, where it tells. The steps that
    compiled are not timed.
    """
    self.flush()
    means = {key: float(np.mean([row[key] for row in self.rows])) for key in self.rows[0]}
    if steps := len(self.rows) - self._timed_rows:
      seconds = (time.perf_counter() - self._start) / steps
      means[f'{SYSTEM}images_per_second'] = round(self._batch_size / seconds, 2)
      means[f'{SYSTEM}step_seconds'] = round(seconds, 5)
      means[f'{SYSTEM}data_wait_seconds'] = round(self._waited / steps, 5)
    if (peak := _device_memory()) is not None:
      means[f'{SYSTEM}device_memory_gib'] = round(peak / 2**30, 3)
    self.rows = []
    self.restart()
    return means


def _device_memory() -> int | None:
  statistics = jax.local_devices()[0].memory_stats() or {}
  return statistics.get('peak_bytes_in_use')


class Trace:
  """JAX's profiler over the steps `FIRST_TRACED` to `LAST_TRACED`, while it is the context.

  Args:
    folder: gets `plugins/profile/...`, which TensorBoard's profile plugin and Perfetto show; may be
      in a bucket.
    wanted: False for a trace of nothing.
  """

  def __init__(self, folder: str | os.PathLike, wanted: bool):
    self._folder, self._wanted = folder, wanted
    self._steps = 0
    self._running = contextlib.ExitStack()

  def __enter__(self) -> 'Trace':
    return self

  def __exit__(self, *_) -> None:
    self._running.close()

  def before_step(self, pending: Any) -> None:
    """Starts or stops before a step; `pending` is waited for first, so that whole steps count."""
    self._steps += 1
    if self._wanted and self._steps == FIRST_TRACED:
      jax.block_until_ready(pending)
      folder = self._running.enter_context(folder_to_fill(self._folder))
      self._running.enter_context(jax.profiler.trace(folder))
    elif self._steps == LAST_TRACED + 1:
      jax.block_until_ready(pending)
      self._running.close()
