import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gfn_jax import UserError
from gfn_jax.training.optimizers import OTHERS, make_optimizer

CONSTANT = {OTHERS: optax.constant_schedule(1.0)}


def test_muon_makes_kernels_orthogonal_and_gives_biases_to_nadam():
  rng = np.random.default_rng(0)
  grads = {'kernel': rng.normal(size=(3, 3, 4, 8)), 'bias': np.array([3.0, -0.1])}
  grads = jax.tree.map(jnp.float32, grads)
  muon = make_optimizer(CONSTANT, name='muon')
  grads = {'layer': grads}
  updates, _ = muon.update(grads, muon.init(grads), grads, step=0)
  updates, grads = updates['layer'], grads['layer']
  matrix = np.asarray(updates['kernel']).reshape(36, 8)
  values = np.linalg.svd(matrix, compute_uv=False)
  assert values.max() / values.min() < 2  # about 5 before, and one direction: downhill
  assert np.vdot(matrix, grads['kernel']) < 0
  nadam = optax.nadam(1 / 3)
  expected, _ = nadam.update(grads, nadam.init(grads))
  np.testing.assert_allclose(updates['bias'], expected['bias'], rtol=1e-5)


def test_an_unknown_optimizer_is_refused():
  with pytest.raises(UserError, match="optimizer.name is 'sgd'; choose 'adam' or 'muon'"):
    make_optimizer(CONSTANT, name='sgd')


def test_clipping_can_be_switched_off():
  grads = {'a': jnp.full(4, 100.0)}
  for clip_norm, norm in ((1.0, 1.0), (0.0, 200.0)):
    # With a huge eps updates follow gradients.
    clip = make_optimizer(CONSTANT, b1=0.0, b2=0.0, eps=1e10, clip_norm=clip_norm)
    updates, _ = clip.update(grads, clip.init(grads), step=0)
    np.testing.assert_allclose(optax.tree.norm(updates) * 1e10, norm, rtol=1e-5)


def test_modules_have_rates_of_the_step_of_the_run():
  grads = {'a': jnp.array([1.0, -2.0]), 'b': jnp.array([3.0])}
  rates = {OTHERS: lambda step: 0.1 * step, 'b': optax.constant_schedule(0.0)}
  optimizer = make_optimizer(rates)
  for step in (1, 7):  # whatever the age of the state
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads, step=step)
    np.testing.assert_allclose(updates['a'], [-0.1 * step, 0.1 * step], rtol=1e-5)
    np.testing.assert_array_equal(updates['b'], [0.0])


def test_phases_with_other_rates_share_the_state():
  params = {'a': jnp.ones(2), 'b': jnp.ones(3)}
  states = [
    make_optimizer({OTHERS: rate, 'b': rate}).init(params)
    for rate in (optax.constant_schedule(0.0), optax.constant_schedule(1.0))
  ]
  assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
