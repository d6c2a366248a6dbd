import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import gfn, gfn_paper, motion_deblur_sr, mprnet
from gfn_jax import UserError
from gfn_jax.training import schedules

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


def phases(config):
  return [config.phases[name] for name in sorted(config.phases)]


@pytest.mark.parametrize(('config', 'table'), [(gfn, RELEASED_CODE), (gfn_paper, PAPER)])
@pytest.mark.parametrize('steps_per_epoch', [STEPS, 3, 1])
def test_the_authors_learning_rates(config, table, steps_per_epoch):
  schedule = jax.jit(schedules.learning_rate(phases(config.get_config()), steps_per_epoch))
  for first, last, rate in table:
    first_step, last_step = (first - 1) * steps_per_epoch, last * steps_per_epoch - 1
    for step in (first_step, (first_step + last_step) // 2, last_step):
      assert float(schedule(jnp.int32(step))) == pytest.approx(rate, rel=1e-6), step


def test_traced_and_concrete_steps_agree():
  schedule = schedules.learning_rate(phases(gfn.get_config()), 2)
  steps = jnp.arange(280)
  traced = jax.jit(jax.vmap(schedule))(steps)
  assert traced.dtype == jnp.float32
  for step in (0, 13, 14, 49, 50, 109, 110, 169, 170, 219, 220, 279):
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
  phase = dict(epochs=5, learning_rate=3.0, warmup_steps=warmup, decay_steps=decay)
  schedule = schedules.learning_rate([phase | {'end_learning_rate': 0.0}], 2)
  np.testing.assert_allclose([schedule(step) for step in range(10)], rates, rtol=1e-6)
  with pytest.raises(UserError, match='warmup_steps is 6 and decay_steps is 5, .* has 10 steps'):
    schedules.learning_rate([phase | {'warmup_steps': 6, 'decay_steps': 5}], 2)


def test_phase_starts():
  three = phases(gfn.get_config())
  assert schedules.phase_starts(three, 1) == [0, 25, 85, 140]
  assert schedules.phase_starts(three, STEPS) == [0, 168100, 571540, 941360]
  assert schedules.phase_starts(three[:1], 10) == [0, 250]


def test_one_phase():
  phase = {'epochs': 5, 'learning_rate': 1.0, 'decay_rate': 0.5, 'decay_every': 2}
  schedule = schedules.learning_rate([phase], 3)
  rates = [float(schedule(step)) for step in range(15)]
  assert rates == [1.0] * 6 + [0.5] * 6 + [0.25] * 3


def test_a_cosine_phase_after_a_step_phase():
  step_phase = {'epochs': 1, 'learning_rate': 1.0, 'decay_rate': 0.5, 'decay_every': 1}
  cosine_phase = {'epochs': 4, 'learning_rate': 2.0, 'warmup_steps': 4}
  schedule = jax.jit(schedules.learning_rate([step_phase, cosine_phase], 5))
  rates = [float(schedule(jnp.int32(step))) for step in range(26)]
  assert rates[:5] == [1.0] * 5
  assert rates[5:10] == pytest.approx([0, 0.5, 1.0, 1.5, 2.0])
  fraction = np.arange(17) / 16  # of the 16 steps after the warm-up
  assert rates[9:] == pytest.approx(1 + np.cos(np.pi * fraction), abs=1e-6)


@pytest.mark.parametrize('warmup', [-1, 6, 7])
def test_a_warm_up_must_be_shorter_than_its_phase(warmup):
  phase = {'epochs': 2, 'learning_rate': 1.0, 'warmup_steps': warmup}
  with pytest.raises(UserError, match=f'warmup_steps is {warmup}, but its phase has 6 steps'):
    schedules.learning_rate([phase], 3)


def test_the_cosine_of_shoyan_et_al():
  [phase] = phases(motion_deblur_sr.get_config('paper'))
  assert schedules.phase_starts([phase], 10) == [0, 210]
  schedule = jax.jit(schedules.learning_rate([phase], 10))
  for epoch in (0, 1, 13, 20):
    expected = 1e-5 + 0.5 * 9e-5 * (1 + np.cos(np.pi * epoch / 100))
    for step in (0, 9):
      assert float(schedule(10 * epoch + step)) == pytest.approx(expected, rel=1e-5)
  assert float(schedule(200)) == pytest.approx(9.14e-5, rel=1e-2)


def test_a_cosine_of_epochs_after_a_warmup():
  [phase] = phases(mprnet.get_config())
  schedule = schedules.learning_rate([phase], 2)
  rates = [float(schedule(step)) for step in range(8)]
  np.testing.assert_allclose(rates[:6], np.repeat([1, 2, 3], 2) * 2e-4 / 3, rtol=1e-6)
  np.testing.assert_allclose(rates[6:], 2e-4, rtol=1e-6)
  middle, end = 3 + 2997 // 2, 2999
  assert float(schedule(2 * middle)) == pytest.approx(0.5 * (2e-4 + 1e-6), rel=1e-3)
  assert float(schedule(2 * end)) == pytest.approx(1e-6, rel=1e-3)
  with pytest.raises(UserError, match='warmup_epochs is 3000, but cosine_epochs is 3000'):
    schedules.learning_rate([phase.to_dict() | {'warmup_epochs': 3000}], 2)


# CNLRN's second phase: four periods of 250,000 steps; the others start at half of the rate.
JOINT = {
  'epochs': 1000,
  'learning_rate': 2e-4,
  'module_learning_rates': {'deblur': 1e-5, 'other': 0.0},
  'periods': 4,
  'restart_factor': 0.5,
  'end_learning_rate': 1e-7,
}


@pytest.mark.parametrize(('module', 'rate'), [(None, 2e-4), ('nlrn', 2e-4), ('deblur', 1e-5)])
def test_cosines_with_restarts(module, rate):
  schedule = jax.jit(schedules.learning_rate([JOINT], 1000, module))
  for start in (0, 250_000, 500_000, 750_000):
    top = rate / 2 if start else rate
    for step, share in ((0, 0.0), (125_000, 0.5), (200_000, 0.8), (249_999, 1.0)):
      expected = 1e-7 + (top - 1e-7) * (1 + np.cos(np.pi * share)) / 2
      assert float(schedule(start + step)) == pytest.approx(expected, rel=1e-4), start + step


def test_a_module_whose_rate_is_0_stays_there():
  schedule = schedules.learning_rate([JOINT, JOINT | {'module_learning_rates': {}}], 1000, 'other')
  assert [float(schedule(step)) for step in (0, 123_456, 999_999)] == [0, 0, 0]
  assert float(schedule(1_000_000)) == pytest.approx(2e-4)


def test_more_periods_than_steps():
  with pytest.raises(UserError, match='periods is 4, but its phase has 3 steps'):
    schedules.learning_rate([JOINT | {'epochs': 1}], 3)
