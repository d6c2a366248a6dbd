import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from gfn_jax import UserError, create_model
from gfn_jax.models import SCGANLike, init_variables, param_count, variable_shapes
from tests import slow_conv
from tests.models.networks import enlarge, gradient, photograph

small_model = functools.partial(SCGANLike, features=4, blocks=2)


def random_variables(model):
  """Parameters and statistics, none of them at its initial value."""
  rng = np.random.default_rng(0)
  draw = lambda x: x + rng.uniform(0, 0.2, x.shape).astype(np.float32)
  return jax.tree.map(draw, init_variables(model, seed=0))


def by_hand(x, variables, train=False):
  """The network of an image `[C, h, w]` in float64, and the statistics of its features."""
  params, stats = variables['params'], variables.get('batch_stats', {})
  found = {}

  def conv(x, name):
    kernel = params[name]['kernel'].transpose(3, 2, 0, 1)
    return slow_conv.conv(x, kernel, params[name]['bias'], padding=kernel.shape[2] // 2)

  def deconv(x, name):
    kernel = params[name]['kernel'][::-1, ::-1].transpose(2, 3, 0, 1)
    return slow_conv.conv_transpose(x, kernel, params[name]['bias'], padding=2)

  def norm_relu(x, name):
    if name in params:
      found[name] = {'mean': x.mean((1, 2)), 'var': x.var((1, 2))}
      mean, var = (found if train else stats)[name].values()
      x = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
      x = x * params[name]['scale'][:, None, None] + params[name]['bias'][:, None, None]
    return np.maximum(x, 0)

  for i in (1, 2):
    x = norm_relu(deconv(x, f'deconv{i}'), f'deconv{i}_norm')
  for i in range(2):
    x = norm_relu(conv(x, f'conv_{i}'), f'norm_{i}')
  return conv(x, 'conv_last'), found


@pytest.mark.parametrize(
  ('options', 'train'),
  [({}, False), ({}, True), ({'norm': 'none', 'kernel_size': 3}, False)],
)
def test_the_network_by_hand(options, train):
  x, model = photograph(5, 7), small_model(**options)
  variables = random_variables(model)
  restore = jax.jit(functools.partial(model.apply, train=train, mutable=['batch_stats']))
  out, updated = jax.device_get(restore(variables, x))
  image = x[0].transpose(2, 0, 1).astype(np.float64)
  expected, stats = by_hand(image, jax.tree.map(np.asarray, variables), train)
  expected = expected.transpose(1, 2, 0)
  assert expected.std() > 1e-2
  np.testing.assert_allclose(out.hr[0], expected, rtol=1e-5, atol=1e-4)
  assert out.lr is None
  if train:
    mixed = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, variables['batch_stats'], stats)
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-4), updated['batch_stats'], mixed
    )


def test_parameter_counts():
  count = lambda **options: param_count(variable_shapes(create_model('scgan_like', **options)))
  assert count(norm='none') == 1_081_475
  assert count() == 1_081_475 + 1_408
  assert count(norm='none', blocks=10) == 1_183_939
  assert count(preset='small') == 69_315


def test_the_global_skip_adds_the_input():
  x, variables = photograph(5, 7), random_variables(small_model())
  plain, skipping = (
    jax.jit(small_model(global_skip=skip).apply)(variables, x).hr for skip in ('none', 'input')
  )
  np.testing.assert_allclose(skipping, plain + enlarge(x), atol=1e-5)


def test_every_parameter_gets_a_gradient():
  sharp, model = photograph(32, 32), small_model()
  variables = random_variables(model)

  def loss(params):
    restore = functools.partial(model.apply, train=True, mutable=['batch_stats'])
    out, _ = restore(variables | {'params': params}, sharp[:, ::4, ::4] ** 2)
    return jnp.mean((out.hr - sharp) ** 2)

  for key, value in gradient(loss, variables['params']).items():
    assert np.isfinite(value).all(), key
    assert np.any(value), key


def test_images_of_half_precision_are_float32():
  model = small_model(dtype='bfloat16')
  hr = jax.jit(model.apply)(random_variables(model), photograph(8, 8)).hr
  assert hr.dtype == jnp.float32
  assert np.isfinite(hr).all()


def test_devices_share_their_statistics():
  assert small_model().for_training('devices').axis_name == 'devices'
  x = np.stack([photograph(4, 4), 0.5 * photograph(4, 4)])  # for two devices
  variables = random_variables(small_model())
  train = functools.partial(
    small_model().for_training('devices').apply, train=True, mutable=['batch_stats']
  )
  shared = jax.vmap(train, in_axes=(None, 0), axis_name='devices')
  whole = functools.partial(small_model().apply, train=True, mutable=['batch_stats'])
  _, shared = jax.device_get(jax.jit(shared)(variables, x))
  _, whole = jax.device_get(jax.jit(whole)(variables, np.concatenate(x)))
  for key, value in traverse_util.flatten_dict(whole).items():
    for device in range(2):
      found = traverse_util.flatten_dict(shared)[key][device]
      np.testing.assert_allclose(found, value, rtol=1e-4)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'features': 0}, 'features must be at least 1, not 0'),
    ({'blocks': 0}, 'blocks must be at least 1, not 0'),
    ({'kernel_size': 4}, 'kernel_size must be odd and at least 1, not 4'),
    ({'norm': 'instance'}, "unknown norm 'instance'; choose from none, batch"),
    ({'global_skip': 'deblurred'}, "unknown global_skip 'deblurred'; choose from none, input"),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'scgan_like': {message}"):
    create_model('scgan_like', **options)
