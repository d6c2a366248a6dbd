import flax.linen as nn
import jax
import numpy as np
import pytest
from scipy import ndimage, special

from gfn_jax import UserError, create_model
from gfn_jax.interop.conversion import convert, infer_options, to_torch
from gfn_jax.models import HAN, init_variables, param_count, variable_shapes
from gfn_jax.models.han import ChannelSpatialAttention, LayerAttention, VolumeConv
from tests import small
from tests.models import original_weights
from tests.models.networks import random_params
from tests.models.original_weights import errors, names_digest, original_state, read_fixture


def fill(key, shape):
  """The formula of the fixtures, with attention modules that are not off."""
  if key.endswith('.gamma'):
    return np.full(shape, 0.3, np.float32)
  return original_weights.fill(key, shape)


DIGESTS = {
  'han': '201b320ede4582c91bdacad9d774f7faef965260d2f316e072c701b1ae252e06',
  'han_x2': 'be1ba25e4eae319fe07b596319209e966004dfecb8fef2657b4cada488cef4e4',
}


# 400 layers with random weights amplify rounding errors. In float64 the differences are 1e-2, 1e-3
# and 2e-4, 3e-4; changes of the input grow by factors of 30000, 1800 and 300, 1200.
@pytest.mark.full
@pytest.mark.parametrize(
  ('fixture', 'scale', 'tolerances'),
  [('han', 4, (1e-1, 5e-3)), ('han_x2', 2, (2e-3, 2e-3))],
)
def test_parity(fixture, scale, tolerances):
  expected = read_fixture(fixture)
  state = original_state('han', fill, scale=scale)
  assert names_digest(state) == DIGESTS[fixture]
  sizes = {'features': 64, 'groups': 10, 'blocks': 20, 'reduction': 16}
  assert infer_options('han', state) == sizes | {'scale': scale}
  model = HAN(scale=scale)
  # Not jitted: each kind of layer is compiled once.
  out = model.apply(convert('han', state), expected['x'])
  assert (errors(out.hr, expected['sr']) < tolerances).all()
  assert out.lr is None


@pytest.mark.full
def test_parameter_counts():
  shapes = variable_shapes(HAN())['params']
  assert param_count({'params': shapes}) == 16_071_745
  assert param_count({'params': shapes['layer_conv']}) == 405_568
  assert param_count({'params': shapes['fuse']}) == 73_792
  assert param_count({'params': shapes['channel_spatial_attention']}) == 29
  assert param_count({'params': shapes['layer_attention']}) == 1
  assert param_count(variable_shapes(create_model('han', preset='small'))) == 100_065


def test_layer_attention():
  rng, (b, h, w, n, f) = np.random.default_rng(0), (2, 5, 4, 3, 6)
  layers = rng.uniform(-0.2, 0.2, (b, h, w, n, f)).astype(np.float32)
  expected = np.empty((b, n, h * w * f))
  for i, image in enumerate(layers.transpose(0, 3, 1, 2, 4).reshape(b, n, -1).astype(float)):
    scores = image @ image.T
    weights = special.softmax(scores.max(axis=-1, keepdims=True) - scores, axis=-1)
    assert weights.min() > 0.05
    expected[i] = image + 0.7 * weights @ image
  expected = expected.reshape(b, n, h, w, f).transpose(0, 2, 3, 1, 4)
  found = LayerAttention().apply({'params': {'gamma': np.float32(0.7)}}, layers)
  np.testing.assert_allclose(found, expected, atol=1e-6)


def volume_params(rng):
  return {
    'kernel': rng.standard_normal((3, 3, 3, 1, 1)).astype(np.float32),
    'bias': rng.standard_normal(1).astype(np.float32),
  }


def test_channel_spatial_attention():
  rng = np.random.default_rng(0)
  params, x = volume_params(rng), rng.standard_normal((2, 5, 4, 6)).astype(np.float32)
  scores = [
    special.expit(
      ndimage.correlate(image, params['kernel'][..., 0, 0].astype(float), mode='constant')
      + params['bias']
    )
    for image in x.astype(float)
  ]
  found = ChannelSpatialAttention().apply({'params': {'gamma': np.float32(0.7), 'conv': params}}, x)
  np.testing.assert_allclose(found, x + 0.7 * np.stack(scores) * x, atol=1e-5)


def test_a_volumes_convolution_is_that_of_flax():
  rng = np.random.default_rng(0)
  params, x = {'params': volume_params(rng)}, rng.random((2, 5, 4, 6)).astype(np.float32)
  reference = nn.Conv(1, (3, 3, 3), padding=1)
  expected = reference.apply(params, x[..., None])[..., 0]
  np.testing.assert_allclose(VolumeConv().apply(params, x), expected, atol=1e-5)
  initial = VolumeConv().init(jax.random.key(0), x)['params']
  shapes = jax.eval_shape(reference.init, jax.random.key(0), x[..., None])['params']
  assert jax.tree.map(np.shape, initial) == jax.tree.map(np.shape, shapes)
  assert 0.5 / 27**0.5 < np.abs(initial['kernel']).max() < 27**-0.5


def test_the_attention_modules_start_without_effect():
  @jax.jit  # for these parameters alone
  def init():
    params = init_variables(HAN(**small.RCAN), seed=0)['params']
    return [params[name]['gamma'] for name in ('layer_attention', 'channel_spatial_attention')]

  for gamma in init():
    assert gamma == 0
    assert gamma.shape == ()


def test_the_layouts_of_the_attention_modules():
  params = random_params(HAN(**small.RCAN))
  state = to_torch('han', {'params': params}, **small.RCAN)
  for ours, theirs in {'channel_spatial_attention': 'csa', 'layer_attention': 'la'}.items():
    assert state[f'{theirs}.gamma'].shape == (1,)
    assert state[f'{theirs}.gamma'][0] == params[ours]['gamma']
  kernel = params['channel_spatial_attention']['conv']['kernel']  # height, width, channels
  np.testing.assert_array_equal(state['csa.conv.weight'][0, 0, 2, 0, 1], kernel[0, 1, 2, 0, 0])


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'la.gamma': None}, r'1 missing \(la.gamma\)'),
    ({'csa.conv.weight': np.ones((1, 1, 3, 3), np.float32)}, r'wrong shape \(csa.conv.weight'),
    (
      {'last_conv.weight': np.ones((8, 16, 3, 3), np.float32)},
      r'\[8, 16, 3, 3\], expected \[8, 24',
    ),
  ],
)
def test_tensors_that_do_not_fit(changes, message):
  params = random_params(HAN(**small.RCAN))
  state = to_torch('han', {'params': params}, **small.RCAN) | changes
  state = {name: tensor for name, tensor in state.items() if tensor is not None}
  with pytest.raises(UserError, match=message):
    convert('han', state)
