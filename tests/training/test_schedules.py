import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax import UserError
from gfn_jax.configs import gfn, gfn_paper, motion_deblur_sr, mprnet
from gfn_jax.training.schedules import make_schedule
from tests.phases import phases_of

STEPS = 6724  # in an epoch of the full training set

# (first epoch, last epoch, learning rate), counted from 1 over the whole run, as in the papers.
RELEASED_CODE = [
  (1, 7, 1e-4),
  (8, 14, 5e-5),
  (15, 21, 2.5e-5),
  (22, 25, 1.25e-5),
  (26, 55, 1e-4),
  (56, 85, 1e-5),
  (86, 110, 5e-5),
  (111, 135, 5e-6),
  (136, 140, 5e-7),
]
PAPER = [(1, 30, 1e-4), (31, 60, 1e-5), (61, 85, 5e-5), (86, 110, 5e-6)]


@pytest.mark.parametrize(('config', 'table'), [(gfn, RELEASED_CODE), (gfn_paper, PAPER)])
@pytest.mark.parametrize('steps_per_epoch', [STEPS, 3, 1])
def test_the_authors_learning_rates(config, table, steps_per_epoch):
  phases = phases_of(config.get_config(), steps_per_epoch)
  for first, last, rate in table:
    first_step, last_step = (first - 1) * steps_per_epoch, last * steps_per_epoch - 1
    [phase] = [phase for phase in phases if phase.first_step <= first_step < phase.last_step]
    schedule = jax.jit(phase.learning_rates['learning_rate'])
    for step in (first_step, (first_step + last_step) // 2, last_step):
      assert float(schedule(jnp.int32(step))) == pytest.approx(rate, rel=1e-6), step


def test_traced_and_concrete_steps_agree():
  [phase, *_] = phases_of(gfn.get_config(), 2)
  schedule = phase.learning_rates['learning_rate']
  traced = jax.jit(jax.vmap(schedule))(jnp.arange(50))
  assert traced.dtype == jnp.float32
  for step in (0, 13, 14, 49):
    assert float(schedule(step)) == float(traced[step])


@pytest.mark.parametrize(
  ('warmup', 'decay', 'rates'),
  [
    (2, 4, [0, 1.5, 3, 3, 3, 3, 3, 2.25, 1.5, 0.75]),
    (0, 0, [3] * 10),
    (5, 5, [0, 0.6, 1.2, 1.8, 2.4, 3, 2.4, 1.8, 1.2, 0.6]),
  ],
)
def test_a_constant_rate_that_decays_at_last(warmup, decay, rates):
  settings = dict(name='constant', learning_rate=3.0, end_learning_rate=0.0)
  schedule = make_schedule(settings | dict(warmup_steps=warmup, decay_steps=decay), 5, 2)
  np.testing.assert_allclose([schedule(step) for step in range(10)], rates, rtol=1e-6)
  with pytest.raises(UserError, match='warmup_steps is 6 and decay_steps is 5, .* has 10 steps'):
    make_schedule(settings | dict(warmup_steps=6, decay_steps=5), 5, 2)


def test_step_decay():
  settings = dict(name='step_decay', learning_rate=1.0, decay_rate=0.5, decay_every=2)
  schedule = make_schedule(settings, 5, 3)
  rates = [float(schedule(step)) for step in range(15)]
  assert rates == [1.0] * 6 + [0.5] * 6 + [0.25] * 3


def test_cosine():
  schedule = make_schedule(dict(name='cosine', learning_rate=2.0, warmup_steps=4), 4, 5)
  rates = [float(jax.jit(schedule)(jnp.int32(step))) for step in range(21)]
  assert rates[:5] == pytest.approx([0, 0.5, 1.0, 1.5, 2.0])
  fraction = np.arange(17) / 16  # of the 16 steps after the warm-up
  assert rates[4:] == pytest.approx(1 + np.cos(np.pi * fraction), abs=1e-6)


@pytest.mark.parametrize('warmup', [-1, 6, 7])
def test_a_warm_up_must_be_shorter_than_its_phase(warmup):
  settings = dict(name='cosine', learning_rate=1.0, warmup_steps=warmup)
  with pytest.raises(UserError, match=f'warmup_steps is {warmup}, but its phase has 6 steps'):
    make_schedule(settings, 2, 3)


def test_the_cosine_of_shoyan_et_al():
  [phase] = phases_of(motion_deblur_sr.get_config('paper'), 10)
  assert (phase.first_step, phase.last_step) == (0, 210)
  schedule = jax.jit(phase.learning_rates['learning_rate'])
  for epoch in (0, 1, 13, 20):
    expected = 1e-5 + 0.5 * 9e-5 * (1 + np.cos(np.pi * epoch / 100))
    for step in (0, 9):
      assert float(schedule(10 * epoch + step)) == pytest.approx(expected, rel=1e-5)
  assert float(schedule(200)) == pytest.approx(9.14e-5, rel=1e-2)


def test_a_cosine_of_epochs_after_a_warmup():
  [phase] = phases_of(mprnet.get_config(), 2)
  schedule = phase.learning_rates['learning_rate']
  rates = [float(schedule(step)) for step in range(8)]
  np.testing.assert_allclose(rates[:6], np.repeat([1, 2, 3], 2) * 2e-4 / 3, rtol=1e-6)
  np.testing.assert_allclose(rates[6:], 2e-4, rtol=1e-6)
  middle, end = 3 + 2997 // 2, 2999
  assert float(schedule(2 * middle)) == pytest.approx(0.5 * (2e-4 + 1e-6), rel=1e-3)
  assert float(schedule(2 * end)) == pytest.approx(1e-6, rel=1e-3)
  settings = mprnet.get_config().phases.phase_1.schedule.to_dict()
  with pytest.raises(UserError, match='warmup_epochs is 3000, but cosine_epochs is 3000'):
    make_schedule(settings | {'warmup_epochs': 3000}, 3000, 2)


# CNLRN's second phase: four periods of 250,000 steps; the others start at half of the rate.
JOINT = dict(name='cosine_restarts', end_learning_rate=1e-7, periods=4, restart_factor=0.5)


@pytest.mark.parametrize('rate', [2e-4, 1e-5])
def test_cosines_with_restarts(rate):
  schedule = jax.jit(make_schedule(JOINT | {'learning_rate': rate}, 1000, 1000))
  for start in (0, 250_000, 500_000, 750_000):
    top = rate / 2 if start else rate
    for step, share in ((0, 0.0), (125_000, 0.5), (200_000, 0.8), (249_999, 1.0)):
      expected = 1e-7 + (top - 1e-7) * (1 + np.cos(np.pi * share)) / 2
      assert float(schedule(start + step)) == pytest.approx(expected, rel=1e-4), start + step


def test_a_rate_of_0_stays_there():
  schedule = make_schedule(JOINT | {'learning_rate': 0.0}, 1000, 1000)
  assert [float(schedule(step)) for step in (0, 123_456, 999_999)] == [0, 0, 0]


def test_more_periods_than_steps():
  with pytest.raises(UserError, match='periods is 4, but its phase has 3 steps'):
    make_schedule(JOINT | {'learning_rate': 1.0}, 3, 1)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(name='linear'), "schedule.name is 'linear'; choose from step_decay, milestones, "),
    (dict(learning_rate=1.0), 'schedule.name is None'),
    (dict(name='cosine', learning_rate=1.0), "'cosine' takes .*; check 'warmup_steps'"),
    (dict(name='cosine', learning_rate=1.0, warmup_steps=1, end=0), "check 'end'"),
  ],
)
def test_wrong_settings(settings, message):
  with pytest.raises(UserError, match=message):
    make_schedule(settings, 1, 10)


def test_milestones():
  settings = dict(name='milestones', learning_rate=1.0, decay_rate=0.5, decay_epochs=(2, 3, 6))
  schedule = make_schedule(settings, 8, 2)
  rates = [1] * 4 + [0.5] * 2 + [0.25] * 6 + [0.125] * 4
  np.testing.assert_allclose([schedule(step) for step in range(16)], rates, rtol=1e-6)


def test_a_polynomial():
  settings = dict(name='polynomial', learning_rate=2.0, power=0.3)
  schedule = jax.jit(make_schedule(settings, 5, 2))
  for step in range(11):
    assert float(schedule(step)) == pytest.approx(2 * (1 - step / 10) ** 0.3, rel=1e-5)
