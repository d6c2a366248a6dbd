import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax import UserError, create_model
from gfn_jax.models import EDDSRNLike, init_variables, param_count, variable_shapes
from tests import slow_conv
from tests.models.networks import apply, enlarge, gradient, photograph, random_params
from tests.small import ED_DSRN_LIKE

small_model = functools.partial(EDDSRNLike, **ED_DSRN_LIKE)


# The network by hand, of an image `[C, h, w]` in float64.


def conv(x, params, stride=1):
  kernel = params['kernel'].transpose(3, 2, 0, 1)
  return slow_conv.conv(x, kernel, params['bias'], stride, kernel.shape[2] // 2)


def deconv(x, params):
  kernel = params['kernel'][::-1, ::-1].transpose(2, 3, 0, 1)
  return slow_conv.conv_transpose(x, kernel, params['bias'])


def relu(x, slope=0.0):
  return np.where(x > 0, x, slope * x)


def shuffle(x):
  c, h, w = x.shape
  return x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c // 4, 2 * h, 2 * w)


def res_blocks(x, params, name):
  blocks = [key for key in params if key.startswith(f'{name}_')]
  for i in range(len(blocks)):
    block = params[f'{name}_{i}']
    x = x + conv(relu(conv(x, block['conv1'])), block['conv2'])
  return x


def by_hand(x, params):
  full = res_blocks(relu(conv(x, params['conv1']), 0.2), params, 'encoder1')
  half = res_blocks(relu(conv(full, params['conv2'], 2)), params, 'encoder2')
  y = res_blocks(relu(conv(half, params['conv3'], 2)), params, 'bottleneck')
  y = res_blocks(relu(deconv(y, params['deconv2'])) + half, params, 'decoder2')
  y = res_blocks(relu(deconv(y, params['deconv1'])) + full, params, 'decoder1')
  params = params['reconstruction']
  y = res_blocks(y, params, 'resblock')
  y = shuffle(relu(conv(y, params['conv1']), 0.1))
  y = shuffle(relu(conv(y, params['conv2']), 0.2))
  return conv(relu(conv(y, params['conv3']), 0.2), params['conv4'])


def test_the_network_by_hand():
  x, model = photograph(8, 12), small_model(blocks=2)
  params = random_params(model)
  out = apply(model, params, x)
  expected = by_hand(x[0].transpose(2, 0, 1).astype(np.float64), params).transpose(1, 2, 0)
  assert expected.std() > 1e-2
  np.testing.assert_allclose(out.hr[0], expected, atol=1e-5)
  assert out.lr is None
  with_skip = apply(small_model(blocks=2, global_skip='input'), params, x)
  np.testing.assert_allclose(with_skip.hr, out.hr + enlarge(x), atol=1e-5)


def test_parameter_counts():
  count = lambda **options: param_count(variable_shapes(create_model('ed_dsrn_like', **options)))
  assert count() == 25_269_827
  assert count(preset='small') == 72_507


def test_the_first_images_are_small():
  """He's variance keeps the sizes of features; the authors' of GFN does not."""
  x = photograph(16, 16)
  model = EDDSRNLike(features=16, bottleneck_blocks=4)
  params = init_variables(model, seed=0)['params']
  assert 0.1 < apply(model, params, x).hr.std() < 10


def test_other_sizes_are_padded_and_cropped():
  x, model = photograph(5, 12), small_model(blocks=2, global_skip='input')  # compiled already
  params = random_params(model)
  hr = apply(model, params, x).hr
  whole = apply(model, params, np.pad(x, ((0, 0), (0, 3), (0, 0), (0, 0)), mode='reflect')).hr
  assert hr.shape == (1, 20, 48, 3)
  np.testing.assert_allclose(hr, whole[:, :20], atol=1e-6)


def test_every_parameter_gets_a_gradient():
  sharp, model = photograph(32, 32), small_model()

  def loss(params):
    hr = model.apply({'params': params}, sharp[:, ::4, ::4] ** 2).hr
    return jnp.mean((hr - sharp) ** 2)

  # With biases above zero: of so few channels none should end at a ReLU for all pixels.
  params = jax.tree.map(lambda x: np.abs(x) if x.ndim == 1 else x, random_params(model))
  for key, value in gradient(loss, params).items():
    assert np.isfinite(value).all(), key
    assert np.any(value), key


def test_images_of_half_precision_are_float32():
  model = small_model(dtype='bfloat16')
  hr = apply(model, random_params(model), photograph(8, 8)).hr
  assert hr.dtype == jnp.float32
  assert np.isfinite(hr).all()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'features': 0}, 'features must be at least 1, not 0'),
    ({'blocks': 0}, 'blocks must be at least 1, not 0'),
    ({'bottleneck_blocks': 0}, 'bottleneck_blocks must be at least 1, not 0'),
    ({'reconstruction_blocks': 0}, 'reconstruction_blocks must be at least 1, not 0'),
    ({'initialization': 'he'}, "unknown initialization 'he'; choose from scaled, authors"),
    ({'global_skip': 'deblurred'}, "unknown global_skip 'deblurred'; choose from none, input"),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'ed_dsrn_like': {message}"):
    create_model('ed_dsrn_like', **options)
