"""`gfn-restore`, in this process and in one of its own."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.cli import restore
from gfn_jax.errors import UsageError
from gfn_jax.models import init_variables
from gfn_jax.restoration import dtypes, records
from gfn_jax.weights.pretrained import save_weights
from tests import small

GFN_RESTORE = os.path.join(os.path.dirname(sys.executable), 'gfn-restore')
PHOTO = skimage.data.coffee()[100:148, 200:264]


@pytest.fixture
def photos(tmp_path):
  folder = tmp_path / 'photos'
  folder.mkdir()
  for i in range(6):
    Image.fromarray(np.roll(PHOTO, i, axis=1)).save(folder / f'{i}.png')
  return folder


def start(*arguments):
  environment = os.environ | {'XLA_FLAGS': ''}
  return subprocess.Popen(
    [GFN_RESTORE, *map(str, arguments)],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def names(folder):
  """Return the names of the files in a folder that are not hidden."""
  return sorted(path.name for path in folder.iterdir() if not path.name.startswith('.'))


@pytest.mark.full
@pytest.mark.end_to_end
def test_a_folder_that_is_killed_is_finished_by_the_same_command(photos, tmp_path):
  target = tmp_path / 'out'
  command = (photos, target, '--ensemble')  # slow
  process = start(*command)
  deadline = time.monotonic() + 120
  while not (target / '1.png').exists():
    assert process.poll() is None, process.stderr.read()
    assert time.monotonic() < deadline
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  finished = names(target)
  assert 2 <= len(finished) < 6
  for name in finished:
    with Image.open(target / name) as image:
      assert np.asarray(image).shape == (192, 256, 3)

  process = start(*command)
  output, errors = process.communicate(timeout=120)
  assert process.returncode == 0, errors
  counts = f'{6 - len(finished)} restored, {len(finished)} existed already (--overwrite)'
  assert output == f'{counts} -> {target}/\n'
  assert names(target) == [f'{i}.png' for i in range(6)]


@pytest.mark.full
@pytest.mark.end_to_end
def test_a_program_in_the_cache_is_not_announced(photos, tmp_path, monkeypatch):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'cache'))
  errors = []
  start_lines = 'GFN computes in float32\n'
  for name in ('a.png', 'b.png'):
    process = start(photos / '0.png', tmp_path / name)
    output, error = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, f'1 restored -> {tmp_path / name}\n')
    errors.append(error.removeprefix(start_lines))
  assert errors[0] in ('compiling GFN for 64x64\n', '')  # if it took longer than a second, or not
  assert errors[1] == ''


def test_a_mistake_ends_in_one_line(tmp_path):
  process = start(tmp_path / 'nowhere\n.png', tmp_path / 'out.png')
  output, errors = process.communicate(timeout=120)
  assert process.returncode == 1
  assert output == ''
  assert errors == f'error: no such file or folder: {tmp_path}/nowhere\\n.png\n'


def test_options_reach_the_restorer(photos, tmp_path, capsys):
  source, target = photos / '0.png', tmp_path / 'out.webp'
  options = ['--same_size', '--ensemble', '--tile', '96', '--overlap=32', '--batch_size=2']
  restore.main([str(source), str(target), *options, '--dtype=bfloat16'])
  assert capsys.readouterr().out == f'1 restored -> {target}\n'
  restorer = Restorer.from_pretrained(
    'gfn', output='lr', ensemble=True, tile=96, overlap=32, batch_size=2, dtype='bfloat16'
  )
  with Image.open(target) as image:
    restored = np.asarray(image).astype(int)
  assert restored.shape == PHOTO.shape
  assert np.abs(restored - restorer(PHOTO)).mean() < 3  # WebP


def test_long_blur_reaches_the_restorer_and_the_record(photos, tmp_path):
  source, target = photos / '0.png', tmp_path / 'out.png'
  restore.main([str(source), str(target), '--blur=30', '--dtype=float32'])
  restored = Restorer.from_pretrained('gfn', blur=30)(PHOTO)
  with Image.open(target) as image:
    np.testing.assert_array_equal(np.asarray(image), restored)
  assert restored.shape == PHOTO.shape
  with pytest.raises(UserError, match=r'exists, from other settings \(blur\); --overwrite'):
    restore.main([str(source), str(target), '--blur=20', '--dtype=float32'])


def dtype_of(target):
  """Return the recorded type of the computation of a result."""
  return json.loads(pathlib.Path(records._path(target)).read_text())['dtype']


def test_the_faster_type_is_taken_where_it_pays(photos, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(dtypes, 'computes_bfloat16', lambda: True)
  deep = np.asarray(PHOTO[..., 0], np.uint16) * 257
  Image.fromarray(deep).save(photos / 'deep.png')
  out = tmp_path / 'out'
  restore.main([str(photos), str(out)])
  assert capsys.readouterr().err.splitlines()[0] == (
    'GFN computes in bfloat16, and in float32 for images of more than 8 bits (--dtype=float32: '
    'for all)'
  )
  assert {dtype_of(out / f'{i}.png') for i in range(6)} == {'bfloat16'}
  assert dtype_of(out / 'deep.png') == 'float32'
  with Image.open(out / '0.png') as image:
    rounded = Restorer.from_pretrained('gfn', dtype='bfloat16')(PHOTO)
    np.testing.assert_array_equal(np.asarray(image), rounded)

  restore.main([str(photos / '0.png'), str(tmp_path / 'one.png')])
  assert 'GFN computes in float32\n' in capsys.readouterr().err
  assert dtype_of(tmp_path / 'one.png') == 'float32'  # too small to make up for the compilation


def test_another_machine_may_continue_in_another_type(photos, tmp_path, monkeypatch, capsys):
  out = tmp_path / 'out'
  command = [str(photos), str(out)]
  for fast, options, restored in (
    (False, [], 6),
    (True, [], 0),
    (False, ['--dtype=float32'], 0),
    (True, ['--overwrite'], 6),
    (False, [], 0),
  ):
    monkeypatch.setattr(dtypes, 'computes_bfloat16', lambda fast=fast: fast)
    restore.main([*command, *options])
    assert capsys.readouterr().out.startswith(f'{restored} restored')
  with pytest.raises(UserError, match='6 of 6 files could not be restored'):
    restore.main([*command, '--dtype=float32'])
  assert 'exists, from other settings (dtype); --overwrite' in capsys.readouterr().err


def test_frames(photos, tmp_path, capsys):
  options = {**small.BMDSRNET, 'variant': 'c', 'global_skip': 'input'}
  model = create_model('bmdsrnet', **options)
  weights = tmp_path / 'weights.safetensors'
  save_weights(weights, init_variables(model, seed=0), {'name': 'bmdsrnet', **options}, {})
  command = [f'--weights={weights}', '--output=frames']
  restore.main([str(photos / '0.png'), str(tmp_path / 'frames.webp'), *command])
  wanted = Restorer.from_pretrained(weights, output='frames')(PHOTO).astype(int)
  with Image.open(tmp_path / 'frames.webp') as image:
    assert image.n_frames == 12
    for i, frame in enumerate(wanted):
      image.seek(i)
      assert np.abs(np.asarray(image.convert('RGB')) - frame).mean() < 4
  restore.main([str(photos), str(tmp_path / 'out'), *command])
  assert names(tmp_path / 'out') == [f'{i}.gif' for i in range(6)]
  assert capsys.readouterr().out == (
    f'1 restored -> {tmp_path}/frames.webp\n6 restored -> {tmp_path}/out/\n'
  )


def test_frames_have_weights_of_their_own(photos, tmp_path):
  restore.main([str(photos / '0.png'), str(tmp_path / 'frames.gif'), '--output=frames'])
  with Image.open(tmp_path / 'frames.gif') as image:
    assert (image.size, image.n_frames) == (PHOTO.shape[1::-1], 12)


def test_a_page_and_scores(photos, tmp_path, capsys):
  targets = tmp_path / 'hr'
  targets.mkdir()
  for path in photos.iterdir():
    with Image.open(path) as image:
      image.resize((256, 192), Image.Resampling.BICUBIC).save(targets / path.name)
  page = tmp_path / 'page.html'
  options = [f'--report={page}', f'--target_dir={targets}', '--protocol=mprnet', '--format=jpg']
  restore.main([str(photos), str(tmp_path / 'out'), *options])
  assert capsys.readouterr().out == f'6 restored -> {tmp_path}/out/, {page}\n'
  assert names(tmp_path / 'out') == [f'{i}.jpg' for i in range(6)]
  text = page.read_text()
  assert 'mprnet' in text
  assert len(re.findall('<article', text)) == 6


USAGE = [
  (['photos'], 'the following arguments are required: OUT'),
  (['photos', 'out', '--tiles=3'], 'unrecognized arguments: --tiles=3'),
  (['photos', 'out', '--tile=big'], "argument --tile: invalid tile value: 'big'"),
  (['photos', 'out', '--tile=100'], '--tile=100 --overlap=96: tile 100: pass a multiple of 32'),
  (['photos', 'out', '--overlap=5'], '--overlap=5: overlap 5: pass a multiple of 16'),
  (['photos', 'out', '--output=both'], "argument --output: invalid choice: 'both'"),
  (['photos', 'out', '--format=bpg'], "argument --format: invalid choice: 'bpg'"),
  (['photos', 'out', '--format=gif'], '--format=gif requires --output=frames'),
  (['photos', 'out', '--format=png', '--output=frames'], 'png: frames become an animation; choose'),
  (['photos', 'out', '--ensemble', '--output=frames'], '--ensemble is not for --output=frames'),
  (['photos', 'out', '--report=r.html', '--output=frames'], '--report is not for --output=frames'),
  (['photos', 'out', '--same_size', '--output=hr'], '--same_size contradicts --output=hr'),
  (['photos', 'out', '--output=frames', '--same_size'], '--same_size contradicts --output=frames'),
  (['photos', 'out', '--blur=30', '--output=hr'], '--blur contradicts --output=hr; omit one'),
  (['photos', 'out', '--blur=-3'], "argument --blur: invalid length value: '-3'"),
  (['photos', 'out', '--target_dir=hr'], '--target_dir requires a report: pass --report='),
  (['photos', 'out', '--protocol=cnlrn'], '--protocol requires the sharp images: pass --target_'),
  (['photos/0.png', 'out.png', '--format=jpg'], '--format=jpg contradicts out.png; omit one'),
  (['photos', 'out', '--max_pixels=0'], "argument --max_pixels: invalid positive value: '0'"),
  (['photos', 'out', '--batch_size=0'], "argument --batch_size: invalid positive value: '0'"),
  (['movie.mp4', 'out.mp4', '--format=png'], '--format is for images, not for a video'),
  (['photos', 'out', '--keep_damaged'], '--keep_damaged is for videos'),
  (['movie.mp4', 'out.mp4', '--output=frames'], '--output=frames is for photos, not for a video'),
]
OTHERS = [
  (['photos', 'out', '--weights=none'], "no released weights are named 'none'"),
  (
    ['photos', 'out', '--weights=empty'],
    'no weights in the folder empty: neither weights.safe',
  ),
  (['photos', 'out', '--output=frames', '--weights=gfn'], 'GFN makes no frames; use BMDSRNet'),
  (['photos', 'photos'], 'photos would be overwritten; choose another output'),
  (['movie.mp4', 'out.mp4'], 'movie.mp4'),
  (['empty', 'out'], 'no image in empty'),
  (['photos/0.png', 'out.heic'], 'out.heic: unknown extension; choose one of .png'),
]


@pytest.mark.parametrize(
  ('arguments', 'message', 'status'), [(*row, 2) for row in USAGE] + [(*row, 1) for row in OTHERS]
)
def test_mistakes(photos, tmp_path, monkeypatch, arguments, message, status):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'movie.mp4').write_bytes(b'')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UserError) as raised:
    restore.main(arguments)
  assert message in str(raised.value)
  assert '\n' not in str(raised.value)
  assert isinstance(raised.value, UsageError) == (status == 2)
  assert names(tmp_path) == ['empty', 'movie.mp4', 'photos']


def test_the_folder_of_a_run_stands_for_its_weights(photos, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  save_weights('w.safetensors', init_variables(create_model(**small.MODEL), 0), small.MODEL, {})
  for run in ('run', 'gfn'):
    os.mkdir(run)
    shutil.copy('w.safetensors', f'{run}/weights.safetensors')
  restore.main(['photos/0.png', 'a.png', '--weights=run'])
  restore.main(['photos/0.png', 'b.png', '--weights=gfn/'])
  restore.main(['photos/0.png', 'c.png', '--weights=gfn'])  # a released name
  with Image.open('a.png') as a, Image.open('b.png') as b, Image.open('c.png') as c:
    np.testing.assert_array_equal(a, Restorer.from_pretrained('w.safetensors')(PHOTO))
    np.testing.assert_array_equal(b, a)
    np.testing.assert_array_equal(c, Restorer.from_pretrained('gfn')(PHOTO))
  with pytest.raises(UserError, match='a.png exists, from other settings .weights.; --over'):
    restore.main(['photos/0.png', 'a.png'])
  capsys.readouterr()
  restore.main(['photos/0.png', 'a.png', '--overwrite'])
  restore.main(['photos/0.png', 'a.png', '--batch_size=2'])
  assert capsys.readouterr().out == (
    '1 restored -> a.png\n0 restored, 1 existed already (--overwrite) -> a.png\n'
  )


def test_options_may_stand_between_several_inputs(photos, tmp_path):
  args = restore.parse(['a.jpg', '--ensemble', 'b.jpg', '--tile', '96', 'out', '--overlap=32'])
  assert (args.sources, args.target, args.tile) == (['a.jpg', 'b.jpg'], 'out', 96)


@pytest.mark.parametrize('name', ['out.gif', 'out.webp'])
def test_an_animation_is_restored_frame_by_frame(tmp_path, name, capsys):
  weights, model = tmp_path / 'weights.safetensors', create_model(**small.MODEL)
  save_weights(weights, init_variables(model, seed=0), small.MODEL, {})
  frames = [Image.fromarray(np.roll(PHOTO, 9 * i, axis=1)) for i in range(3)]
  source, target = tmp_path / 'a.gif', tmp_path / name
  frames[0].save(source, save_all=True, append_images=frames[1:], duration=[50, 100, 150], loop=0)
  arguments = [str(source), str(target), f'--weights={weights}']
  restore.main(arguments)
  assert capsys.readouterr().out == f'1 restored -> {target}\n'
  with Image.open(target) as image:
    assert (image.size, image.n_frames) == ((4 * 64, 4 * 48), 3)
    times = []
    for i in range(3):
      image.seek(i)
      image.load()
      times.append(image.info['duration'])
  assert times == [50, 100, 150]
  restore.main(arguments)
  assert '0 restored, 1 existed already' in capsys.readouterr().out
  with pytest.raises(UserError, match='its result would overwrite .*a.gif'):
    restore.main([str(source), str(source), f'--weights={weights}', '--overwrite'])
  with pytest.raises(UsageError, match='--report is for images, not for an animation'):
    restore.main([*arguments, f'--report={tmp_path}/report.html'])
