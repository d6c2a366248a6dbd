"""Scalars, speed and memory of the steps since the last log; a profile of a few steps."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.system.files import folder_to_fill

Value = TypeVar('Value')

SYSTEM = 'system/'
"""Prefix of the names of scalars that depend on the machine."""

FIRST_TRACED, LAST_TRACED = 11, 15
"""First and last step of a `Trace`, counted from where a run starts or continues."""


def check_finite(scalars: Mapping[str, float], step: int) -> None:
  """Raise if a run has diverged.

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

  Args:
    batch_size: examples of a step, for the speed.
    rows: scalars of the steps since the last log, where a run is continued.

  Attributes:
    rows: scalars of these steps.
  """

  def __init__(self, batch_size: int, rows: Iterable[dict[str, float]] = ()):
    self.rows = list(rows)
    self._batch_size = batch_size
    self._pending: tuple[int, Mapping[str, jax.Array]] | None = None
    self.restart()

  def time_data(self, get: Callable[[], Value]) -> Value:
    """Return `get()`; the time that it takes counts as waiting for data."""
    start = time.perf_counter()
    value = get()
    self._waited += time.perf_counter() - start
    return value

  def add(self, step: int, scalars: Mapping[str, jax.Array]) -> None:
    """Add the scalars of a step, and check those of the step before it.

    Raises:
      UserError: if these are not finite.
    """
    self.flush()
    self._pending = step, scalars

  def flush(self) -> None:
    """Wait for the newest step, and check its scalars."""
    if self._pending is None:
      return
    step, scalars = self._pending
    self._pending = None
    row = {key: float(value) for key, value in jax.device_get(scalars).items()}
    check_finite(row, step)
    self.rows.append(row)

  def restart(self) -> None:
    """Leave the steps so far, and the time until now, out of the speed."""
    self.flush()
    self._start = time.perf_counter()
    self._timed_rows = len(self.rows)
    self._waited = 0.0

  def means(self) -> dict[str, float]:
    """Return the mean of each scalar since the last call, and the machine's figures.

    These are `system/images_per_second` over all processes; `system/step_seconds`, and the part of
    them in which this process waited for data, `system/data_wait_seconds`; and
    `system/device_memory_gib`, the peak of the first device, if the device reports it. Steps that
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
  """Context that profiles the steps `FIRST_TRACED` to `LAST_TRACED` with JAX's profiler.

  Args:
    folder: destination of `plugins/profile/...`, which TensorBoard's profile plugin and Perfetto
      show; may be in a bucket.
    wanted: False to profile nothing.
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
    """Start or stop before a step, after waiting for `pending`, so that whole steps count."""
    self._steps += 1
    if self._wanted and self._steps == FIRST_TRACED:
      jax.block_until_ready(pending)
      folder = self._running.enter_context(folder_to_fill(self._folder))
      self._running.enter_context(jax.profiler.trace(folder))
    elif self._steps == LAST_TRACED + 1:
      jax.block_until_ready(pending)
      self._running.close()
