import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from gfn_jax import UserError, create_model
from gfn_jax.interop.conversion import convert, infer_options, to_torch
from gfn_jax.models import RRDBNet, init_variables, param_count, variable_shapes
from tests import small
from tests.loss import restoration_loss
from tests.models import original_weights
from tests.models.networks import apply, enlarge, gradient, photograph, random_params

small_model = functools.partial(RRDBNet, **small.RRDBNET)

# `names_digest` of the tensors of xinntao/ESRGAN.
NAMES = 'cf1b837bcfbfe261b8c47e16248ca8a2f68f5e9be6b3495a636d255ef419f899'


def flatten(params):
  return traverse_util.flatten_dict(params, sep='.')


@pytest.fixture(scope='module')
def original_state():
  return original_weights.original_state('rrdbnet')


@pytest.fixture
def small_state():
  """The authors' tensors of a narrow network."""
  return to_torch('rrdbnet', {'params': random_params(small_model())}, **small.RRDBNET)


@pytest.mark.full
def test_parity(original_state):
  fixture = original_weights.read_fixture('rrdbnet')
  out = apply(RRDBNet(), convert('rrdbnet', original_state)['params'], fixture['x'])
  np.testing.assert_allclose(out.hr, fixture['sr'], rtol=0, atol=5e-5 * fixture['sr'].std())
  assert out.lr is None


@pytest.mark.full
def test_the_authors_names(original_state):
  assert len(original_state) == 702
  assert original_weights.names_digest(original_state) == NAMES
  assert infer_options('rrdbnet', original_state) == {'features': 64, 'growth': 32, 'blocks': 23}


def test_parameter_counts():
  shapes = variable_shapes(RRDBNet())['params']
  assert param_count({'params': shapes}) == 16_697_987
  assert param_count({'params': shapes['rrdb_22']}) == 719_424
  assert param_count({'params': shapes['rrdb_22']['dense3']}) == 239_808
  assert param_count(variable_shapes(create_model('rrdbnet', preset='small'))) == 145_379
  # One dense block has kernels of these numbers of channels.
  shapes = variable_shapes(small_model())['params']['rrdb_1']['dense2']
  assert [shapes[f'conv{i}']['kernel'].shape for i in range(1, 6)] == [
    (3, 3, *channels) for channels in ((4, 3), (7, 3), (10, 3), (13, 3), (16, 4))
  ]


ORIGINAL = (
  (r'conv_first', r'model.0'),
  (r'RRDB_trunk.(\d+).RDB(\d).conv(\d)', r'model.1.sub.\1.RDB\2.conv\3.0'),
  (r'trunk_conv', r'model.1.sub.2'),  # after two blocks
  (r'upconv1', r'model.3'),
  (r'upconv2', r'model.6'),
  (r'HRconv', r'model.8'),
  (r'conv_last', r'model.10'),
)
BASICSR = (
  (r'conv_first', r'conv_first'),
  (r'RRDB_trunk.(\d+).RDB(\d).conv(\d)', r'body.\1.rdb\2.conv\3'),
  (r'trunk_conv', r'conv_body'),
  (r'upconv(\d)', r'conv_up\1'),
  (r'HRconv', r'conv_hr'),
  (r'conv_last', r'conv_last'),
)


@pytest.mark.parametrize('scheme', [ORIGINAL, BASICSR])
def test_other_names_of_the_same_layers(scheme, small_state):
  def rename(name):
    layer, _, tensor = name.rpartition('.')
    [renamed] = [
      re.sub(theirs, other, layer) for theirs, other in scheme if re.fullmatch(theirs, layer)
    ]
    return f'{renamed}.{tensor}'

  renamed = {rename(name): tensor for name, tensor in small_state.items()}
  assert len(renamed) == len(small_state)
  assert infer_options('rrdbnet', renamed) == small.RRDBNET
  jax.tree.map(
    np.testing.assert_array_equal, convert('rrdbnet', renamed), convert('rrdbnet', small_state)
  )


@pytest.mark.parametrize(
  ('missing', 'message'),
  [
    ('RRDB_trunk.1.RDB3.conv5.weight', r'1 missing \(RRDB_trunk.1.RDB3.conv5.weight\)'),
    ('trunk_conv.weight', 'missing convolution trunk_conv.weight or model.0.weight or conv_body'),
    ('RRDB_trunk.0.RDB1.conv1.weight', 'missing convolution RRDB_trunk.0.RDB1.conv1$'),
  ],
)
def test_a_missing_tensor(missing, message, small_state):
  del small_state[missing]
  with pytest.raises(UserError, match=f'^these are not weights for rrdbnet.*: {message}'):
    convert('rrdbnet', small_state)


def test_weights_start_small():
  model = RRDBNet(features=32, growth=16, blocks=1)
  params = flatten(jax.device_get(init_variables(model, seed=0)['params']))
  for name, tensor in params.items():
    if name.endswith('bias'):
      np.testing.assert_array_equal(tensor, 0)
    else:
      fan_in = np.prod(tensor.shape[:-1])
      assert np.std(tensor) == pytest.approx(0.1 * np.sqrt(2 / fan_in), rel=0.1), name


def test_the_global_skip_adds_the_enlarged_input():
  x, params = photograph(7, 9), random_params(small_model())
  plain = apply(small_model(), params, x).hr
  skipping = apply(small_model(global_skip='input'), params, x).hr
  assert skipping.shape == (1, 28, 36, 3)
  np.testing.assert_allclose(skipping, plain + enlarge(x), atol=1e-5)


def test_every_parameter_gets_a_gradient():
  model, sharp = small_model(), photograph(32, 24)

  def loss(params):
    output = model.apply({'params': params}, sharp[:, ::4, ::4])
    return restoration_loss(output, {'hr': sharp}, 0.0, hr='l1')[0]

  grads = gradient(loss, random_params(model))
  assert [name for name, value in grads.items() if not np.any(value)] == []
  assert all(np.isfinite(value).all() for value in grads.values())


def test_half_precision_gives_similar_images_of_float32():
  x, params = photograph(7, 9), random_params(small_model())
  half = apply(small_model(dtype='bfloat16'), params, x).hr
  expected = apply(small_model(), params, x).hr
  assert half.dtype == jnp.float32
  assert 0 < np.abs(half - expected).max() < 0.1 * expected.std()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'features': 0}, ': features must be at least 1, not 0'),
    ({'growth': 0}, ': growth must be at least 1, not 0'),
    ({'blocks': 0}, ': blocks must be at least 1, not 0'),
    ({'global_skip': 'deblurred'}, ": unknown global_skip 'deblurred'; choose from none, input"),
    ({'scale': 2}, " has no option 'scale'"),
    ({'preset': 'large'}, " has no preset 'large'; choose from small"),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'rrdbnet'{message}"):
    create_model('rrdbnet', **options)
