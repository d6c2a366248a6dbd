"""The commands, as a user calls them: in processes of their own."""

import configparser
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from gfn_jax.ops import metrics
from gfn_jax.weights.pretrained import load_card
from tests import random_lpips
from tests.xla_flags import COMPILE_FAST

pytestmark = pytest.mark.end_to_end

TRAIN = (
  'run_train.py',
  '--config=configs/gfn_small.py',
  '--config.model.features=4',
  '--config.model.deblur_blocks=1',
  '--config.model.sr_blocks=1',
  '--config.model.reconstruction_blocks=1',
  '--config.training.batch_size=4',
  '--config.training.crop_size=8',
  '--config.training.steps_per_epoch=5',
  '--config.phases.phase_1.epochs=2',
  '--config.phases.phase_2.epochs=2',
  '--config.run.checkpoint_every=5',
  '--config.evaluation.every=20',
  '--config.run.log_every=5',
  '--config.evaluation.protocol=mprnet',
)
PHOTOS = ('run_train.py', '--config=configs/gfn_photos.py:small')
STEPS = 20


def environment(xla_flags=COMPILE_FAST):
  """One device; small networks take longer to optimise than to run."""
  return os.environ | {'XLA_FLAGS': xla_flags, 'PYTHONUNBUFFERED': '1'}


def run(*command, **options):
  return subprocess.run(
    [sys.executable, *command],
    capture_output=True,
    text=True,
    env=environment(**options),
    timeout=300,
  )


@pytest.fixture(scope='module')
def workdir(dataset_dir, tmp_path_factory):
  """A run that was killed at some step after its second checkpoint, and continued."""
  workdir = tmp_path_factory.mktemp('run') / 'workdir'
  command = [*TRAIN, f'--workdir={workdir}', f'--config.data.data_dir={dataset_dir}']
  process = subprocess.Popen(
    [sys.executable, *command], env=environment(), stderr=subprocess.PIPE, text=True
  )
  deadline = time.monotonic() + 240
  while not (workdir / 'checkpoints' / '10' / 'manifest.json').exists():
    assert process.poll() is None, process.stderr.read()
    assert time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert max(int(path.name) for path in finished_checkpoints(workdir)) < STEPS

  result = run(*command)
  assert result.returncode == 0, result.stderr
  return workdir, result.stderr


def finished_checkpoints(workdir):
  return [path for path in (workdir / 'checkpoints').iterdir() if path.name.isdigit()]


@pytest.mark.full
def test_a_killed_run_continues_with_the_same_command(workdir):
  workdir, stderr = workdir
  [start] = [line for line in stderr.splitlines() if 'parameters, step' in line]
  first_step = int(start.split('step ')[-1].split()[0])
  assert 10 <= first_step < STEPS
  assert first_step % 5 == 0
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows if 'loss' in row] == list(range(5, STEPS + 1, 5))
  overrides = json.loads((workdir / 'overrides.json').read_text())
  assert overrides['training.batch_size'] == 4
  assert 'training.seed' not in overrides
  assert 'compiling' in stderr


@pytest.mark.full
def test_evaluating_a_run(workdir, dataset_dir, tmp_path):
  workdir, _ = workdir
  files = [str(tmp_path / f'{name}.safetensors') for name in ('alexnet', 'linear')]
  for path, state in zip(files, (random_lpips.alexnet(), random_lpips.linear()), strict=True):
    safetensors.numpy.save_file(state, path)
  result = run('run_eval.py', f'--workdir={workdir}', f'--lpips_weights={",".join(files)}')
  assert result.returncode == 0, result.stderr
  lines = result.stdout.splitlines()
  assert lines[0].startswith('1 images, protocol mprnet')  # the config's
  assert [line.split(' | ')[0] for line in lines if line.startswith('| ')] == [
    '| method',
    '| bicubic',
    '| GFN',
  ]
  assert '| method | parameters | PSNR | SSIM | LPIPS | seconds |' in lines
  summary = json.loads((workdir / 'eval' / 'summary.json').read_text())
  assert summary['protocol'] == 'mprnet'
  assert [weights['path'] for weights in summary['lpips']['weights']] == files
  assert summary['data']['blur_folder'] == 'blur_gamma'
  with Image.open(workdir / 'eval' / 'images' / 'sequence' / '000001.png') as image:
    assert image.size == (192, 128)


@pytest.mark.full
def test_the_demonstration(tmp_path):
  result = run('examples/demo.py', f'--dir={tmp_path}', xla_flags='')
  assert result.returncode == 0, result.stderr
  scores = re.findall(r'(\d\d\.\d\d) dB / (0\.\d{4})', result.stdout)
  bicubic, restored = ([float(score) for score in pair] for pair in scores)
  assert restored[0] > bicubic[0]
  readme = (pathlib.Path(__file__).parents[2] / 'README.md').read_text()  # repeats the figures
  for score in (bicubic[0], restored[0]):
    assert f'{score:.2f} dB' in readme
  for score in (bicubic[1], restored[1]):
    assert f'{score:.3f}'.removeprefix('0') in readme
  for name in ('gfn', 'bmdsrnet'):
    assert load_card(name)['data']['licence'] in result.stdout
  with Image.open(tmp_path / 'before_after.png') as picture:
    assert picture.size == (960, 520)
  with Image.open(tmp_path / 'frames.gif') as animation:
    assert (animation.size, animation.n_frames) == ((672, 170), 12)
    for end in (0, 6):
      animation.seek(end)
      blurred, frame, target = np.split(np.asarray(animation.convert('RGB'))[20:], 3, axis=1)
      assert metrics.psnr(frame, target) > metrics.psnr(blurred, target) + 1


@pytest.mark.full
def test_restoring_a_photo(workdir, tmp_path):
  workdir, _ = workdir
  photo = tmp_path / 'photo.png'
  Image.fromarray(np.full((9, 14, 3), 128, np.uint8)).save(photo)
  command = ('run_eval.py', f'--workdir={workdir}', f'--input_dir={photo}')
  result = run(*command, f'--output_dir={tmp_path / "out"}')
  assert result.returncode == 0, result.stderr
  with Image.open(tmp_path / 'out' / 'photo.png') as image:
    assert image.size == (56, 36)


MISTAKES = [
  (
    2,
    (*TRAIN, '--workdir=W', '--config.training.sede=1'),
    'in the config: sede; Did you mean "seed" instead of "sede"?',
  ),
  (2, ('run_train.py', '--workdir=W'), 'pass --config=NAME; --list_configs lists the configs'),
  (1, (*TRAIN, '--workdir=W'), 'pass --config.data.data_dir=DIR, built by gfn-prepare '),
  (1, (*PHOTOS, '--workdir=W'), 'pass --config.data.photos=DIR, a folder of sharp photographs'),
  (
    1,
    (*PHOTOS, '--workdir=W', '--config.data.photos=tests', '--config.data.held_out=0'),
    'no image in tests; extensions are .png',
  ),
  (2, ('run_train.py', '--config=configs/gfn.py:fast', '--workdir=W'), "choose from '', 'paper'"),
  (
    2,
    ('run_train.py', '--config=configs/none.py', '--workdir=W'),
    "no config 'configs/none.py' in the current folder or in the package; --list_configs",
  ),
  (1, ('run_eval.py', '--input_dir=I', '--output_dir=O'), 'no such file or folder: I'),
  (2, ('run_eval.py', '--input_dir=I'), 'no output folder: pass --output_dir=O'),
  (2, ('run_eval.py', '--target_dir=I', '--output_dir=O'), '--target_dir requires --input_dir'),
  (
    2,
    ('run_eval.py', '--output_dir=O', '--input_dir=I', '--target_dir=I', '--overwrite'),
    '--overwrite is for restoring',
  ),
  (
    2,
    ('run_eval.py', '--weights=none', '--output_dir=O', '--input_dir=I', '--limit=2'),
    '--protocol, --limit and --lpips_weights require --target_dir',
  ),
  (
    1,
    ('run_eval.py', '--weights=none', '--output_dir=O', '--input_dir=docs'),
    "no released weights are named 'none'",
  ),
]

# Runs commands of one script after the other, and prints their statuses and lines on stderr.
RUN_ALL = """
import contextlib, importlib, io, json, runpy, sys
from absl import app
from absl.testing import flagsaver

module, commands = json.loads(sys.argv[1])
sys.argv[0] = commands[0][0]
importlib.import_module(module)  # defines flags
app.define_help_flags()
results = []
for command in commands:
  sys.argv[:] = command
  with flagsaver.flagsaver(), contextlib.redirect_stderr(io.StringIO()) as stderr:
    try:
      runpy.run_path(command[0], run_name='__main__')
    except SystemExit as end:
      results.append((end.code, stderr.getvalue()))
print(json.dumps(results))
"""


@pytest.mark.parametrize('program', ['train', 'evaluate'])
def test_a_mistake_ends_in_one_line(program):
  script = {'train': 'run_train.py', 'evaluate': 'run_eval.py'}[program]
  mistakes = [mistake for mistake in MISTAKES if mistake[1][0] == script]
  commands = [command for _, command, _ in mistakes]
  found = run('-c', RUN_ALL, json.dumps([f'gfn_jax.cli.{program}', commands]))
  assert (found.returncode, found.stderr) == (0, '')
  for (status, command, message), result in zip(mistakes, json.loads(found.stdout), strict=True):
    code, printed = result
    if isinstance(code, str):  # which Python prints
      code, printed = 1, printed + code
    assert code == status, command
    [line] = printed.splitlines()
    assert line.startswith('error: ')
    assert message in line
  assert not os.path.exists('W')
  assert not os.path.exists('O')


@pytest.mark.parametrize(
  ('status', 'command', 'message'),
  [pytest.param(*MISTAKES[0], marks=pytest.mark.full), MISTAKES[-1]],
)
def test_a_mistake_is_the_status_of_the_process(status, command, message):
  result = run(*command)
  assert result.returncode == status
  [line] = result.stderr.splitlines()
  assert line.startswith('error: ')
  assert message in line


RESTORE = ('-m', 'gfn_jax.cli.restore', 'photo.png', 'out.png')
TRAIN_ON_PHOTOS = (*PHOTOS, '--workdir=W', '--config.data.photos=.')


@pytest.mark.parametrize(
  ('command', 'platforms'),
  [
    (RESTORE, 'cuda'),
    (TRAIN_ON_PHOTOS, 'nonesuch'),
    pytest.param(RESTORE, 'nonesuch', marks=pytest.mark.full),
    pytest.param(TRAIN_ON_PHOTOS, 'cuda', marks=pytest.mark.full),
  ],
)
def test_a_platform_that_is_not_there_is_one_line(tmp_path, monkeypatch, command, platforms):
  Image.new('RGB', (80, 80)).save(tmp_path / 'photo.png')
  monkeypatch.setenv('PYTHONPATH', str(pathlib.Path(__file__).parents[2]))
  monkeypatch.setenv('JAX_PLATFORMS', platforms)
  result = run(*(str(tmp_path / part) if 'photo.png' in part else part for part in command))
  assert result.returncode == 1
  [line] = [line for line in result.stderr.splitlines() if 'reading photos' not in line]
  assert line.startswith(f'error: JAX_PLATFORMS={platforms}: JAX has no such device')


def test_every_command_is_a_module_to_run():
  root = pathlib.Path(__file__).parents[2]
  setup = configparser.ConfigParser()
  setup.read(root / 'setup.cfg')
  scripts = setup['options.entry_points']['console_scripts'].strip().splitlines()
  assert len(scripts) >= 11
  for script in scripts:
    module, _, function = script.partition('=')[2].strip().partition(':')
    source = (root / module.replace('.', '/')).with_suffix('.py').read_text()
    assert source.endswith(f"\n\nif __name__ == '__main__':\n  {function}()\n"), module
