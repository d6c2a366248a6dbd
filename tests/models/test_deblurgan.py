import functools

import jax
import numpy as np
import pytest
import skimage.data

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.models import DeblurGAN, init_variables, param_count, variable_shapes
from tests.models import original_weights
from tests.models.networks import apply, photograph, random_params

small_model = functools.partial(DeblurGAN, features=4, blocks=1)

# SHA-256 of the sorted lines `name shape` of the authors' checkpoint, as `names_digest` has them.
KEYS = '43dac5b438d4cdfd14d7c30ce89f453414eea3bb0474071f410f2634b5aff43c'


def test_parameter_counts():
  shapes = variable_shapes(DeblurGAN())['params']
  counts = {name: param_count({'params': tree}) for name, tree in shapes.items()}
  blocks = [counts.pop(f'resblock_{i}') for i in range(9)]
  assert blocks == 9 * [1_180_160]
  assert counts == {
    'conv1': 9_472,
    'conv2': 73_856,
    'conv3': 295_168,
    'deconv1': 295_040,
    'deconv2': 73_792,
    'conv_last': 9_411,
  }
  assert sum(blocks) + sum(counts.values()) == 11_378_179
  assert param_count(variable_shapes(create_model('deblurgan', preset='small'))) == 112_707


def test_parity():
  state = original_weights.original_state('deblurgan')
  assert original_weights.names_digest(state) == KEYS
  expected = original_weights.read_fixture('deblurgan')
  out = apply(DeblurGAN(), original_weights.original_params('deblurgan'), expected['x'])
  original_weights.assert_parity(out.lr, expected['lr'])
  assert out.hr is None


def test_the_image_starts_as_the_input_and_is_clipped():
  x, model = photograph(12, 16), small_model()
  params = random_params(model)
  params['conv_last'] = {name: 0 * array for name, array in params['conv_last'].items()}
  np.testing.assert_allclose(apply(model, params, x).lr, x, atol=1e-6)
  params['conv_last']['bias'] = np.array([100, 0, -100], np.float32)
  expected = np.clip(x + np.array([0.5, 0, -0.5]), 0, 1)
  np.testing.assert_allclose(apply(model, params, x).lr, expected, atol=1e-6)


def test_other_sizes_are_reflected_and_cropped():
  x, model = photograph(9, 15), small_model()
  params = random_params(model)
  padded = np.pad(x, ((0, 0), (0, 3), (0, 1), (0, 0)), mode='reflect')
  expected = apply(model, params, padded).lr[:, :9, :15]
  np.testing.assert_allclose(apply(model, params, x).lr, expected, atol=1e-4)


def test_images_of_a_batch_have_their_own_statistics():
  x, model = photograph(24, 16).reshape(2, 12, 16, 3), small_model()
  params = random_params(model)
  together = apply(model, params, x).lr
  for i in range(2):
    np.testing.assert_allclose(apply(model, params, x[i : i + 1]).lr[0], together[i], atol=1e-4)


def test_it_restores_photos_whole():
  model, photo = small_model(), skimage.data.astronaut()[50:59, 200:215]
  params = random_params(model)
  expected = apply(model, params, photograph(9, 15)).lr[0]
  restored = Restorer(model, {'params': params})(photo) / 255
  np.testing.assert_allclose(restored, expected, atol=0.51 / 255)


def test_weights_are_drawn_as_the_authors_draw_them():
  @jax.jit  # for these parameters alone
  def init():
    params = init_variables(small_model(features=8), seed=0)['params']
    return params['conv1'], params['resblock_0']['conv2'], params['deconv1']

  for layer in jax.device_get(init()):
    assert np.std(layer['kernel']) == pytest.approx(0.02, rel=0.1)
    assert not np.any(layer['bias'])


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'features': 0}, 'features must be at least 1, not 0'),
    ({'blocks': -1}, 'blocks must be at least 1, not -1'),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'deblurgan': {message}"):
    create_model('deblurgan', **options)
