import shutil
import types

import pytest
from PIL import Image

from gfn_jax.errors import UserError
from gfn_jax.evaluation import test_sets
from gfn_jax.models import create_model
from gfn_jax.training import records
from gfn_jax.weights.pretrained import save_weights
from tests import small
from tests.models.networks import random_variables


@pytest.mark.parametrize(
  ('imported', 'blur_folder', 'warns'),
  [(True, 'blur_gamma', True), (True, 'blur', False), (False, 'blur_gamma', False)],
)
def test_imported_weights_of_mprnet_and_data_with_another_blur(
  tmp_path, capsys, imported, blur_folder, warns
):
  options = {'name': 'mprnet', **small.MPRNET}
  variables = random_variables(create_model(**options))
  facts = {'imported_from': {'file': 'model_deblurring.pth'}} if imported else {}
  save_weights(tmp_path / 'mprnet.safetensors', variables, options, facts)
  dataset = types.SimpleNamespace(metadata={'blur_folder': blur_folder})
  records._report_other_blur(str(tmp_path / 'mprnet.safetensors'), dataset)
  message = 'the published weights of MPRNet were trained on `blur`, and these data have'
  assert (message in capsys.readouterr().err) == warns


@pytest.fixture
def run(tmp_path):
  """A config on ten photos, two of them held out, and the folder of its run."""
  (tmp_path / 'photos').mkdir()
  for n in range(10):
    Image.new('RGB', (80, 80), (n, n, n)).save(tmp_path / 'photos' / f'{n}.png')
  config = small.photos_config(tmp_path / 'photos', {'data.held_out': 2}).to_dict()
  records.write(tmp_path / 'run', config, {}, records.open_data(config, tmp_path / 'run'))
  return config, tmp_path / 'run', tmp_path / 'photos'


def test_an_unchanged_data_set_is_the_same_when_a_run_continues(run):
  config, workdir, _ = run
  dataset, again = (records.open_data(config, folder) for folder in ('none', workdir))
  assert again.metadata == dataset.metadata
  assert again.files == dataset.files
  assert list(again.files['test']) == ['0.png', '9.png']
  assert again.files['test']['0.png'] == [80, 80]


def test_changed_files_are_named_and_accepted_on_request(run, capsys):
  config, workdir, photos = run
  (photos / '0.png').unlink()
  (photos / '4.png').unlink()
  shutil.copy(photos / '5.png', photos / 'new.png')
  Image.new('RGB', (90, 80)).save(photos / '6.png')
  changes = r'2 removed \(0.png, 4.png\); 1 added \(new.png\); 1 of another size \(6.png\)'
  flag = '--config.run.accept_changed_data=True'
  with pytest.raises(UserError, match=f'have changed since .*: {changes}; .*{flag}'):
    records.open_data(config, workdir)
  config['run']['accept_changed_data'] = True
  dataset = records.open_data(config, workdir)
  assert '2 removed (0.png, 4.png); 1 added (new.png)' in capsys.readouterr().err
  # No photo that was trained on is held out now.
  assert list(dataset.files['test']) == ['9.png']
  assert dataset.num_examples('train') == 8
  records.write(workdir, config, {}, dataset)
  assert test_sets.run_config(workdir)['data']['test_photos'] == ['9.png']
  config['run']['accept_changed_data'] = False
  assert records.open_data(config, workdir).metadata == dataset.metadata


def test_another_number_of_held_out_photos_is_not_ignored(run):
  config, workdir, _ = run
  config['data']['held_out'] = 3
  assert records.open_data(config, workdir).metadata['held_out'] == 3


def test_a_damaged_record_of_the_files_is_named(run):
  config, workdir, _ = run
  (workdir / test_sets.DATA_FILES).write_text('{')
  with pytest.raises(UserError, match=r'cannot read .*data_files.json: .*; remove it'):
    records.open_data(config, workdir)


@pytest.mark.parametrize(
  ('schedule', 'epochs', 'same'),
  [('step_decay', 5, True), ('step_decay', 2, False), ('cosine', 5, False)],
)
def test_a_run_is_extended_if_its_learning_rates_stay_the_same(schedule, epochs, same):
  def settings(last_epochs, data):
    phases = {
      'phase_1': {'epochs': 1, 'schedule': {'name': 'step_decay'}},
      'phase_2': {'epochs': last_epochs, 'schedule': {'name': schedule}},
    }
    return {'phases': phases, 'data': data, 'model': {}}

  now = settings(epochs, 'b')
  assert (records.accept_differences(now, False, settings(3, 'b')) == now) == same
  assert records.accept_differences(now, False, settings(epochs, 'a')) != now
  assert records.accept_differences(now, True, settings(epochs, 'a')) == now
