import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.models import MotionDeblurSR, MPRNet, init_variables, param_count, variable_shapes
from gfn_jax.weights.pretrained import init_variables_from, save_weights
from tests.loss import restoration_loss
from tests.models import original_weights
from tests.models.networks import apply, enlarge, gradient, photograph, random_params
from tests.small import MOTION_DEBLUR_SR, MPRNET

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'motion_deblur_sr.npz'
ADDED = {'fusion', 'reconstruction'}  # to MPRNet

# Without blocks in the encoders and decoders, but for the skips: that halves the compilation.
SMALL_MPRNET = MPRNET | {'unet_blocks': 0}
small_model = functools.partial(MotionDeblurSR, **MOTION_DEBLUR_SR | SMALL_MPRNET)


class OneStage(MotionDeblurSR):
  """Its deblurring part is a convolution, which compiles faster."""

  def deblur(self, x, layers):
    images = [x, x / 2, x / 4]
    features = layers.conv(self.features, (3, 3), padding=1, name='conv')(x)
    return images, [features, -features, jnp.square(features)]


@pytest.mark.full
def test_parity():
  with np.load(FIXTURE) as file:  # NCHW
    expected = {key: file[key].transpose(0, 2, 3, 1) for key in file.files}
  model = MotionDeblurSR()
  out = apply(model, original_weights.original_params('motion_deblur_sr'), expected['x'])
  images = {'sr': out.hr, 'stage3': out.lr, 'stage2': out.lr_stages[1], 'stage1': out.lr_stages[0]}
  for key, image in images.items():
    np.testing.assert_allclose(image, expected[key], rtol=0, atol=5e-5 * expected[key].std())


def test_parameter_counts():
  shapes = variable_shapes(MotionDeblurSR())['params']
  assert {name: param_count({'params': tree}) for name, tree in shapes['fusion'].items()} == {
    'stage1_block': 170_496,
    'stage2_block': 170_496,
    'stage3_block': 170_496,
    'stage3_conv': 110_592,
    'conv': 165_888,
  }
  assert param_count({'params': shapes['reconstruction']}) == 924_931
  assert param_count({'params': shapes}) == 21_839_972
  assert len(jax.tree.leaves(shapes)) == 316


def test_its_deblurring_part_is_mprnet_and_other_sizes_are_padded_and_cropped():
  x, params = photograph(9, 20), random_params(small_model())
  out = apply(small_model(), params, x)
  mprnet = {key: value for key, value in params.items() if key not in ADDED}
  expected = apply(MPRNet(**SMALL_MPRNET), mprnet, x)
  np.testing.assert_allclose(out.lr, expected.lr, atol=1e-5)
  for image, expected_image in zip(out.lr_stages, expected.lr_stages, strict=True):
    np.testing.assert_allclose(image, expected_image, atol=1e-5)
  padded = np.pad(x, ((0, 0), (0, 7), (0, 4), (0, 0)), mode='reflect')
  whole = apply(small_model(), params, padded)
  assert out.hr.shape == (1, 36, 80, 3)
  np.testing.assert_allclose(out.hr, whole.hr[:, :36, :80], atol=1e-5)


def test_weights_of_mprnet_initialise_it(tmp_path):
  path, params = tmp_path / 'mprnet.safetensors', random_params(small_model())
  mprnet = random_params(MPRNet(**SMALL_MPRNET), seed=1)
  save_weights(path, {'params': mprnet}, {'name': 'mprnet', **SMALL_MPRNET}, {'step': 1})
  start = init_variables_from(path, small_model(), {'params': params}, exceptions=sorted(ADDED))[
    'params'
  ]
  expected = mprnet | {key: params[key] for key in ADDED}
  jax.tree.map(np.testing.assert_array_equal, start, expected)
  with pytest.raises(UserError, match='does not fit MotionDeblurSR.*missing .fusion'):
    init_variables_from(path, small_model(), {'params': params})


def test_the_final_activation_and_the_global_skip():
  model = functools.partial(OneStage, **MOTION_DEBLUR_SR)
  x, params = photograph(16, 24), random_params(model())
  plain = apply(model(final_activation='none'), params, x)
  np.testing.assert_allclose(apply(model(), params, x).hr, 1 / (1 + np.exp(-plain.hr)), atol=1e-6)
  for skip, image in {'input': x, 'deblurred': plain.lr}.items():
    out = apply(model(final_activation='none', global_skip=skip), params, x)
    np.testing.assert_allclose(out.hr, plain.hr + enlarge(image), atol=1e-5)
    np.testing.assert_array_equal(out.lr, x / 4)


def test_the_sigmoid_is_not_flat_where_the_default_starts():
  deviation = {}
  for initialization in ('scaled', 'authors'):
    model = OneStage(features=16, final_activation='none', initialization=initialization)
    out = apply(model, init_variables(model, seed=0)['params'], photograph(16, 24))
    deviation[initialization] = np.std(out.hr)
  assert deviation['scaled'] < 1
  assert deviation['authors'] > 4  # where a sigmoid is flat


def test_every_parameter_gets_a_gradient_of_the_loss():
  model, sharp = small_model(), photograph(64, 96)
  batch = {'hr': sharp, 'lr': sharp[:, ::4, ::4]}

  def loss(params):
    output = model.apply({'params': params}, batch['lr'] ** 2)
    return restoration_loss(output, batch, 0.5, lr='charbonnier', edge_weight=0.05)[0]

  grads = gradient(loss, random_params(model))
  without = [key for key, value in grads.items() if not np.any(value)]
  # With few channels all hidden units of a channel attention can be zero.
  assert [key for key in without if '.attention.' not in key] == []
  assert len(without) < len([key for key in grads if '.attention.' in key]) / 2
  assert all(np.isfinite(value).all() for value in grads.values())


def test_it_restores_photos_whole():
  model, photo = small_model(), skimage.data.astronaut()[100:109, 200:220]
  params = random_params(model)
  restorer = Restorer(model, {'params': params})
  assert restorer.scale == 4
  expected = apply(model, params, photo[None] / np.float32(255)).hr[0]
  np.testing.assert_allclose(restorer(photo) / 255, expected, atol=0.51 / 255)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'features': 0}, 'features must be at least reduction, 4, not 0'),
    ({'sr_features': 0}, 'sr_features must be at least 1, not 0'),
    ({'final_activation': 'tanh'}, "unknown final_activation 'tanh'; choose from"),
    ({'initialization': 'he'}, 'unknown initialization .*; choose from'),
    ({'global_skip': 'output'}, 'unknown global_skip .*; choose from'),
    ({'global_skip': 'input'}, "global_skip 'input' needs final_activation 'none'"),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'motion_deblur_sr': {message}"):
    create_model('motion_deblur_sr', **options)
