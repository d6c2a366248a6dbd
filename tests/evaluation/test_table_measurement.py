import csv
import dataclasses
import sys

import jax
import pytest
import safetensors.numpy

from gfn_jax import Restorer, UserError
from gfn_jax.evaluation import table_measurement
from gfn_jax.evaluation.evaluate import evaluate
from gfn_jax.evaluation.paper_tables import DataSet, Row
from gfn_jax.evaluation.table_measurement import measure_table
from gfn_jax.evaluation.table_results import read_results
from gfn_jax.evaluation.test_sets import pairs_test_set
from gfn_jax.models import create_model, param_count, variable_shapes
from gfn_jax.system.files import file_sha256
from tests import random_lpips
from tests.paper_table import NETWORK, TABLE, WIDE, get_config, write_all_weights, write_weights


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  return write_all_weights(tmp_path_factory.mktemp('weights'))


def measure(output, weights=None, images=None, rounds=0, **options):
  test_sets = {'photos': str(images)} if images else None
  return measure_table(
    'tiny',
    TABLE,
    get_config,
    output,
    weights_dir=weights,
    test_sets=test_sets,
    rounds=rounds,
    **options,
  )


def results(output):
  return read_results(output / 'table.json', 'tiny', TABLE)['photos']


@pytest.fixture
def scored(monkeypatch):
  """Record the networks that are scored, by number of features."""
  calls = []

  def record(restorer, *args, **options):
    calls.append(restorer.model.features)
    return evaluate(restorer, *args, **options)

  monkeypatch.setattr(table_measurement, 'evaluate', record)
  return calls


def test_scores_are_those_of_an_evaluation(weights, gopro_tree, tmp_path):
  images = gopro_tree / 'test'
  text = measure(tmp_path, weights, images)
  found = results(tmp_path)
  assert list(found) == ['narrow', 'wide']
  for name, path in (
    ('narrow', weights / 'narrow.safetensors'),
    ('wide', weights / 'wide' / 'weights.safetensors'),
  ):
    test_set = pairs_test_set(images, 'blur_gamma')
    [row] = evaluate(Restorer.from_pretrained(path), test_set.images, 'gfn')
    scores = found[name].scores
    assert scores.means == {'psnr': row['psnr'], 'ssim': row['ssim']}
    assert scores.bicubic == {'psnr': row['bicubic_psnr'], 'ssim': row['bicubic_ssim']}
    assert (scores.images, scores.inputs.protocol) == (1, 'gfn')
    assert scores.inputs.weights == file_sha256(path)
    assert scores.inputs.test_set == test_set.facts
    assert (scores.jax, found[name].timing) == (jax.__version__, None)
  count = param_count(variable_shapes(create_model(**NETWORK)))
  assert found['narrow'].parameters == count
  psnr = found['narrow'].scores.means['psnr']
  assert f'| Narrow | {count:,} | 1.5M | {psnr:.2f} | 26.20 |' in text
  assert f'1 images of {gopro_tree.name}/test (blur_gamma), protocol gfn, ' in text
  assert (tmp_path / 'table.md').read_text() == text
  with open(tmp_path / 'table.csv', newline='') as file:
    rows = {row['row']: row for row in csv.DictReader(file)}
  assert float(rows['narrow']['psnr']) == psnr
  assert (tmp_path / 'table.png').read_bytes()[:4] == b'\x89PNG'


def test_each_data_set_has_its_own_networks(gopro_tree, tmp_path):
  model = dict(name='bmdsrnet', variant='srnet', features=4, blocks=1)
  models = {f'x{scale}': dict(model, scale=scale) for scale in (2, 4)}
  rows = {'srnet': Row('SRNet', {}, models=models)}
  data_sets = {name: DataSet(name) for name in models}
  table = dataclasses.replace(TABLE, data_sets=data_sets, rows=rows)
  path = write_weights(tmp_path / 'weights' / 'srnet,x2.safetensors', models['x2'])
  images = gopro_tree / 'test'
  measure_table(
    'tiny',
    table,
    get_config,
    tmp_path,
    weights_dir=path.parent,
    test_sets={'x2': str(images)},
    rounds=0,
  )
  [(data_set, found)] = read_results(tmp_path / 'table.json', 'tiny', table).items()
  assert data_set == 'x2'
  [row] = evaluate(
    Restorer.from_pretrained(path), pairs_test_set(images, 'blur_gamma', 2).images, 'gfn'
  )
  assert found['srnet'].scores.means == {'psnr': row['psnr'], 'ssim': row['ssim']}
  assert found['srnet'].scores.inputs.test_set['scale'] == 2


def test_networks_are_timed_without_weights(tmp_path, monkeypatch, capsys):
  sizes, durations = [], iter([3.0, 1.0, 2.0, 6.0, 5.0, 5.5])

  def time_forward(self, image):
    sizes.append(image.shape)
    return next(durations)

  monkeypatch.setattr(Restorer, 'time_forward', time_forward)
  text = measure(tmp_path, rounds=3)
  assert sizes == [(12, 20, 3)] * 6
  found = results(tmp_path)
  assert [found[name].timing.seconds for name in ('narrow', 'wide')] == [2.0, 5.5]
  assert found['wide'].scores is None
  assert '| 2.000 | 0.07 |' in text
  assert 'an image of 20x12, median of 3, cpu, ' in text
  assert not (tmp_path / 'table.png').exists()
  message = capsys.readouterr().err
  assert message.count('; a large network takes minutes on a CPU') == 1
  assert 'Wide, row 2 of 2: timing an image of 20x12' in message

  measure(tmp_path, rounds=3)  # durations are exhausted, so another run would fail
  measure(tmp_path, rounds=0)
  assert results(tmp_path) == found
  with pytest.raises(RuntimeError, match='StopIteration'):
    measure(tmp_path, rounds=2)


def test_a_network_is_timed_once_for_data_sets_of_one_size(tmp_path, monkeypatch):
  durations = iter([3.0, 1.0, 2.0, 6.0])
  monkeypatch.setattr(Restorer, 'time_forward', lambda self, image: next(durations))
  other = {'same': DataSet('Same', timed_size=(12, 20)), 'larger': DataSet('Larger', (16, 20))}
  table = dataclasses.replace(TABLE, data_sets=TABLE.data_sets | other)
  measure_table('tiny', table, get_config, tmp_path, rounds=1)
  found = read_results(tmp_path / 'table.json', 'tiny', table)
  seconds = {key: [row.timing.seconds for row in rows.values()] for key, rows in found.items()}
  assert seconds == {'photos': [3.0, 1.0], 'same': [3.0, 1.0], 'larger': [2.0, 6.0]}


def test_times_are_real(tmp_path):
  measure(tmp_path, rounds=1)
  assert all(0 < row.timing.seconds < 5 for row in results(tmp_path).values())


def test_an_interrupted_table_is_continued_with_the_missing_rows(
  weights, gopro_tree, tmp_path, scored, monkeypatch
):
  record = table_measurement.evaluate

  def interrupt(restorer, *args, **options):
    if restorer.model.features == WIDE['features']:
      raise KeyboardInterrupt
    return record(restorer, *args, **options)

  monkeypatch.setattr(table_measurement, 'evaluate', interrupt)
  with pytest.raises(KeyboardInterrupt):
    measure(tmp_path, weights, gopro_tree / 'test')
  [(name, first)] = results(tmp_path).items()
  assert (name, scored) == ('narrow', [4])
  assert 'Wide (not scored)' in (tmp_path / 'table.md').read_text()

  monkeypatch.setattr(table_measurement, 'evaluate', record)
  text = measure(tmp_path, weights, gopro_tree / 'test')
  assert scored == [4, 6]
  assert results(tmp_path)['narrow'] == first
  assert measure(tmp_path, weights, gopro_tree / 'test') == text
  assert scored == [4, 6]


def test_a_row_is_scored_again_when_its_inputs_change(weights, gopro_tree, tmp_path, scored):
  images, files = gopro_tree / 'test', tmp_path / 'weights'
  write_weights(files / 'wide.safetensors', WIDE)
  output = tmp_path / 'out'
  measure(output, files, images)
  before = results(output)['wide'].scores
  write_weights(files / 'wide.safetensors', WIDE, seed=1)
  measure(output, files, images)
  assert results(output)['wide'].scores.inputs.weights != before.inputs.weights
  measure(output, files, gopro_tree / 'train')
  assert results(output)['wide'].scores.inputs.test_set['name'].startswith(gopro_tree.name)
  assert scored == [6, 6, 6]


def test_rows_of_earlier_calls_are_kept(weights, gopro_tree, tmp_path, scored):
  files, output = tmp_path / 'weights', tmp_path / 'out'
  write_weights(files / 'wide.safetensors', WIDE)
  measure(output, files, gopro_tree / 'test')
  before = results(output)['wide']
  measure(output, weights, gopro_tree / 'test')
  assert scored == [6, 4]
  assert results(output)['wide'] == before


def test_lpips_is_a_column_if_its_weights_are_passed(weights, gopro_tree, tmp_path, scored):
  path = tmp_path / 'lpips.safetensors'
  safetensors.numpy.save_file(random_lpips.together(), path)
  measure(tmp_path, weights, gopro_tree / 'test')
  text = measure(tmp_path, weights, gopro_tree / 'test', lpips_weights=[path])
  assert scored == [4, 6, 4, 6]
  scores = results(tmp_path)['wide'].scores
  assert scores.inputs.lpips == (file_sha256(path),)
  assert 0 < scores.means['lpips'] != scores.bicubic['lpips']
  assert f'| {scores.means["lpips"]:.4f} |' in text


def test_mistakes_end_before_anything_is_measured(weights, gopro_tree, tmp_path, scored):
  output = tmp_path / 'out'
  images = str(gopro_tree / 'test')
  cases = [
    ({'lr_gopro': images}, "tiny has no data set 'lr_gopro'; choose from photos"),
    (
      {'photos': str(tmp_path / 'none')},
      'no such folder: .*none; pass a dataset of gfn-prepare, ',
    ),
    ({'photos': str(gopro_tree)}, 'holds training images, too; pass .*/test$'),
  ]
  for test_sets, message in cases:
    with pytest.raises(UserError, match=message):
      measure_table('tiny', TABLE, get_config, output, weights_dir=weights, test_sets=test_sets)
  write_weights(tmp_path / 'other' / 'narrow.safetensors', WIDE)
  with pytest.raises(UserError, match="is not the paper's network: features is 6, not 4"):
    measure(output, tmp_path / 'other', images)
  assert not output.exists()
  output.mkdir()
  (output / 'table.json').write_text('{"table"')
  with pytest.raises(UserError, match='cannot read .*table.json: .*; delete it'):
    measure(output, weights, images)
  assert (output / 'table.json').read_text() == '{"table"'
  assert not scored


def test_without_matplotlib_the_table_is_written_and_the_plot_left_out(
  weights, gopro_tree, tmp_path, monkeypatch, capsys
):
  monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
  measure(tmp_path, weights, gopro_tree / 'test')
  assert 'table.png is left out: cannot import matplotlib (' in capsys.readouterr().err
  assert sorted(path.name for path in tmp_path.iterdir()) == ['table.csv', 'table.json', 'table.md']
