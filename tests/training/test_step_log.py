import contextlib
import itertools
import time

import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax.errors import UserError
from gfn_jax.training import step_log
from gfn_jax.training.step_log import StepLog, Trace, check_finite


def add(log, step, **scalars):
  log.add(step, {key: jnp.float32(value) for key, value in scalars.items()})


def test_check_finite_names_what_is_not_finite():
  check_finite({'loss': 1.0, 'grad_norm': 2.0}, 3)
  with pytest.raises(UserError, match='step 3: grad_norm/gate is inf;'):
    check_finite({'loss': 1.0, 'grad_norm/gate': np.float32('inf')}, 3)


def test_means_are_of_the_steps_since_the_last():
  log = StepLog(batch_size=4)
  for step, loss in enumerate([1.0, 2.0, 6.0], 1):
    add(log, step, loss=loss)
  assert log.means()['loss'] == 3
  add(log, 4, loss=7)
  assert log.means()['loss'] == 7
  assert log.rows == []


def test_a_step_is_checked_when_the_next_one_comes():
  log = StepLog(batch_size=4)
  add(log, 1, loss=float('nan'))
  with pytest.raises(UserError, match='diverged at step 1: loss is nan'):
    add(log, 2, loss=1)


def test_speed_is_of_the_timed_steps_and_data_is_waited_for(monkeypatch):
  clock = itertools.count()  # a second passes between two looks at it
  log = StepLog(batch_size=4)
  add(log, 1, loss=1)
  log.flush()
  monkeypatch.setattr(time, 'perf_counter', lambda: float(next(clock)))
  log.restart()  # the first step compiled
  for step in (2, 3):
    assert log.time_data(lambda: 'batch') == 'batch'
    add(log, step, loss=1)
  means = log.means()
  assert means['system/step_seconds'] == 5 / 2  # of two looks a batch, and the last
  assert means['system/data_wait_seconds'] == 2 / 2
  assert means['system/images_per_second'] == 4 / 2.5
  add(log, 4, loss=1)
  log.restart()
  assert 'system/step_seconds' not in log.means()


def test_device_memory_is_told_where_the_device_tells(monkeypatch):
  log = StepLog(batch_size=4)
  add(log, 1, loss=1)
  assert 'system/device_memory_gib' not in log.means()  # CPUs do not
  monkeypatch.setattr(step_log, '_device_memory', lambda: 3 * 2**29)
  add(log, 2, loss=1)
  assert log.means()['system/device_memory_gib'] == 1.5


def take_steps(trace, number):
  for _ in range(number):
    trace.before_step(jnp.zeros(()))


@pytest.mark.parametrize(
  ('wanted', 'steps', 'expected'),
  [
    (True, 10, []),
    (True, 11, ['start', 'stop']),
    (True, 15, ['start', 'stop']),
    (True, 40, ['start', 'stop']),
    (False, 40, []),
  ],
)
def test_a_trace_takes_five_steps(monkeypatch, tmp_path, wanted, steps, expected):
  calls = []

  @contextlib.contextmanager
  def record(folder):
    assert folder == str(tmp_path)
    calls.append('start')
    yield
    calls.append('stop')

  monkeypatch.setattr(step_log.jax.profiler, 'trace', record)
  with Trace(tmp_path, wanted) as trace:
    take_steps(trace, steps)
    if steps == 15:
      assert calls == ['start']
    if steps == 40:
      assert calls == expected  # before it is left
  assert calls == expected


def test_a_trace_is_a_file_for_tensorboard(tmp_path):
  with Trace(tmp_path, True) as trace:
    take_steps(trace, 12)
  [path] = tmp_path.glob('plugins/profile/*/*.xplane.pb')
  assert path.stat().st_size
