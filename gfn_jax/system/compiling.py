"""Messages about the compilation of programs."""

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import jax.monitoring

from gfn_jax.system.console import print_message

SECONDS = 1.0
"""Time after which a compilation is reported. Reading a program from the cache takes less."""

_here = threading.local()  # `line` and `timer` of each thread


@contextlib.contextmanager
def announce_compiling(line: str) -> Iterator[None]:
  """Print a line when a program is compiled inside the context.

  Nothing is printed for a program that is in memory or in JAX's persistent cache.
  """
  _listen()
  _here.line = line
  try:
    yield
  finally:
    _here.line = None
    _cancel()


@functools.cache
def _listen() -> None:
  jax.monitoring.register_event_duration_secs_listener(_lowered)
  jax.monitoring.register_event_listener(_found)


def _lowered(event: str, *_: Any, **__: Any) -> None:
  """Start to wait when a program is about to be read or compiled."""
  line = getattr(_here, 'line', None)
  if line and event == '/jax/core/compile/jaxpr_to_mlir_module_duration':
    _cancel()
    _here.timer = threading.Timer(SECONDS, print_message, [line])
    _here.timer.daemon = True
    _here.timer.start()


def _found(event: str, **_: Any) -> None:
  if event == '/jax/compilation_cache/cache_hits':
    _cancel()


def _cancel() -> None:
  if timer := getattr(_here, 'timer', None):
    timer.cancel()
    _here.timer = None
