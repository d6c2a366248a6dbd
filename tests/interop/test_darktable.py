"""Packages for darktable; `make test-onnx` restores photographs with them as darktable does."""

import os

import numpy as np
import pytest
import scipy.ndimage
import skimage.data

import gfn_jax
from benchmarks.darktable_tiles import load_network, read_package, restore_in_tiles
from gfn_jax.cli import export as cli_export
from gfn_jax.errors import UserError
from gfn_jax.interop import darktable, export
from tests import small
from tests.interop.test_export import CARD, save


def test_the_name_of_the_file_is_the_id():
  assert darktable.package_id('folder/upscale-gfn.dtmodel') == 'upscale-gfn'
  assert darktable.package_id('Mine_2.DTMODEL') == 'Mine_2'


@pytest.mark.parametrize('name', ['my model', 'a..b', '.hidden', '-x', 'gfn.v2', 'ü'])
def test_names_that_are_no_folder_of_darktable(name, tmp_path):
  path = tmp_path / f'{name}.dtmodel'
  with pytest.raises(UserError, match='the id of the model from this name; use letters, digits'):
    export.export_weights('gfn', path)
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
  ('model_config', 'output', 'message'),
  [
    ({'name': 'mprnet', **small.MPRNET}, 'hr', 'MPRNet has no output hr: choose lr'),
    ({'name': 'edsr', **small.EDSR, 'scale': 3}, 'hr', 'EDSR enlarges 3x; darktable has only 2x'),
    ({**small.MODEL, 'size_mode': 'resize'}, None, 'GFN uses the whole image, but darktable rest'),
  ],
)
def test_networks_that_darktable_cannot_use(model_config, output, message, tmp_path):
  weights, _, _ = save(tmp_path, model_config)
  with pytest.raises(UserError, match=f'^{message}'):
    export.export_weights(weights, tmp_path / 'x.dtmodel', output=output)
  assert sorted(os.listdir(tmp_path)) == ['weights.json', 'weights.safetensors']


def set_tile(tile, monkeypatch):
  tasks = {name: task._replace(tile=tile) for name, task in darktable.TASKS.items()}
  monkeypatch.setattr(darktable, 'TASKS', tasks)
  monkeypatch.setattr(export, 'TASKS', tasks)


@pytest.mark.parametrize('output', ['hr', 'lr'])
def test_package(output, jax2onnx, tmp_path, monkeypatch):
  onnxruntime = pytest.importorskip('onnxruntime')
  set_tile(192, monkeypatch)
  card = {'data': CARD['data'] | {'train_photos': 1505, 'real_pairs': {'gopro': {}, 'reds': {}}}}
  weights, _, _ = save(tmp_path, small.MODEL, card)
  path = tmp_path / 'my-gfn.dtmodel'
  cli_export.main([str(weights), str(path), f'--output={output}'])

  name, config, files = read_package(path)
  card = config.pop('model_card')
  file, task = {'hr': ('model_x4.onnx', 'upscale'), 'lr': ('model.onnx', 'denoise')}[output]
  assert list(files) == ['config.json', file, 'LICENSE']
  assert name == config['id'] == 'my-gfn'
  assert config['task'] == task
  assert config['name'] == 'my gfn'
  assert config['backend'] == 'onnx'
  assert config['version'].count('.') == 1
  assert config['attributes'] == {'input_sizes': [192]}
  assert card['license'] == 'for tests only'
  assert files['LICENSE'] == b'for tests only\n'
  assert card['training_data'] == '1,505 photographs, real pairs of gopro, real pairs of reds'
  session = onnxruntime.InferenceSession(files[file], providers=['CPUExecutionProvider'])
  [source], [result] = session.get_inputs(), session.get_outputs()
  side = {'hr': 768, 'lr': 192}[output]
  assert (source.name, source.shape) == ('input', [1, 3, 192, 192])
  assert (result.name, result.shape) == ('output', [1, 3, side, side])


PHOTO = skimage.data.coffee()[100:200, 100:400].astype(np.float32) / 255


def released_package(output, path, monkeypatch):
  """Return a function for the tiles of a package with the released weights, smaller than usual."""
  set_tile(256, monkeypatch)
  export.export_weights('gfn', path, output=output)
  _, config, files = read_package(path)
  assert config['attributes']['input_sizes'] == [256]
  [content] = (content for name, content in files.items() if name.endswith('.onnx'))
  return load_network(content)


def test_a_deblurred_photograph_is_that_of_the_whole_image(jax2onnx, tmp_path, monkeypatch):
  restore = released_package('lr', tmp_path / 'x.dtmodel', monkeypatch)
  blurred = scipy.ndimage.uniform_filter1d(PHOTO, 5, axis=1)  # released networks keep sharp ones
  got = restore_in_tiles(restore, blurred, 256, 1)  # three tiles
  restorer = gfn_jax.Restorer.from_pretrained('gfn', output='lr', tile=None)
  mirrored = np.pad(blurred, ((64, 64), (64, 64), (0, 0)), mode='reflect')
  expected = restorer(mirrored)[64:-64, 64:-64]
  assert np.abs(expected - blurred).max() > 20 / 255
  assert np.abs(got - expected).max() < 1 / 255


def test_an_enlarged_photograph_is_ours_in_the_same_tiles(jax2onnx, tmp_path, monkeypatch):
  restore = released_package('hr', tmp_path / 'x.dtmodel', monkeypatch)
  got = restore_in_tiles(restore, PHOTO, 256, 4)  # two tiles
  restorer = gfn_jax.Restorer.from_pretrained('gfn', tile=None)
  assert np.abs(got - restore_in_tiles(restorer, PHOTO, 256, 4)).max() < 1 / 255
  # 16 pixels around a cut are too few for the result of the whole image. Tiles end far beyond it.
  mirrored = np.pad(PHOTO, ((16, 80), (16, 80), (0, 0)), mode='reflect')
  difference = np.abs(got - restorer(mirrored)[64:464, 64:1264]).max(-1)
  far = np.abs(np.arange(1200) - 4 * 224) > 4 * 48
  assert difference[:, far].max() < 1 / 255
  assert 1 / 255 < difference.max() < 16 / 255
