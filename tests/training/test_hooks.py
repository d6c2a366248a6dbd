import signal
import types

import pytest

from gfn_jax.training import hooks
from gfn_jax.training.preemption import Preemption


class Recorder:
  """Anything whose methods are called; remembers the calls."""

  def __init__(self, **results):
    self.calls = []
    self.results = results
    self.rows = [{'loss': 1.0}]

  def __getattr__(self, name):
    def call(*args, **_):
      self.calls.append((name, *args))
      return self.results.get(name)

    return call

  def names(self):
    return [name for name, *_ in self.calls]


@pytest.mark.parametrize(
  ('every', 'due'), [(0, []), (3, [3, 6, 8]), (8, [8]), (100, [8]), (1, list(range(1, 9)))]
)
def test_cadence(every, due):
  assert [step for step in range(1, 9) if hooks.is_due(step, every, last_step=8)] == due


def test_logging_writes_means_and_moves_the_bar():
  log, writer, bar = Recorder(means={'loss': 0.1234}), Recorder(), Recorder()
  logging = hooks.Logging(log, writer, bar, every=2, last_step=5)
  for step in range(1, 6):
    logging(step, None, types.SimpleNamespace(number=1 if step < 4 else 2))
  assert writer.calls == [('write_scalars', step, {'loss': 0.1234}) for step in (2, 4, 5)]
  assert bar.names().count('update') == 5
  assert bar.names().count('set_postfix') == 3
  assert bar.names()[:3] == ['unpause', 'set_description', 'update']  # compilation is not counted
  descriptions = [text for name, *text in bar.calls if name == 'set_description']
  assert descriptions == [['phase 1'], ['phase 2']]


@pytest.mark.parametrize(
  ('last_step', 'first', 'rows'), [(8, 1, 8), (60, 3, 20), (300, 15, 20), (5000, 100, 50)]
)
def test_a_short_run_has_enough_rows_for_curves(last_step, first, rows):
  writer = Recorder()
  logging = hooks.Logging(Recorder(means={'loss': 1.0}), writer, Recorder(), 0, last_step)
  for step in range(1, last_step + 1):
    logging(step, None, types.SimpleNamespace(number=1))
  steps = [step for _, step, _ in writer.calls]
  assert (steps[0], len(steps)) == (first, rows)


CONFIG = {'evaluation': {'every': 4}, 'run': {'checkpoint_every': 3}}


def make_evaluation(preemption):
  dataset = Recorder(num_examples=0)
  return hooks.Evaluation(CONFIG, dataset, {}, Recorder(), Recorder(), preemption, 8)


def test_an_evaluation_that_comes_with_the_end_is_left_for_the_next_run():
  preemption = Preemption()
  evaluation = make_evaluation(preemption)
  evaluation(4, None, None)  # without test images
  assert not evaluation.pending
  preemption.agreed = signal.SIGTERM
  evaluation(5, None, None)
  assert not evaluation.pending
  evaluation(8, None, None)
  assert evaluation.pending
  other = make_evaluation(Preemption())
  other.restore({'scores': {'step': 4}, 'pending_evaluation': True})
  assert (other.scores, other.pending) == ({'step': 4}, True)


def test_saving_at_its_cadence_at_evaluations_and_before_the_end(monkeypatch, capsys):
  preemption, checkpointer, writer = Preemption(), Recorder(), Recorder()
  evaluation = make_evaluation(preemption)
  saving = hooks.Saving(
    CONFIG, '/nowhere', None, checkpointer, evaluation, writer, Recorder(), preemption, 8
  )
  monkeypatch.setattr(saving, '_save_weights', lambda *_: None)
  for step in range(1, 8):
    saving(step, f'state {step}', None)
  saved = [call[1] for call in checkpointer.calls if call[0] == 'save']
  assert saved == ['state 3', 'state 4', 'state 6']
  assert writer.names() == ['sync'] * 3  # a saved step has its rows
  progress = next(call[2] for call in checkpointer.calls if call[0] == 'save')
  assert progress == {'scores': {}, 'window': [{'loss': 1.0}], 'pending_evaluation': False}

  preemption.agreed = signal.SIGTERM
  checkpointer.calls.clear()
  with pytest.raises(SystemExit) as ended:
    saving(7, 'state 7', None)
  assert ended.value.code == 143
  assert checkpointer.names() == ['save', 'wait']
  assert 'stopped after saving step 7' in capsys.readouterr().err
