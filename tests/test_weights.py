import hashlib
import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from gfn_jax import files, weights
from gfn_jax.errors import UserError
from gfn_jax.models import GFN, create_model

CONFIG = {
  'name': 'gfn',
  'features': 4,
  'deblur_blocks': 1,
  'sr_blocks': 1,
  'reconstruction_blocks': 1,
  'gate_recursions': 2,
}


def assert_tree_equal(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y, strict=True), a, b)


@pytest.fixture(scope='module')
def params():
  shapes = weights.param_shapes(create_model(**CONFIG))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype), shapes)


@pytest.fixture
def saved(params, tmp_path):
  path = tmp_path / 'weights.safetensors'
  weights.save_weights(path, params, CONFIG, {'data': {'blur_folder': 'blur_gamma'}, 'step': 7})
  return path


def resave(path, metadata=None, **changes):
  """Writes `path` anew with some tensors (None: without them) and the header's metadata changed."""
  with safetensors.safe_open(path, 'numpy') as file:
    old = file.metadata()
  tensors = safetensors.numpy.load_file(path) | changes
  tensors = {key: value for key, value in tensors.items() if value is not None}
  safetensors.numpy.save_file(tensors, path, old if metadata is None else metadata)


def test_param_shapes_are_those_of_the_network_without_computing_it():
  shapes = weights.param_shapes(GFN())
  assert weights.param_count(shapes) == 12_210_438
  assert isinstance(shapes['gate']['conv2']['kernel'], jax.ShapeDtypeStruct)
  assert shapes['gate']['conv2']['kernel'].shape == (1, 1, 64, 64)


def test_round_trip(saved, params):
  model, loaded = weights.load_weights(saved)
  assert model == create_model(**CONFIG)
  assert_tree_equal(loaded, params)


def test_jax_arrays_are_saved_as_numpy_ones(params, tmp_path):
  path = tmp_path / 'weights.safetensors'
  weights.save_weights(path, jax.tree.map(jax.numpy.asarray, params), CONFIG, {})
  assert_tree_equal(weights.load_weights(path)[1], params)


def test_transposed_arrays_are_saved_by_value(params, tmp_path):
  path = tmp_path / 'weights.safetensors'
  turned = jax.tree.map(lambda x: np.asfortranarray(x), params)
  weights.save_weights(path, turned, CONFIG, {})
  assert_tree_equal(weights.load_weights(path)[1], params)


def test_card_and_header(saved, params, tmp_path):
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'weights.json',
    'weights.safetensors',
  ]
  card = json.loads((tmp_path / 'weights.json').read_text())
  assert card == {
    'model': CONFIG,
    'parameters': sum(leaf.size for leaf in jax.tree.leaves(params)),
    'sha256': hashlib.sha256(saved.read_bytes()).hexdigest(),
    'data': {'blur_folder': 'blur_gamma'},
    'step': 7,
  }
  assert files.file_sha256(saved) == card['sha256']
  with safetensors.safe_open(saved, 'numpy') as file:
    assert {key: json.loads(value) for key, value in file.metadata().items()} == {'model': CONFIG}
    assert 'deblur.resblock1_0.conv1.kernel' in file.keys()  # noqa: SIM118 (no mapping)


def test_missing_file(tmp_path):
  with pytest.raises(UserError, match='no weights at .*/none.safetensors: train a network with'):
    weights.load_weights(tmp_path / 'none.safetensors')
  with pytest.raises(UserError, match='no weights at'):
    weights.load_weights(tmp_path)


@pytest.mark.parametrize('kept', [0, 4, 100, -1])
def test_truncated_file(saved, kept):
  saved.write_bytes(saved.read_bytes()[:kept])
  with pytest.raises(UserError, match='weights.safetensors is no readable safetensors file: .+'):
    weights.load_weights(saved)


def test_another_kind_of_file(saved):
  saved.write_bytes(b'\x80\x02}q\x00.' * 100)  # a pickle
  with pytest.raises(UserError, match='weights.safetensors is no readable safetensors file'):
    weights.load_weights(saved)


@pytest.mark.parametrize(
  'metadata',
  [
    {},
    {'format': 'pt'},
    {'model': 'gfn'},
    {'model': '3'},
    {'model': '["gfn"]'},
    {'model': '{"features": 4}'},
  ],
)
def test_header_without_a_network(saved, metadata):
  resave(saved, metadata)
  with pytest.raises(UserError, match='weights.safetensors does not name a network of gfn_jax'):
    weights.load_weights(saved)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'name': 'edsr'}, "unknown model 'edsr'; there are gfn"),
    ({'depth': 3}, "model 'gfn' has no option 'depth'; it has deblur_blocks, .*, size_mode"),
    ({'size_mode': 'crop'}, "size_mode must be one of .*, not 'crop'"),
  ],
)
def test_unknown_network(saved, change, message):
  resave(saved, {'model': json.dumps(CONFIG | change)})
  with pytest.raises(UserError, match=message):
    weights.load_weights(saved)


def test_tensors_of_another_network(saved):
  resave(
    saved,
    **{
      'gate.conv2.kernel': None,
      'gate.conv2.bias': None,
      'gate.conv3.bias': np.zeros(4, np.float32),
      'sr_feature.conv1.bias': np.zeros((1, 4), np.float32),
    },
  )
  with pytest.raises(UserError) as error:
    weights.load_weights(saved)
  assert str(error.value) == (
    f'{saved} does not fit GFN: 2 missing (gate.conv2.bias, gate.conv2.kernel); '
    '1 unexpected (gate.conv3.bias); '
    '1 of another shape or type (sr_feature.conv1.bias float32(1, 4) for float32(4,))'
  )


def test_long_lists_of_tensors_are_cut_short(saved):
  resave(saved, {'model': json.dumps(CONFIG | {'deblur_blocks': 2})})
  with pytest.raises(UserError, match=r'GFN: 12 missing \(([a-z0-9_.]+, ){3}\.\.\.\)$'):
    weights.load_weights(saved)


def test_nothing_is_written_into_a_folder_that_does_not_exist(params, tmp_path):
  with pytest.raises((OSError, safetensors.SafetensorError), match='No such file'):
    weights.save_weights(tmp_path / 'none' / 'weights.safetensors', params, CONFIG, {})
  assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_leaves_the_old_file(saved, params):
  before = {path: path.read_bytes() for path in saved.parent.iterdir()}
  other = jax.tree.map(lambda x: x + 1, params)
  with pytest.raises(TypeError, match='not JSON serializable'):
    weights.save_weights(saved, other, CONFIG, {'scores': object()})
  for path, content in before.items():
    assert path.read_bytes() == content
