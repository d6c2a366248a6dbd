import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax.layers import cpu_conv
from gfn_jax.layers.cpu_conv import ConvTranspose, conv_general_dilated


def draw(*shape):
  return np.random.default_rng(0).standard_normal(shape, np.float32)


def layers(features, kernel, **options):
  """The same convolution with both implementations."""
  plain = nn.Conv(features, (kernel, kernel), padding=kernel // 2, **options)
  return plain, plain.copy(conv_general_dilated=conv_general_dilated)


def transposed_layers(features, kernel, stride=2, **options):
  cut = (kernel - stride + 1) // 2, (kernel - stride) // 2
  padding = [tuple(kernel - 1 - pixels for pixels in cut)] * 2
  size = {'kernel_size': (kernel, kernel), 'strides': (stride, stride), 'padding': padding}
  return [module(features, **size, **options) for module in (nn.ConvTranspose, ConvTranspose)]


def value_and_grads(layer, params, x):
  def loss(params, x):
    return jnp.sum(jnp.sin(layer.apply(params, x)))  # a gradient that differs from pixel to pixel

  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)


def assert_same(plain, fast, x):
  init = jax.jit(lambda key: [layer.init(key, x) for layer in (plain, fast)])
  params, others = init(jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, others, params)
  expected = jax.tree.leaves(value_and_grads(plain, params, x))
  found = jax.tree.leaves(value_and_grads(fast, params, x))
  for a, b in zip(found, expected, strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ('in_features', 'features', 'kernel', 'options'),
  [
    (24, 32, 3, {}),
    (32, 16, 3, {'use_bias': False}),
    (3, 8, 7, {}),
    (8, 3, 5, {}),
    (8, 8, 1, {}),
    (8, 8, 4, {}),
    (24, 32, 3, {'strides': 2}),
    (24, 32, 3, {'kernel_dilation': 2}),
    (32, 32, 3, {'feature_group_count': 2}),
    (24, 32, 3, {'precision': 'highest'}),
  ],
)
@pytest.mark.parametrize('size', [(5, 9), (1, 1)])
def test_values_and_gradients_are_those_of_the_plain_convolution(
  in_features, features, kernel, options, size
):
  x = draw(2, *size, in_features)
  assert_same(*layers(features, kernel, **options), x)


@pytest.mark.parametrize('rows', [1, 3, 4, 11])
def test_pieces_of_an_image_sum_up(monkeypatch, rows):
  features = 8
  monkeypatch.setattr(cpu_conv, '_PIECE_BYTES', rows * 10 * features * 4)
  x = draw(3, 11, 10, 4)
  assert_same(*layers(features, 3), x)


def test_gradients_of_bfloat16_are_those_of_float32_rounded():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((4, 24, 20, 16), np.float32)
  kernel = rng.standard_normal((3, 3, 16, 24), np.float32) / 12
  grad = rng.standard_normal((4, 24, 20, 24), np.float32)
  x, kernel, grad = (a.astype(jnp.bfloat16) for a in (x, kernel, grad))

  @functools.partial(jax.jit, static_argnums=0)
  def gradients(dtype):
    value, pull_back = jax.vjp(
      lambda x, kernel: cpu_conv._conv(x, kernel, None), x.astype(dtype), kernel.astype(dtype)
    )
    return value, *pull_back(grad.astype(dtype))

  results = jax.device_get([gradients(dtype) for dtype in (jnp.bfloat16, jnp.float32)])
  for half, whole in zip(*results, strict=True):
    assert half.dtype == jnp.bfloat16
    tolerance = 2**-7 * np.std(whole)
    half = np.asarray(half, np.float32)
    np.testing.assert_allclose(half, whole, rtol=2**-7, atol=tolerance)


def test_only_convolutions_that_keep_the_size_take_the_fast_gradient(monkeypatch):
  calls = []
  fast_conv = cpu_conv._conv
  monkeypatch.setattr(cpu_conv, '_conv', lambda *a: calls.append(a) or fast_conv(*a))
  x = np.ones((1, 8, 8, 32), np.float32)
  for expected, kernel, options in (
    (1, 3, {}),
    (1, 7, {}),
    (0, 1, {}),
    (0, 4, {}),
    (0, 3, {'strides': 2}),
    (0, 3, {'kernel_dilation': 2}),
    (1, 3, {'precision': 'highest'}),
    (0, 3, {'feature_group_count': 2}),
  ):
    calls.clear()
    _, fast = layers(32, kernel, **options)
    jax.eval_shape(fast.init, jax.random.key(0), x)
    assert len(calls) == expected, (kernel, options)


@pytest.mark.parametrize(
  ('kernel', 'size', 'options'),
  [
    (4, (8, 8), {}),
    (4, (5, 9), {}),
    (4, (1, 1), {}),
    (2, (5, 9), {}),
    (6, (5, 9), {}),
    (3, (5, 9), {}),
    (5, (5, 9), {}),
    (7, (5, 9), {'stride': 3}),
    (8, (5, 9), {'stride': 4}),
    (4, (5, 9), {'precision': 'highest'}),
    (4, (5, 9), {'bias_init': nn.initializers.ones}),
  ],
)
def test_transposed_convolutions_too(kernel, size, options):
  x = draw(2, *size, 6)
  assert_same(*transposed_layers(4, kernel, **options), x)


def test_other_backends_take_jaxs_own(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  for name in ('_conv', '_enlarge'):
    monkeypatch.setattr(cpu_conv, name, lambda *_: pytest.fail('the CPU one was taken'))
  x = draw(1, 8, 8, 32)
  assert_same(*layers(32, 3), x)
  assert_same(*transposed_layers(32, 4), x)
