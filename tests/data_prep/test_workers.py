import math
import os

import pytest

from gfn_jax.data_prep import workers
from gfn_jax.errors import UserError

# Functions of the standard library: a spawned worker can import them whatever runs the tests.


@pytest.mark.parametrize('count', [0, 1, 2])
def test_results_come_in_the_order_of_the_jobs(count):
  assert list(workers.map_in_order(math.sqrt, [9, 1, 16, 4, 0, 25, 36], count)) == [
    3, 1, 4, 2, 0, 5, 6,
  ]  # fmt: skip


def test_jobs_are_taken_as_results_are_used():
  jobs = iter(range(100))
  results = workers.map_in_order(math.sqrt, jobs, 2)
  assert next(results) == 0
  assert next(jobs) == 4  # two per worker were submitted
  results.close()


def test_an_error_in_a_worker_reaches_the_caller():
  with pytest.raises(ValueError, match='domain|negative'):
    list(workers.map_in_order(math.sqrt, [4, -1], 2))


def test_a_worker_that_dies_is_reported():
  with pytest.raises(UserError, match='a worker process was killed.*fewer --workers'):
    list(workers.map_in_order(os._exit, [1], 2))


def test_the_environment_is_left_as_it_was(monkeypatch):
  monkeypatch.delenv('OPENBLAS_NUM_THREADS', raising=False)
  list(workers.map_in_order(math.sqrt, [1], 2))
  assert 'OPENBLAS_NUM_THREADS' not in os.environ
