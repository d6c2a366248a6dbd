import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax.layers.activations import leaky_relu, relu

PAIRS = [
  (relu, nn.relu),
  (leaky_relu, functools.partial(nn.leaky_relu, negative_slope=0.2)),
  (
    functools.partial(leaky_relu, negative_slope=0.1),
    functools.partial(nn.leaky_relu, negative_slope=0.1),
  ),
]


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize(('ours', 'jax_own'), PAIRS)
def test_values_and_gradients_are_those_of_jax(ours, jax_own, dtype):
  x, weights = np.random.default_rng(0).standard_normal((2, 3, 40))
  x[0, :2] = 0.0, -0.0
  x, weights = jnp.asarray(x, dtype), jnp.asarray(weights, dtype)
  for function in (lambda act: act, lambda act: jax.jit(jax.vmap(act))):
    assert function(ours)(x).dtype == dtype
    np.testing.assert_array_equal(function(ours)(x), function(jax_own)(x))
  gradient, expected = (
    jax.jit(jax.grad(lambda x, act=act: (weights * act(x)).sum()))(x) for act in (ours, jax_own)
  )
  assert gradient.dtype == dtype
  np.testing.assert_array_equal(gradient, expected)
  _, tangent = jax.jvp(ours, (x,), (weights,))
  np.testing.assert_array_equal(tangent, expected)


def test_nan_stays_nan():
  for act in (relu, leaky_relu):
    assert np.isnan(act(jnp.nan))


@pytest.mark.parametrize('act', [relu, leaky_relu])
def test_the_gradient_reads_the_output_alone(act):
  x = jnp.ones((2, 3))
  jaxpr = jax.make_jaxpr(lambda x, tangent: jax.jvp(act, (x,), (tangent,)))(x, x).jaxpr
  reading = [eqn.primitive.name for eqn in jaxpr.eqns if jaxpr.invars[0] in eqn.invars]
  assert reading == ['custom_jvp_call']  # the activation itself


def test_the_slope_makes_negative_numbers_small():
  np.testing.assert_allclose(leaky_relu(jnp.array([-2.0, 0, 3])), [-0.4, 0, 3])
  np.testing.assert_allclose(leaky_relu(jnp.array([-2.0, 0, 3]), 0.1), [-0.2, 0, 3])
