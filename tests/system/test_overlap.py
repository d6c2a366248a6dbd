import threading

import pytest

from gfn_jax.system.overlap import Behind, one_ahead
from tests.log import Log


def test_one_item_is_computed_ahead():
  log = Log()

  def items():
    for i in range(4):
      log.add(i)
      yield i
    raise OSError('no item 4')

  seen = []
  with one_ahead(items()) as ahead, pytest.raises(OSError, match='no item 4'):
    for item in ahead:
      seen.append(item)
      log.wait_for(min(item + 1, 3))
      assert len(log.events) == min(item + 2, 4)
  assert seen == [0, 1, 2, 3]


def test_no_items():
  with one_ahead([]) as ahead:
    assert list(ahead) == []


def test_a_call_runs_behind_and_the_next_one_waits_for_it():
  log, begin = Log(), threading.Event()

  def work(number):
    assert begin.wait(20)
    log.add(number)

  with Behind() as behind:
    behind.call(work, 1)
    assert log.events == []
    begin.set()
    behind.call(work, 2)
    assert 1 in log.events
  assert log.events == [1, 2]


def test_the_error_of_a_call_is_raised_once_and_instead_of_the_next_call():
  log = Log()

  def fail():
    raise KeyboardInterrupt

  with Behind() as behind:
    behind.wait()
    behind.call(fail)
    with pytest.raises(KeyboardInterrupt):
      behind.call(log.add, 'next')
    behind.wait()
    behind.call(log.add, 'last')
  assert log.events == ['last']
