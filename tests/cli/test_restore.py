"""`gfn-restore`, in this process and in one of its own."""

import os
import re
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
from gfn_jax.models import init_variables
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
  finished = [path for path in target.iterdir() if not path.name.startswith('.')]
  assert 2 <= len(finished) < 6
  for path in finished:
    with Image.open(path) as image:
      assert np.asarray(image).shape == (192, 256, 3)

  process = start(*command)
  output, errors = process.communicate(timeout=120)
  assert process.returncode == 0, errors
  assert output == f'{6 - len(finished)} restored, {len(finished)} existed already (--overwrite)\n'
  assert 'compiling GFN for 64x64' in errors
  assert sorted(path.name for path in target.iterdir()) == [f'{i}.png' for i in range(6)]


def test_a_mistake_ends_in_one_line(tmp_path):
  process = start(tmp_path / 'nowhere\n.png', tmp_path / 'out.png')
  output, errors = process.communicate(timeout=120)
  assert process.returncode == 1
  assert output == ''
  assert errors == f'error: no such file or folder: {tmp_path}/nowhere\\n.png\n'


def test_options_reach_the_restorer(photos, tmp_path, capsys):
  source, target = photos / '0.png', tmp_path / 'out.webp'
  options = ['--output=lr', '--ensemble', '--tile', '96', '--overlap=32', '--batch_size=2']
  restore.main([str(source), str(target), *options, '--dtype=bfloat16'])
  assert capsys.readouterr().out == '1 restored\n'
  restorer = Restorer.from_pretrained(
    'gfn', output='lr', ensemble=True, tile=96, overlap=32, batch_size=2, dtype='bfloat16'
  )
  with Image.open(target) as image:
    restored = np.asarray(image).astype(int)
  assert restored.shape == PHOTO.shape
  assert np.abs(restored - restorer(PHOTO)).mean() < 3  # WebP


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
  assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
    f'{i}.gif' for i in range(6)
  ]
  assert capsys.readouterr().out == '1 restored\n6 restored\n'
  with pytest.raises(UserError, match='frames have no ensemble'):
    restore.main([str(photos), str(tmp_path / 'out'), *command, '--ensemble'])
  page = tmp_path / 'page.html'
  with pytest.raises(UserError, match='a report shows images, not frames'):
    restore.main([str(photos), str(tmp_path / 'out'), *command, f'--report={page}'])
  assert not page.exists()


def test_frames_have_weights_of_their_own(photos, tmp_path):
  restore.main([str(photos / '0.png'), str(tmp_path / 'frames.gif'), '--output=frames'])
  with Image.open(tmp_path / 'frames.gif') as image:
    assert (image.size, image.n_frames) == (PHOTO.shape[1::-1], 12)


def test_a_page_and_scores(photos, tmp_path):
  targets = tmp_path / 'hr'
  targets.mkdir()
  for path in photos.iterdir():
    with Image.open(path) as image:
      image.resize((256, 192), Image.Resampling.BICUBIC).save(targets / path.name)
  page = tmp_path / 'page.html'
  options = [f'--report={page}', f'--target_dir={targets}', '--protocol=mprnet', '--format=jpg']
  restore.main([str(photos), str(tmp_path / 'out'), *options])
  assert sorted(path.name for path in (tmp_path / 'out').iterdir())[0] == '0.jpg'
  text = page.read_text()
  assert 'mprnet' in text
  assert len(re.findall('<article', text)) == 6


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['photos'], 'the following arguments are required: OUT'),
    (['photos', 'out', '--tiles=3'], 'unrecognized arguments: --tiles=3'),
    (['photos', 'out', '--tile=big'], "argument --tile: invalid tile value: 'big'"),
    (['photos', 'out', '--tile=100'], 'tile 100: pass a multiple of 32'),
    (['photos', 'out', '--output=both'], "argument --output: invalid choice: 'both'"),
    (['photos', 'out', '--weights=none'], "no released weights are named 'none'"),
    (['photos', 'out', '--format=bpg'], "argument --format: invalid choice: 'bpg'"),
    (['photos', 'out', '--format=gif'], '--format=gif requires --output=frames'),
    (
      ['photos', 'out', '--format=png', '--output=frames'],
      'png: frames become an animation; choose',
    ),
    (['photos', 'out', '--output=frames', '--weights=gfn'], 'GFN makes no frames; use BMDSRNet'),
    (['photos', 'out', '--target_dir=hr'], '--target_dir requires a report: pass --report='),
    (['photos', 'out', '--max_pixels=0'], 'max_pixels 0: pass 1 or more'),
    (['photos', 'photos'], '0.png would be overwritten'),
    (['photos', 'out', '--keep_damaged'], '--keep_damaged is for videos'),
    (['movie.mp4', 'out.mp4', '--format=png'], '--report and --format are for images'),
    (['movie.mp4', 'out.mp4', '--output=frames'], '--output=frames is for photos, not for a video'),
    (['movie.mp4', 'out.mp4'], 'movie.mp4'),
    (['empty', 'out'], 'no image in empty'),
  ],
)
def test_mistakes(photos, tmp_path, monkeypatch, arguments, message):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'movie.mp4').write_bytes(b'')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UserError) as raised:
    restore.main(arguments)
  assert message in str(raised.value)
  assert '\n' not in str(raised.value)
  assert not (tmp_path / 'out').exists()
  assert not (tmp_path / 'out.mp4').exists()
