import zlib

import jax
import numpy as np
import pytest

from gfn_jax import UserError, create_model
from gfn_jax.interop.conversion import convert, infer_options, to_torch
from gfn_jax.layers.super_resolution import mean_shift_tensors
from gfn_jax.models import RCAN, init_variables, param_count, variable_shapes
from tests import small
from tests.models import original_weights
from tests.models.networks import apply, photograph, random_params
from tests.models.original_weights import errors, names_digest, original_state, read_fixture

MEAN_SHIFT = mean_shift_tensors()
TRAINED = small.RCAN | {'trained_mean_shift': True}


def fill(key, shape):
  """The formula of the fixtures, with a trained mean shift near the constant one."""
  if key not in MEAN_SHIFT:
    return original_weights.fill(key, shape)
  u = np.random.RandomState(zlib.crc32(key.encode())).uniform(-1, 1, shape)
  return (MEAN_SHIFT[key] + (0.01 if key.endswith('weight') else 0.5) * u).astype(np.float32)


DIGESTS = {
  'rcan': 'cdbab3631dcc7ea856ab55889984c0e4b55698d05322ee2f8ea009250cad4f58',
  'rcan_x3': '36e98191ef7892fa9ac2bf0a93f3f688ae0d5fb40f4c081e6a8c60e79f4473cf',
}


# 400 layers with random weights amplify rounding errors, in one image more than in the other. In
# float64 the differences are 4e-5, 1e-3 and 7e-5, 9e-5; changes of the input grow by factors of 50,
# 7000 and 130, 2000.
@pytest.mark.full
@pytest.mark.parametrize(
  ('fixture', 'scale', 'tolerances'),
  [('rcan', 4, (1e-3, 1e-2)), ('rcan_x3', 3, (5e-3, 2e-2))],
)
def test_parity(fixture, scale, tolerances):
  expected = read_fixture(fixture)
  state = original_state('rcan', fill, scale=scale, trained_mean_shift=True)
  assert names_digest(state) == DIGESTS[fixture]
  options = infer_options('rcan', state)
  sizes = {'features': 64, 'groups': 10, 'blocks': 20, 'reduction': 16}
  assert options == sizes | {'scale': scale, 'trained_mean_shift': True}
  model = RCAN(scale=scale, trained_mean_shift=True)
  # Not jitted: each kind of layer is compiled once.
  out = model.apply(convert('rcan', state), expected['x'])
  assert (errors(out.hr, expected['sr']) < tolerances).all()
  assert out.lr is None


@pytest.mark.full
def test_parameter_counts():
  shapes = variable_shapes(RCAN())['params']
  assert param_count({'params': shapes}) == 15_592_355
  assert param_count({'params': shapes['group_9']}) == 1_525_648
  assert param_count({'params': shapes['group_9']['rcab_19']}) == 74_436
  # Only the last layers depend on the scale.
  of_scale = lambda scale: param_count(variable_shapes(RCAN(groups=1, scale=scale)))
  without = 9 * 1_525_648
  assert [of_scale(scale) + without for scale in (2, 3, 4)] == [15_444_643, 15_629_283, 15_592_355]
  trained = param_count(variable_shapes(RCAN(groups=1, trained_mean_shift=True)))
  assert trained + without == 15_592_379
  assert param_count(variable_shapes(create_model('rcan', preset='small'))) == 86_179


def test_a_trained_mean_shift_starts_as_the_constant_one():
  model, x = RCAN(**TRAINED), photograph(7, 9)
  params = random_params(model)
  initial = init_variables(model, seed=0)['params']
  params |= {name: initial[name] for name in ('sub_mean', 'add_mean')}
  others = {name: layer for name, layer in params.items() if name not in ('sub_mean', 'add_mean')}
  expected = apply(RCAN(**small.RCAN), others, x).hr
  np.testing.assert_allclose(apply(model, params, x).hr, expected, atol=1e-5)


def test_the_importer_chooses_the_mean_shift():
  """Weights of the constant one are of the network that has it as a constant."""
  params = random_params(RCAN(**small.RCAN))
  state = to_torch('rcan', {'params': params}, **small.RCAN)
  for key, tensor in MEAN_SHIFT.items():
    np.testing.assert_array_equal(state[key], tensor)
  assert infer_options('rcan', state) == small.RCAN | {'scale': 4}
  jax.tree.map(np.testing.assert_array_equal, convert('rcan', state)['params'], params)

  bias = state['add_mean.bias'] + np.float32([0, 0.001, 0])
  trained = state | {'add_mean.bias': bias}
  assert infer_options('rcan', trained) == TRAINED | {'scale': 4}
  found = convert('rcan', trained)['params']
  np.testing.assert_array_equal(found['add_mean']['bias'], bias)
  np.testing.assert_array_equal(found['sub_mean']['kernel'][0, 0], np.eye(3))
  back = to_torch('rcan', {'params': found}, **TRAINED)
  assert back.keys() == trained.keys()
  for key, tensor in trained.items():
    np.testing.assert_array_equal(back[key], tensor, strict=True)
  # An option takes precedence.
  assert 'add_mean' in convert('rcan', state, trained_mean_shift=True)['params']


def test_a_trained_mean_shift_mixes_colours():
  """Its matrices are the authors' 1x1 kernels, `[out, in]`."""
  model, x = RCAN(**TRAINED, global_skip='input', scale=2), np.full((1, 4, 4, 3), 0.5, np.float32)
  params = jax.tree.map(np.zeros_like, random_params(model))
  state = to_torch('rcan', {'params': params}, **TRAINED, scale=2)
  first, last = np.arange(9).reshape(3, 3) / 10, np.arange(9)[::-1].reshape(3, 3) / 20
  state['sub_mean.weight'] = np.float32(first)[..., None, None]
  state['sub_mean.bias'] = np.float32([1, 2, 3])
  state['add_mean.weight'] = np.float32(last)[..., None, None]
  state['add_mean.bias'] = np.float32([4, 5, 6])
  params = convert('rcan', state, reduction=4)['params']
  colour = last @ (first @ np.full(3, 127.5) + [1, 2, 3]) + [4, 5, 6]
  hr = apply(model, params, x).hr
  np.testing.assert_allclose(hr, np.broadcast_to(colour / 255, (1, 8, 8, 3)), rtol=1e-5)


@pytest.mark.parametrize(
  ('changes', 'options', 'message'),
  [
    (
      {'add_mean.bias': np.float32([119, 114, 103])},
      {'trained_mean_shift': False},
      r'^add_mean.bias is \[119. 114. 103.\]\.\.\.',
    ),
    ({'add_mean.bias': np.float32([np.nan, 1, 1])}, {}, r'1 not finite \(add_mean.bias\)'),
    ({'add_mean.bias': np.zeros(4, np.float32)}, {}, r'wrong shape \(add_mean.bias \[4\]'),
    ({'sub_mean.bias': None}, {}, r'1 missing \(sub_mean.bias\)'),
    ({'body.1.body.2.bias': None}, {}, r'1 missing \(body.1.body.2.bias\)'),
    ({'body.0.body.0.body.3.conv_du.0.weight': None}, {}, 'missing convolution body.0.body.0.body'),
    ({'csa.gamma': np.ones(1, np.float32)}, {}, r'1 unexpected \(csa.gamma\)'),
  ],
)
def test_tensors_that_do_not_fit(changes, options, message):
  params = random_params(RCAN(**small.RCAN))
  state = to_torch('rcan', {'params': params}, **small.RCAN) | changes
  state = {name: tensor for name, tensor in state.items() if tensor is not None}
  with pytest.raises(UserError, match=message):
    convert('rcan', state, **options)
