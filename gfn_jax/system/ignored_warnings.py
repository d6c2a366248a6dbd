"""Warnings that are ignored while a thread works.

`warnings.catch_warnings` restores the filters that it found. If the blocks of two threads overlap,
the first end takes the other thread's filter away, and the second end brings a filter back for
good. Here the threads are counted.
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator

_lock = threading.Lock()
_threads = 0
_undo = contextlib.ExitStack()


@contextlib.contextmanager
def ignored_warnings(message: str = '') -> Iterator[None]:
  """Ignore warnings until the last thread leaves a block of this function.

  Args:
    message: regular expression that the start of a warning's text must match.
  """
  global _threads
  with _lock:
    if not _threads:
      _undo.enter_context(warnings.catch_warnings())
    warnings.filterwarnings('ignore', message)
    _threads += 1
  try:
    yield
  finally:
    with _lock:
      _threads -= 1
      if not _threads:
        _undo.close()
