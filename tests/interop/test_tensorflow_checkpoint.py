"""Checkpoints that TensorFlow 1's Saver writes, read and imported."""

import json
import os
import pathlib
import sys

import jax
import numpy as np
import pytest
import tensorflow as tf

from gfn_jax.cli import export as cli_export
from gfn_jax.cli import import_torch
from gfn_jax.errors import UserError
from gfn_jax.interop import convert, load_tensorflow_checkpoint, to_torch
from gfn_jax.interop.tensorflow_checkpoint import tensorflow_prefix
from gfn_jax.models import create_model, variable_shapes
from gfn_jax.system.files import file_sha256
from gfn_jax.weights.pretrained import load_pretrained

NAME = 'deblur.model-523000'
FILES = [f'{NAME}.data-00000-of-00001', f'{NAME}.index', f'{NAME}.meta']
OPTIONS = {'features': 4, 'blocks': 2, 'lstm': True, 'gray': True}


@pytest.fixture(scope='module')
def params():
  """Parameters of a narrow SRN."""
  rng = np.random.default_rng(0)
  shapes = variable_shapes(create_model('srn', **OPTIONS))['params']
  return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)


@pytest.fixture(scope='module')
def checkpoint(params, tmp_path_factory):
  """The bytes of the files that training with Adam leaves, by name."""
  folder = tmp_path_factory.mktemp('checkpoint')
  v1 = tf.compat.v1
  with tf.Graph().as_default(), v1.Session() as session:
    loss = 0.0
    for key, tensor in to_torch('srn', {'params': params}, **OPTIONS).items():
      array = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor
      name = f'{key.replace(".", "/").removesuffix("/weight").removesuffix("/bias")}/' + (
        'weights' if tensor.ndim == 4 else 'biases'
      )
      variable = v1.get_variable(name, initializer=array)
      loss += tf.reduce_sum(variable**2)
    step = v1.train.get_or_create_global_step()
    train = v1.train.AdamOptimizer(0.0).minimize(loss, step)
    session.run(v1.global_variables_initializer())
    session.run(train)
    v1.train.Saver().save(session, str(folder / 'deblur.model'), global_step=523000)
  return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def folder(checkpoint, tmp_path, monkeypatch):
  """The current folder, with the checkpoint."""
  monkeypatch.chdir(tmp_path)
  for name, content in checkpoint.items():
    pathlib.Path(name).write_bytes(content)
  return tmp_path


@pytest.mark.parametrize('path', [NAME, *FILES, pathlib.Path(NAME)])
def test_a_checkpoint_of_the_saver(path, folder, params):
  state = load_tensorflow_checkpoint(path)
  expected = to_torch('srn', {'params': params}, **OPTIONS)
  assert state.keys() == expected.keys()  # without the state of Adam and the number of steps
  for key, array in expected.items():
    np.testing.assert_array_equal(state[key], array, strict=True)
    assert state[key].flags.c_contiguous
  jax.tree.map(np.testing.assert_array_equal, convert('srn', state)['params'], params)


def test_the_layouts(folder):
  """TensorFlow's kernels are [h, w, in, out], those of transposed convolutions [h, w, out, in]."""
  state = load_tensorflow_checkpoint(NAME)
  reader = tf.train.load_checkpoint(NAME)
  for name, wanted in (('enc1_2/conv1', (4, 4, 5, 5)), ('dec2_4', (16, 8, 4, 4))):
    array = reader.get_tensor(f'g_net/{name}/weights')
    tensor = state[f'g_net.{name.replace("/", ".")}.weight']
    assert tensor.shape == wanted
    assert tensor[3, 2, 0, 1] == array[0, 1, 2, 3]


def test_a_path_shows_what_it_belongs_to(folder):
  assert {tensorflow_prefix(path) for path in (NAME, *FILES)} == {NAME}
  assert tensorflow_prefix('none.index') == 'none'
  pathlib.Path('theirs.pth').touch()
  for path in ('theirs.pth', 'none.pth', 'none', '.', 'theirs.data'):
    assert tensorflow_prefix(path) is None, path


@pytest.mark.parametrize('source', [NAME, FILES[0]])
def test_the_command(source, folder, params, capsys):
  import_torch.main([source, 'srn.safetensors', '--model=srn'])
  assert capsys.readouterr().out == (
    'wrote srn.safetensors: 92,821 parameters of srn (features=4, blocks=2, lstm=True, gray=True)\n'
  )
  model, variables = load_pretrained('srn.safetensors')
  assert model == create_model('srn', **OPTIONS)
  jax.tree.map(np.testing.assert_array_equal, variables['params'], params)
  card = json.loads(pathlib.Path('srn.json').read_text())
  index = f'{NAME}.index'
  assert card['imported_from'] == {'file': index, 'sha256': file_sha256(index)}
  cli_export.main(['srn.safetensors', 'srn.pth'])
  out = capsys.readouterr().out
  assert out.startswith("62 tensors under gfn_jax's own names, identical when read back\n")


def cut(name, size):
  pathlib.Path(name).write_bytes(pathlib.Path(name).read_bytes()[:size])


def flip(name, place):
  content = bytearray(pathlib.Path(name).read_bytes())
  content[place] ^= 255
  pathlib.Path(name).write_bytes(content)


DATA, INDEX, _ = FILES
UNREADABLE = f'cannot read {NAME} as a TensorFlow checkpoint: '


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda: os.remove(INDEX), f'{INDEX} does not exist'),
    (lambda: os.remove(DATA), f'{UNREADABLE}{NAME}.data-* does not exist'),
    (lambda: cut(DATA, 1000), f'{UNREADABLE}truncated data (expected 371,284 bytes, found 1,000)'),
    (lambda: cut(DATA, -80_000), UNREADABLE),
    (lambda: flip(DATA, 2000), UNREADABLE),
    (lambda: cut(INDEX, 0), UNREADABLE),
    (lambda: cut(INDEX, -9), UNREADABLE),
    (lambda: flip(INDEX, 30), UNREADABLE),
    (lambda: pathlib.Path(INDEX).write_text('hello\n' * 99), UNREADABLE),
  ],
)
def test_damaged_checkpoints(damage, message, folder):
  damage()
  with pytest.raises(UserError) as error:
    load_tensorflow_checkpoint(f'{NAME}.index')
  assert str(error.value).startswith(message)
  assert len(str(error.value)) > len(UNREADABLE) or message != UNREADABLE
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['none.index', '--model=srn'], 'none.index does not exist'),
    ([NAME, '--model=srn', '--key=G'], f'{NAME}: a TensorFlow checkpoint has no entry G'),
    ([NAME, '--model=srn', '--option=blocks=3'], f'{NAME}: these are not weights for srn'),
    ([NAME, '--model=gfn'], f'{NAME}: these are not weights for gfn: missing convolution deblur'),
  ],
)
def test_mistakes(arguments, message, folder):
  with pytest.raises(UserError, match=f'^{message}'):
    import_torch.main([arguments[0], 'out.safetensors', *arguments[1:]])
  assert sorted(os.listdir()) == sorted(FILES)


def test_without_tensorflow(folder, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow', None)
  with pytest.raises(
    UserError, match=r"^TensorFlow checkpoints need .*pip install 'gfn_jax\[train"
  ):
    load_tensorflow_checkpoint(NAME)
