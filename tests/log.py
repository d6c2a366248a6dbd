"""Log of events in several threads."""

import threading


class Log:
  """Events in the order in which they happen, for which other threads can wait."""

  def __init__(self):
    self.events = []
    self._changed = threading.Condition()

  def add(self, event):
    with self._changed:
      self.events.append(event)
      self._changed.notify_all()

  def wait_for(self, *events):
    """Wait for events that another thread must be able to reach by now."""
    with self._changed:
      reached = self._changed.wait_for(lambda: set(events) <= set(self.events), timeout=20)
    assert reached, f'{events} not in {self.events}'

  def after(self, function, event):
    """Return `function`, which adds `event(*args)` once it has returned."""

    def call(*args, **kwargs):
      result = function(*args, **kwargs)
      self.add(event(*args))
      return result

    return call
