import functools

import jax
import numpy as np
import pytest
import skimage.transform

from gfn_jax import UserError, create_model
from gfn_jax.models import DeepDeblur, param_count, variable_shapes
from gfn_jax.models.deepdeblur import reduce_gaussian
from tests.models import original_weights
from tests.models.networks import apply, photograph, pyramid, random_params

small_model = functools.partial(DeepDeblur, features=4, blocks=1)

# SHA-256 of the sorted lines `name shape` of the authors' checkpoint, as `names_digest` has them.
KEYS = '4505e62c908b95d6b24c2b0a545f48e8f6ad28bf2ce2f0e00e82349954eb701c'


def test_parameter_counts():
  shapes = variable_shapes(DeepDeblur())['params']
  assert {name: param_count({'params': tree}) for name, tree in shapes.items()} == {
    'level0': 3_908_099,
    'level1': 3_908_099,
    'level2': 3_903_299,
    'upconv1': 912,
    'upconv2': 912,
  }
  assert param_count({'params': shapes}) == 11_721_321
  assert param_count(variable_shapes(create_model('deepdeblur', preset='small'))) == 126_969


def test_parity():
  state = original_weights.original_state('deepdeblur')
  assert original_weights.names_digest(state) == KEYS
  expected = original_weights.read_fixture('deepdeblur')
  out = apply(DeepDeblur(), original_weights.original_params('deepdeblur'), expected['x'])
  images = {'lr4': out.lr_pyramid[0], 'lr2': out.lr_pyramid[1], 'lr': out.lr}
  for name, image in images.items():
    original_weights.assert_parity(image, expected[name])


def test_the_pyramid_of_the_authors():
  expected = original_weights.read_fixture('deepdeblur')
  quarter, half = pyramid(DeepDeblur(), expected['x'])
  np.testing.assert_allclose(half, expected['x2'], atol=1e-6)
  np.testing.assert_allclose(quarter, expected['x4'], atol=1e-6)


@pytest.mark.parametrize('size', [(2, 4), (8, 14)])
def test_reduction_is_that_of_scikit_image(size):
  x = np.random.default_rng(0).random((2, *size, 3))
  expected = [skimage.transform.pyramid_reduce(image, channel_axis=-1) for image in x]
  np.testing.assert_allclose(jax.jit(reduce_gaussian)(x), expected, atol=1e-6)


def test_each_level_sees_its_image_and_the_enlarged_one_of_the_smaller_size():
  """In [-127.5, 127.5]: convolutions that copy a channel each show what a level gets."""
  x, model = photograph(12, 16), small_model()
  params = jax.tree.map(np.zeros_like, random_params(model))
  for i in range(3):
    params['level2']['conv_first']['kernel'][2, 2, i, i] = 1
    params['level1']['conv_first']['kernel'][2, 2, 3 + i, i] = 1
    params['level0']['conv_first']['kernel'][2, 2, i, i] = 1
    params['upconv2']['kernel'][2, 2, i, 4 * i : 4 * i + 4] = 1, 2, 3, 4
    for level in ('level0', 'level1', 'level2'):
      params[level]['conv_last']['kernel'][2, 2, i, i] = 1
  out = apply(model, params, x)
  quarter = np.asarray(pyramid(model, x)[0])
  np.testing.assert_allclose(out.lr_pyramid[0], quarter, atol=1e-6)
  factors = np.tile(np.array([[1, 2], [3, 4]])[..., None], (3, 4, 1))
  expected = np.repeat(np.repeat(quarter - 0.5, 2, axis=1), 2, axis=2) * factors + 0.5
  np.testing.assert_allclose(out.lr_pyramid[1], expected, atol=1e-5)
  np.testing.assert_allclose(out.lr, x, atol=1e-6)


def test_the_global_skip_adds_the_input_at_each_size():
  x, model = photograph(12, 16), small_model(global_skip='input')
  params = jax.tree.map(np.zeros_like, random_params(model))
  out = apply(model, params, x)
  np.testing.assert_allclose(out.lr, x, atol=1e-6)
  for image, expected in zip(out.lr_pyramid, pyramid(model, x), strict=True):
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_other_sizes_are_padded_by_their_edges_and_cropped():
  x, model = photograph(9, 15), small_model()
  params = random_params(model)
  padded = np.pad(x, ((0, 0), (0, 3), (0, 1), (0, 0)), mode='edge')
  out, whole = apply(model, params, x), apply(model, params, padded)
  np.testing.assert_allclose(out.lr, whole.lr[:, :9, :15], atol=1e-5)
  for images in zip(out.lr_pyramid, whole.lr_pyramid, strict=True):
    np.testing.assert_allclose(*images, atol=1e-5)
  for images in zip(pyramid(model, x), pyramid(model, padded), strict=True):
    np.testing.assert_array_equal(*images)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'features': 0}, 'features must be at least 1, not 0'),
    ({'blocks': 0}, 'blocks must be at least 1, not 0'),
    ({'global_skip': 'deblurred'}, "unknown global_skip 'deblurred'; choose from none, input"),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'deepdeblur': {message}"):
    create_model('deepdeblur', **options)
