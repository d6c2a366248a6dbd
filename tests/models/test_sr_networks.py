"""Sizes, skips, gradients and options of EDSR, RCAN and HAN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.layers.super_resolution import RGB_MEAN
from gfn_jax.models import init_variables, variable_shapes
from tests import small
from tests.models.networks import apply, enlarge, gradient, photograph, random_params

EDSR = small.EDSR | {'blocks': 1}
RCAN = small.RCAN | {'blocks': 1}  # and HAN, which needs two groups
NETWORKS = {
  'edsr': ('edsr', EDSR),
  'edsr_baseline': ('edsr_baseline', EDSR),
  'rcan': ('rcan', RCAN),
  'rcan, trained mean shift': ('rcan', RCAN | {'trained_mean_shift': True}),
  'han': ('han', RCAN),
}


@pytest.fixture(
  params=[
    # EDSR with other defaults
    pytest.param(name, marks=pytest.mark.full if name == 'edsr_baseline' else ())
    for name in NETWORKS
  ]
)
def network(request):
  return NETWORKS[request.param]


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_any_size_is_enlarged(network, scale):
  name, options = network
  model = create_model(name, **options, scale=scale)
  assert (model.scale, model.stride) == (scale, (1, 1))
  out = jax.eval_shape(model.apply, variable_shapes(model), np.zeros((2, 7, 5, 3), np.float32))
  assert out.hr.shape == (2, scale * 7, scale * 5, 3)
  assert out.lr is None


def test_the_global_skip_replaces_the_mean_by_the_input(network):
  name, options = network
  plain = create_model(name, **options, scale=3)
  params, x = random_params(plain), photograph(7, 9)
  if 'add_mean' in params:  # an initial mean shift, which is the constant one
    initial = init_variables(plain, seed=0)['params']
    params |= {key: layer for key, layer in initial.items() if key.endswith('_mean')}
  skipping = apply(plain.clone(global_skip='input'), params, x).hr
  expected = apply(plain, params, x).hr - np.reshape(RGB_MEAN, (1, 1, 1, 3)) + enlarge(x, 3)
  np.testing.assert_allclose(skipping, expected, atol=1e-5)


def test_with_a_global_skip_it_starts_near_the_input(network):
  name, options = network
  model, x = create_model(name, **options, global_skip='input'), photograph(16, 16)
  hr = apply(model, init_variables(model, seed=0)['params'], x).hr
  assert 0 < np.abs(hr - enlarge(x)).max() < 0.25


def test_every_parameter_gets_a_gradient(network):
  name, options = network
  model, x = create_model(name, **options), photograph(12, 12)
  enlarged = enlarge(x)

  def loss(params):
    return jnp.abs(model.apply({'params': params}, x**2).hr - enlarged).mean()

  # Other biases and seeds may leave all hidden units of a channel attention at zero.
  params = jax.tree.map(lambda x: np.abs(x) if x.ndim == 1 else x, random_params(model, seed=7))
  grads = gradient(loss, params)
  assert all(np.isfinite(value).all() for value in grads.values())
  assert [key for key, value in grads.items() if not np.any(value)] == []


def test_images_of_half_precision_are_float32(network):
  name, options = network
  model = create_model(name, **options, dtype='bfloat16')
  hr = apply(model, random_params(model), photograph(7, 9)).hr
  assert hr.dtype == jnp.float32
  assert np.isfinite(hr).all()
  assert np.std(hr) > 0.01
  leaves = jax.tree.leaves(variable_shapes(model)['params'])
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype('float32')}


@pytest.mark.parametrize('name', ['rcan', 'han'])
def test_a_network_that_is_not_local_restores_photos_whole(name):
  model, photo = create_model(name, **RCAN), skimage.data.astronaut()[50:58, 200:264]
  params, x = random_params(model), photograph(8, 64)
  hr = apply(model, params, x).hr
  restored = Restorer(model, {'params': params})(photo) / 255
  np.testing.assert_allclose(restored, np.clip(hr[0], 0, 1), atol=0.51 / 255)
  assert not model.local
  x[:, :, 32:] = 0  # too far from the first columns for the convolutions
  assert np.abs(apply(model, params, x).hr - hr)[:, :, : 4 * 8].max() > 1e-5


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('edsr', {'features': 0}, 'features must be at least 1, not 0'),
    ('edsr', {'blocks': 0}, 'blocks must be at least 1, not 0'),
    ('edsr', {'res_scale': 0.0}, 'res_scale must be above 0, not 0.0'),
    ('edsr', {'scale': 8}, 'unknown scale 8; choose from 2, 3, 4'),
    ('edsr_baseline', {'global_skip': 'deblurred'}, 'unknown global_skip .*; choose from none, in'),
    ('rcan', {'groups': 0}, 'groups must be at least 1, not 0'),
    ('rcan', {'features': 8}, 'features must be at least reduction, 16, not 8'),
    ('rcan', {'scale': 1}, 'unknown scale 1; choose from 2, 3, 4'),
    ('rcan', {'global_skip': 'deblurred'}, 'unknown global_skip'),
    ('han', {'reduction': 0}, 'reduction must be at least 1, not 0'),
    ('han', {'features': 8}, 'features must be at least reduction, 16, not 8'),
    ('han', {'scale': 5}, 'unknown scale 5; choose from 2, 3, 4'),
    ('han', {'global_skip': 'deblurred'}, 'unknown global_skip'),
  ],
)
def test_wrong_options(name, options, message):
  with pytest.raises(UserError, match=f"^model '{name}': {message}"):
    create_model(name, **options)
