"""Weights of strangers: folders in the layout of model hubs, and downloads of them."""

import dataclasses
import json
import os
import struct
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import gfn_jax
from gfn_jax.errors import UserError
from gfn_jax.models import create_model, variable_shapes
from gfn_jax.restoration.dtypes import keeps_result
from gfn_jax.system.files import file_sha256
from gfn_jax.weights import hub, model_options, pretrained
from tests import small
from tests.ports import free_port
from tests.weights import hub_server

CARD = {'data': {'licence': 'CC BY 4.0'}, 'bfloat16': {'hr': -0.002}}


@pytest.fixture(scope='module')
def variables():
  rng = np.random.default_rng(0)
  shapes = variable_shapes(create_model(**small.MODEL))
  return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype), shapes)


@pytest.fixture
def folder(variables, tmp_path):
  """A folder in the layout of hubs."""
  folder = tmp_path / 'stranger'
  folder.mkdir()
  pretrained.save_weights(folder / 'model.safetensors', variables, small.MODEL, CARD)
  (folder / 'model.json').rename(folder / 'config.json')
  (folder / 'README.md').write_text('Weights.')
  return folder


def message_of(function, *args):
  with pytest.raises(UserError) as error:
    function(*args)
  assert '\n' not in str(error.value)
  return str(error.value)


def edit_card(folder, **changes):
  path = folder / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_header(path, model_config, shape=(2,), size=8):
  """Write a safetensors file with one tensor of zeros, which takes no space on disk."""
  fields = {'dtype': 'F32', 'shape': shape, 'data_offsets': [0, size]}
  text = model_config if isinstance(model_config, str) else json.dumps(model_config)
  header = json.dumps({'__metadata__': {'model': text}, 'a': fields}).encode()
  path.write_bytes(struct.pack('<Q', len(header)) + header)
  os.truncate(path, 8 + len(header) + size)


# Folders.


def test_a_folder_loads_with_its_card(folder, variables):
  model, loaded = gfn_jax.load_pretrained(folder)
  assert model == create_model(**small.MODEL)
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  path = folder / 'model.safetensors'
  assert pretrained.weights_path(folder) == str(path)
  for weights in (folder, path):
    assert pretrained.load_card(weights)['data'] == CARD['data']
    assert pretrained.load_card(weights)['sha256'] == file_sha256(path)
  assert keeps_result(folder)
  edit_card(folder, bfloat16={'hr': -0.02})
  assert not keeps_result(folder)


def test_a_folder_initialises_a_network(folder, variables):
  start = jax.tree.map(np.zeros_like, variables)
  taken = pretrained.init_variables_from(folder, create_model(**small.MODEL), start)
  equal = jax.tree.map(np.array_equal, taken, variables)
  assert jax.tree.all(equal)
  assert not jax.tree.all(jax.tree.map(np.array_equal, start, variables))


def test_the_weights_of_a_run_come_first(folder, variables):
  other = jax.tree.map(lambda leaf: leaf + 1, variables)
  pretrained.save_weights(folder / 'weights.safetensors', other, small.MODEL, {})
  assert pretrained.weights_path(folder) == str(folder / 'weights.safetensors')


def test_a_card_of_the_files_own_name_comes_first(folder):
  card = json.loads((folder / 'config.json').read_text())
  (folder / 'model.json').write_text(json.dumps(card | {'step': 3}))
  assert pretrained.load_card(folder)['step'] == 3


def test_new_weights_do_not_replace_a_config_of_another_program(folder, variables):
  before = (folder / 'config.json').read_bytes()
  pretrained.save_weights(folder / 'model.safetensors', variables, small.MODEL, {'step': 4})
  assert (folder / 'config.json').read_bytes() == before
  assert pretrained.load_card(folder)['step'] == 4


def test_missing_files(folder, variables):
  (folder / 'config.json').unlink()
  jax.tree.map(np.testing.assert_array_equal, gfn_jax.load_pretrained(folder)[1], variables)
  assert not keeps_result(folder)
  (folder / 'model.safetensors').unlink()
  assert f'no weights in the folder {folder}: neither ' in message_of(
    gfn_jax.load_pretrained, folder
  )


def test_a_changed_file(folder):
  content = bytearray((folder / 'model.safetensors').read_bytes())
  content[-1] ^= 1
  (folder / 'model.safetensors').write_bytes(content)
  assert message_of(gfn_jax.load_pretrained, folder) == (
    f'{folder}/model.safetensors is damaged: its SHA-256 is not the one in {folder}/config.json; '
    'copy both again'
  )


def test_a_folder_of_another_library(folder):
  write_header(folder / 'model.safetensors', 'transformer')
  (folder / 'config.json').write_text('{"model_type": "bert"}')
  message = message_of(gfn_jax.load_pretrained, folder)
  assert 'is a safetensors file whose header does not name a model of gfn_jax' in message
  assert f'gfn-import {folder}/model.safetensors' in message


# Hostile folders.


@pytest.mark.parametrize(
  ('text', 'reason'),
  [
    ('{"model": ', 'Expecting value'),
    ('[' * 100_000, 'maximum recursion depth'),
    ('{"model": {}, "sha256": ' + '9' * 10_000 + '}', 'Exceeds the limit'),
    (' ' * 2**22 + '{}', 'larger than 4,194,304 bytes, so not a model card'),
    ('{"model": {}, "sha256": "", "format_version": [2]}', 'unsupported format [2] (expected 1)'),
  ],
)
def test_hostile_cards(folder, text, reason):
  (folder / 'config.json').write_text(text)
  message = message_of(gfn_jax.load_pretrained, folder)
  assert message.startswith(f'cannot read {folder}/config.json: {reason}')


@pytest.mark.parametrize('value', [3, 'fast', [1], {}, {'hr': 'none'}, {'hr': None}, {'hr': [0]}])
def test_a_card_with_figures_of_another_type_is_not_trusted(folder, value):
  edit_card(folder, bfloat16=value)
  gfn_jax.load_pretrained(folder)
  assert not keeps_result(folder)


def test_pipes_and_links_that_lead_nowhere(folder):
  (folder / 'config.json').unlink()
  os.mkfifo(folder / 'config.json')  # reading it would wait for ever
  assert message_of(gfn_jax.load_pretrained, folder) == (
    f'cannot read {folder}/config.json: not a file'
  )
  (folder / 'config.json').unlink()
  (folder / 'config.json').symlink_to('/dev/zero')
  assert 'config.json: not a file' in message_of(gfn_jax.load_pretrained, folder)
  (folder / 'model.safetensors').unlink()
  (folder / 'model.safetensors').symlink_to('model.safetensors')
  assert 'no weights in the folder' in message_of(gfn_jax.load_pretrained, folder)
  (folder / 'model.safetensors').unlink()
  os.mkfifo(folder / 'model.safetensors')
  assert 'no weights in the folder' in message_of(gfn_jax.load_pretrained, folder)


def test_links_to_files_are_followed(folder, variables):
  # The cache of huggingface_hub has links to files that are named by their hash.
  for name in ('config.json', 'model.safetensors'):
    (folder / name).rename(folder.parent / f'blob_{name}')
    (folder / name).symlink_to(f'../blob_{name}')
  jax.tree.map(np.testing.assert_array_equal, gfn_jax.load_pretrained(folder)[1], variables)
  assert pretrained.load_card(folder)['data'] == CARD['data']


def test_sizes_beyond_the_file(folder):
  (folder / 'config.json').unlink()
  path = folder / 'model.safetensors'
  write_header(path, small.MODEL, [2**40], 2**42)
  os.truncate(path, 1000)
  assert message_of(gfn_jax.load_pretrained, folder).startswith(
    f'cannot read {path} as safetensors: '
  )
  write_header(path, small.MODEL, [2**40], 8)
  assert 'as safetensors' in message_of(gfn_jax.load_pretrained, folder)


def test_tensors_that_do_not_fit_are_not_read(folder, variables, monkeypatch):
  original = pretrained._open_tensors

  def without_reading(*args):
    return dataclasses.replace(original(*args), read=pytest.fail)

  monkeypatch.setattr(pretrained, '_open_tensors', without_reading)
  (folder / 'config.json').unlink()
  write_header(folder / 'model.safetensors', small.MODEL, [2**34], 2**36)  # 64 GiB
  assert '1 unexpected (a)' in message_of(gfn_jax.load_pretrained, folder)
  model = create_model(**small.MODEL)
  message = message_of(pretrained.init_variables_from, folder, model, variables)
  assert '1 unexpected (a)' in message
  assert pretrained.load_model_config(folder) == small.MODEL


@pytest.mark.parametrize(
  ('change', 'reason'),
  [
    ({'name': ['gfn']}, 'is a safetensors file whose header does not name a model'),
    ({'temperature': 1}, "model 'gfn' has no option 'temperature'"),
    ({'features': 10**9}, 'option values must be at most 1024'),
    ({'features': {'name': 'gfn'}}, "model 'gfn': "),
    ({'deblur_module': {'name': 'gfn'}}, "model 'gfn': "),  # whose repr has several lines
    ({'upsampler': [[1] * 10] * 100}, "model 'gfn': "),
    ({'padding': ' ' * 2**16}, 'is a safetensors file whose header does not name a model'),
  ],
)
def test_hostile_options(folder, change, reason):
  (folder / 'config.json').unlink()
  write_header(folder / 'model.safetensors', small.MODEL | change)
  message = message_of(gfn_jax.load_pretrained, folder)
  assert message.startswith(f'{folder}/model.safetensors')
  assert reason in message
  assert len(message) < 900


def test_options_that_repeat_layers_without_end(folder, monkeypatch):
  (folder / 'config.json').unlink()
  monkeypatch.setattr(model_options, 'MAX_CALLS', 60)
  gfn_jax.load_pretrained(folder)  # 56 calls
  write_header(folder / 'model.safetensors', small.MODEL | {'gate_recursions': 1000})
  assert message_of(gfn_jax.load_pretrained, folder) == (
    f"{folder}/model.safetensors: the options of 'gfn' make a network of more than 60 layers"
  )


# Downloads.


@pytest.fixture
def server(folder, tmp_path, monkeypatch):
  constants = pytest.importorskip('huggingface_hub.constants')
  hub.fetch.cache_clear()
  with hub_server.serving(folder) as server:
    # As the environment variables do in a new process: HF_ENDPOINT and HF_HUB_CACHE.
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)
    monkeypatch.setattr(constants, 'ENDPOINT', server.url)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    yield server
  hub.fetch.cache_clear()


@pytest.mark.parametrize('address', ['hf://OWNER/NAME', 'hf://OWNER/NAME@v1'])
def test_download(server, variables, address):
  _, loaded = gfn_jax.load_pretrained(address)
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  assert pretrained.load_card(address)['data'] == CARD['data']
  assert keeps_result(address)
  revision = address.partition('@')[2] or 'main'
  asked = [path for path in server.requests if path.startswith('/api/models/OWNER/NAME/revision/')]
  assert asked == [f'/api/models/OWNER/NAME/revision/{revision}']  # once in a process
  names = {path.rpartition('/')[2] for path in server.requests if '/resolve/' in path}
  assert names == {'config.json', 'model.safetensors'}  # and no README.md
  assert f'/snapshots/{hub_server.COMMIT}/' in pretrained.weights_path(address)


def test_without_a_network_the_last_download_is_used(server, variables, monkeypatch):
  gfn_jax.load_pretrained('hf://OWNER/NAME')
  hub.fetch.cache_clear()
  monkeypatch.setattr('huggingface_hub.constants.ENDPOINT', f'http://127.0.0.1:{free_port()}')
  _, loaded = gfn_jax.load_pretrained('hf://OWNER/NAME')
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  assert message_of(gfn_jax.load_pretrained, 'hf://OWNER/NAME@v1') == (
    'cannot download hf://OWNER/NAME@v1: the hub cannot be reached, and the cache has no copy; '
    'check the network, or pass a folder'
  )


@pytest.mark.parametrize(
  ('address', 'reason'),
  [
    ('hf://OWNER/OTHER', 'no such repository, or it is private: hf auth login'),
    ('hf://OWNER/NAME@v2', 'the repository has no revision v2'),
    ('hf://OWNER/NA--ME', 'Cannot have -- or .. in repo_id'),
  ],
)
def test_downloads_that_fail(server, address, reason):
  assert message_of(gfn_jax.load_pretrained, address).startswith(
    f'cannot download {address}: {reason}'
  )


def test_a_repository_without_weights(server):
  del server.files['model.safetensors']
  assert message_of(gfn_jax.load_pretrained, 'hf://OWNER/NAME') == (
    'hf://OWNER/NAME has no model.safetensors; pass a repository of weights of gfn_jax'
  )


@pytest.mark.parametrize('address', ['hf://gfn', 'hf://a/b/c', 'hf://a/b@', 'hf://a/b c', 'hf://'])
def test_malformed_addresses(address):
  assert message_of(gfn_jax.load_pretrained, address) == (
    f'{address}: malformed address; pass hf://OWNER/NAME or hf://OWNER/NAME@REVISION'
  )


def test_without_huggingface_hub(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  message = message_of(gfn_jax.load_pretrained, 'hf://OWNER/NAME')
  assert message.startswith('cannot import huggingface_hub (')
  assert 'which hf://OWNER/NAME needs; pip install ' in message
  assert 'gfn_jax[hub]' in message


@pytest.mark.full
def test_the_commands_take_an_address(folder, tmp_path):
  pytest.importorskip('huggingface_hub')
  (tmp_path / 'photos').mkdir()
  Image.new('RGB', (16, 16), 'teal').save(tmp_path / 'photos' / 'a.png')
  commands = [
    ['restore', 'photos/a.png', 'b.png', '--weights', 'hf://OWNER/NAME@v1'],
    ['restore', 'photos/a.png', 'c.png', '--weights', str(folder)],
    ['evaluate', '--input_dir=photos', '--output_dir=o', '--weights=hf://OWNER/NAME@v1'],
    ['export', 'hf://OWNER/NAME@v1', 'again', '--format=hub'],
  ]
  with hub_server.serving(folder) as server:
    environment = os.environ | {
      'HF_ENDPOINT': server.url,
      'HF_HOME': str(tmp_path / 'home'),
      'PYTHONPATH': os.getcwd(),
    }
    for name, *arguments in commands:
      command = [sys.executable, '-m', f'gfn_jax.cli.{name}', *arguments]
      subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
  results = [np.asarray(Image.open(tmp_path / name)) for name in ('b.png', 'c.png', 'o/a.png')]
  np.testing.assert_array_equal(results[0], results[1])
  np.testing.assert_array_equal(results[0], results[2])
  for name in ('model.safetensors', 'config.json'):
    assert (tmp_path / 'again' / name).read_bytes() == (folder / name).read_bytes()
