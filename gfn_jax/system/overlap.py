"""Overlap of a loop's input and output with its work, in one thread each, in bounded memory."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar('T')

_END: Any = object()


@contextlib.contextmanager
def one_ahead(items: Iterable[T]) -> Iterator[Iterator[T]]:
  """Provide an iterator over items, the next of which a thread computes while one is used.

  An exception of `items` is raised where the item would follow. Leaving the context waits for the
  item that is being computed.

  Args:
    items: the items. Everything that computing them does happens in the thread.
  """
  source = iter(items)

  def iterate() -> Iterator[T]:
    following = pool.submit(next, source, _END)
    while (item := following.result()) is not _END:
      following = pool.submit(next, source, _END)
      yield item

  with ThreadPoolExecutor(1) as pool:
    yield iterate()


class Behind:
  """Thread that does one call while its caller goes on.

  Leaving the context waits for the call, and drops its exception; `wait` raises it.
  """

  def __init__(self) -> None:
    self._pool = ThreadPoolExecutor(1)
    self._last: Future | None = None

  def __enter__(self) -> 'Behind':
    return self

  def __exit__(self, *_: object) -> None:
    self._pool.shutdown()

  def call(self, function: Callable[..., Any], *args: Any) -> None:
    """Call a function in the thread, after the last call has ended.

    Raises:
      BaseException: that of the last call, instead of the call.
    """
    self.wait()
    self._last = self._pool.submit(function, *args)

  def wait(self) -> None:
    """Wait for the last call, and raise its exception."""
    last, self._last = self._last, None
    if last is not None:
      last.result()
