import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from flax import traverse_util

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.layers.blocks import torch_convolutions
from gfn_jax.models import CNLRN, CNLRNDeblur, init_variables, param_count, variable_shapes
from gfn_jax.models.cnlrn import NonLocalBlock
from gfn_jax.weights.pretrained import init_variables_from, save_weights
from tests import small
from tests.loss import restoration_loss
from tests.models import original_weights
from tests.models.networks import apply, enlarge, gradient, photograph, random_params

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
DEBLUR = {'features': 6, 'blocks': 1, 'stage_blocks': 1}  # as that of small.CNLRN
small_model = functools.partial(CNLRN, **small.CNLRN)


def flatten(params):
  return traverse_util.flatten_dict(params, sep='.')


def read_fixture(name):
  with np.load(FIXTURES / f'{name}.npz') as file:  # NCHW
    return {key: file[key].transpose(0, 2, 3, 1) for key in file.files}


@pytest.fixture(scope='module')
def original_params():
  return original_weights.original_params('cnlrn')


def assert_parity(found, expected):
  np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5 * expected.std())


@pytest.mark.full
def test_parity(original_params):
  expected, model = read_fixture('cnlrn'), CNLRN()

  # At the tests' level of optimisation, 0, it would take 16 seconds.
  @functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 1})
  def restore(params, x):
    of_deblur = lambda module, _: module.name == 'deblur'
    return model.apply({'params': params}, x, capture_intermediates=of_deblur)

  out, captured = restore(original_params, expected['x'])
  [features] = captured['intermediates']['deblur']['__call__']
  assert_parity(features, expected['deblur_feat'])
  assert_parity(out.hr, expected['sr'])
  assert out.lr is None


@pytest.mark.full
def test_parity_of_a_non_local_block(original_params):
  expected = read_fixture('cnlrn_nonlocal')
  params = original_params['nlrn']['body_0']['subgroup_0']['nonlocal']
  block = NonLocalBlock(heads=4, patch_size=4, conv=torch_convolutions(CNLRN())[0])
  assert_parity(jax.jit(block.apply)({'params': params}, expected['x']), expected['y'])


def test_parameter_counts():
  shapes = variable_shapes(create_model('cnlrn'))['params']
  assert {key: param_count({'params': tree}) for key, tree in shapes.items()} == {
    'deblur': 73_090_624,
    'nlrn': 9_972_867,
  }
  assert param_count({'params': shapes}) == 83_063_491
  assert len(jax.tree.leaves(shapes)) == 1092
  group = shapes['nlrn']['refine2_1']
  assert param_count({'params': group}) == 952_800
  assert param_count({'params': group['subgroup_1']}) == 457_936
  assert param_count({'params': group['subgroup_1']['nonlocal']}) == 123_264
  assert param_count({'params': group['subgroup_1']['nonlocal']['attention']}) == 3 * (64 * 64 + 64)
  assert param_count({'params': group['subgroup_1']['rcab_3']}) == 74_436
  stages = {}
  for name, tree in shapes['deblur'].items():
    stages[name.split('_')[0]] = stages.get(name.split('_')[0], 0) + param_count({'params': tree})
  assert stages['conv1'] + stages['encoder1'] == 619_648
  assert stages['conv2'] + stages['encoder2'] == 2_663_296
  assert stages['conv3'] == 819_456
  assert stages['body'] == 65_546_240
  assert stages['deconv1'] == 295_040
  assert stages['decoder2'] + stages['deconv2'] == 2_532_160
  assert stages['decoder1'] == 614_784


@pytest.mark.full
def test_parameter_counts_of_the_options():
  groups = {'groups': 1, 'upsample_groups': 1, 'deblur_blocks': 1}
  count = lambda name, **options: param_count(variable_shapes(create_model(name, **options)))
  whole = 83_063_491 - 7 * 952_800 - 19 * 65_546_240 // 20
  assert count('cnlrn', **groups) == whole
  assert count('cnlrn', **groups, deblur_head=True) == whole + 4_803
  assert count('cnlrn', **groups, progressive=False) == whole
  assert count('cnlrn', **groups, use_nonlocal=False) == whole - 6 * 123_264
  without = 9_972_867 - 7 * 952_800 + 27 * 64 + 64
  assert count('cnlrn', **groups, deblur=False) == without
  assert count('cnlrn', preset='small') == 377_399
  assert count('cnlrn_deblur') == 73_095_427


def test_weights_and_biases_start_uniform():
  @jax.jit  # for these parameters alone
  def init():
    params = init_variables(CNLRNDeblur(**DEBLUR), seed=0)['params']
    deblur = params['deblur']
    return deblur['conv1'], deblur['body_0']['conv2'], deblur['deconv1'], params['deblur_head']

  fans_in = 25 * 3, 25 * 24, 9 * 12, 25 * 6  # of the deconvolution's output, as PyTorch has it
  for layer, fan_in in zip(jax.device_get(init()), fans_in, strict=True):
    for tensor in layer.values():
      bound = fan_in**-0.5
      assert 0.3 * bound < np.abs(tensor).max() <= bound
      if tensor.size > 300:
        assert np.std(tensor) == pytest.approx(bound / 3**0.5, rel=0.1)


def test_other_sizes_are_padded_and_cropped():
  x, model = photograph(9, 16), small_model(deblur_head=True)
  params = random_params(model)
  out = apply(model, params, x)
  whole = apply(model, params, np.pad(x, ((0, 0), (0, 3), (0, 0), (0, 0)), mode='reflect'))
  assert (out.hr.shape, out.lr.shape) == ((1, 36, 64, 3), (1, 9, 16, 3))
  np.testing.assert_allclose(out.hr, whole.hr[:, :36], atol=1e-5)
  np.testing.assert_allclose(out.lr, whole.lr[:, :9], atol=1e-5)


def test_the_patches_can_need_larger_multiples():
  assert CNLRN().stride == CNLRNDeblur().stride == (4, 4)
  model = small_model(patch_size=6)
  assert model.stride == (12, 12)
  out = jax.eval_shape(model.apply, variable_shapes(model), photograph(13, 5))
  assert out.hr.shape == (1, 52, 20, 3)


def test_the_head_gives_what_the_deblurring_network_alone_gives():
  x, model = photograph(12, 16), small_model(deblur_head=True)
  params = random_params(model)
  deblur = {key: params[key] for key in ('deblur', 'deblur_head')}
  smaller = photograph(9, 16)
  alone = apply(CNLRNDeblur(**DEBLUR), deblur, smaller)
  assert alone.hr is None
  np.testing.assert_allclose(apply(model, params, smaller).lr, alone.lr, atol=1e-5)
  out = apply(model, params, x)
  without = {key: value for key, value in params.items() if key != 'deblur_head'}
  np.testing.assert_allclose(out.hr, apply(small_model(), without, x).hr, atol=1e-5)


def test_the_global_skip_adds_the_input():
  x = photograph(9, 16)
  for make in (
    functools.partial(small_model, deblur_head=True),
    lambda **o: CNLRNDeblur(**DEBLUR, **o),
  ):
    params = random_params(make())
    plain, skipping = (apply(make(global_skip=skip), params, x) for skip in ('none', 'input'))
    np.testing.assert_allclose(skipping.lr, plain.lr + x, atol=1e-5)
    if plain.hr is not None:
      padded = np.pad(x, ((0, 0), (0, 3), (0, 0), (0, 0)), mode='reflect')
      np.testing.assert_allclose(skipping.hr, plain.hr + enlarge(padded)[:, :36], atol=1e-5)


@pytest.mark.full
def test_with_the_global_skip_the_images_start_near_the_input():
  x = photograph(16, 16)
  for seed in range(3):
    out = apply(*_initialized(small_model(deblur_head=True, global_skip='input'), seed), x)
    assert np.abs(out.hr - enlarge(x)).mean() < 0.01
    assert np.abs(out.lr - x).mean() < 0.01
    far = apply(*_initialized(small_model(deblur_head=True), seed), x)
    assert np.abs(far.hr).mean() > 0.02


def _initialized(model, seed):
  return model, init_variables(model, seed)['params']


def test_without_non_local_blocks():
  x, params = photograph(12, 16), random_params(small_model())
  flat = flatten(params)
  ends = ('nonlocal.conv', 'nonlocal.feed_forward2')
  silent = {
    key: np.zeros_like(value) if key.rpartition('.')[0].endswith(ends) else value
    for key, value in flat.items()
  }
  without = {key: value for key, value in flat.items() if 'nonlocal' not in key}
  nest = functools.partial(traverse_util.unflatten_dict, sep='.')
  expected = apply(small_model(), nest(silent), x).hr
  found = apply(small_model(use_nonlocal=False), nest(without), x).hr
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert np.abs(apply(small_model(), params, x).hr - expected).max() > 1e-2


def test_without_progressive_enlargement_all_groups_come_first():
  x, params = photograph(12, 16), random_params(small_model())
  progressive, post = small_model(), small_model(progressive=False)
  assert np.abs(apply(progressive, params, x).hr - apply(post, params, x).hr).max() > 1e-3
  params['nlrn']['refine2_conv'] = jax.tree.map(np.zeros_like, params['nlrn']['refine2_conv'])
  expected = apply(progressive, params, x).hr
  np.testing.assert_allclose(apply(post, params, x).hr, expected, atol=1e-5)


def test_without_the_deblurring_network():
  x, params = photograph(12, 16), random_params(small_model())
  without = small_model(deblur=False)
  others = random_params(without)
  assert others.keys() == {'conv_first', 'nlrn'}
  # Its second network gets the same features from a convolution that ignores the deblurred ones.
  params['nlrn'] = others['nlrn']
  bias = params['conv_first']['bias']
  for tree in (params, others):
    tree['conv_first'] = {'kernel': 0 * tree['conv_first']['kernel'], 'bias': bias}
  expected = apply(small_model(), params, x).hr
  np.testing.assert_allclose(apply(without, others, x).hr, expected, atol=1e-5)
  assert 'conv_first' not in variable_shapes(small_model(deblur_features=8))['params']


@pytest.mark.parametrize('hr_weight', [0.0, 1.0])
def test_every_parameter_gets_a_gradient_of_the_loss(hr_weight):
  """Of both networks, or of the first one's alone as in its pre-training."""
  model, sharp = small_model(deblur_head=not hr_weight), photograph(64, 64)
  batch = {'hr': sharp, 'lr': sharp[:, ::4, ::4]}

  def loss(params):
    output = model.apply({'params': params}, batch['lr'] ** 2)
    return restoration_loss(output, batch, 1.0, hr_weight, 'l1', 'l1', gradient_weight=0.1)[0]

  grads = gradient(loss, random_params(model))
  assert all(np.isfinite(value).all() for value in grads.values())
  without = [key for key, value in grads.items() if not np.any(value)]
  # A softmax is blind to what is added to all of a query's scores.
  without = [key for key in without if not key.endswith('.key.bias')]
  if hr_weight:
    # With few channels all hidden units of a channel attention can be zero.
    assert [key for key in without if '.attention.conv' not in key] == []
  else:
    assert {key.split('.')[0] for key in without} == {'nlrn', 'conv_first'}
    assert {key.split('.')[0] for key in grads.keys() - without} == {
      'deblur',
      'deblur_head',
      'nlrn',
    }


def test_pretrained_weights_of_the_deblurring_network_initialise_it(tmp_path):
  path, deblur, model = tmp_path / 'deblur.safetensors', CNLRNDeblur(**DEBLUR), small_model()
  pretrained, params = random_params(deblur, seed=1), random_params(model)
  save_weights(path, {'params': pretrained}, {'name': 'cnlrn_deblur', **DEBLUR}, {'step': 1})
  start = init_variables_from(
    path, model, {'params': params}, ['nlrn', 'conv_first', 'deblur_head']
  )['params']
  expected = params | {'deblur': pretrained['deblur']}
  jax.tree.map(np.testing.assert_array_equal, start, expected)
  with pytest.raises(UserError, match='does not fit CNLRN.*missing'):
    init_variables_from(path, model, {'params': params}, ['deblur_head'])


def test_it_restores_photos_whole():
  model, photo = small_model(), skimage.data.astronaut()[50:62, 200:216]
  params = random_params(model)
  expected = np.clip(apply(model, params, photograph(12, 16)).hr[0], 0, 1)
  np.testing.assert_allclose(
    Restorer(model, {'params': params})(photo) / 255, expected, atol=0.51 / 255
  )
  assert not model.local
  assert CNLRNDeblur().local
  assert (model.scale, CNLRNDeblur().scale) == (4, 1)


def test_images_of_half_precision_are_float32():
  for model in (
    small_model(dtype='bfloat16', deblur_head=True),
    CNLRNDeblur(**DEBLUR, dtype='bfloat16'),
  ):
    out = jax.eval_shape(model.apply, variable_shapes(model), photograph(8, 8))
    assert {image.dtype for image in jax.tree.leaves(out)} == {jnp.dtype('float32')}
    assert {leaf.dtype for leaf in jax.tree.leaves(variable_shapes(model)['params'])} == {
      jnp.dtype('float32')
    }


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('cnlrn', {'features': 0}, 'features must be at least 1, not 0'),
    ('cnlrn', {'features': 12}, 'features must be at least reduction, 16, not 12'),
    ('cnlrn', {'features': 18}, 'features must be a multiple of heads, 4, not 18'),
    ('cnlrn', {'patch_size': 0}, 'patch_size must be at least 1, not 0'),
    ('cnlrn', {'upsample_groups': 0}, 'upsample_groups must be at least 1, not 0'),
    ('cnlrn', {'global_skip': 'deblurred'}, "unknown global_skip 'deblurred'; choose from"),
    ('cnlrn', {'deblur': False, 'deblur_head': True}, 'deblur_head needs deblur'),
    ('cnlrn_deblur', {'blocks': 0}, 'blocks must be at least 1, not 0'),
    ('cnlrn_deblur', {'global_skip': 'deblurred'}, 'unknown global_skip .*; choose from'),
  ],
)
def test_wrong_options(name, options, message):
  with pytest.raises(UserError, match=f"^model '{name}': {message}"):
    create_model(name, **options)
