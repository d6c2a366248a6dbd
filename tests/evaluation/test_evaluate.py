import csv
import json
import shutil
import weakref

import numpy as np
import pytest
import safetensors.numpy
import skimage.data
from PIL import Image

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.evaluation import evaluate, tables, test_sets
from gfn_jax.evaluation.lpips import LPIPS
from gfn_jax.models import param_count
from gfn_jax.ops import metrics
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.scores import Reference, bicubic, score, score_references
from gfn_jax.system import parallel
from gfn_jax.system.files import file_sha256
from gfn_jax.weights import pretrained
from gfn_jax.weights.pretrained import save_weights
from tests import random_lpips, small
from tests.models.networks import normal_variables
from tests.processes import run_together


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  """Small random weights in a file."""
  model = create_model(**small.MODEL)
  path = tmp_path_factory.mktemp('weights') / 'weights.safetensors'
  save_weights(path, normal_variables(model), small.MODEL, {})
  return path


@pytest.fixture(scope='module')
def pairs():
  """Two photographs of two sizes and their quarters."""
  hr = [skimage.data.astronaut()[:96, 200:328], skimage.data.coffee()[100:180, 100:180]]
  return [
    {'name': name, 'lr_blur': imresize(x, 0.25), 'hr': x}
    for name, x in zip(('a/0', 'b'), hr, strict=True)
  ]


def write_folders(root, pairs):
  for kind in ('lr_blur', 'hr'):
    (root / kind).mkdir()
    for pair in pairs:
      Image.fromarray(pair[kind]).save(root / kind / (pair['name'].replace('/', '_') + '.png'))


def test_rows_hold_the_scores_of_each_image(weights, pairs):
  restorer = Restorer.from_pretrained(weights)
  rows = evaluate.evaluate(restorer, pairs, 'cnlrn', timed=True)
  assert [row['name'] for row in rows] == ['a/0', 'b']
  for row, pair in zip(rows, pairs, strict=True):
    scores = metrics.evaluate_pair(restorer(pair['lr_blur']), pair['hr'], 'cnlrn')
    bicubic = imresize(pair['lr_blur'] / 255, 4.0)
    baseline = metrics.evaluate_pair(bicubic, pair['hr'], 'cnlrn')
    assert (row['psnr'], row['ssim']) == (scores['psnr'], scores['ssim'])
    assert row['bicubic_psnr'] == pytest.approx(baseline['psnr'], abs=1e-9)
    assert row['bicubic_ssim'] == pytest.approx(baseline['ssim'], abs=1e-9)
    assert 0 < row['seconds'] < 5


def test_at_scale_3_the_baseline_is_bicubic_of_that_scale(pairs):
  model = create_model('bmdsrnet', variant='srnet', scale=3, features=4, blocks=1)
  hr = pairs[0]['hr'][:48, :60]
  pair = {'name': 'a', 'lr_blur': imresize(hr, 1 / 3), 'hr': hr}
  (row,) = evaluate.evaluate(Restorer(model, normal_variables(model)), [pair], 'cnlrn')
  baseline = metrics.evaluate_pair(imresize(pair['lr_blur'] / 255, 3.0), hr, 'cnlrn', scale=3)
  assert row['bicubic_psnr'] == pytest.approx(baseline['psnr'], abs=1e-9)
  assert row['psnr'] < row['bicubic_psnr']


def test_the_table_has_means_of_the_images_and_bicubic_first(weights):
  restorer = Restorer.from_pretrained(weights)
  keys = ('psnr', 'ssim', 'bicubic_psnr', 'bicubic_ssim', 'seconds')
  values = [(20, 0.5, 21, 0.7, 1.0), (24, 0.7, 22, 0.8, 9.0), (25, 0.9, 23, 0.9, 2.0)]
  rows = [dict(zip(keys, row, strict=True)) for row in values]
  methods = tables.summarize(rows, restorer)
  bicubic, network = methods
  assert bicubic == {
    'method': 'bicubic',
    'parameters': 0,
    'psnr': 22.0,
    'ssim': pytest.approx(0.8),
    'seconds': None,
  }
  assert network == {
    'method': 'GFN',
    'parameters': param_count({'params': restorer.variables['params']}),
    'psnr': 23.0,
    'ssim': pytest.approx(0.7),
    'seconds': 2.0,  # the median
  }
  assert tables.format_table(methods).splitlines()[2:] == [
    '| bicubic | 0 | 22.00 | 0.8000 | - |',
    f'| GFN | {param_count({"params": restorer.variables["params"]}):,} | 23.00 | 0.7000 | 2.000 |',
  ]


def test_seconds_are_measured_on_request(weights, pairs):
  restorer = Restorer.from_pretrained(weights)
  rows = evaluate.evaluate(restorer, pairs[:1], 'gfn')
  assert 'seconds' not in rows[0]
  assert tables.summarize(rows, restorer)[1]['seconds'] is None
  restorer.time_forward = lambda lr_blur: float(lr_blur.shape[0])
  rows = evaluate.evaluate(restorer, pairs, 'gfn', timed=True)
  assert [row['seconds'] for row in rows] == [24.0, 20.0]


def test_folders_are_evaluated_and_reported(weights, pairs, tmp_path, capsys):
  write_folders(tmp_path, pairs)
  test_set = test_sets.folder_test_set(tmp_path / 'lr_blur', tmp_path / 'hr')
  assert test_set.count == 2
  output = tmp_path / 'out'
  evaluate.evaluate_and_report(weights, test_set, 'gfn', output)

  with open(output / 'images.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  summary = json.loads((output / 'summary.json').read_text())
  assert [row['name'] for row in rows] == ['a_0', 'b']
  for key in ('psnr', 'ssim'):
    for method, prefix in zip(summary['methods'], ('bicubic_', ''), strict=True):
      mean = np.mean([float(row[prefix + key]) for row in rows])
      assert method[key] == pytest.approx(mean), method
  assert summary['protocol'] == 'gfn'
  assert summary['images'] == 2
  assert summary['weights'] == {'path': str(weights), 'sha256': file_sha256(weights)}
  assert summary['data']['input_dir'] == str(tmp_path / 'lr_blur')
  restored = np.asarray(Image.open(output / 'images' / 'b.png'))
  np.testing.assert_array_equal(restored, Restorer.from_pretrained(weights)(pairs[1]['lr_blur']))
  printed = capsys.readouterr().out
  assert '2 images, protocol gfn' in printed
  assert '| bicubic | 0 |' in printed


def test_lpips_is_a_column_if_its_weights_are_passed(weights, pairs, tmp_path, capsys):
  files = []
  for name, state in (('alexnet', random_lpips.alexnet()), ('linear', random_lpips.linear())):
    files.append(tmp_path / f'{name}.safetensors')
    safetensors.numpy.save_file(state, files[-1])
  page = tmp_path / 'report.html'
  test_set = test_sets.TestSet(pairs, 2, {})
  evaluate.evaluate_and_report(weights, test_set, 'cnlrn', tmp_path, page, files)

  lpips, restorer = LPIPS.from_files(files), Restorer.from_pretrained(weights)
  expected = {'': [], 'bicubic_': []}
  for pair in pairs:  # whole images, though the protocol cuts a border
    expected[''].append(lpips(restorer(pair['lr_blur']), pair['hr']))
    expected['bicubic_'].append(lpips(bicubic(pair['lr_blur']), pair['hr']))
  with open(tmp_path / 'images.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  for prefix, values in expected.items():
    assert [float(row[f'{prefix}lpips']) for row in rows] == pytest.approx(values, rel=1e-5)
  summary = json.loads((tmp_path / 'summary.json').read_text())
  means = [np.mean(values) for values in (expected['bicubic_'], expected[''])]
  assert [method['lpips'] for method in summary['methods']] == pytest.approx(means, rel=1e-5)
  assert summary['lpips'] == {
    'network': 'alex',
    'version': '0.1',
    'border': 0,
    'weights': [{'path': str(path), 'sha256': file_sha256(path)} for path in files],
  }
  printed = capsys.readouterr().out.splitlines()
  assert '| method | parameters | PSNR | SSIM | LPIPS | seconds |' in printed
  assert '|---|---|---|---|---|---|' in printed
  assert any(line.endswith(f' | {means[0]:.4f} | - |') for line in printed)
  assert f'LPIPS <b>{means[1]:.4f}</b>, bicubic {means[0]:.4f}' in page.read_text('utf-8')


def test_without_its_weights_there_is_no_lpips(weights, pairs, tmp_path):
  evaluate.evaluate_and_report(
    weights, test_sets.TestSet(pairs, 2, {}), 'gfn', tmp_path, tmp_path / 'report.html'
  )
  for name in ('images.csv', 'summary.json', 'report.html'):
    assert 'lpips' not in (tmp_path / name).read_text('utf-8').lower()


def test_weights_of_lpips_that_are_missing_end_it_at_the_start(weights, pairs, tmp_path):
  output = tmp_path / 'out'
  missing = tmp_path / 'alex.safetensors'
  with pytest.raises(UserError, match='cannot read .*alex.safetensors as safetensors'):
    evaluate.evaluate_and_report(
      weights, test_sets.TestSet(pairs, 2, {}), 'gfn', output, lpips_weights=[missing]
    )
  assert not output.exists()


def test_released_weights_are_evaluated_by_name(weights, pairs, tmp_path, monkeypatch):
  monkeypatch.setattr(pretrained, 'RELEASED_DIR', str(weights.parent))
  test_set = test_sets.TestSet(pairs[:1], 1, {})
  evaluate.evaluate_and_report('weights', test_set, 'gfn', tmp_path)
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert summary['weights'] == {'path': str(weights), 'sha256': file_sha256(weights)}


def test_a_limit_takes_the_first(pairs, tmp_path):
  write_folders(tmp_path, pairs)
  test_set = test_sets.folder_test_set(tmp_path / 'lr_blur', tmp_path / 'hr', limit=1)
  assert [image['name'] for image in test_set.images] == ['a_0']
  assert test_set.count == 1


def test_sharp_images_are_cropped_to_multiples_of_the_scale_once_said(tmp_path, capsys):
  photo = skimage.data.coffee()
  for name, height, width in (('1', 43, 41), ('2', 40, 44), ('3', 41, 43)):
    for kind, image in (('lr', photo[: height // 4, : width // 4]), ('hr', photo[:height, :width])):
      (tmp_path / kind).mkdir(exist_ok=True)
      suffix = 'x4' if kind == 'lr' else ''
      Image.fromarray(image).save(tmp_path / kind / f'{name}{suffix}.png')
  [one, two, _] = test_sets.folder_test_set(tmp_path / 'lr', tmp_path / 'hr').images
  assert one['name'] == '1'
  np.testing.assert_array_equal(one['hr'], photo[:40, :40])
  np.testing.assert_array_equal(two['hr'], photo[:40, :44])
  assert capsys.readouterr().err.count('2 of 3 sharp images are cropped') == 1
  Image.fromarray(photo[:44, :40]).save(tmp_path / 'hr' / '2.png')
  with pytest.raises(UserError, match='^2: expected a target of 44x40 for the input of 11x10,'):
    test_sets.folder_test_set(tmp_path / 'lr', tmp_path / 'hr')


def test_the_test_split_of_a_dataset(dataset_dir):
  test_set = test_sets.dataset_test_set({'data': {'data_dir': dataset_dir}})
  [image] = test_set.images
  assert test_set.count == 1
  assert test_set.facts['blur_folder'] == 'blur_gamma'
  np.testing.assert_array_equal(image['hr'], skimage.data.coffee()[:128, :192])
  assert image['lr_blur'].shape == (32, 48, 3)


# Several references for an image.


def noisy(image, deviation, seed=0):
  noise = np.random.default_rng(seed).normal(0, deviation, image.shape)
  return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def write_references(root, pairs, restorer):
  """Write a folder of four frames for each image: two shifted ones, and one near each method."""
  for pair in pairs:
    name = pair['name'].replace('/', '_')
    folder = root / 'references' / name
    folder.mkdir(parents=True)
    frames = {
      '001': noisy(bicubic(pair['lr_blur']), 4),
      '002': np.roll(pair['hr'], 3, axis=0),
      '010': noisy(restorer(pair['lr_blur']), 3),
      '011': np.roll(pair['hr'], 5, axis=1),
    }
    for number, frame in frames.items():
      Image.fromarray(frame).save(folder / f'{number}.png')


def inner_psnr(a, b, border):
  """PSNR in dB of the pixels inside the border, with NumPy alone."""
  a, b = (x[border:-border, border:-border].astype(np.float64) for x in (a, b))
  return 10 * np.log10(255**2 / np.mean((a - b) ** 2))


@pytest.mark.parametrize(('protocol', 'border'), [('gfn', 6), ('cnlrn', 4)])
def test_the_reference_of_highest_psnr_counts(weights, pairs, tmp_path, protocol, border):
  restorer = Restorer.from_pretrained(weights)
  write_folders(tmp_path, pairs)
  write_references(tmp_path, pairs, restorer)
  test_set = test_sets.folder_test_set(tmp_path / 'lr_blur', tmp_path / 'references')
  seen = []
  rows = evaluate.evaluate(
    restorer, test_set.images, protocol, on_result=lambda *result: seen.append(result)
  )
  assert [row['name'] for row in rows] == ['a_0', 'b']
  for row, pair, (_, _, _, target, scores) in zip(rows, pairs, seen, strict=True):
    folder = tmp_path / 'references' / row['name']
    frames = {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}
    images = {'': restorer(pair['lr_blur']), 'bicubic_': bicubic(pair['lr_blur'])}
    for prefix, image in images.items():
      values = {name: inner_psnr(image, frame, border) for name, frame in frames.items()}
      best = max(values, key=values.get)
      assert best == ('001' if prefix else '010')
      assert row[prefix + 'reference'] == best
      assert row[prefix + 'psnr'] == pytest.approx(values[best], rel=1e-12)
      expected = metrics.evaluate_pair(image, frames[best], protocol)
      assert row[prefix + 'ssim'] == expected['ssim']
    np.testing.assert_array_equal(target, frames['010'])
    assert scores == {key: row[key] for key in ('psnr', 'ssim', 'bicubic_psnr', 'bicubic_ssim')}


def test_references_are_reported(weights, pairs, tmp_path, capsys):
  write_folders(tmp_path, pairs)
  write_references(tmp_path, pairs, Restorer.from_pretrained(weights))
  test_set = test_sets.folder_test_set(tmp_path / 'lr_blur', tmp_path / 'references')
  page = tmp_path / 'page.html'
  evaluate.evaluate_and_report(weights, test_set, 'gfn', tmp_path / 'out', page)
  with open(tmp_path / 'out/images.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [(row['reference'], row['bicubic_reference']) for row in rows] == [('010', '001')] * 2
  summary = json.loads((tmp_path / 'out/summary.json').read_text())
  assert len(summary['data'].pop('files')) == 64  # a digest
  assert summary['data'] == {
    'input_dir': str(tmp_path / 'lr_blur'),
    'target_dir': str(tmp_path / 'references'),
    'references': 8,
    'best_reference': 'highest PSNR',
  }
  for method, prefix in zip(summary['methods'], ('bicubic_', ''), strict=True):
    assert method['psnr'] == pytest.approx(np.mean([float(row[prefix + 'psnr']) for row in rows]))
  assert '2 images, protocol gfn' in capsys.readouterr().out
  assert page.exists()


def test_the_first_of_equal_references_counts(pairs):
  hr, lr_blur = pairs[0]['hr'], pairs[0]['lr_blur']
  references = [Reference(name, hr.copy()) for name in ('1', '2')]
  scores, best, bicubic_best = score_references('a', lr_blur, hr, references, 'cnlrn')
  assert (best.name, bicubic_best.name) == ('1', '1')
  assert scores == score('a', lr_blur, hr, hr, 'cnlrn')
  assert scores['psnr'] == float('inf')


def test_few_references_are_in_memory(pairs):
  hr, lr_blur = pairs[0]['hr'], pairs[0]['lr_blur']
  read = []

  def references():
    for index in range(12):
      pixels = noisy(hr, 12 - index, index)  # the last one is the best
      read.append(weakref.ref(pixels))
      yield Reference(str(index), pixels)
      alive = sum(one() is not None for one in read)
      assert alive <= 4  # the two best, the last, and `pixels`

  _, best, _ = score_references('a', lr_blur, hr, references(), 'cnlrn')
  assert len(read) == 12
  assert best.name == '11'


def test_lpips_is_of_the_best_reference(pairs):
  hr, lr_blur = pairs[0]['hr'], pairs[0]['lr_blur']
  references = [Reference('far', noisy(hr, 20)), Reference('near', noisy(hr, 5))]

  def difference(a, b):
    return float(np.abs(a.astype(int) - b).max())

  scores, best, _ = score_references('a', lr_blur, hr, references, 'cnlrn', difference)
  assert best.name == 'near'
  assert scores['lpips'] == difference(hr, references[1].pixels)
  assert scores['bicubic_lpips'] == difference(bicubic(lr_blur), references[1].pixels)


def test_references_that_do_not_fit_are_named(weights, pairs, tmp_path):
  restorer = Restorer.from_pretrained(weights)
  write_folders(tmp_path, pairs)
  write_references(tmp_path, pairs, restorer)
  lr_blur, references = tmp_path / 'lr_blur', tmp_path / 'references'

  def run():
    evaluate.evaluate(restorer, test_sets.folder_test_set(lr_blur, references).images, 'gfn')

  (references / 'b/002.png').write_bytes(b'no image')
  with pytest.raises(UserError, match=f'^cannot read {references}/b/002.png: unsupported format'):
    run()
  Image.fromarray(pairs[1]['hr'][4:]).save(references / 'b/002.png')
  with pytest.raises(UserError, match='^b, 002: expected a target of 80x80 .*, found 80x76$'):
    run()
  shutil.rmtree(references / 'b')
  with pytest.raises(UserError, match=f'without a counterpart of the same name: {lr_blur}/b.png$'):
    run()
  (references / 'b').mkdir()
  with pytest.raises(UserError, match=f'^no image in {references}/b; extensions are'):
    run()


# Several processes.


@pytest.mark.parametrize(('processes', 'limit'), [(2, 0), (3, 2)])
def test_processes_share_the_images_and_give_the_table_of_one(
  weights, pairs, tmp_path, monkeypatch, capsys, processes, limit
):
  write_folders(tmp_path, [*pairs, pairs[1] | {'name': 'c'}])

  def evaluate_into(output):
    test_set = test_sets.folder_test_set(tmp_path / 'lr_blur', tmp_path / 'hr', limit)
    evaluate.evaluate_and_report(weights, test_set, 'gfn', output)
    return capsys.readouterr().out

  def results(output):
    with open(output / 'images.csv', newline='') as file:
      rows = [row | {'seconds': None} for row in csv.DictReader(file)]
    summary = json.loads((output / 'summary.json').read_text())
    summary['methods'][1]['seconds'] = None
    pictures = {path.name: path.read_bytes() for path in (output / 'images').iterdir()}
    return rows, summary, pictures

  evaluate_into(tmp_path / 'alone')
  printed = run_together(monkeypatch, processes, lambda _: evaluate_into(tmp_path / 'together'))
  assert ''.join(printed).count('| bicubic |') == 1
  assert results(tmp_path / 'together') == results(tmp_path / 'alone')
  assert len(results(tmp_path / 'together')[0]) == (limit or 3)


def test_processes_share_images_with_references(weights, pairs, tmp_path, monkeypatch):
  restorer = Restorer.from_pretrained(weights)
  write_folders(tmp_path, pairs)
  write_references(tmp_path, pairs, restorer)

  def run(_):
    test_set = test_sets.folder_test_set(tmp_path / 'lr_blur', tmp_path / 'references')
    return evaluate.evaluate(restorer, test_set.images, 'gfn')

  alone = run(0)
  assert len(alone) == 2
  assert run_together(monkeypatch, 2, run) == [alone, alone]


def test_an_error_in_one_process_ends_all(weights, pairs, tmp_path, monkeypatch):
  write_folders(tmp_path, pairs)
  (tmp_path / 'lr_blur' / 'b.png').write_bytes(b'no image')

  def run(_):
    test_set = test_sets.folder_test_set(tmp_path / 'lr_blur', tmp_path / 'hr')
    evaluate.evaluate_and_report(weights, test_set, 'gfn', tmp_path / 'out')

  errors = run_together(monkeypatch, 2, run)
  assert all(isinstance(error, UserError) for error in errors)
  assert str(errors[0]) == str(errors[1])
  assert 'b.png: unsupported format' in str(errors[0])
  assert not (tmp_path / 'out' / 'summary.json').exists()

  def fail(index):
    with parallel.ending_together():
      if index == 1:
        raise TypeError('a fault of the library')

  errors = run_together(monkeypatch, 3, fail)
  assert [type(error) for error in errors] == [UserError, TypeError, UserError]
  assert {str(error) for error in errors} == {'a fault of the library'}


def test_processes_that_see_other_images_are_told(weights, pairs, tmp_path, monkeypatch):
  def run(index):
    test_set = test_sets.TestSet([pairs[0]], 2, {})  # both have the first one
    evaluate.evaluate_and_report(weights, test_set, 'gfn', tmp_path / f'disk_{index}')

  for error in run_together(monkeypatch, 2, run):
    assert 'the processes see different test images' in str(error)


def test_a_report_is_for_one_process(weights, pairs, tmp_path, monkeypatch):
  def run(index):
    test_set = test_sets.TestSet(pairs[index:], 2, {})
    evaluate.evaluate_and_report(weights, test_set, 'gfn', tmp_path, tmp_path / 'page.html')

  for error in run_together(monkeypatch, 2, run):
    assert 'use one process for it' in str(error)


# Errors.


def test_a_target_of_another_size_is_refused_by_name(weights, pairs):
  wrong = [pairs[0] | {'hr': pairs[0]['hr'][:-4]}]
  with pytest.raises(UserError, match='a/0: expected a target of .* of 32x24, found 128x92'):
    evaluate.evaluate(Restorer.from_pretrained(weights), wrong, 'gfn')


def test_an_image_too_small_for_the_protocol_is_named(weights):
  tiny = [{'name': 'tiny', 'lr_blur': np.zeros((4, 4, 3), np.uint8)}]
  tiny[0]['hr'] = np.zeros((16, 16, 3), np.uint8)
  with pytest.raises(UserError, match='tiny: protocol gfn needs at least 23 pixels a side'):
    evaluate.evaluate(Restorer.from_pretrained(weights), tiny, 'gfn')


def test_an_image_too_small_for_lpips_is_named(weights):
  small_one = {'name': 'small', 'lr_blur': np.zeros((7, 9, 3), np.uint8)}
  small_one['hr'] = np.zeros((28, 36, 3), np.uint8)
  lpips = LPIPS(random_lpips.together())
  with pytest.raises(UserError, match='small: LPIPS needs at least 31 pixels a side'):
    evaluate.evaluate(Restorer.from_pretrained(weights), [small_one], 'gfn', lpips=lpips)


def test_nothing_to_evaluate_is_an_error(weights):
  with pytest.raises(UserError, match='no image to evaluate'):
    evaluate.evaluate(Restorer.from_pretrained(weights), [], 'gfn')


def test_errors_of_datasets_and_runs(tmp_path):
  with pytest.raises(UserError, match='pass --config.data.data_dir'):
    test_sets.dataset_test_set({'data': {'data_dir': ''}})
  with pytest.raises(UserError, match='no dataset in'):
    test_sets.dataset_test_set({'data': {'data_dir': tmp_path}})
  with pytest.raises(UserError, match='is not the folder of a run'):
    test_sets.run_config(tmp_path)
