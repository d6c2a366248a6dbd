"""Ordered parallel map over processes, in bounded memory."""

import collections
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import TypeVar

from gfn_jax.errors import UserError

Job = TypeVar('Job')
Result = TypeVar('Result')


def map_in_order(
  function: Callable[[Job], Result], jobs: Iterable[Job], workers: int
) -> Iterator[Result]:
  """Yield `function(job)` for each job, in the order of the jobs.

  At most two jobs per worker are pending at a time, which bounds the memory of the results.

  Args:
    function: a module-level function or a `functools.partial` of one.
    jobs: picklable inputs.
    workers: number of processes; up to 1 uses only the current one.

  Yields:
    The results.

  Raises:
    UserError: if a worker process is killed. Exceptions of `function` are passed on.
  """
  if workers <= 1:
    yield from map(function, jobs)
    return
  # A forked child would inherit the threads and locks of JAX and TensorFlow.
  pool = futures.ProcessPoolExecutor(
    workers, multiprocessing.get_context('spawn'), initializer=_start_worker
  )
  jobs = iter(jobs)
  try:
    with _environment(OPENBLAS_NUM_THREADS='1'):  # the processes share the cores already
      pending = collections.deque(
        pool.submit(function, job) for job in itertools.islice(jobs, 2 * workers)
      )
    while pending:
      yield pending.popleft().result()
      pending.extend(pool.submit(function, job) for job in itertools.islice(jobs, 1))
  except futures.process.BrokenProcessPool as error:
    raise UserError(
      'a worker process was killed, possibly for lack of memory; pass fewer --workers'
    ) from error
  finally:
    pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends the pool
  # Otherwise workers would wait forever after their parent is killed.
  threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
  before = {name: os.environ.get(name) for name in values}
  os.environ.update({name: before[name] or value for name, value in values.items()})
  try:
    yield
  finally:
    for name, value in before.items():
      if value is None:
        del os.environ[name]
      else:
        os.environ[name] = value
