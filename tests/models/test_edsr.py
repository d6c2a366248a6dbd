import jax
import numpy as np
import pytest
from flax import traverse_util

from gfn_jax import UserError, create_model
from gfn_jax.interop.conversion import convert, infer_options, to_torch
from gfn_jax.models import EDSR, EDSRBaseline, param_count, variable_shapes
from tests import small
from tests.models.networks import apply, photograph, random_params
from tests.models.original_weights import errors, names_digest, original_state, read_fixture

FULL = {'features': 256, 'blocks': 32, 'res_scale': 0.1}
BASELINE = {'features': 64, 'blocks': 16, 'res_scale': 1.0}


DIGESTS = {
  'edsr': 'ee3ead8aa6c1cb7bdc04f46fe5de0b142fb3baaad0904fc9587a9e969a6b8b1c',
  'edsr_x2': '9044d5bacc81bcaa6388cdac8889494e127ac36435e633bb1f9d3cf220c97240',
  'edsr_baseline': '8c67f7c8a5a70a97c34a27443f71a9914913dd397776f1970837f257db88fe92',
  'edsr_baseline_x3': '937ef1db188f54f0b48b04a2d100791f3c54b091114d5b31f97c882acb86227a',
}


@pytest.mark.parametrize(
  ('fixture', 'scale', 'options'),
  [
    ('edsr_baseline', 4, BASELINE),
    ('edsr_baseline_x3', 3, BASELINE),
    pytest.param('edsr', 4, FULL, marks=pytest.mark.full),
    pytest.param('edsr_x2', 2, FULL, marks=pytest.mark.full),
  ],
)
def test_parity(fixture, scale, options):
  model_name, expected = fixture.split('_x')[0], read_fixture(fixture)
  state = original_state(model_name, scale=scale)
  assert names_digest(state) == DIGESTS[fixture]
  assert infer_options(model_name, state) == options | {'scale': scale}
  model = create_model(model_name, scale=scale)
  out = model.apply(convert(model_name, state), expected['x'])
  assert errors(out.hr, expected['sr']).max() < 2e-5
  assert out.lr is None


def test_parameter_counts():
  counts = {
    model: [param_count(variable_shapes(model(scale=scale))) for scale in (2, 3, 4)]
    for model in (EDSR, EDSRBaseline)
  }
  assert counts == {
    EDSR: [40_729_603, 43_680_003, 43_089_923],
    EDSRBaseline: [1_369_859, 1_554_499, 1_517_571],
  }
  assert param_count(variable_shapes(create_model('edsr', preset='small'))) == 131_523


def test_the_options_of_the_two_networks():
  assert EDSR() == EDSR(**FULL)
  assert EDSRBaseline() == EDSRBaseline(**BASELINE)
  assert EDSR().local


def test_a_branch_is_scaled():
  params, x = random_params(EDSR(**small.EDSR)), photograph(7, 9)
  scaled = apply(EDSR(**small.EDSR, res_scale=0.5), params, x).hr
  for i in range(small.EDSR['blocks']):
    block = params[f'resblock_{i}']
    block['conv2'] = jax.tree.map(lambda tensor: tensor / 2, block['conv2'])
  np.testing.assert_allclose(
    scaled, apply(EDSR(**small.EDSR, res_scale=1.0), params, x).hr, atol=1e-5
  )


def test_the_keys_of_basicsr():
  params = random_params(EDSR(**small.EDSR))
  layers = {
    'conv_first': 'conv_first',
    'resblock_0.conv1': 'body.0.conv1',
    'resblock_0.conv2': 'body.0.conv2',
    'resblock_1.conv1': 'body.1.conv1',
    'resblock_1.conv2': 'body.1.conv2',
    'conv_mid': 'conv_after_body',
    'upsample.conv1': 'upsample.0',
    'upsample.conv2': 'upsample.2',
    'conv_last': 'conv_last',
  }
  state = {}
  for ours, theirs in layers.items():
    layer = params
    for name in ours.split('.'):
      layer = layer[name]
    state[f'{theirs}.weight'] = layer['kernel'].transpose(3, 2, 0, 1)
    state[f'{theirs}.bias'] = layer['bias']
  assert infer_options('edsr_baseline', state) == small.EDSR | {'scale': 4}
  jax.tree.map(np.testing.assert_array_equal, convert('edsr_baseline', state)['params'], params)
  # The mean is a constant of BasicSR's code.
  with pytest.raises(UserError, match=r'1 unexpected \(add_mean.bias\)'):
    convert('edsr', state | {'add_mean.bias': np.zeros(3, np.float32)})


@pytest.mark.parametrize(('features', 'res_scale'), [(64, 1.0), (256, 0.1)])
@pytest.mark.parametrize('model_name', ['edsr', 'edsr_baseline'])
def test_the_factor_of_the_branches_is_that_of_the_published_networks(
  model_name, features, res_scale
):
  params = random_params(EDSR(features=features, blocks=1, scale=2))
  state = to_torch('edsr', {'params': params}, features=features, blocks=1, scale=2)
  assert infer_options(model_name, state)['res_scale'] == res_scale
  assert infer_options(model_name, state, res_scale=0.5)['res_scale'] == 0.5


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'add_mean.bias': np.float32([119, 114, 103])}, r'^add_mean.bias is \[119. 114. 103.\]\.\.\.'),
    ({'sub_mean.weight': None}, r'1 missing \(sub_mean.weight\)'),
    ({'body.1.body.2.bias': None}, r'1 missing \(body.1.body.2.bias\)'),
    ({'head.0.weight': None}, 'missing convolution head.0.weight or conv_first.weight'),
    ({'tail.0.0.weight': None, 'tail.0.2.weight': None}, r'2 missing \(tail.0.0.weight, tail.0.2'),
    ({'tail.0.4.weight': np.ones((16, 4, 3, 3), np.float32)}, 'unknown scale 8; choose from 2, 3'),
    ({'tail.0.2.weight': np.ones((36, 0, 3, 3), np.float32)}, 'unknown scale 12; choose from'),
    ({'tail.0.2.weight': np.ones(16, np.float32)}, r'2 unexpected \(tail.0.2.bias, tail.0.2.wei'),
  ],
)
def test_tensors_that_do_not_fit(changes, message):
  params = random_params(EDSR(**small.EDSR))
  state = to_torch('edsr', {'params': params}, **small.EDSR) | changes
  state = {name: tensor for name, tensor in state.items() if tensor is not None}
  with pytest.raises(UserError, match=message):
    convert('edsr', state)


def test_a_preset_has_the_authors_names_too():
  model = create_model('edsr', preset='small', scale=2)
  params = random_params(model)
  state = to_torch('edsr', {'params': params}, preset='small', scale=2)
  assert 'tail.0.0.weight' in state
  converted, expected = (
    traverse_util.flatten_dict(tree, sep='.') for tree in (convert('edsr', state)['params'], params)
  )
  assert converted.keys() == expected.keys()
  for name, tensor in expected.items():
    np.testing.assert_array_equal(converted[name], tensor, err_msg=name)
