import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from gfn_jax import UserError, create_model
from gfn_jax.interop.conversion import convert, infer_options, to_torch
from gfn_jax.layers.blocks import resize_bilinear
from gfn_jax.models import SRFBN, init_variables, param_count, variable_shapes
from gfn_jax.training.losses import l1
from tests import small
from tests.loss import restoration_loss
from tests.models import original_weights
from tests.models.networks import apply, gradient, photograph, random_params

small_model = functools.partial(SRFBN, **small.SRFBN)

# `names_digest` of the authors' tensors, and the number of parameters, by scale.
NAMES = {
  2: '96259ce83c4d44c6d4ff3f63da4462ab926683cf6a3e2e4a9c3eeade6776ea69',
  3: 'add43fa245063b2262adb5e5ee9f22a5a638477139df12c88a91781bbff3dd17',
  4: '2d971da0af139353188c73afea8dae14da3b04de8fcc762bfccd7ed240568428',
}
COUNTS = {2: 2_140_510, 3: 2_832_734, 4: 3_631_454}


def fill(key, torch_shape):
  """Larger kernels, or the result would hardly differ from the enlarged input."""
  tensor = original_weights.fill(key, torch_shape)
  return np.float32(2.4) * tensor if len(torch_shape) == 4 else tensor


def flatten(params):
  return traverse_util.flatten_dict(params, sep='.')


def strong_params(model):
  """Kernels as large as in the fixtures, for steps that differ."""
  return jax.tree.map(lambda leaf: 3 * leaf if leaf.ndim == 4 else leaf, random_params(model))


@pytest.fixture
def small_state():
  """The authors' tensors of a narrow network."""
  return to_torch('srfbn', {'params': strong_params(small_model())}, **small.SRFBN)


@pytest.mark.parametrize(
  'scale', [4, *(pytest.param(scale, marks=pytest.mark.full) for scale in (2, 3))]
)
def test_parity(scale):
  fixture = original_weights.read_fixture('srfbn' if scale == 4 else f'srfbn_x{scale}')
  state = original_weights.original_state('srfbn', fill, scale=scale)
  assert len(state) == 87
  assert original_weights.names_digest(state) == NAMES[scale]
  assert infer_options('srfbn', state) == {'features': 64, 'groups': 6, 'scale': scale}
  params = convert('srfbn', state)['params']
  assert param_count({'params': params}) == COUNTS[scale]
  out = apply(SRFBN(scale=scale), params, fixture['x'])
  assert out.lr is None
  assert len(out.hr_stages) == 3
  for found, key in ((out.hr, 'sr'), (out.hr_stages[0], 'sr_first')):
    np.testing.assert_allclose(found, fixture[key], rtol=0, atol=5e-5 * fixture[key].std())


def test_parameter_counts():
  for scale, count in COUNTS.items():
    assert param_count(variable_shapes(SRFBN(scale=scale))) == count
  assert param_count(variable_shapes(create_model('srfbn', preset='srfbn_s'))) == 483_122
  assert param_count(variable_shapes(create_model('srfbn', preset='small'))) == 122_018
  for steps in (1, 5):
    assert param_count(variable_shapes(SRFBN(steps=steps))) == COUNTS[4]


def test_other_numbers_are_inferred():
  model = SRFBN(features=5, groups=3, scale=2)
  options = {'features': 5, 'groups': 3, 'scale': 2}
  state = to_torch('srfbn', {'params': random_params(model)}, **options)
  assert infer_options('srfbn', state) == options
  assert state['out.0.weight'].shape == (5, 5, 6, 6)
  assert state['block.uptranBlocks.1.0.weight'].shape == (5, 15, 1, 1)
  params = convert('srfbn', state, steps=2)['params']
  jax.tree.map(np.testing.assert_array_equal, params, random_params(model))


def test_tensors_of_other_networks(small_state):
  message = '^these are not weights for srfbn.*: '
  kernel = small_state.pop('block.downtranBlocks.0.0.weight')
  with pytest.raises(UserError, match=rf'{message}1 missing \(block.downtranBlocks.0.0.weight\)'):
    convert('srfbn', small_state)
  small_state['block.downtranBlocks.0.0.weight'] = kernel
  other = small_state | {'sub_mean.bias': np.zeros(3, np.float32)}
  with pytest.raises(UserError, match=r'^sub_mean.bias is \[0. 0. 0.\]\.\.\., but this network'):
    convert('srfbn', other)
  other = small_state | {'add_mean.weight': 2 * small_state['add_mean.weight']}
  with pytest.raises(UserError, match=r'^add_mean.weight is \[2. 0. 0.\]\.\.\., but this network'):
    convert('srfbn', other)
  other = small_state | {'out.0.weight': np.zeros((4, 4, 9, 9), np.float32)}
  with pytest.raises(UserError, match='unknown scale 5; choose from 2, 3, 4'):
    convert('srfbn', other)
  del small_state['out.0.weight']
  with pytest.raises(UserError, match=f'{message}missing convolution out.0.weight'):
    convert('srfbn', small_state)


def test_a_step_makes_what_a_network_of_as_many_steps_makes():
  x, model = photograph(7, 9), small_model(scale=3, steps=3)
  params = strong_params(model)
  out = apply(model, params, x)
  images = [*out.hr_stages, out.hr]
  assert [image.shape for image in images] == [(1, 21, 27, 3)] * 3
  for steps in (1, 2):
    fewer = apply(model.clone(steps=steps), params, x)
    assert len(fewer.hr_stages) == steps - 1
    np.testing.assert_allclose(fewer.hr, images[steps - 1], atol=1e-5)
    assert np.abs(images[steps] - images[steps - 1]).max() > 1e-2


def test_the_loss_is_the_sum_over_the_steps():
  sharp, model = photograph(32, 24), small_model(steps=3)
  out = apply(model, strong_params(model), sharp[:, ::4, ::4])
  loss, terms = jax.jit(lambda out: restoration_loss(out, {'hr': sharp}, 0.0, hr='l1'))(out)
  expected = sum(l1(image, sharp) for image in (*out.hr_stages, out.hr))
  assert float(loss) == pytest.approx(float(expected))
  assert terms.keys() == {'loss_hr'}


def test_images_start_near_the_input_enlarged_bilinearly():
  x, model = photograph(7, 9), SRFBN(scale=2, features=16, groups=2, steps=2)
  params = jax.device_get(init_variables(model, seed=0)['params'])
  out = apply(model, params, x)
  enlarged = jax.jit(resize_bilinear, static_argnums=(1, 2))(x, 14, 18)
  for image in (*out.hr_stages, out.hr):
    assert 0 < np.abs(image - enlarged).max() < 0.1
  flat = flatten(params)
  slopes = [value for name, value in flat.items() if name.endswith('negative_slope')]
  # Two before the block, four projections, four fusions, and that of the reconstruction.
  assert len(slopes) == 11
  np.testing.assert_allclose(slopes, 0.2)
  bound = (16 * 6**2) ** -0.5
  for name in ('block.up1.conv.kernel', 'block.down1.conv.kernel', 'block.down1.conv.bias'):
    assert 0.8 * bound < np.abs(flat[name]).max() <= bound


def test_every_parameter_gets_a_gradient():
  model, sharp = small_model(), photograph(32, 24)

  def loss(params):
    output = model.apply({'params': params}, sharp[:, ::4, ::4])
    return restoration_loss(output, {'hr': sharp}, 0.0, hr='l1')[0]

  grads = gradient(loss, strong_params(model))
  assert [name for name, value in grads.items() if not np.any(value)] == []
  assert all(np.isfinite(value).all() for value in grads.values())


def test_half_precision_gives_similar_images_of_float32():
  x, params = photograph(7, 9), strong_params(small_model())
  half = apply(small_model(dtype='bfloat16'), params, x)
  expected = apply(small_model(), params, x)
  for image, of_float32 in ((half.hr, expected.hr), (half.hr_stages[0], expected.hr_stages[0])):
    assert image.dtype == jnp.float32
    assert 0 < np.abs(image - of_float32).max() < 0.1 * of_float32.std()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'scale': 8}, ': unknown scale 8; choose from 2, 3, 4'),
    ({'features': 0}, ': features must be at least 1, not 0'),
    ({'groups': 0}, ': groups must be at least 1, not 0'),
    ({'steps': 0}, ': steps must be at least 1, not 0'),
    ({'global_skip': 'none'}, " has no option 'global_skip'"),
    ({'preset': 'large'}, " has no preset 'large'; choose from srfbn_s, small"),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'srfbn'{message}"):
    create_model('srfbn', **options)
