import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax.models import cpu_conv
from gfn_jax.models.cpu_conv import conv_general_dilated


def layers(features, kernel, **options):
  """The same convolution with both implementations."""
  plain = nn.Conv(features, (kernel, kernel), padding=kernel // 2, **options)
  return plain, plain.copy(conv_general_dilated=conv_general_dilated)


def value_and_grads(layer, params, x):
  def loss(params, x):
    return jnp.sum(jnp.sin(layer.apply(params, x)))  # a gradient that differs from pixel to pixel

  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)


@pytest.mark.parametrize(
  ('in_features', 'features', 'kernel', 'options'),
  [
    (24, 32, 3, {}),
    (32, 16, 3, {'use_bias': False}),
    (4, 4, 3, {}),
    (24, 32, 7, {}),
    (24, 32, 3, {'strides': 2}),
    (24, 32, 3, {'kernel_dilation': 2}),
    (32, 32, 3, {'feature_group_count': 2}),
    (24, 32, 3, {'precision': 'highest'}),
  ],
)
@pytest.mark.parametrize('size', [(8, 8), (5, 9), (1, 1)])
def test_values_and_gradients_are_those_of_the_plain_convolution(
  in_features, features, kernel, options, size
):
  x = jax.random.normal(jax.random.key(0), (2, *size, in_features))
  plain, fast = layers(features, kernel, **options)
  params = plain.init(jax.random.key(1), x)
  expected = jax.tree.leaves(value_and_grads(plain, params, x))
  found = jax.tree.leaves(value_and_grads(fast, params, x))
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_only_large_plain_3x3_convolutions_take_the_fast_gradient(monkeypatch):
  calls = []
  fast_conv = cpu_conv._conv3x3
  monkeypatch.setattr(cpu_conv, '_conv3x3', lambda *a: calls.append(a) or fast_conv(*a))
  x = jnp.ones((1, 8, 8, 32))
  for expected, kernel, options in (
    (1, 3, {}),
    (0, 7, {}),
    (0, 3, {'strides': 2}),
    (0, 3, {'kernel_dilation': 2}),
    (0, 3, {'precision': 'highest'}),
  ):
    calls.clear()
    _, fast = layers(32, kernel, **options)
    fast.init(jax.random.key(0), x)
    assert len(calls) == expected, (kernel, options)


def test_other_backends_take_jaxs_own(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(cpu_conv, '_conv3x3', lambda *_: pytest.fail('the CPU one was taken'))
  x = jax.random.normal(jax.random.key(0), (1, 8, 8, 32))
  plain, fast = layers(32, 3)
  params = plain.init(jax.random.key(1), x)
  np.testing.assert_array_equal(fast.apply(params, x), plain.apply(params, x))
