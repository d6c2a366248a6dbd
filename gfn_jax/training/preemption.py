"""Ending a run when a job manager asks for it: by SIGTERM, some time before SIGKILL."""

import signal
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils

EXIT_STATUS = 128 + signal.SIGTERM
"""Exit status after SIGTERM: 143."""

AGREE_EVERY = 4
"""Steps between two exchanges among processes: each waits for the devices."""


class Preempted(Exception):
  """Raised to leave an evaluation."""


class Preemption:
  """Context that notes a SIGTERM, and in which all processes of a run agree on it.

  JAX's own service, `multihost_utils.reached_preemption_sync_point`, needs its coordinator, also in
  a run of one process.

  Attributes:
    requested: True after a SIGTERM to this process.
    agreed: True if all processes are to end after this step.
  """

  requested = False
  agreed = False

  def __enter__(self) -> 'Preemption':
    if threading.current_thread() is threading.main_thread():
      self._before = signal.signal(signal.SIGTERM, self._request)
    return self

  def __exit__(self, *_) -> None:
    if threading.current_thread() is threading.main_thread():
      signal.signal(signal.SIGTERM, self._before)

  def _request(self, *_) -> None:
    self.requested = True

  def __call__(self, step: int, *_) -> None:
    """Update `agreed` after a step: a hook, which all processes pass together."""
    if jax.process_count() == 1:
      self.agreed = self.requested
    elif step % AGREE_EVERY == 0:
      self.agreed = bool(multihost_utils.process_allgather(np.array(self.requested)).any())

  def leave_evaluation(self, *_) -> None:
    """Raise `Preempted` after a SIGTERM to the only process of a run."""
    if self.requested and jax.process_count() == 1:
      raise Preempted
