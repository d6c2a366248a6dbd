import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import gfn_jax
from gfn_jax.cli import import_torch
from gfn_jax.errors import UserError
from gfn_jax.interop import (
  convert,
  load_torch_checkpoint,
  save_torch_checkpoint,
  to_torch,
)
from gfn_jax.interop.import_torch import HIDDEN_OPTIONS
from gfn_jax.interop.torch_names import VERSIONS
from gfn_jax.models import create_model, variable_shapes
from gfn_jax.system.files import file_sha256
from gfn_jax.weights.pretrained import load_pretrained
from tests import small
from tests.interop import torch_files
from tests.interop.torch_files import ORDERED_DICT, Call, Ref, legacy, tensor

ROOT = pathlib.Path(__file__).parents[2]
OPTIONS = {key: value for key, value in small.MODEL.items() if key != 'name'}


@pytest.fixture(scope='module')
def state():
  """The authors' tensors of a small GFN."""
  rng = np.random.default_rng(0)
  shapes = variable_shapes(create_model('gfn', **OPTIONS))['params']
  params = jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape), shapes)
  return to_torch('gfn', {'params': params}, **OPTIONS)


@pytest.fixture
def folder(state, tmp_path, monkeypatch):
  """A folder with the weights, a text and an attempt to run something."""
  monkeypatch.chdir(tmp_path)
  save_torch_checkpoint('theirs.pth', state)
  pathlib.Path('text.pth').write_text('no weights')
  evil = Call(Ref('os', 'system'), ('touch canary',))
  pathlib.Path('evil.pth').write_bytes(legacy({'state_dict': ORDERED_DICT, 'x': evil}))
  save_torch_checkpoint('nan.pth', state | {'geteMoudle.0.conv2.bias': np.full(8, np.nan, 'f4')})
  return tmp_path


def test_the_command(folder, state):
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  command = [sys.executable, '-W', 'error', '-m', 'gfn_jax.cli.import_torch']
  arguments = ['theirs.pth', 'ours.safetensors', '--model=gfn', '--option=gate_recursions=3']
  result = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment)
  assert result.returncode == 0, result.stderr
  numbers = 'features=8, deblur_blocks=1, sr_blocks=1, reconstruction_blocks=1'
  assert result.stdout == (
    f'wrote ours.safetensors: 56,534 parameters of gfn ({numbers}, gate_recursions=3)\n'
  )
  model, params = load_pretrained('ours.safetensors')
  params = params['params']
  assert model == create_model('gfn', gate_recursions=3, **OPTIONS)
  expected = convert('gfn', state)['params']
  for name, value in expected['gate']['conv1'].items():
    np.testing.assert_array_equal(params['gate']['conv1'][name], value)
  card = json.loads(pathlib.Path('ours.json').read_text())
  assert card['imported_from'] == {'file': 'theirs.pth', 'sha256': file_sha256('theirs.pth')}
  assert str(folder) not in pathlib.Path('ours.json').read_text()
  restorer = gfn_jax.Restorer.from_pretrained('ours.safetensors')
  assert restorer(np.zeros((6, 5, 3), np.uint8)).shape == (24, 20, 3)

  result = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment)
  assert result.returncode == 1
  assert result.stderr == (
    'error: ours.safetensors exists already; choose another output, or pass --overwrite\n'
  )


def test_overwriting_and_picking(folder, state):
  value = {'ours': {name: tensor(name, array) for name, array in state.items()}, 'model': 3}
  pathlib.Path('theirs.pth').write_bytes(torch_files.zipped(value, state))
  pathlib.Path('ours.safetensors').write_text('old')
  with pytest.raises(UserError, match='no weights found in entry model'):
    import_torch.main(
      ['theirs.pth', 'ours.safetensors', '--model=gfn', '--overwrite', '--key=model']
    )
  assert pathlib.Path('ours.safetensors').read_text() == 'old'
  import_torch.main(['theirs.pth', 'ours.safetensors', '--model=gfn', '--overwrite', '--key=ours'])
  assert load_pretrained('ours.safetensors')[0] == create_model('gfn', **OPTIONS)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['none.pth', 'out.safetensors'], 'none.pth does not exist'),
    (['text.pth', 'out.safetensors'], 'not a file written by torch.save'),
    (
      ['evil.pth', 'out.safetensors'],
      'cannot read evil.pth as a checkpoint: the file names os.system',
    ),
    (['nan.pth', 'out.safetensors'], 'nan.pth: these are not weights for gfn'),
    (['theirs.pth', 'out.safetensors', '--option=features=9'], 'theirs.pth: these are not weights'),
    (
      ['theirs.pth', 'out.safetensors', '--option=dtype=x'],
      "dtype=x): invalid options of 'gfn': data type",
    ),
    (
      ['theirs.pth', 'out.safetensors', '--option=dtype=a\nb'],
      r"dtype=a\nb): invalid options of 'gfn': data type",
    ),
    (['theirs.pth', 'out.safetensors', '--option=deblur_blocks=9999'], 'must be at most 1024'),
    (['theirs.pth', 'out.safetensors', '--option=state=3'], "has no option 'state'"),
    (['theirs.pth', 'out.safetensors', '--option=name=gfn'], "invalid option value: 'name=gfn'"),
    (['theirs.pth', 'out.safetensors', '--option=features'], "invalid option value: 'features'"),
    (
      ['theirs.pth', 'out.safetensors', '--key=G'],
      'no entry G; the weights are deblurMoudle.0.conv1',
    ),
    (['theirs.pth', 'out.safetensors', '--model=srresnet'], 'missing convolution conv_input'),
    (['theirs.pth', 'out.safetensors', '--model=sr_branch'], "invalid choice: 'sr_branch'"),
    (['theirs.pth', 'out.pth'], 'out.pth: the name of a weights file must end in'),
    (['theirs.pth', 'none/out.safetensors'], 'no such folder: none'),
    (['theirs.pth', 'theirs.safetensors'], 'theirs.json exists already; choose another output'),
    (['theirs.pth', 'folder.safetensors'], 'folder.safetensors is a folder; choose another'),
  ],
)
def test_mistakes(folder, arguments, message):
  pathlib.Path('folder.safetensors').mkdir()
  pathlib.Path('theirs.json').write_text('{"lr": 0.1}')
  before = sorted(path.name for path in folder.rglob('*'))
  with pytest.raises(UserError) as error:
    import_torch.main(['--model=gfn', *arguments])
  assert message in str(error.value)
  assert '\n' not in str(error.value)
  assert sorted(path.name for path in folder.rglob('*')) == before


def test_the_files_of_dmphn_in_a_folder(tmp_path, capsys):
  options = {'features': 2, 'levels': 2}
  shapes = variable_shapes(create_model('dmphn', **options))['params']
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)
  state = to_torch('dmphn', {'params': params}, **options)
  folder, hashes = tmp_path / 'theirs', {}
  folder.mkdir()
  for module in ('encoder_lv1', 'decoder_lv1', 'encoder_lv2', 'decoder_lv2'):
    path = folder / f'{module}.pkl'
    prefix = f'{module}.'
    mine = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    assert len(mine) == 30
    save_torch_checkpoint(path, mine)
    hashes[path.name] = file_sha256(path)
  target = tmp_path / 'ours.safetensors'
  import_torch.main([f'{folder}/', str(target), '--model=dmphn'])
  model, variables = load_pretrained(target)
  assert model == create_model('dmphn', **options)
  jax.tree.map(np.testing.assert_array_equal, variables['params'], params)
  card = json.loads((tmp_path / 'ours.json').read_text())
  assert card['imported_from'] == {'folder': 'theirs', 'sha256': hashes}
  assert 'of dmphn (features=2, levels=2)' in capsys.readouterr().out

  (folder / 'decoder_lv2.pkl').unlink()
  with pytest.raises(UserError, match='theirs/: these are not weights for dmphn .*: 30 missing'):
    import_torch.main([f'{folder}/', str(target), '--model=dmphn', '--overwrite'])


ASSUMED = (
  "theirs.pth: not in the file, so that the authors' values are taken: gate_recursions=1, "
  'size_mode=pad, global_skip=none; --option NAME=VALUE sets others\n'
)


def read_back(state):
  """Assert that the imported weights are those of the authors' tensors, bit for bit."""
  params = load_pretrained('ours.safetensors')[1]['params']
  jax.tree.map(np.testing.assert_array_equal, params, convert('gfn', state)['params'])


def test_what_was_chosen_is_said_in_a_line(folder, state, capsys):
  raw = {f'net.{name}': tensor(name, array) for name, array in state.items()}
  half = {name: array / 2 for name, array in state.items()}
  averaged = {f'net.module.{name}': tensor(f'half.{name}', half[name]) for name in state}
  other = {'critic.w': tensor('other', np.zeros(3, np.float32))}
  held = {**state, **{f'half.{name}': array for name, array in half.items()}, 'other': np.zeros(3)}
  value = {'epoch': 3, 'state_dict': raw, 'state_dict_ema': averaged | other}
  held['other'] = np.zeros(3, np.float32)
  pathlib.Path('theirs.pth').write_bytes(torch_files.zipped(value, held))
  import_torch.main(['theirs.pth', 'ours.safetensors', '--model=gfn'])
  read_back(half)
  assert capsys.readouterr().err == (
    'theirs.pth: the weights are those of state_dict_ema.net.module, not of state_dict.net; '
    f'--key chooses others; ignored beside them: critic.w\n{ASSUMED}'
  )
  options = ['--option=gate_recursions=1', '--option=size_mode=pad', '--option=global_skip=none']
  arguments = ['theirs.pth', 'ours.safetensors', '--model=gfn', '--overwrite', *options]
  import_torch.main([*arguments, '--key=state_dict'])
  read_back(state)
  assert capsys.readouterr().err == 'theirs.pth: the weights are those of state_dict.net\n'


def test_counters_are_ignored_and_said(folder, state, capsys):
  counters = {
    'n_averaged': np.full(1, 5),
    'module.total_ops': np.zeros(1),
    'module.geteMoudle.0.conv1.total_params': np.zeros(1),
    'module.norm.num_batches_tracked': np.int64(7),
  }
  arrays = counters | {f'module.{name}': array for name, array in state.items()}
  value = {name: tensor(name, array) for name, array in arrays.items()}
  pathlib.Path('theirs.pth').write_bytes(torch_files.zipped({'state_dict': value}, arrays))
  import_torch.main(['theirs.pth', 'ours.safetensors', '--model=gfn'])
  read_back(state)
  assert capsys.readouterr().err.splitlines()[:2] == [
    'theirs.pth: the weights are those of state_dict.module; ignored beside them: n_averaged',
    'gfn has no counterpart of 3 tensors such as total_ops: ignored',
  ]
  assert convert('gfn', state | counters).keys() == {'params'}
  with pytest.raises(UserError, match=r'1 unexpected \(module.scale\)'):
    convert('gfn', state | {'module.scale': np.zeros(1, np.float32)})


@pytest.mark.parametrize('prefix', ['', 'model.', 'net.module.', 'generator._orig_mod.'])
def test_safetensors_with_pytorchs_names(folder, state, prefix):
  tensors = {f'{prefix}{name}': array for name, array in state.items()}
  tensors[f'{prefix}num_batches_tracked'] = np.array(3)
  safetensors.numpy.save_file(tensors, 'theirs.safetensors', {'format': 'pt'})
  import_torch.main(['theirs.safetensors', 'ours.safetensors', '--model=gfn'])
  read_back(state)
  # In Python, too, with any prefix.
  assert convert('gfn', load_torch_checkpoint('theirs.safetensors')).keys() == {'params'}


def test_other_types_and_shared_tensors_of_safetensors(tmp_path):
  path = tmp_path / 'x.safetensors'
  bits = np.array([1.0, -2.5], jnp.bfloat16)
  tensors = {'a': bits, 'b': np.array([0.1]), 'n': np.array(3), 'f': np.array([True])}
  # `save_model` stores a shared tensor once, and lists its other names in the metadata.
  safetensors.numpy.save_file(tensors, path, {'c': 'a', 'format': 'pt'})
  state = load_torch_checkpoint(path)
  expected = {'a': bits.astype(np.float32), 'c': bits.astype(np.float32)}
  expected |= {name: tensors[name] for name in 'bnf'}
  assert state.keys() == expected.keys()
  for name, array in expected.items():
    np.testing.assert_array_equal(state[name], array, strict=True)


def test_weights_of_this_library_need_no_import(folder):
  import_torch.main(['theirs.pth', 'ours.safetensors', '--model=gfn'])
  with pytest.raises(UserError, match='a weights file of gfn_jax already, which needs no conv'):
    import_torch.main(['ours.safetensors', 'again.safetensors', '--model=gfn'])


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'gfn_jax': 3}, 'its entry gfn_jax is not a model card'),
    ({'gfn_jax': '{"model": '}, 'its entry gfn_jax is not a model card'),
    ({'gfn_jax': '[' * 100_000}, 'its entry gfn_jax is not a model card'),
    ({'gfn_jax': '{"model": {"features": 8}}'}, 'its entry gfn_jax is not a model card'),
    ({'gfn_jax': '{"model": {"name": "ikc"}}'}, "unknown model 'ikc'"),
    ({'gfn_jax': '{"model": {"name": "gfn", "features": 99999}}'}, 'must be at most 1024'),
    ({'gfn_jax': '{"model": {"name": "sr_branch"}}'}, "known for 'sr_branch'"),
    ({'state_dict': {}}, 'no weights found in entry state_dict'),
  ],
)
def test_wrong_model_cards_in_a_file(folder, state, changes, message):
  card = json.dumps({'model': {'name': 'gfn', **OPTIONS}})
  tensors = {name: tensor(name, array) for name, array in state.items()}
  value = {'state_dict': tensors, 'gfn_jax': card} | changes
  pathlib.Path('theirs.pth').write_bytes(torch_files.zipped(value, state))
  with pytest.raises(UserError) as error:
    import_torch.main(['theirs.pth', 'ours.safetensors'])
  assert message in str(error.value)
  assert '\n' not in str(error.value)
  assert not pathlib.Path('ours.safetensors').exists()


def test_the_network_must_be_named_by_the_file_or_the_user(folder):
  with pytest.raises(UserError, match='theirs.pth: the file does not name its network; pass --mod'):
    import_torch.main(['theirs.pth', 'ours.safetensors'])


def test_an_option_that_differs_between_published_networks_is_asked_for(tmp_path, capsys):
  source, target = tmp_path / 'edsr.pth', tmp_path / 'ours.safetensors'
  for features, options in ((4, ['--option=res_scale=0.5']), (64, [])):
    shapes = variable_shapes(create_model('edsr', features=features, blocks=1))['params']
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    state = to_torch('edsr', {'params': params}, features=features, blocks=1)
    save_torch_checkpoint(source, state)
    arguments = [str(source), str(target), '--model=edsr', '--overwrite']
    if options:
      with pytest.raises(UserError, match='res_scale is not in the file .* --option res_scale=V'):
        import_torch.main(arguments)
      assert not target.exists()
    import_torch.main([*arguments, *options])
    assert load_pretrained(target)[0].res_scale == (0.5 if options else 1.0)
    assert 'taken: global_skip=none;' in capsys.readouterr().err


COMPUTATION = {'name', 'parent', 'dtype', 'precision', 'axis_name', 'initialization'}
IN_THE_TENSORS = {
  'gfn': {'deblur_module', 'upsampler', 'gated'},
  'srresnet': {
    'norm',
    'act',
    'block_act',
    'slope',
    'use_bias',
    'kernel_size',
    'long_skip',
    'hr_conv',
  },
  'cnlrn': {'deblur', 'deblur_head', 'use_nonlocal', 'progressive'},
}
"""Options that the names and shapes of the tensors fix, for srresnet by the preset."""


@pytest.mark.parametrize('name', VERSIONS)
def test_every_option_is_inferred_or_said(name):
  """An option that is neither would change the images of imported weights without a word."""
  known = COMPUTATION | IN_THE_TENSORS.get(name, set()) | set(HIDDEN_OPTIONS)
  for version in VERSIONS[name]:
    known |= {'features', 'scale', 'trained_mean_shift', 'lstm', 'gray'}
    known |= {*version.blocks, *version.widths, *version.options}
  model = create_model(name)
  assert {field.name for field in dataclasses.fields(model)} <= known


def test_a_refusal_shows_names_of_both_sides(folder, state):
  tensors = {'backbone.layer1.weight': np.zeros((2, 2, 3, 3), np.float32)}
  save_torch_checkpoint('theirs.pth', tensors)
  with pytest.raises(UserError) as error:
    import_torch.main(['theirs.pth', 'ours.safetensors', '--model=gfn'])
  assert str(error.value) == (
    'theirs.pth: these are not weights for gfn: missing convolution deblurMoudle.0.conv1.weight; '
    'found backbone.layer1.weight'
  )


def test_options():
  assert import_torch.option('gated=false') == ('gated', False)
  assert import_torch.option('features=32') == ('features', 32)
  assert import_torch.option('size_mode=resize') == ('size_mode', 'resize')
  assert import_torch.option('dtype=[' + '[' * 100_000)[0] == 'dtype'
