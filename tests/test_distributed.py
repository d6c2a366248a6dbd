"""Runs of several processes, joined over localhost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy

from gfn_jax import UserError, parallel

pytestmark = pytest.mark.end_to_end

TRAIN = (
  'run_train.py',
  '--config=configs/gfn_ablation.py:gfn,small',
  '--config.model.features=4',
  '--config.model.deblur_blocks=1',
  '--config.model.sr_blocks=1',
  '--config.model.reconstruction_blocks=1',
  '--config.optimizer.name=adam',
  '--config.batch_size=4',
  '--config.crop_size=8',
  '--config.margin=8',
  '--config.motion_blur.frames=3',
  '--config.held_out=2',
  '--config.steps_per_epoch=8',
  '--config.phases.phase_1.warmup_steps=1',
  '--config.log_every=1',
  '--config.checkpoint_every=4',
  '--config.eval_every=8',
)


def start(processes, devices, photos, workdir):
  """The processes of one run, each with its own devices."""
  flags = f'--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0'
  environment = os.environ | {'XLA_FLAGS': flags, 'PYTHONUNBUFFERED': '1'}
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  command = [sys.executable, *TRAIN, f'--workdir={workdir}', f'--config.photos={photos}']
  running = []
  for number in range(processes):
    joined = []
    if processes > 1:
      joined = [f'--coordinator_address={address}', f'--num_processes={processes}']
      joined.append(f'--process_id={number}')
    log = open(workdir.parent / f'{workdir.name}_{number}.log', 'a')  # noqa: SIM115
    running.append(subprocess.Popen(command + joined, stderr=log, stdout=log, env=environment))
    log.close()
  return running


def finish(running, log, status=0):
  for process in running:
    process.wait(300)
  assert [process.returncode for process in running] == [status] * len(running), log.read_text()


def results(workdir):
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  for row in rows:
    del row['time']
    row.pop('images_per_second', None)
  return safetensors.numpy.load_file(workdir / 'weights.safetensors'), rows


def test_several_processes_train_as_one_and_a_run_changes_their_number(photos_dir, tmp_path):
  alone, joined = tmp_path / 'alone', tmp_path / 'joined'
  one = start(1, 4, photos_dir, alone)

  # Two processes of two devices: SIGTERM to one of them ends both after the same step.
  two = start(2, 2, photos_dir, joined)
  log = tmp_path / 'joined_0.log'
  deadline = time.monotonic() + 240
  while 'compiling the first' not in log.read_text():
    assert time.monotonic() < deadline
    assert all(process.poll() is None for process in two), log.read_text()
    time.sleep(0.05)
  two[1].send_signal(signal.SIGTERM)
  finish(two, log, 143)
  assert 'the same command goes on from there' in log.read_text()
  (step,) = [int(path.name) for path in (joined / 'checkpoints').iterdir()]
  assert step < 8

  # Four of one device go on.
  finish(start(4, 1, photos_dir, joined), log)
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


def test_half_of_the_arguments_are_refused():
  with pytest.raises(UserError, match='coordinator_address, num_processes and process_id go tog'):
    parallel.initialize(num_processes=2)
