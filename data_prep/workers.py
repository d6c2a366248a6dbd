"""An ordered parallel map over processes, in bounded memory."""

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
  """Yields `function(job)` for each job, in the order of the jobs.

  At most two jobs per worker are under way or waiting to be taken, so that results do not pile up.

  Args:
    function: a module-level function or a `functools.partial` of one.
    jobs: anything that pickles.
    workers: number of processes; up to 1 means no extra process.

  Yields:
    The results.

  Raises:
    UserError: if a worker process is killed from outside; and whatever `function` raises.
  """
  if workers <= 1:
    yield from map(function, jobs)
    return
  # spawn: a forked child would inherit JAX's and TensorFlow's threads and locks.
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
      'a worker process was killed, perhaps as the memory ran out; try fewer --workers'
    ) from error
  finally:
    pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the pool
  # Without this, workers would wait for jobs for ever once their parent is killed.
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
