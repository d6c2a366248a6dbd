"""Ending a run on request: by SIGTERM of a job manager, some time before SIGKILL, or by Ctrl-C."""

import os
import signal
import threading
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

AGREE_EVERY = 4
"""Steps between two exchanges among processes: each waits for the devices."""


class Preempted(Exception):
  """Raised to leave an evaluation."""


class Preemption:
  """Context that notes SIGTERM and Ctrl-C, and in which all processes of a run agree on them.

  The first Ctrl-C ends the run after its step, once a checkpoint is saved; the second one ends it
  at once. An ignored SIGINT, such as that of a job in the background, stays ignored.

  JAX's own service, `multihost_utils.reached_preemption_sync_point`, needs its coordinator, also in
  a run of one process.

  Attributes:
    requested: the signal that this process got; 0 without one.
    agreed: the signal after which all processes are to end after this step; 0 without one.
  """

  requested = 0
  agreed = 0

  def __init__(self) -> None:
    self._before: dict[signal.Signals, Any] = {}

  def __enter__(self) -> 'Preemption':
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGTERM:
          self._before[number] = signal.signal(number, self._request)
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  @property
  def exit_status(self) -> int:
    """Exit status of a run that ends on request: 143 after SIGTERM, 130 after Ctrl-C."""
    return 128 + (self.agreed or self.requested)

  def _request(self, number: int, _: Any) -> None:
    if number == signal.SIGINT:
      if self.requested == signal.SIGINT:
        raise KeyboardInterrupt
      # Not print, which may be running.
      os.write(2, b'\nsaving a checkpoint after this step; Ctrl-C again stops without one\n')
    self.requested = number

  def __call__(self, step: int, *_) -> None:
    """Update `agreed` after a step: a hook, which all processes pass together."""
    if jax.process_count() == 1:
      self.agreed = self.requested
    elif step % AGREE_EVERY == 0:
      self.agreed = int(multihost_utils.process_allgather(np.array(self.requested)).max())

  def leave_evaluation(self, *_) -> None:
    """Raise `Preempted` after a signal to the only process of a run."""
    if self.requested and jax.process_count() == 1:
      raise Preempted
