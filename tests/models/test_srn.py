import functools
import hashlib
import pathlib
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from flax import traverse_util

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.interop import convert, to_torch
from gfn_jax.interop.tensorflow_checkpoint import to_torch_tensors
from gfn_jax.layers.cpu_conv import ConvTranspose
from gfn_jax.models import SRN, init_variables, param_count, variable_shapes
from gfn_jax.models.srn import ScaleNet, enlarge
from tests.models import original_weights
from tests.models.networks import apply, gradient, photograph, random_params
from tests.small import SRN as SMALL

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
LSTM = {'lstm': True, 'gray': True}
VERSIONS = {'srn': {}, 'srn_lstm': LSTM}
small_model = functools.partial(SRN, **SMALL)


def tensorflow_name(key):
  """'g_net.enc1_1.weight' is 'g_net/enc1_1/weights' in the authors' checkpoint."""
  layer, _, tensor = key.rpartition('.')
  return f'{layer.replace(".", "/")}/{ {"weight": "weights", "bias": "biases"}[tensor] }'


def tensorflow_shape(shape):
  return tuple(shape[axis] for axis in (2, 3, 1, 0)) if len(shape) == 4 else shape


def fill(key, shape):
  """The formula of the fixtures, in TensorFlow's layout."""
  name, shape = tensorflow_name(key), tensorflow_shape(shape)
  z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
  z *= 0.7 / np.sqrt(np.prod(shape[:-1])) if len(shape) == 4 else 0.02
  return to_torch_tensors({name: z.astype(np.float32)})[key]


@pytest.fixture(scope='module', params=VERSIONS)
def version(request):
  """The fixture's arrays by name, NHWC, the options and the tensors of a version."""
  options = VERSIONS[request.param]
  with np.load(FIXTURES / f'{request.param}.npz') as file:
    arrays = {key: file[key].transpose(0, 2, 3, 1) for key in file.files}
  return arrays, options, original_weights.original_state('srn', fill, **options)


@pytest.mark.parametrize(
  'version', ['srn', pytest.param('srn_lstm', marks=pytest.mark.full)], indirect=True
)
def test_parity(version):
  arrays, options, state = version
  if options:  # gray images become the colours of two
    colors = np.array([[0, 1, 0], [1, 1, 0]])
    arrays = {key: x[colors, ..., 0].transpose(0, 2, 3, 1) for key, x in arrays.items()}
  out = apply(SRN(**options), convert('srn', state)['params'], arrays['x'])
  for image, name in zip((*out.lr_pyramid, out.lr), ('lr4', 'lr2', 'lr'), strict=True):
    expected = arrays[name]
    assert image.shape == expected.shape
    np.testing.assert_allclose(image, expected, rtol=0, atol=3e-5 * expected.std())


# SHA-256 of the sorted lines 'NAME (SHAPE)' of the tensors in the authors' checkpoints.
DIGESTS = {
  84: '958499a3e9705c5453889e1706ecae4dd7c219b4a2b8859d12a2fab0bf712707',
  86: 'fd06651f326fd33cedd4025e495a6cfc7865b711818a21613dd274a62e10b103',
}


def test_the_names_and_shapes_of_the_authors_tensors(version):
  _, _, state = version
  lines = [f'{tensorflow_name(key)} {tensorflow_shape(x.shape)}' for key, x in state.items()]
  digest = hashlib.sha256('\n'.join(sorted(lines)).encode()).hexdigest()
  assert digest == DIGESTS[len(lines)]


@pytest.mark.parametrize(
  ('options', 'count'),
  [
    ({}, 6_881_251),
    ({'preset': 'color'}, 6_881_251),
    ({'gray': True}, 6_876_449),
    ({'preset': 'lstm'}, 8_056_609),
    ({'lstm': True}, 8_061_411),
    ({'preset': 'small'}, 162_747),
  ],
)
def test_parameter_counts(options, count):
  assert param_count(variable_shapes(create_model('srn', **options))) == count


@pytest.mark.full
def test_initial_weights():
  net = init_variables(small_model(lstm=True), seed=0)['params']['net']
  for layer, fans in (
    (net['conv1'], 25 * (6 + 4)),
    (net['encoder2_2']['conv2'], 25 * (8 + 8)),
    (net['deconv1'], 16 * (8 + 4)),
  ):
    bound = (6 / fans) ** 0.5
    assert 0.9 * bound < np.abs(layer['kernel']).max() <= bound
  gates = net['lstm']['gates']['kernel']
  assert 1.9e-3 < np.abs(gates).max() <= 2e-3  # cut at two deviations
  assert np.std(gates) == pytest.approx(0.88e-3, rel=0.02)
  biases = [x for key, x in traverse_util.flatten_dict(net).items() if key[-1] == 'bias']
  assert len(biases) == 19
  assert not any(map(np.any, biases))


def test_enlarging_keeps_the_pixels():
  x = np.array([[0, 2, 6], [4, 8, 8]], np.float32)[None, ..., None]
  rows = [[0, 1, 2, 4, 6, 6], [2, 3.5, 5, 6, 7, 7], [4, 6, 8, 8, 8, 8], [4, 6, 8, 8, 8, 8]]
  np.testing.assert_array_equal(jax.jit(enlarge)(x)[0, ..., 0], rows)


def test_other_sizes_repeat_the_border_and_are_cropped():
  x, model = photograph(18, 31), small_model(**LSTM)
  params = random_params(model)
  out = apply(model, params, x)
  assert out.hr is None
  assert [image.shape for image in (*out.lr_pyramid, out.lr)] == [
    (1, 5, 8, 3),
    (1, 9, 16, 3),
    (1, 18, 31, 3),
  ]
  assert [image.shape for image in model.pyramid(x)] == [(1, 5, 8, 3), (1, 9, 16, 3)]
  whole = apply(model, params, np.pad(x, ((0, 0), (0, 14), (0, 1), (0, 0)), mode='edge'))
  np.testing.assert_allclose(out.lr, whole.lr[:, :18, :31], atol=1e-6)
  np.testing.assert_allclose(out.lr_pyramid[0], whole.lr_pyramid[0][:, :5, :8], atol=1e-6)


def test_the_pyramid_has_every_second_and_every_fourth_pixel():
  x = photograph(8, 16)
  quarter, half = SRN().pyramid(x)
  np.testing.assert_array_equal(half[0, 3, 5], x[0, 6, 10])
  np.testing.assert_array_equal(quarter, half[:, ::2, ::2])


def test_the_global_skip_adds_the_input_at_every_scale():
  x, model = photograph(16, 32), small_model(global_skip='input')
  params = random_params(model)
  params['net']['conv_last'] = jax.tree.map(np.zeros_like, params['net']['conv_last'])
  out = apply(model, params, x)
  for image, expected in zip((*out.lr_pyramid, out.lr), (*model.pyramid(x), x), strict=True):
    np.testing.assert_allclose(image, expected, atol=1e-6)


@pytest.mark.full
def test_with_the_global_skip_the_images_start_near_the_input():
  x = photograph(16, 32)
  for seed in range(3):
    near, far = (
      apply(model, init_variables(model, seed)['params'], x).lr - image
      for model, image in ((small_model(global_skip='input'), x), (small_model(), 0))
    )
    assert np.abs(near).mean() < 0.2 * np.abs(far).mean()


def test_no_gradient_passes_through_an_image():
  x, model = photograph(16, 32), small_model()
  params = random_params(model)
  deconv = functools.partial(ConvTranspose, kernel_size=(4, 4), strides=(2, 2))
  finest = ScaleNet(**SMALL, channels=3, lstm=False, conv=nn.Conv, deconv=deconv)

  def loss(params):
    out = model.apply({'params': params}, x)
    return jnp.mean((out.lr - x) ** 2), out.lr_pyramid[1]

  def loss_of_finest(params, coarser):
    images = jnp.concatenate([x, enlarge(coarser)], axis=-1)
    image, _ = finest.apply({'params': params['net']}, images, None)
    return jnp.mean((image - x) ** 2)

  found, coarser = jax.jit(jax.grad(loss, has_aux=True))(params)
  expected = jax.jit(jax.grad(loss_of_finest))(params, coarser)
  found, expected = (traverse_util.flatten_dict(grads, sep='.') for grads in (found, expected))
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('options', [{}, pytest.param(LSTM, marks=pytest.mark.full)])
def test_every_parameter_gets_a_gradient(options):
  x, model = photograph(32, 32), small_model(**options)

  def loss(params):
    out = model.apply({'params': params}, x**2)
    pairs = zip((*out.lr_pyramid, out.lr), (*model.pyramid(x), x), strict=True)
    return sum(jnp.mean((image - target) ** 2) for image, target in pairs)

  # With biases above zero: of so few channels none should end at a ReLU for all pixels.
  params = jax.tree.map(lambda x: np.abs(x) if x.ndim == 1 else x, random_params(model))
  for key, value in gradient(loss, params).items():
    assert np.isfinite(value).all(), key
    assert np.any(value), key


def test_images_of_half_precision_are_float32():
  model = small_model(**LSTM, dtype='bfloat16')
  out = apply(model, random_params(model), photograph(16, 16))
  for image in (*out.lr_pyramid, out.lr):
    assert image.dtype == jnp.float32
    assert np.isfinite(image).all()


def test_it_restores_photos_whole():
  model, photo = small_model(**LSTM), skimage.data.astronaut()[50:68, 200:231]
  params = random_params(model)
  expected = np.clip(apply(model, params, photograph(18, 31)).lr[0], 0, 1)  # compiled already
  restored = Restorer(model, {'params': params}, output='lr')(photo) / 255
  np.testing.assert_allclose(restored, expected, atol=0.51 / 255)
  assert not model.local
  assert (model.scale, model.stride, model.pad_mode) == (1, (16, 16), 'edge')


@pytest.fixture
def state():
  """The authors' tensors of a narrow network with two blocks and a ConvLSTM."""
  options = {'features': 4, 'blocks': 2, **LSTM}
  return to_torch('srn', {'params': random_params(SRN(**options))}, **options)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda state: state.pop('g_net.dec2_1.conv2.bias'), r'1 missing \(g_net.dec2_1.conv2.bias\)'),
    (lambda state: state.pop('g_net.convLSTM.LSTM_conv.weight'), '1 unexpected'),
    (lambda state: state.pop('g_net.enc1_1.weight'), 'missing convolution g_net.enc1_1.weight'),
    (
      lambda state: state.update({'g_net.enc1_1.weight': np.zeros((4, 6, 5, 5), np.float32)}),
      r'2 of the wrong shape \(g_net.dec1_0.bias \[1\], expected \[3\]',
    ),
  ],
)
def test_tensors_that_do_not_fit(change, message, state):
  change(state)
  with pytest.raises(UserError, match=message):
    convert('srn', state)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'features': 0}, 'features must be at least 1, not 0'),
    ({'blocks': 0}, 'blocks must be at least 1, not 0'),
    ({'global_skip': 'deblurred'}, "unknown global_skip 'deblurred'; choose from none, input"),
    ({'pad_mode': 'reflect'}, "has no option 'pad_mode'"),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'srn':? {message}"):
    create_model('srn', **options)
