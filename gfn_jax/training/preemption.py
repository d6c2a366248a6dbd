"""How a run ends when a job manager asks for it: SIGTERM, a while before SIGKILL."""

import signal
import threading

TERMINATED = 128 + signal.SIGTERM
"""The exit status after SIGTERM: 143."""


class Terminated(Exception):
  """Raised to leave an evaluation."""


class Termination:
  """Notes a SIGTERM while it is the context.

  Attributes:
    requested: whether there was one.
  """

  requested = False

  def __enter__(self) -> 'Termination':
    if threading.current_thread() is threading.main_thread():
      self._before = signal.signal(signal.SIGTERM, self._request)
    return self

  def __exit__(self, *_) -> None:
    if threading.current_thread() is threading.main_thread():
      signal.signal(signal.SIGTERM, self._before)

  def _request(self, *_) -> None:
    self.requested = True
