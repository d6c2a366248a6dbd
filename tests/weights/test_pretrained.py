import hashlib
import json
import os
import pathlib
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax import traverse_util

import gfn_jax
from gfn_jax.errors import UserError
from gfn_jax.models import GFN, create_model, param_count, variable_shapes
from gfn_jax.system import files
from gfn_jax.weights import pretrained
from tests import small

CARD = {
  'step': 7,
  'config': {'seed': 1},
  'data': {'blur_folder': 'blur_gamma'},
  'scores': {'test/psnr': 26.5, 'protocol': 'gfn'},
}
DTYPES = ('float32', 'bfloat16', 'float16')


def assert_tree_equal(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y, strict=True), a, b)


def random_params(model_config, seed=0):
  shapes = variable_shapes(create_model(**model_config))['params']
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype), shapes)


@pytest.fixture(scope='module')
def params():
  return random_params(small.MODEL)


@pytest.fixture
def saved(params, tmp_path):
  path = tmp_path / 'weights.safetensors'
  pretrained.save_weights(path, {'params': params}, small.MODEL, CARD)
  return path


@pytest.fixture
def alone(saved):
  """A file without its card."""
  saved.with_suffix('.json').unlink()
  return saved


@pytest.fixture
def released(params, tmp_path, monkeypatch):
  """A folder of released weights: 'gfn' and 'tiny'."""
  folder = tmp_path / 'released'
  folder.mkdir()
  monkeypatch.setattr(pretrained, 'RELEASED_DIR', str(folder))
  for name in ('tiny', 'gfn'):
    pretrained.save_weights(
      folder / f'{name}.safetensors', {'params': params}, small.MODEL, CARD, 'bfloat16'
    )
  return folder


def resave(path, metadata=None, **changes):
  """Rewrite a file with some tensors changed (None removes them), and maybe its metadata."""
  with safetensors.safe_open(path, 'numpy') as file:
    old = file.metadata()
  tensors = safetensors.numpy.load_file(path) | changes
  tensors = {key: value for key, value in tensors.items() if value is not None}
  safetensors.numpy.save_file(tensors, path, old if metadata is None else metadata)


def change_card(path, **changes):
  card_path = path.with_suffix('.json')
  card_path.write_text(json.dumps(json.loads(card_path.read_text()) | changes))


def message_of(function, *args):
  with pytest.raises(UserError) as error:
    function(*args)
  assert '\n' not in str(error.value)
  return str(error.value)


def test_param_shapes_are_those_of_the_network_without_computing_it():
  shapes = variable_shapes(GFN())['params']
  assert param_count({'params': shapes}) == 12_210_438
  assert isinstance(shapes['gate']['conv2']['kernel'], jax.ShapeDtypeStruct)
  assert shapes['gate']['conv2']['kernel'].shape == (1, 1, 64, 64)


# Writing and reading.


@pytest.mark.parametrize('dtype', DTYPES)
def test_round_trip(params, tmp_path, dtype):
  path = tmp_path / 'weights.safetensors'
  pretrained.save_weights(path, {'params': params}, small.MODEL, CARD, dtype)
  model, loaded = gfn_jax.load_pretrained(path)
  loaded = loaded['params']
  assert model == create_model(**small.MODEL)
  assert_tree_equal(loaded, jax.tree.map(lambda x: np.float32(x.astype(jnp.dtype(dtype))), params))
  size = sum(leaf.size for leaf in jax.tree.leaves(params)) * jnp.dtype(dtype).itemsize
  assert size < path.stat().st_size < size + 20_000


@pytest.mark.parametrize('turn', [jnp.asarray, np.asfortranarray])
def test_jax_and_transposed_arrays_are_saved_by_value(params, tmp_path, turn):
  path = tmp_path / 'weights.safetensors'
  pretrained.save_weights(path, {'params': jax.tree.map(turn, params)}, small.MODEL, {})
  assert_tree_equal(pretrained.load_pretrained(path)[1], {'params': params})


def test_card_and_header(saved, params, tmp_path):
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == ['weights.json', 'weights.safetensors']
  card = json.loads((tmp_path / 'weights.json').read_text())
  facts = {
    'format_version': 1,
    'model': small.MODEL,
    'dtype': 'float32',
    'parameters': sum(leaf.size for leaf in jax.tree.leaves(params)),
    'sha256': hashlib.sha256(saved.read_bytes()).hexdigest(),
  }
  assert card == facts | CARD
  assert list(card)[:5] == list(facts)
  with safetensors.safe_open(saved, 'numpy') as file:
    header = {key: json.loads(value) for key, value in file.metadata().items()}
    assert header == {'model': small.MODEL}
    assert 'deblur.resblock1_0.conv1.kernel' in file.keys()  # noqa: SIM118 (no mapping)


def test_equal_weights_have_equal_files(saved, params, tmp_path):
  pretrained.save_weights(
    tmp_path / 'b.safetensors', {'params': params}, dict(reversed(small.MODEL.items())), {}
  )
  assert (tmp_path / 'b.safetensors').read_bytes() == saved.read_bytes()


@pytest.mark.parametrize(
  ('value', 'dtype'), [(7e4, 'float16'), (3.4e38, 'bfloat16'), (np.nan, 'float32')]
)
def test_values_that_the_type_does_not_hold_are_refused_by_name(params, tmp_path, value, dtype):
  bad = jax.tree.map(np.copy, params)
  bad['gate']['conv2']['bias'][3] = value
  path = tmp_path / 'weights.safetensors'
  message = message_of(pretrained.save_weights, path, {'params': bad}, small.MODEL, {}, dtype)
  assert message == (
    f'gate.conv2.bias has values that are not finite as {dtype}; no weights are written'
  )
  assert not list(tmp_path.iterdir())


def test_unknown_type(params, tmp_path):
  message = message_of(
    pretrained.save_weights, tmp_path / 'a.safetensors', params, small.MODEL, {}, 'int8'
  )
  assert message == "unknown dtype 'int8'; choose from float32, bfloat16, float16"


def test_nothing_is_written_into_a_folder_that_does_not_exist(params, tmp_path):
  with pytest.raises(FileNotFoundError, match='No such file'):
    pretrained.save_weights(
      tmp_path / 'none' / 'weights.safetensors', {'params': params}, small.MODEL, {}
    )
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(('card', 'error'), [({'scores': object()}, TypeError), ({}, OSError)])
def test_a_save_that_fails_leaves_the_old_files(saved, params, monkeypatch, card, error):
  def full_disk(*_):
    raise OSError

  before = {path: path.read_bytes() for path in saved.parent.iterdir()}
  other = jax.tree.map(lambda x: x + 1, params)
  monkeypatch.setattr(pretrained, 'write_aside', full_disk)
  with pytest.raises(error):
    pretrained.save_weights(saved, {'params': other}, small.MODEL, card)
  assert {path: path.read_bytes() for path in saved.parent.iterdir()} == before


@pytest.mark.parametrize('killed_in', ['remove', 'replace', 'write_json'])
def test_a_save_that_is_killed_leaves_weights_that_load(saved, params, monkeypatch, killed_in):
  module = pretrained if killed_in == 'write_json' else files.os
  original = getattr(module, killed_in)

  def kill(source, *_):
    if killed_in != 'replace' or str(source).endswith('.tmp.safetensors'):
      raise KeyboardInterrupt
    original(source, *_)

  other = jax.tree.map(lambda x: x + 1, params)
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(module, killed_in, kill)
    pretrained.save_weights(saved, {'params': other}, small.MODEL, CARD)
  expected = other if killed_in == 'write_json' else params
  assert_tree_equal(pretrained.load_pretrained(saved)[1], {'params': expected})


# Paths and names.


def test_a_file_alone_is_taken(alone, params):
  assert_tree_equal(pretrained.load_pretrained(str(alone))[1], {'params': params})


def test_released_weights_are_found_by_name(released, params):
  model, loaded = pretrained.load_pretrained('gfn')
  loaded = loaded['params']
  assert model == create_model(**small.MODEL)
  assert_tree_equal(loaded, jax.tree.map(lambda x: np.float32(x.astype(jnp.bfloat16)), params))
  restorer = gfn_jax.Restorer.from_pretrained('gfn')
  assert_tree_equal(jax.device_get(restorer.variables['params']), loaded)
  assert pretrained.weights_path('gfn') == str(released / 'gfn.safetensors')


def test_a_name_that_is_a_file_is_a_path(released, saved, monkeypatch):
  monkeypatch.chdir(saved.parent)
  saved.rename('gfn')
  assert pretrained.weights_path('gfn') == 'gfn'


def test_released_weights_need_their_card(released):
  (released / 'tiny.json').unlink()
  message = message_of(pretrained.load_pretrained, 'tiny')
  assert message == f'cannot read {released}/tiny.json: no such file; install gfn_jax again'


def test_unknown_name(released, monkeypatch):
  assert message_of(pretrained.load_pretrained, 'gnf') == (
    "no released weights are named 'gnf'; choose from gfn, tiny, or pass a .safetensors file"
  )
  monkeypatch.setattr(pretrained, 'RELEASED_DIR', str(released / 'none'))
  assert "named 'gfn'; pass a .safetensors" in message_of(pretrained.load_pretrained, 'gfn')


def test_the_folder_of_a_run_stands_for_its_newest_weights(released, saved, monkeypatch):
  monkeypatch.chdir(saved.parent)
  for folder in ('.', f'{saved.parent}/', saved.parent):
    path = pretrained.weights_path(folder)
    assert os.path.samefile(path, saved)
    assert pretrained.load_card(folder)['sha256'] == files.file_sha256(saved)
  # A released name comes before a folder and a TensorFlow checkpoint of that name.
  pathlib.Path('gfn').mkdir()
  pathlib.Path('gfn.index').touch()
  saved.rename('gfn/weights.safetensors')
  assert pretrained.weights_path('gfn') == str(released / 'gfn.safetensors')
  assert pretrained.weights_path('./gfn') == './gfn/weights.safetensors'


def test_a_folder_without_weights(tmp_path):
  assert message_of(pretrained.load_pretrained, tmp_path) == (
    f'no weights in the folder {tmp_path}: neither weights.safetensors nor model.safetensors is '
    'there; pass the folder of a training run or of a hub, or a .safetensors file (gfn-import '
    'converts weights of other libraries)'
  )


def test_a_checkpoint_of_tensorflow_names_the_command_that_converts_it(tmp_path):
  prefix = tmp_path / 'deblur.model-523000'
  pathlib.Path(f'{prefix}.index').touch()
  assert message_of(pretrained.load_pretrained, prefix) == (
    f'{prefix} is a checkpoint of TensorFlow; convert it first: '
    f'gfn-import {prefix} {tmp_path}/deblur_imported.safetensors --model NAME'
  )


@pytest.mark.parametrize('name', ['none.safetensors', 'folder/gfn', '../gfn'])
def test_missing_file(tmp_path, name):
  path = tmp_path / name
  assert message_of(pretrained.load_pretrained, path) == (
    f'no weights at {path}: train a network with gfn-train, which writes '
    'WORKDIR/weights.safetensors, and pass that file'
  )


def test_a_name_does_not_leave_the_folder(released):
  (released / 'inner').mkdir()
  assert 'no weights at ../released/gfn:' in message_of(pretrained.weights_path, '../released/gfn')
  assert 'no released weights are named' in message_of(pretrained.weights_path, '*')


def test_the_released_weights_load():
  paths = list(pathlib.Path(pretrained.RELEASED_DIR).glob('*.safetensors'))
  assert 'gfn' in {path.stem for path in paths}
  for path in paths:
    model, params = gfn_jax.load_pretrained(path.stem)
    params = params['params']
    card = json.loads(path.with_suffix('.json').read_text())
    assert {'step', 'config', 'data', 'scores'} <= card.keys()
    assert card['dtype'] in ('bfloat16', 'float16')
    assert card['data']['licence']
    output = pretrained.reference_output(model, {'params': params})
    np.testing.assert_allclose(output, card['reference'], atol=2e-4)
  assert sum(path.stat().st_size for path in paths) <= 30e6


@pytest.mark.parametrize('name', ['gfn', 'light'])
def test_weights_of_version_0_1_and_their_cards_open(name):
  # Random weights of narrow networks, with paths, names and shapes that must not change.
  path = pathlib.Path(__file__).parents[1] / 'fixtures' / 'weights' / f'{name}.safetensors'
  model, params = pretrained.load_pretrained(path)
  params = params['params']
  output = pretrained.reference_output(model.clone(dtype='float32'), {'params': params})
  reference = pretrained.load_card(path)['reference']
  tolerance = 2e-4 if name == 'gfn' else 0.02  # the light network computes in bfloat16
  np.testing.assert_allclose(output, reference, atol=tolerance)
  assert np.std(reference) > 0.1


# Damage.


@pytest.mark.parametrize('place', [0, 100, -1])
def test_a_flipped_bit(saved, place):
  content = bytearray(saved.read_bytes())
  content[place] ^= 1
  saved.write_bytes(content)
  assert message_of(pretrained.load_pretrained, saved) == (
    f'{saved} is damaged: its SHA-256 is not the one in {saved.with_suffix(".json")}; copy both '
    'again'
  )


@pytest.mark.parametrize('kept', [0, 4, 100, -1])
def test_truncated_file(saved, kept):
  saved.write_bytes(saved.read_bytes()[:kept])
  assert 'weights.safetensors is damaged' in message_of(pretrained.load_pretrained, saved)
  saved.with_suffix('.json').unlink()
  message = message_of(pretrained.load_pretrained, saved)
  assert message.startswith(f'cannot read {saved} as safetensors: ')


@pytest.mark.parametrize('start', [b'\x80\x02}q\x00.', b'PK\x03\x04\x00\x00\x08\x08'])
def test_a_pytorch_checkpoint(alone, start):
  alone.write_bytes(start * 100)
  alone.with_suffix('.json').write_text('{"lr": 0.1}')  # of the training, not a card
  assert message_of(pretrained.load_pretrained, alone) == (
    f'{alone} is a PyTorch checkpoint; convert it first: gfn-import {alone} '
    f'{alone.parent}/{alone.stem}_imported.safetensors --model NAME'
  )


def test_another_kind_of_file(alone):
  alone.write_bytes(b'\x80' + bytes(7) + b'{' + bytes(200))  # the length of a header
  assert f'cannot read {alone} as safetensors: ' in message_of(pretrained.load_pretrained, alone)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (b'{"model": ', 'weights.json: Expecting value'),
    (b'\xff', 'cannot read '),
    (b'[' * 100_000, 'cannot read '),
    (b'["model", "sha256"]', 'weights.json: not a model card, model or sha256 is missing'),
    (b'{"model": {}}', 'weights.json: not a model card, model or sha256 is missing'),
    (b'{"model": {}, "sha256": 3}', 'is damaged: its SHA-256'),
  ],
)
def test_an_unreadable_card(saved, text, message):
  saved.with_suffix('.json').write_bytes(text)
  assert message in message_of(pretrained.load_pretrained, saved)


def test_a_card_of_another_network(saved):
  change_card(saved, model=small.MODEL | {'gate_recursions': 3})
  assert message_of(pretrained.load_pretrained, saved) == (
    f'{saved} and {saved.with_suffix(".json")} name different networks; copy both again'
  )


@pytest.mark.parametrize('value', [np.inf, np.nan])
def test_values_that_are_not_finite(alone, value):
  resave(alone, **{'gate.conv2.bias': np.float32([0, value, *[0] * 6])})
  message = message_of(pretrained.load_pretrained, alone)
  assert message == f'{alone} does not fit GFN: 1 not finite (gate.conv2.bias)'


def test_tensors_of_another_type(alone):
  resave(alone, **{'gate.conv2.bias': np.zeros(8, np.float16)})
  assert message_of(pretrained.load_pretrained, alone) == (
    f'cannot read {alone}: tensors of type F16, F32; all must have the same type, one of F32, '
    'BF16, F16'
  )
  fields = {'dtype': 'F8_E4M3', 'shape': [2], 'data_offsets': [0, 2]}
  header = json.dumps({'__metadata__': {'model': '{}'}, 'a': fields}).encode()
  alone.write_bytes(struct.pack('<Q', len(header)) + header + b'\0\0')
  assert 'tensors of type F8_E4M3; all must' in message_of(pretrained.load_pretrained, alone)
  alone.write_bytes(safetensors.numpy.save({'w': np.ones(2, np.float32), 'n': np.ones(1, int)}))
  assert f'gfn-import {alone}' in message_of(pretrained.load_pretrained, alone)  # another library's


# Headers.


@pytest.mark.parametrize(
  'metadata',
  [
    {},
    {'format': 'pt'},
    {'model': 'gfn'},
    {'model': '3'},
    {'model': '["gfn"]'},
    {'model': '{"features": 4}'},
    {'model': '{"name": ["gfn"]}'},
    {'model': '[' * 100_000},
    {'model': '{"name": "gfn", "features": ' + '9' * 10_000 + '}'},
  ],
)
def test_header_without_a_network(alone, metadata):
  resave(alone, metadata)
  message = message_of(pretrained.load_pretrained, alone)
  assert message == (
    f'{alone} is a safetensors file whose header does not name a model of gfn_jax; convert it '
    f'first: gfn-import {alone} {alone.parent}/{alone.stem}_imported.safetensors --model NAME'
  )


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'name': 'ikc'}, "unknown model 'ikc'; choose from bicubic, bmdsrnet, cascade, "),
    ({'depth': 3}, "model 'gfn' has no option 'depth'; choose from deblur_blocks, "),
    ({'features': 0}, "model 'gfn': features must be at least 1, not 0"),
    ({'features': '64'}, "model 'gfn': "),
    ({'dtype': 'none'}, "invalid options of 'gfn': data type 'none' not understood"),
    ({'precision': 'none'}, "invalid options of 'gfn': Precision argument must be one of"),
    ({'size_mode': 'crop'}, "model 'gfn': unknown size_mode 'crop'; choose from "),
  ],
)
def test_unknown_network(alone, change, message):
  resave(alone, {'model': json.dumps(small.MODEL | change)})
  assert f'{alone}: {message}' in message_of(pretrained.load_pretrained, alone)


@pytest.mark.parametrize('option', ['features', 'sr_blocks', 'gate_recursions'])
def test_a_header_cannot_claim_a_huge_network(alone, option):
  resave(alone, {'model': json.dumps(small.MODEL | {option: 10**9})})
  message = message_of(pretrained.load_pretrained, alone)
  assert message == f'{alone}: option values must be at most 1024, not 1000000000'


def test_tensors_of_another_network(alone):
  resave(
    alone,
    **{
      'gate.conv2.kernel': None,
      'gate.conv2.bias': None,
      'gate.conv3.bias': np.zeros(8, np.float32),
      'sr_feature.conv1.bias': np.zeros((1, 8), np.float32),
    },
  )
  assert message_of(pretrained.load_pretrained, alone) == (
    f'{alone} does not fit GFN: 2 missing (gate.conv2.bias, gate.conv2.kernel); '
    '1 unexpected (gate.conv3.bias); '
    '1 of the wrong shape (sr_feature.conv1.bias [1, 8], expected [8])'
  )


def test_long_lists_of_tensors_are_cut_short(alone):
  resave(alone, {'model': json.dumps(small.MODEL | {'deblur_blocks': 2})})
  assert message_of(pretrained.load_pretrained, alone) == (
    f'{alone} does not fit GFN: 12 missing (deblur.resblock1_1.conv1.bias, '
    'deblur.resblock1_1.conv1.kernel, deblur.resblock1_1.conv2.bias, ...)'
  )


def test_a_file_without_tensors(alone):
  safetensors.numpy.save_file({}, alone, {'model': json.dumps(small.MODEL)})
  assert 'does not fit GFN: 52 missing' in message_of(pretrained.load_pretrained, alone)


# Converting.


def test_convert_keeps_the_card_but_for_the_changes(saved, params, tmp_path):
  path = tmp_path / 'gfn.safetensors'
  data = CARD['data'] | {'licence': 'CC BY 4.0'}
  pretrained.convert_weights(saved, path, 'bfloat16', {'data': data})
  card = json.loads(path.with_suffix('.json').read_text())
  model, loaded = pretrained.load_pretrained(path)
  loaded = loaded['params']
  facts = {'dtype': 'bfloat16', 'sha256': files.file_sha256(path), 'data': data}
  facts['reference'] = pretrained.reference_output(model, {'params': loaded})
  assert card == json.loads(saved.with_suffix('.json').read_text()) | facts
  assert_tree_equal(loaded, jax.tree.map(lambda x: np.float32(x.astype(jnp.bfloat16)), params))


def test_convert_needs_a_card(alone, tmp_path):
  path = tmp_path / 'gfn.safetensors'
  message = message_of(pretrained.convert_weights, alone, path, 'bfloat16')
  assert message == f'{alone} has no model card: no file {alone.with_suffix(".json")}'


# Initialising.


def init_from(path, params, exceptions=(), **changes):
  model = create_model(**small.MODEL | changes)
  return pretrained.init_variables_from(path, model, {'params': params}, exceptions)['params']


def test_init_takes_all_tensors_whatever_the_other_options(params, released):
  start = random_params(small.MODEL, seed=1)
  taken = init_from('gfn', start, gate_recursions=3, size_mode='resize')
  expected = jax.tree.map(lambda x: jnp.float32(x.astype(jnp.bfloat16)), params)
  assert_tree_equal(taken, expected)


def test_init_of_a_gated_network_from_an_ungated_one(params, tmp_path):
  ungated = small.MODEL | {'gated': False}
  path = tmp_path / 'weights.safetensors'
  trained = {key: value for key, value in params.items() if key != 'gate'}
  pretrained.save_weights(path, {'params': trained}, ungated, {})
  start = random_params(small.MODEL, seed=1)
  assert message_of(init_from, path, start) == (
    f'{path} does not fit GFN: 4 missing (gate.conv1.bias, gate.conv1.kernel, gate.conv2.bias, ...)'
  )
  taken = init_from(path, start, ['gate'])
  assert_tree_equal(taken, jax.tree.map(jnp.asarray, trained | {'gate': start['gate']}))


def test_init_leaves_out_exceptions_of_another_shape_and_takes_those_that_fit(params, alone):
  resave(
    alone,
    **{
      'reconstruction.conv4.bias': np.ones(5, np.float32),
      'reconstruction.conv4.gain': np.ones(5, np.float32),
    },
  )
  start = random_params(small.MODEL, seed=1)
  assert message_of(init_from, alone, start, ['gate']) == (
    f'{alone} does not fit GFN: 1 unexpected (reconstruction.conv4.gain); '
    '1 of the wrong shape (reconstruction.conv4.bias [5], expected [3])'
  )
  taken = init_from(alone, start, ('gate', 'reconstruction.conv4'))
  expected = traverse_util.flatten_dict(params, sep='.')
  expected['reconstruction.conv4.bias'] = start['reconstruction']['conv4']['bias']
  expected = traverse_util.unflatten_dict(expected, sep='.')
  assert_tree_equal(taken, jax.tree.map(jnp.asarray, expected))


@pytest.mark.parametrize('prefix', ['gat', 'conv4', 'reconstruction.conv', 'gate.', ''])
def test_exceptions_are_whole_names(params, saved, prefix):
  message = message_of(init_from, saved, params, ['gate', prefix])
  assert message == f'neither GFN nor {saved} has a module or parameter {prefix!r}'


def test_init_verifies_the_file(params, saved):
  change_card(saved, sha256='0')
  assert 'is damaged' in message_of(init_from, saved, params)
