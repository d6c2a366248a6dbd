import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax.layers import blocks
from gfn_jax.layers.activations import leaky_relu, relu


def numbers(*shape):
  return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_pixel_shuffle_has_the_channel_order_of_pytorch():
  b, h, w, c, r = 2, 3, 4, 5, 2
  x = numbers(b, h, w, c * r**2)
  expected = np.zeros((b, h * r, w * r, c), np.float32)
  for row in range(h):
    for column in range(w):
      for channel in range(c):
        for i in range(r):
          for j in range(r):
            value = x[:, row, column, channel * r**2 + i * r + j]
            expected[:, row * r + i, column * r + j, channel] = value
  np.testing.assert_array_equal(blocks.pixel_shuffle(x, r), expected)


@pytest.mark.parametrize(('factor', 'channels'), [(3, 18), (1, 4)])
def test_pixel_shuffle_by_other_factors(factor, channels):
  x = numbers(1, 2, 2, channels)
  out = blocks.pixel_shuffle(x, factor)
  assert out.shape == (1, 2 * factor, 2 * factor, channels // factor**2)
  np.testing.assert_array_equal(np.ravel(out[0, :factor, :factor, -1]), x[0, 0, 0, -(factor**2) :])


@pytest.mark.parametrize('mode', ['reflect', 'symmetric'])
@pytest.mark.parametrize('size', [(1, 2), (3, 4), (5, 9)])
def test_pad_mirrored_is_that_of_numpy(mode, size):
  x = numbers(2, *size, 3)
  expected = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)), mode)
  np.testing.assert_array_equal(blocks.pad_mirrored(x, 3, mode), expected)
  shape = jax.export.symbolic_shape('B, H, W, 3')
  pad = jax.jit(lambda x: blocks.pad_mirrored(x, 3, mode))
  exported = jax.export.export(pad)(jax.ShapeDtypeStruct(shape, jnp.float32))
  np.testing.assert_array_equal(exported.call(x), expected)


@pytest.mark.parametrize(
  ('length', 'expected'),
  [
    (1, [0, 0, 0, 0]),
    (2, [0, 1, 0, 1]),
    (3, [0, 1, 2, 1]),
    (4, [0, 1, 2, 3]),
    (5, [0, 1, 2, 3, 4, 3, 2, 1]),
  ],
)
def test_pad_to_multiple_reflects_at_the_end(length, expected):
  x = numbers(1, length, 1, 1) + np.zeros((2, 1, 8, 3), np.float32)
  rows = blocks.pad_to_multiple(x, (4, 1))
  assert rows.shape == (2, len(expected), 8, 3)
  np.testing.assert_array_equal(rows[1, :, 5, 2], expected)
  columns = blocks.pad_to_multiple(x.transpose(0, 2, 1, 3), (1, 4))
  np.testing.assert_array_equal(columns[1, 5, :, 2], expected)


def bilinear_line(line, out_size):
  """PyTorch's formula, align_corners=False: centres outside are clamped to the edge."""
  result = []
  for place in range(out_size):
    source = max((place + 0.5) * len(line) / out_size - 0.5, 0)
    left = min(int(source), len(line) - 1)
    right = min(left + 1, len(line) - 1)
    result.append(line[left] + (source - left) * (line[right] - line[left]))
  return np.array(result)


@pytest.mark.parametrize('size', [(8, 12), (5, 7), (16, 9), (6, 4), (3, 2), (1, 1)])
def test_resize_bilinear_is_pytorchs(size):
  x = np.random.default_rng(0).random((2, 5, 7, 3), np.float32)
  expected = np.apply_along_axis(bilinear_line, 1, x, size[0])
  expected = np.apply_along_axis(bilinear_line, 2, expected, size[1])
  np.testing.assert_allclose(blocks.resize_bilinear(x, *size), expected, atol=1e-6)


def test_resize_bilinear_to_its_own_size_is_the_same_array():
  x = jnp.ones((1, 4, 6, 3))
  assert blocks.resize_bilinear(x, 4, 6) is x


@pytest.mark.parametrize('fan_in', [1, 16, 1024])
def test_torch_uniform_init_fills_its_bounds(fan_in):
  bound = 1 / np.sqrt(fan_in)
  values = np.asarray(blocks.torch_uniform_init(fan_in)(jax.random.key(0), (300, 300)))
  assert values.dtype == np.float32
  assert -bound <= values.min() < -0.999 * bound
  assert 0.999 * bound < values.max() <= bound
  assert abs(values.mean()) < 0.01 * bound
  assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)


@pytest.mark.parametrize(('mode', 'fan'), [('fan_in', 9 * 64), ('fan_out', 9 * 128)])
@pytest.mark.parametrize('scale', [2.0, 0.01])
def test_scaled_normal_has_its_deviation(mode, fan, scale):
  values = np.asarray(blocks.scaled_normal(scale, mode)(jax.random.key(0), (3, 3, 64, 128)))
  deviation = np.sqrt(scale / fan)
  assert values.std() == pytest.approx(deviation, rel=0.01)
  assert abs(values.mean()) < 0.02 * deviation
  assert np.abs(values).max() > 3.5 * deviation  # normal, not truncated


def test_res_block_without_its_last_convolution_is_the_identity():
  x = np.random.default_rng(0).standard_normal((2, 6, 5, 4)).astype(np.float32)
  block = blocks.ResBlock(4, relu, last_init=nn.initializers.zeros)
  params = block.init(jax.random.key(0), x)
  assert np.any(params['params']['conv1']['kernel'])
  np.testing.assert_array_equal(block.apply(params, x), x)


@pytest.mark.parametrize(('act', 'slope'), [(relu, 0.0), (leaky_relu, 0.2)])
def test_res_block_by_hand(act, slope):
  # Both kernels pick one neighbour: conv1 the one below and conv2 the one to the right.
  x = np.random.default_rng(0).standard_normal((1, 4, 5, 1)).astype(np.float32)
  below, right = np.zeros((2, 3, 3, 1, 1), np.float32)
  below[2, 1], right[1, 2] = 1, 3
  params = {
    'conv1': {'kernel': below, 'bias': np.full(1, 0.25, np.float32)},
    'conv2': {'kernel': right, 'bias': np.full(1, -0.5, np.float32)},
  }
  hidden = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))[:, 1:] + 0.25
  hidden = np.where(hidden > 0, hidden, slope * hidden)
  expected = x + 3 * np.pad(hidden, ((0, 0), (0, 0), (0, 1), (0, 0)))[:, :, 1:] - 0.5
  out = blocks.ResBlock(1, act).apply({'params': params}, x)
  np.testing.assert_allclose(out, expected, atol=1e-6)
  assert out.min() < 0  # no activation after the sum


@pytest.mark.parametrize('method', ['cubic', 'linear'])
@pytest.mark.parametrize(('scale', 'size'), [(2, (1, 3)), (3, (5, 2)), (4, (7, 9)), (4, (1, 1))])
def test_enlargement_is_that_of_jax(method, scale, size):
  x = jnp.asarray(np.random.default_rng(0).random((2, *size, 3), np.float32))
  shape = (2, scale * size[0], scale * size[1], 3)
  expected = jax.image.resize(x, shape, method)
  np.testing.assert_allclose(blocks.Enlarge(scale, method)(x), expected, rtol=0, atol=1e-6)
