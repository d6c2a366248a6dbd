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


def test_several_processes_exchange_requests_at_common_steps(monkeypatch):
  asked = []

  def allgather(value):
    asked.append(bool(value))
    return np.array([value, True])  # the other process got a SIGTERM

  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(multihost_utils, 'process_allgather', allgather)
  preemption = Preemption()
  for step in range(1, AGREE_EVERY):
    preemption(step, None, None)
  assert not asked
  assert not preemption.agreed
  preemption(AGREE_EVERY, None, None)
  assert asked == [False]
  assert preemption.agreed
  preemption.requested = True
  preemption.leave_evaluation()  # one of several goes on, as the others wait for it
