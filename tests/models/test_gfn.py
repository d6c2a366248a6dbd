import functools
import pathlib

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from gfn_jax.errors import UserError
from gfn_jax.layers.blocks import resize_bilinear
from gfn_jax.models import (
  GFN,
  SRBranch,
  create_model,
  init_variables,
  param_count,
  variable_shapes,
)
from gfn_jax.ops.imresize import imresize
from tests.models import original_weights
from tests.models.networks import apply, enlarge, gradient

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
TOLERANCE = 5e-5  # of the expected output's standard deviation

small_gfn = functools.partial(
  GFN, features=8, deblur_blocks=1, sr_blocks=1, reconstruction_blocks=1
)


@functools.cache
def some_params():
  """Of a small gated network. Compiling its own initialisation takes longer than all its uses."""
  rng = np.random.default_rng(0)

  def fill(leaf):
    deviation = 0.7 / np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) == 4 else 0.1
    return (deviation * rng.standard_normal(leaf.shape)).astype(np.float32)

  return jax.tree.map(fill, variable_shapes(small_gfn())['params'])


def flatten(params):
  return flax.traverse_util.flatten_dict(params, sep='.')


def photograph(h=32, w=24):
  return data.astronaut()[100 : 100 + h, 200 : 200 + w][None] / np.float32(255)


def assert_close(actual, expected):
  deviation = np.std(expected)
  assert actual.shape == expected.shape
  np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * deviation)


@pytest.fixture(scope='module')
def original():
  return original_weights.original_params()


def load(name):
  with np.load(FIXTURES / f'{name}.npz') as file:  # NCHW
    return {key: file[key].transpose(0, 2, 3, 1) for key in file.files}


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('gfn_ungated', {'gated': False}),
    ('gfn_g3d_gated', {'gate_recursions': 3}),
    ('gfn_gated_test_oddsize', {'size_mode': 'resize'}),
  ],
)
def test_parity(original, name, options):
  expected = load(name)
  out = apply(GFN(**options), original, expected['x'])
  assert_close(out.hr, expected['sr'])
  assert_close(out.lr, expected['deblur'])


def test_parity_of_the_gated_network_and_its_features(original):
  expected = load('gfn_gated') | load('gfn_features')

  @jax.jit
  def apply_with_features(params, x):
    names = ('deblur', 'sr_feature')
    capture = lambda module, method: module.name in names and method == '__call__'
    out, state = GFN().apply({'params': params}, x, capture_intermediates=capture)
    f_deblur, _ = state['intermediates']['deblur']['__call__'][0]
    return out, f_deblur, state['intermediates']['sr_feature']['__call__'][0]

  out, f_deblur, f_sr = apply_with_features(original, expected['x'])
  assert_close(out.hr, expected['sr'])
  assert_close(out.lr, expected['deblur'])
  assert_close(f_deblur, expected['deblur_feature'])
  assert_close(f_sr, expected['sr_feature'])


@pytest.mark.parametrize(
  'options', [{}, {'gate_recursions': 3}, {'size_mode': 'resize'}, {'initialization': 'authors'}]
)
def test_parameter_counts(options):
  shapes = variable_shapes(GFN(**options))['params']
  counts = {
    module: sum(leaf.size for leaf in jax.tree.leaves(tree)) for module, tree in shapes.items()
  }
  assert counts == {
    'deblur': 10_568_579,
    'sr_feature': 637_248,
    'gate': 79_680,
    'reconstruction': 924_931,
  }
  assert sum(counts.values()) == 12_210_438
  assert len(jax.tree.leaves(shapes)) == 168


@pytest.mark.parametrize('size_mode', ['pad', 'resize'])
@pytest.mark.parametrize(('h', 'w'), [(1, 1), (3, 5), (17, 30), (4, 8)])
def test_any_size(size_mode, h, w):
  model = small_gfn(size_mode=size_mode)
  out = apply(model, some_params(), np.repeat(photograph(h, w), 2, axis=0))
  assert out.hr.shape == (2, 4 * h, 4 * w, 3)
  padded = (2, h + -h % 4, w + -w % 4, 3)
  assert out.lr.shape == (padded if size_mode == 'resize' else (2, h, w, 3))
  assert np.isfinite(out.hr).all()
  np.testing.assert_allclose(out.hr[0], out.hr[1], atol=1e-5)


@pytest.mark.parametrize(('h', 'w'), [(1, 1), (3, 5), (17, 30)])
def test_pad_mode_reflects_the_input_and_crops_the_outputs(h, w):
  model, params, x = small_gfn(), some_params(), np.repeat(photograph(h, w), 2, axis=0)
  padded = np.pad(x, ((0, 0), (0, -h % 4), (0, -w % 4), (0, 0)), mode='reflect')
  out, whole = apply(model, params, x), apply(model, params, padded)
  assert whole.lr.shape == padded.shape
  np.testing.assert_allclose(out.hr, whole.hr[:, : 4 * h, : 4 * w], atol=1e-5)
  np.testing.assert_allclose(out.lr, whole.lr[:, :h, :w], atol=1e-5)


def test_the_size_modes_agree_where_the_size_fits():
  params, x = some_params(), photograph()
  pad, resize = (apply(small_gfn(size_mode=mode), params, x) for mode in ('pad', 'resize'))
  np.testing.assert_array_equal(pad.hr, resize.hr)
  np.testing.assert_array_equal(pad.lr, resize.lr)


def test_images_of_a_batch_are_independent():
  params, x = some_params(), photograph(64, 24).reshape(2, 32, 24, 3)
  together = apply(small_gfn(), params, x)
  for i in range(2):
    alone = apply(small_gfn(), params, x[i : i + 1])
    np.testing.assert_allclose(together.hr[i], alone.hr[0], atol=1e-5)
    np.testing.assert_allclose(together.lr[i], alone.lr[0], atol=1e-5)


def test_bfloat16_computes_close_to_float32_and_keeps_float32_at_both_ends():
  model, params, x = small_gfn(dtype='bfloat16'), some_params(), photograph()
  assert {leaf.dtype for leaf in jax.tree.leaves(variable_shapes(model)['params'])} == {
    np.dtype('float32')
  }
  half, full = apply(model, params, x), apply(small_gfn(), params, x)
  for key in ('hr', 'lr'):
    a, b = getattr(half, key), getattr(full, key)
    assert a.dtype == b.dtype == jnp.float32
    error = np.abs(a - b).mean() / np.std(b)
    assert 1e-5 < error < 0.02  # the lower bound: it was not computed in float32


def test_float32_is_computed_in_float32():
  params, x = some_params(), photograph()
  with jax.enable_x64():
    wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), jax.device_get(params))
    exact = apply(small_gfn(dtype='float64'), wide, x.astype(np.float64))
    exact = jax.device_get(exact)
  assert_close(apply(small_gfn(), params, x).hr, exact.hr)


def test_an_ungated_network_has_no_gate():
  shapes = variable_shapes(small_gfn(gated=False))['params']
  assert shapes.keys() == {'deblur', 'sr_feature', 'reconstruction'}


def test_an_ungated_network_takes_a_gated_ones_parameters_and_leaves_the_gate_out():
  gated, ungated, x = small_gfn(), small_gfn(gated=False), photograph()
  params = some_params()
  without_gate = {key: value for key, value in params.items() if key != 'gate'}
  expected = apply(ungated, without_gate, x)
  np.testing.assert_array_equal(apply(ungated, params, x).hr, expected.hr)
  conv2 = params['gate']['conv2']
  ones = {'kernel': np.zeros_like(conv2['kernel']), 'bias': np.ones_like(conv2['bias'])}
  always_one = params | {'gate': params['gate'] | {'conv2': ones}}
  np.testing.assert_allclose(apply(gated, always_one, x).hr, expected.hr, atol=1e-6)
  assert np.abs(apply(gated, params, x).hr - expected.hr).max() > 1e-5


def test_the_deblurred_image_does_not_depend_on_the_other_modules():
  params, x = some_params(), photograph()
  others = jax.tree.map(np.zeros_like, params) | {'deblur': params['deblur']}
  out, expected = apply(small_gfn(), others, x), apply(small_gfn(), params, x)
  np.testing.assert_array_equal(out.lr, expected.lr)
  np.testing.assert_array_equal(out.hr, np.zeros_like(out.hr))


@pytest.mark.parametrize('light', [False, True])
def test_every_parameter_gets_a_gradient(light):
  model, x = small_gfn(**(LIGHT if light else {})), photograph()

  def loss(params):
    out = model.apply({'params': params}, x)
    return jnp.sum(jnp.square(out.hr)) + jnp.sum(jnp.square(out.lr))

  grads = gradient(loss, light_params() if light else some_params())
  assert [key for key, value in grads.items() if not np.any(value)] == []
  assert all(np.isfinite(value).all() for value in grads.values())


def test_default_initialization_starts_near_the_image_range_with_an_open_gate():
  model = GFN(deblur_blocks=1, sr_blocks=1, reconstruction_blocks=1)  # as wide as the paper's
  x = photograph(16, 16)
  capture = lambda module, method: module.name == 'gate' and method == '__call__'

  @jax.jit
  def first_outputs(params):
    out, state = model.apply({'params': params}, x, capture_intermediates=capture)
    return out, state['intermediates']['gate']['__call__'][0]

  errors = []
  for seed in range(2):
    out, gate = first_outputs(init_variables(model, seed)['params'])
    errors.append(np.mean((out.hr - x.repeat(4, 1).repeat(4, 2)) ** 2))
    assert np.mean((out.lr - x) ** 2) < 4
    assert np.std(out.hr) > 0.1
    assert np.mean(gate) == pytest.approx(1, abs=0.05)
    assert np.std(gate) < 0.2
  assert max(errors) < 4  # about 1e12 with the authors'


def test_default_initialization_scales_residual_branches_and_the_gate():
  params = flatten(init_variables(small_gfn(features=64), 0)['params'])
  for key, value in params.items():
    value = np.asarray(value)
    layer, kind = key.rsplit('.', 1)
    if kind == 'bias':
      expected = 1 if layer == 'gate.conv2' else 0
      np.testing.assert_array_equal(value, np.full_like(value, expected))
      continue
    k, _, n_in, _ = value.shape
    small = layer == 'gate.conv2' or ('resblock' in layer and layer.endswith('conv2'))
    scale = 0.1 if small else 2 if 'deconv' in layer else 1
    deviation = scale * np.sqrt(1 / (k * k * n_in))
    assert value.std() == pytest.approx(deviation, rel=5 / np.sqrt(2 * value.size)), key


def test_authors_initialization():
  params = flatten(init_variables(small_gfn(features=64, initialization='authors'), 0)['params'])
  bounds = {'deblur.deconv1': 0.02210, 'deblur.deconv2': 0.03125}
  for key, value in params.items():
    value = np.asarray(value)
    layer, kind = key.rsplit('.', 1)
    if layer in bounds:
      bound = bounds[layer]
      assert np.abs(value).max() <= 1.0001 * bound, key
      assert np.abs(value).max() > (0.999 if kind == 'kernel' else 0.9) * bound, key
      slack = 5 / np.sqrt(value.size)
      assert abs(value.mean()) < slack * bound, key
      assert value.std() == pytest.approx(bound / np.sqrt(3), rel=slack), key
    elif kind == 'bias':
      np.testing.assert_array_equal(value, np.zeros_like(value))
    else:
      k, _, _, n_out = value.shape
      deviation = np.sqrt(2 / (k * k * n_out))
      assert abs(value.mean()) < 5 * deviation / np.sqrt(value.size), key
      assert value.std() == pytest.approx(deviation, rel=5 / np.sqrt(2 * value.size)), key
  assert len(params) == 2 * (8 + 6 + 2 + 2 + 2 + 4 + 2)


@pytest.mark.parametrize('size_mode', ['pad', 'resize'])
def test_the_global_skip_adds_the_input_to_lr_and_either_to_hr(size_mode):
  x, params = photograph(6, 9), some_params()
  bilinear = jax.jit(resize_bilinear, static_argnums=(1, 2))
  plain, skip, from_input = (
    apply(small_gfn(size_mode=size_mode, global_skip=skip), params, x)
    for skip in ('none', 'deblurred', 'input')
  )
  np.testing.assert_array_equal(from_input.lr, skip.lr)
  if size_mode == 'pad':
    np.testing.assert_allclose(skip.lr - plain.lr, x, atol=1e-5)
    # Away from the padding, it is MATLAB's bicubic.
    expected = imresize(np.asarray(skip.lr[0], np.float64), 4)
    np.testing.assert_allclose(
      (skip.hr - plain.hr)[0, 8:-16, 8:-16], expected[8:-16, 8:-16], atol=1e-4
    )
    expected = imresize(np.asarray(x[0], np.float64), 4)
    np.testing.assert_allclose(
      (from_input.hr - plain.hr)[0, 8:-16, 8:-16], expected[8:-16, 8:-16], atol=1e-4
    )
  else:
    np.testing.assert_allclose(skip.lr - plain.lr, bilinear(x, 8, 12), atol=1e-5)
    expected = bilinear(enlarge(skip.lr), 24, 36)
    np.testing.assert_allclose(skip.hr - plain.hr, expected, atol=1e-4)


def test_with_the_global_skip_the_network_starts_near_bicubic():
  model, x = small_gfn(features=64, global_skip='deblurred'), photograph(16, 16)
  for seed in range(2):
    out = apply(model, init_variables(model, seed)['params'], x)
    assert np.mean((out.hr - enlarge(out.lr)) ** 2) < 0.01
    assert np.mean((out.lr - x) ** 2) < 0.04


def test_the_sr_branch_is_gfn_without_deblurring():
  shapes = variable_shapes(SRBranch())['params']
  assert param_count({'params': shapes}) == 637_248 + 924_931
  x, params = photograph(), some_params()
  without = params | {'deblur': jax.tree.map(np.zeros_like, params['deblur'])}
  gfn = apply(small_gfn(gated=False), without, x)
  options = {'features': 8, 'sr_blocks': 1, 'reconstruction_blocks': 1}
  branch = SRBranch(**options)
  mine = {key: params[key] for key in ('sr_feature', 'reconstruction')}
  out = apply(branch, mine, x)
  assert out.lr is None
  np.testing.assert_allclose(out.hr, gfn.hr, rtol=1e-4, atol=1e-4)
  skip = apply(SRBranch(**options, global_skip='input'), mine, x)
  np.testing.assert_allclose(skip.hr, out.hr + enlarge(x), atol=1e-5)


LIGHT = {'deblur_module': 'unet', 'deblur_blocks': (1, 1, 2), 'upsampler': 'pixelshuffledirect'}


@functools.cache
def light_params():
  return original_weights_like(small_gfn(**LIGHT))


def original_weights_like(model):
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: (rng.standard_normal(leaf.shape) / 9).astype(np.float32),
    variable_shapes(model)['params'],
  )


@pytest.mark.parametrize(
  ('blocks', 'parameters'), [((2, 2, 2), 1_435_971), ((1, 2, 4), 1_989_315), (2, 1_435_971)]
)
def test_parameters_of_the_unet(blocks, parameters):
  shapes = variable_shapes(GFN(features=32, deblur_module='unet', deblur_blocks=blocks))['params']
  assert param_count({'params': shapes['deblur']}) == parameters


def test_blocks_of_each_size_of_the_papers_module():
  one, three = (
    variable_shapes(small_gfn(deblur_blocks=blocks))['params']['deblur']
    for blocks in (2, (2, 2, 2))
  )
  assert jax.tree.map(lambda leaf: leaf.shape, one) == jax.tree.map(lambda leaf: leaf.shape, three)
  names = variable_shapes(small_gfn(deblur_blocks=(1, 0, 2)))['params']['deblur']
  blocks = sorted(name for name in names if name.startswith('resblock'))
  assert blocks == ['resblock1_0', 'resblock3_0', 'resblock3_1']


def test_the_unet_follows_its_figure():
  params, x = light_params()['deblur'], photograph()

  def conv(name, y, strides=1):
    layer = params[name]
    return jax.lax.conv_general_dilated(
      y,
      layer['kernel'],
      (strides, strides),
      [(layer['kernel'].shape[0] // 2,) * 2] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    ) + layer['bias'].reshape(1, 1, 1, -1)

  def block(name, y):
    layers = params[name]
    for key in ('conv1', 'conv2'):
      params[f'{name}.{key}'] = layers[key]
    return y + conv(f'{name}.conv2', jax.nn.relu(conv(f'{name}.conv1', y)))

  def pixel_shuffle(y):  # PyTorch's, by hand
    b, h, w, c = y.shape
    out = jnp.zeros((b, 2 * h, 2 * w, c // 4))
    for i in range(2):
      for j in range(2):
        out = out.at[:, i::2, j::2].set(y[..., 2 * i + j :: 4])
    return out

  @jax.jit
  def by_hand(x):
    y = conv('conv1', x)
    skip1 = block('encoder1_0', jnp.where(y > 0, y, 0.2 * y))
    skip2 = block('encoder2_0', jax.nn.relu(conv('down1', skip1, 2)))
    y = jax.nn.relu(conv('down2', skip2, 2))
    y = block('encoder3_1', block('encoder3_0', y))
    y = block('decoder2_0', pixel_shuffle(conv('up2', y)) + skip2)
    y = block('decoder1_0', pixel_shuffle(conv('up1', y)) + skip1)
    return conv('conv3', jax.nn.relu(conv('conv2', y)))

  params = dict(params)
  expected = by_hand(x)
  assert {name for name in params if '.' not in name} == {
    *('conv1', 'conv2', 'conv3', 'down1', 'down2', 'up1', 'up2'),
    *('encoder1_0', 'encoder2_0', 'encoder3_0', 'encoder3_1', 'decoder1_0', 'decoder2_0'),
  }
  out = apply(small_gfn(**LIGHT), light_params(), x)
  assert_close(out.lr, np.asarray(expected))


def test_pixelshuffledirect_is_one_convolution_and_one_shuffle():
  shapes = variable_shapes(small_gfn(**LIGHT))['params']['reconstruction']
  assert set(shapes) == {'resblock_0', 'conv1'}
  assert shapes['conv1']['kernel'].shape == (3, 3, 8, 48)
  x, params = photograph(8, 8), light_params()
  lifted = jax.tree.map(np.zeros_like, params['reconstruction']['conv1'])
  lifted['bias'] = np.arange(48, dtype=np.float32)  # channel 16 c + 4 i + j
  params = params | {'reconstruction': params['reconstruction'] | {'conv1': lifted}}
  hr = apply(small_gfn(**LIGHT), params, x).hr
  expected = np.arange(48).reshape(3, 4, 4).transpose(1, 2, 0)
  np.testing.assert_array_equal(hr[0], np.tile(expected, (8, 8, 1)))


@pytest.mark.parametrize(
  ('h', 'w'),
  [(3, 5), *(pytest.param(*size, marks=pytest.mark.full) for size in ((1, 1), (17, 30)))],
)
def test_the_light_network_takes_any_size(h, w):
  out = apply(small_gfn(**LIGHT, global_skip='deblurred'), light_params(), photograph(h, w))
  assert out.hr.shape == (1, 4 * h, 4 * w, 3)
  assert out.lr.shape == (1, h, w, 3)


def test_a_list_of_blocks_makes_the_network_of_a_tuple():
  model = create_model('gfn', deblur_blocks=[1, 2, 3])
  assert model == GFN(deblur_blocks=(1, 2, 3))
  assert hash(model) == hash(GFN(deblur_blocks=(1, 2, 3)))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'deblur_blocks': (1, 2)}, 'deblur_blocks must be one number or 3 numbers'),
    ({'deblur_blocks': (1, 2, 'x')}, 'deblur_blocks must be one number or 3 numbers'),
    ({'deblur_module': 'u'}, "unknown deblur_module 'u'; choose from encoder_decoder, unet"),
    ({'upsampler': 'nearest'}, "unknown upsampler 'nearest'; choose from pixelshuffle, pixel"),
    ({'features': 0}, 'features must be at least 1, not 0'),
    (
      {'global_skip': True},
      'unknown global_skip True; choose from none, input, deblurred',
    ),
    ({'size_mode': 'crop'}, "unknown size_mode 'crop'; choose from pad, resize"),
    (
      {'initialization': 'he'},
      "unknown initialization 'he'; choose from scaled, authors",
    ),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(ValueError, match=message):
    GFN(**options)
  with pytest.raises(UserError, match=f"^model 'gfn': {message}"):
    create_model('gfn', **options)
  if 'initialization' in options:  # every network has it
    with pytest.raises(UserError, match=f"^model 'sr_branch': {message}"):
      create_model('sr_branch', **options)


def test_create_model():
  options = {'features': 8, 'gated': False, 'size_mode': 'resize', 'dtype': 'bfloat16'}
  assert create_model('gfn', **options) == GFN(**options)
  with pytest.raises(
    UserError, match="^unknown model 'GFN'; choose from .*cascade, .*gfn, .*, srn, srresnet$"
  ):
    create_model('GFN')
  with pytest.raises(UserError, match="^model 'gfn' has no option 'feature'; choose .*features"):
    create_model('gfn', feature=3, features=3)
  with pytest.raises(UserError, match="^model 'gfn' has no option 'parent'"):
    create_model('gfn', parent=None)
