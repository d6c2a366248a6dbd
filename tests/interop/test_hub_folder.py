"""Folders of `gfn-export --format=hub`, read as hubs and users read them."""

import json
import pathlib

import jax
import numpy as np
import pytest
import yaml

import gfn_jax
from gfn_jax.cli import export as command
from gfn_jax.errors import UserError
from gfn_jax.interop import hub_folder
from gfn_jax.models import create_model, param_count, variable_shapes
from gfn_jax.system.files import file_sha256
from gfn_jax.weights import pretrained
from tests import small

CARD = {
  'config': {'data': {'data_dir': 'data/lr_gopro'}, 'evaluation': {'protocol': 'gfn'}},
  'data': {'licence': 'CC BY 4.0. Trained on GOPRO.', 'real_pairs': {'mine': {'share': 0.1}}},
  'scores': {
    'test/psnr': 26.5,
    'gopro, lr, SSIM': 0.875,
    'gopro, gain': 2.2,
    'frames': {'psnr': [1.0, 2.0], 'camera': {'psnr': 24.25}},
    'unit': 'dB',
  },
}


@pytest.fixture
def save(tmp_path):
  """Write random weights with a card; return their path."""

  def save(card, model_config=small.MODEL):
    rng = np.random.default_rng(0)
    shapes = variable_shapes(create_model(**model_config))
    draw = lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype)
    path = tmp_path / 'weights.safetensors'
    pretrained.save_weights(path, jax.tree.map(draw, shapes), model_config, card, 'bfloat16')
    return path

  return save


def export(weights, folder, *options):
  command.main([str(weights), str(folder), '--format=hub', *options])


def header_of(folder):
  start, header, text = (folder / 'README.md').read_text().split('---\n', 2)
  assert start == ''
  return yaml.safe_load(header), text


def message_of(function, *args):
  with pytest.raises(UserError) as error:
    function(*args)
  assert '\n' not in str(error.value)
  return str(error.value)


def test_the_folder_loads_with_equal_weights_and_card(save, tmp_path, capsys):
  weights, folder = save(CARD), tmp_path / 'sharper'
  export(weights, folder)
  assert sorted(path.name for path in folder.iterdir()) == [
    'README.md',
    'config.json',
    'model.safetensors',
  ]
  assert (folder / 'model.safetensors').read_bytes() == weights.read_bytes()
  assert (folder / 'config.json').read_bytes() == weights.with_suffix('.json').read_bytes()
  (model, variables), (_, expected) = map(gfn_jax.load_pretrained, (folder, weights))
  assert model == create_model(**small.MODEL)
  jax.tree.map(np.testing.assert_array_equal, variables, expected)
  assert capsys.readouterr().out == (
    f'wrote README.md, config.json, model.safetensors to {folder}: '
    f'{weights.stat().st_size / 1e6:.1f} MB of parameters\n'
    'licence of the weights: CC BY 4.0. Trained on GOPRO.\n'
  )


def test_the_header_has_what_hubs_read(save, tmp_path):
  folder = tmp_path / 'sharper'
  export(save(CARD), folder)
  header, text = header_of(folder)

  def result(images, slug, metric, value):
    return {
      'task': {'type': 'image-to-image'},
      'dataset': {'type': slug, 'name': images},
      'metrics': [{'type': metric, 'value': value, 'name': f'{metric.upper()} (protocol gfn)'}],
    }

  assert header == {
    'license': 'cc-by-4.0',
    'library_name': 'gfn_jax',
    'pipeline_tag': 'image-to-image',
    'tags': [
      'jax',
      'flax',
      'image-restoration',
      'deblurring',
      'motion-deblurring',
      'super-resolution',
    ],
    'datasets': ['lr_gopro', 'mine'],
    'metrics': ['psnr', 'ssim'],
    'model-index': [
      {
        'name': 'sharper',
        'results': [
          result('test', 'test', 'psnr', 26.5),
          result('gopro, lr', 'gopro-lr', 'ssim', 0.875),
        ],
      }
    ],
  }
  assert '# sharper\n\nRemoves motion blur from photographs and enlarges them 4x.' in text
  assert "from_pretrained('hf://OWNER/sharper')" in text
  assert '\n## Licence\n\nCC BY 4.0. Trained on GOPRO.\n' in text
  assert '\nTrained on `lr_gopro`, `mine`.\n' in text
  rows = ['test/psnr | 26.5', 'gopro, lr, SSIM | 0.875', 'gopro, gain | 2.2']
  rows += ['frames, camera, psnr | 24.25']
  table = '\n'.join(f'| {row} |' for row in rows)
  assert f'\n{table}\n\nProtocol: gfn.\n\nUnit, where no other is named: dB.\n' in text


def test_the_model_card_library_reads_the_header(save, tmp_path):
  hub = pytest.importorskip('huggingface_hub')
  export(save(CARD), tmp_path / 'sharper')
  data = hub.ModelCard.load(tmp_path / 'sharper' / 'README.md').data
  assert data.license == 'cc-by-4.0'
  found = [
    (r.dataset_name, r.metric_type, r.metric_value, r.metric_name) for r in data.eval_results
  ]
  assert found == [
    ('test', 'psnr', 26.5, 'PSNR (protocol gfn)'),
    ('gopro, lr', 'ssim', 0.875, 'SSIM (protocol gfn)'),
  ]


@pytest.mark.full
def test_the_snippet_runs(save, tmp_path, monkeypatch):
  folder = tmp_path / 'sharper'
  export(save(CARD), folder)
  monkeypatch.chdir(tmp_path)
  pytest.importorskip('skimage')
  from skimage import data, io

  io.imsave('photo.jpg', data.astronaut()[:8, :12], check_contrast=False)
  snippet = header_of(folder)[1].split('```python\n')[1].split('```')[0]
  names = {}
  exec(snippet.replace('hf://OWNER/sharper', str(folder)), names)
  assert names['sharp'].shape == (32, 48, 3)
  assert names['sharp'].dtype == np.uint8


def test_weights_without_a_card_get_the_facts_of_the_file(save, tmp_path):
  weights = save(CARD)
  weights.with_suffix('.json').unlink()
  export(weights, tmp_path / 'bare')
  card = pretrained.load_card(tmp_path / 'bare')
  assert card == {
    'format_version': 1,
    'model': small.MODEL,
    'parameters': param_count(gfn_jax.load_pretrained(weights)[1]),
    'sha256': file_sha256(weights),
  }
  header, text = header_of(tmp_path / 'bare')
  assert header.keys() == {'library_name', 'pipeline_tag', 'tags'}
  assert 'The model card states no licence.' in text
  assert '## Data' not in text and '## Scores' not in text


@pytest.mark.parametrize(
  ('licence', 'expected'),
  [
    ('CC BY-SA 4.0. Trained on photographs.', 'cc-by-sa-4.0'),
    ('MIT', 'mit'),
    ('for research only', 'other'),
  ],
)
def test_licences(save, tmp_path, licence, expected):
  export(save({'data': {'licence': licence}}), tmp_path / 'a')
  header, _ = header_of(tmp_path / 'a')
  assert header['license'] == expected
  assert (expected == 'other') == ('license_name' in header)


@pytest.mark.parametrize(
  'card',
  [
    {'data': 3, 'scores': [1], 'config': 'x'},
    {'data': {'licence': ['MIT'], 'real_pairs': [1]}, 'config': {'photos': 3, 'evaluation': 1}},
    {'scores': {'test/psnr': True, 'a/psnr': 1e300, 'b/psnr': float('nan'), 'unit': [3]}},
    {'scores': {'test/psnr': 10**400, 'protocol': [7]}},
  ],
)
def test_entries_of_other_types_are_left_out(save, tmp_path, card):
  export(save(card), tmp_path / 'a')
  header, text = header_of(tmp_path / 'a')
  assert header.keys() == {'library_name', 'pipeline_tag', 'tags'}
  assert '## Scores' not in text


def test_text_of_a_card_cannot_change_the_page(save, tmp_path, capsys):
  scores = {'a | b\n# c/psnr': 1, '<script>': 2}
  card = {'data': {'licence': 'MIT\n---\n# Title <b>'}, 'scores': scores}
  export(save(card), tmp_path / 'a')
  header, text = header_of(tmp_path / 'a')
  assert header['license'] == 'mit'
  assert '\nMIT --- # Title \\<b\\>\n' in text
  assert capsys.readouterr().out.endswith('\nlicence of the weights: MIT --- # Title <b>\n')
  assert '\n| a \\| b # c/psnr | 1 |\n| \\<script\\> | 2 |\n' in text


def test_the_list_of_photographs_goes_with_weights_that_were_trained_on_it(
  save, tmp_path, monkeypatch
):
  released = tmp_path / 'released'
  released.mkdir()
  digest = '0123456789abcdef' * 4
  (released / 'ATTRIBUTION.md').write_text(f'of the list with SHA-256 {digest}')
  monkeypatch.setattr(hub_folder, 'RELEASED_DIR', str(released))
  export(save({'data': {'licence': 'MIT', 'photo_list_sha256': digest}}), tmp_path / 'a')
  assert (tmp_path / 'a' / 'ATTRIBUTION.md').read_text().endswith(digest)
  assert '[ATTRIBUTION.md](ATTRIBUTION.md)' in header_of(tmp_path / 'a')[1]
  export(save({'data': {'photo_list_sha256': digest[::-1]}}), tmp_path / 'a', '--overwrite')
  assert not (tmp_path / 'a' / 'ATTRIBUTION.md').exists()
  assert 'ATTRIBUTION' not in (tmp_path / 'a' / 'README.md').read_text()


def test_existing_folders(save, tmp_path):
  weights, folder = save(CARD), tmp_path / 'a'
  folder.mkdir()
  export(weights, folder)  # into an empty one
  (folder / '.git').mkdir()
  assert message_of(export, weights, folder) == (
    f'{folder} is not empty; choose another folder, or pass --overwrite'
  )
  other = save(CARD | {'step': 5})
  export(other, folder, '--overwrite')
  assert pretrained.load_card(folder)['step'] == 5
  assert (folder / '.git').is_dir()
  assert message_of(export, weights, weights) == f'{weights} is a file; choose another folder'
  missing = tmp_path / 'none' / 'a'
  assert message_of(export, weights, missing) == f'no such folder: {missing.parent}'
  assert 'is written on this machine, not to gs://b/a' in message_of(export, weights, 'gs://b/a')
  assert '.onnx is the extension of onnx, not hub' in message_of(
    export, weights, tmp_path / 'a.onnx'
  )


def test_a_full_disk_leaves_the_old_folder(save, tmp_path, monkeypatch):
  folder = tmp_path / 'a'
  export(save(CARD), folder)
  before = {path.name: path.read_bytes() for path in folder.iterdir()}

  def full(path, _):
    raise OSError(28, 'No space left on device', str(path))

  monkeypatch.setattr(hub_folder, 'write_file', full)
  weights = save(CARD | {'step': 5})
  assert message_of(export, weights, folder, '--overwrite') == (
    f'cannot write {folder}: No space left on device'
  )
  assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
  names = {path.name for path in pathlib.Path(tmp_path).iterdir()}
  assert names == {'a', 'weights.json', 'weights.safetensors'}


def test_the_released_weights_state_their_licence(tmp_path):
  export('gfn', tmp_path / 'gfn')
  header, text = header_of(tmp_path / 'gfn')
  card = json.loads((tmp_path / 'gfn' / 'config.json').read_text())
  assert header['license'] == 'cc-by-sa-4.0'
  assert card['data']['licence'] in text
