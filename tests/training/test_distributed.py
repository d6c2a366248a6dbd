"""Runs of several processes, joined over localhost."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import safetensors.numpy
import skimage.data
from PIL import Image

from gfn_jax import UserError, create_model
from gfn_jax.evaluation import evaluate, test_sets
from gfn_jax.ops.imresize import imresize
from gfn_jax.system import parallel
from gfn_jax.weights.pretrained import save_weights
from tests import small
from tests.models.networks import random_params
from tests.ports import free_port
from tests.xla_flags import COMPILE_FAST

pytestmark = pytest.mark.end_to_end

TRAIN = (
  'run_train.py',
  '--config=configs/gfn_photos.py:small_sr',  # compiles in a quarter of the time
  '--config.model.features=4',
  '--config.model.sr_blocks=1',
  '--config.model.reconstruction_blocks=1',
  '--config.optimizer.name=adam',
  '--config.training.batch_size=4',
  '--config.training.crop_size=8',
  '--config.data.margin=8',
  '--config.data.motion_blur.camera.frames=3',
  '--config.data.held_out=2',
  '--config.training.steps_per_epoch=8',
  '--config.phases.phase_2.epochs=1',
  '--config.phases.phase_2.schedule.warmup_steps=1',
  '--config.run.log_every=1',
  '--config.run.checkpoint_every=4',
  '--config.evaluation.every=8',
)


def start(processes, devices, log, *command):
  """The processes of one run, each with its own devices and `log_N.log`, without TensorFlow."""
  without = pathlib.Path(f'{log}_without')
  without.mkdir(exist_ok=True)
  (without / 'tensorflow.py').write_text("raise ImportError('this needs no TensorFlow')")
  flags = f'--xla_force_host_platform_device_count={devices} {COMPILE_FAST}'
  environment = os.environ | {'XLA_FLAGS': flags, 'PYTHONUNBUFFERED': '1'}
  environment['PYTHONPATH'] = str(without)
  address = f'localhost:{free_port()}'
  running = []
  for number in range(processes):
    joined = []
    if processes > 1:
      joined = [f'--coordinator_address={address}', f'--num_processes={processes}']
      joined.append(f'--process_id={number}')
    arguments = [sys.executable, *command, *joined]
    with open(f'{log}_{number}.log', 'a') as file:
      running.append(subprocess.Popen(arguments, stderr=file, stdout=file, env=environment))
  return running


def finish(running, log, status=0):
  for process in running:
    process.wait(300)
  assert [process.returncode for process in running] == [status] * len(running), log.read_text()


def results(workdir):
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  for row in rows:
    for key in [key for key in row if key == 'time' or key.startswith('system/')]:
      del row[key]
  return safetensors.numpy.load_file(workdir / 'weights.safetensors'), rows


@pytest.mark.full
def test_several_processes_train_as_one_and_a_run_changes_their_number(photos_dir, tmp_path):
  alone, joined = tmp_path / 'alone', tmp_path / 'joined'

  def train(processes, devices, workdir):
    data = f'--config.data.photos={photos_dir}'
    return start(processes, devices, workdir, *TRAIN, f'--workdir={workdir}', data)

  one = train(1, 4, alone)

  # Two processes of two devices: SIGTERM to one of them ends both after the same step.
  two = train(2, 2, joined)
  log = tmp_path / 'joined_0.log'
  deadline = time.monotonic() + 240
  while 'compiling the first' not in log.read_text():
    assert time.monotonic() < deadline
    assert all(process.poll() is None for process in two), log.read_text()
    time.sleep(0.05)
  two[1].send_signal(signal.SIGTERM)
  finish(two, log, 143)
  assert 'the same command continues from there' in log.read_text()
  (step,) = [int(path.name) for path in (joined / 'checkpoints').iterdir()]
  assert step < 8

  # Four of one device go on.
  finish(train(4, 1, joined), log)
  assert f'step {step} of 8, on 4 x' in log.read_text()

  finish(one, tmp_path / 'alone_0.log')
  (params, rows), (expected, expected_rows) = results(joined), results(alone)
  for key, value in expected.items():
    np.testing.assert_allclose(params[key], value, rtol=1e-3, atol=2e-5)
  assert len(rows) == len(expected_rows) == 9
  for row, expected_row in zip(rows, expected_rows, strict=True):
    assert row == pytest.approx(expected_row, rel=1e-3)
  assert 'test/psnr' in rows[-1]
  card = json.loads((joined / 'weights.json').read_text())
  assert card['scores']['images'] == 2  # of which two of the four processes had none


def test_two_processes_evaluate_and_restore_as_one(tmp_path):
  weights = tmp_path / 'weights.safetensors'
  params = random_params(create_model(**small.SR_BRANCH))
  save_weights(weights, {'params': params}, small.SR_BRANCH, {})
  for kind in ('lr', 'hr'):
    (tmp_path / kind).mkdir()
  for number in range(3):
    hr = skimage.data.astronaut()[50 * number : 50 * number + 96, 200:296]
    Image.fromarray(hr).save(tmp_path / 'hr' / f'{number}.png')
    Image.fromarray(imresize(hr, 0.25)).save(tmp_path / 'lr' / f'{number}.png')
  command = ['run_eval.py', f'--weights={weights}', f'--input_dir={tmp_path / "lr"}']
  evaluating = [*command, f'--target_dir={tmp_path / "hr"}', f'--output_dir={tmp_path / "joined"}']
  finish(start(2, 1, tmp_path / 'evaluate', *evaluating), tmp_path / 'evaluate_0.log')

  test_set = test_sets.folder_test_set(tmp_path / 'lr', tmp_path / 'hr')
  evaluate.evaluate_and_report(weights, test_set, 'gfn', tmp_path / 'alone')
  tables = []
  for run in ('alone', 'joined'):
    with open(tmp_path / run / 'images.csv', newline='') as file:
      tables.append([row | {'seconds': None} for row in csv.DictReader(file)])
  assert [row['name'] for row in tables[0]] == ['0', '1', '2']
  assert tables[1] == tables[0]
  log = (tmp_path / 'evaluate_0.log').read_text()
  assert '3 images, protocol gfn' in log
  assert '| bicubic' not in (tmp_path / 'evaluate_1.log').read_text()

  (tmp_path / 'lr' / '1.png').write_bytes(b'no image')
  restoring = [*command, f'--output_dir={tmp_path / "photos"}']
  finish(start(2, 1, tmp_path / 'restore', *restoring), tmp_path / 'restore_0.log', status=1)
  for number in range(2):
    last = (tmp_path / f'restore_{number}.log').read_text().splitlines()[-1]
    assert last == 'error: 1 of 3 files could not be restored: see above'
  for name in ('0.png', '2.png'):
    expected = (tmp_path / 'joined' / 'images' / name).read_bytes()
    assert (tmp_path / 'photos' / name).read_bytes() == expected


def test_half_of_the_arguments_are_refused():
  with pytest.raises(UserError, match='^pass coordinator_address, .* together, or none'):
    parallel.initialize(num_processes=2)


def test_processes_that_cannot_connect_are_told_in_one_line(monkeypatch):
  def devices():
    raise RuntimeError("Unable to initialize backend 'cpu': no such host\nand more")

  monkeypatch.setattr(jax.distributed, 'initialize', lambda *args: None)
  monkeypatch.setattr(jax, 'devices', devices)
  with pytest.raises(UserError, match="^cannot join .* Unable .* 'cpu': no such host$"):
    parallel.initialize('localhost:1', 2, 0)
