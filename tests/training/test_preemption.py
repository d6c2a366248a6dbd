import os
import signal

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from gfn_jax.training.preemption import AGREE_EVERY, Preempted, Preemption


def test_sigterm_is_noted_and_agreed_on_after_the_step():
  before = signal.getsignal(signal.SIGTERM)
  with Preemption() as preemption:
    preemption(1, None, None)
    preemption.leave_evaluation()
    assert not preemption.agreed
    os.kill(os.getpid(), signal.SIGTERM)
    assert preemption.requested
    preemption(2, None, None)
    assert preemption.agreed
    with pytest.raises(Preempted):
      preemption.leave_evaluation('name')
  assert signal.getsignal(signal.SIGTERM) is before


def test_the_first_ctrl_c_is_noted_and_the_second_one_interrupts(capfd):
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(KeyboardInterrupt), Preemption() as preemption:
    os.kill(os.getpid(), signal.SIGINT)
    preemption(1, None, None)
    assert preemption.agreed == signal.SIGINT
    assert preemption.exit_status == 130
    assert 'Ctrl-C again' in capfd.readouterr().err
    os.kill(os.getpid(), signal.SIGINT)
  assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_stays_ignored_in_the_background():
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with Preemption() as preemption:
      os.kill(os.getpid(), signal.SIGINT)
      assert not preemption.requested
  finally:
    signal.signal(signal.SIGINT, before)


def test_several_processes_exchange_requests_at_common_steps(monkeypatch):
  asked = []

  def allgather(value):
    asked.append(int(value))
    return np.array([value, signal.SIGTERM])  # of the other process

  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(multihost_utils, 'process_allgather', allgather)
  preemption = Preemption()
  for step in range(1, AGREE_EVERY):
    preemption(step, None, None)
  assert not asked
  assert not preemption.agreed
  preemption(AGREE_EVERY, None, None)
  assert asked == [0]
  assert preemption.agreed == signal.SIGTERM
  assert preemption.exit_status == 143
  preemption.requested = signal.SIGTERM
  preemption.leave_evaluation()  # one of several goes on, as the others wait for it
