import dataclasses

import jax
import numpy as np
import pytest

from gfn_jax import UserError
from gfn_jax.configs import bmdsrnet, cnlrn, gfn, gfn_photos, gfn_small
from gfn_jax.training.phases import make_phases
from gfn_jax.training.train_state import TrainState
from tests import small
from tests.models.networks import random_params
from tests.phases import NoData, phases_of


def test_the_phases_of_the_authors_code():
  first, second, third = phases_of(gfn.get_config(), steps_per_epoch=2)
  assert [(p.first_step, p.last_step) for p in (first, second, third)] == [
    (0, 50),
    (50, 170),
    (170, 280),
  ]
  assert [phase.model.gated for phase in (first, second, third)] == [False, False, True]
  assert [phase.reset_optimizer for phase in (first, second, third)] == [False, False, True]
  assert {term.name: term.weight for term in first.loss} == {'hr': 1.0, 'lr': 0.5}
  assert {term.name: term.weight for term in third.loss} == {'hr': 1.0}  # alpha is 0
  assert third.model_config['gated']
  with pytest.raises(dataclasses.FrozenInstanceError):
    first.number = 2


def test_precision_is_the_networks():
  config = gfn_small.get_config()
  config.training.precision = 'bfloat16'
  phase, _ = phases_of(config)
  assert (phase.model.dtype, phase.model.precision) == ('bfloat16', None)
  config.training.precision = 'tf32'
  phase, _ = phases_of(config)
  assert (phase.model.dtype, phase.model.precision) == ('float32', 'tensorfloat32')


def test_a_warmup_is_shortened_to_its_phase_unless_it_was_set(capsys):
  config = gfn_photos.get_config('small').to_dict()
  config['training']['steps_per_epoch'] = 20
  first, second = make_phases(config, NoData(4))
  rate = first.learning_rates['learning_rate']
  assert float(rate(20)) == pytest.approx(3e-3)  # a tenth of 200 steps
  assert float(rate(10)) == pytest.approx(1.5e-3)
  assert float(second.learning_rates['learning_rate'](210)) == pytest.approx(3e-3)
  err = capsys.readouterr().err
  assert 'phase_1 has 200 steps: warmup_steps is 20, not 200' in err
  assert '--config.phases.phase_2.schedule.warmup_steps' in err
  config['phases']['phase_2']['epochs'] = 20
  with pytest.raises(UserError, match='warmup_steps is 200, .*--config.phases.NAME.schedule.warmu'):
    make_phases(config, NoData(4), {'phases.phase_1.schedule.warmup_steps': 200})


def test_a_module_without_a_rate_is_frozen():
  config = cnlrn.get_config()
  config.model.update(small.CNLRN)
  config.phases.phase_2.module_learning_rates.deblur = 0.0
  first, second = phases_of(config)
  assert (first.frozen, second.frozen) == ((), ('deblur',))
  assert float(second.learning_rates['learning_rate/deblur'](second.first_step)) == 0


def test_the_step_of_a_phase_needs_no_device_axis():
  config = gfn_small.get_config()
  config.model.update(small.MODEL)
  phase, _ = phases_of(config)
  params = random_params(phase.model)
  state = TrainState(np.int32(0), params, jax.jit(phase.optimizer.init)(params), {}, {})
  rng = np.random.default_rng(0)
  batch = {key: rng.random((2, 8, 8, 3), np.float32) for key in ('lr_blur', 'lr')}
  batch['hr'] = rng.random((2, 32, 32, 3), np.float32)
  after, scalars = jax.jit(phase.train_step)(state, batch)
  assert int(after.step) == 1
  assert float(scalars['learning_rate']) == pytest.approx(2e-3)
  expected = scalars['loss_hr'] + 0.5 * scalars['loss_lr']
  np.testing.assert_allclose(scalars['loss'], expected, rtol=1e-6)
  changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), params, jax.device_get(after.params))
  assert changed.keys() == {'deblur', 'reconstruction', 'sr_feature'}  # no gate in this phase
  assert all(jax.tree.leaves(changed))


def test_an_unknown_module_is_refused():
  config = cnlrn.get_config()
  config.model.update(small.CNLRN)
  config.phases.phase_2.module_learning_rates.gate = 0.0
  with pytest.raises(UserError, match="CNLRN has no module 'gate'; it has "):
    phases_of(config)


def test_a_perceptual_loss_without_weights_is_reported(capsys, monkeypatch):
  phases_of(bmdsrnet.get_config())
  assert not capsys.readouterr().err  # there are no frames to compare
  monkeypatch.setattr(NoData, 'has_frames', True)
  phases_of(bmdsrnet.get_config())
  assert 'no perceptual loss: pass --config.run.perceptual_weights=' in capsys.readouterr().err
