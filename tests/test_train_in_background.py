"""Test the orchestration of examples/train_in_background.py with a trainer that only counts."""

import fcntl
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

SCRIPT = pathlib.Path(__file__).parent.parent / 'examples' / 'train_in_background.py'

# The trainer counts steps in the folder of the run until SIGTERM; a leg takes three. The script's
# clock goes on by 0.02 seconds with each step, so that a busy machine changes nothing.
TRAINER = """
import json, os, signal, sys, time
flags = dict(arg.removeprefix('--').split('=', 1) for arg in sys.argv[1:])
folder = flags['workdir']
os.makedirs(folder, exist_ok=True)
card = os.path.join(folder, 'weights.json')
step = json.load(open(card))['step'] if os.path.exists(card) else 0
leg = flags['config'].endswith('decay')
scores = {'test/psnr': 24.5, 'test/bicubic_psnr': 23.0, 'test/gopro_gain': step / 10}

def save(*_):
  open(os.path.join(folder, 'weights.safetensors'), 'w').write(str(step))
  json.dump({'step': step, 'scores': scores}, open(card, 'w'))

def end(*_):
  save()
  sys.exit(143)

signal.signal(signal.SIGTERM, end)
place = os.path.dirname(__file__)
with open(os.path.join(place, 'calls.txt'), 'a') as calls:
  calls.write(json.dumps([os.getpriority(os.PRIO_PROCESS, 0), *sys.argv[1:]]) + '\\n')
with open(os.path.join(place, 'clock'), 'a', buffering=1) as clock:
  while not (leg and step >= 3):
    time.sleep(0.02)
    step += 1
    clock.write('\\n')
save()
"""


@pytest.fixture
def background(tmp_path):
  """Return a function that runs the script in a separate process, with the trainer above."""
  trainer = tmp_path / 'trainer.py'
  trainer.write_text(textwrap.dedent(TRAINER))
  code = f"""
    import os, sys, time, types
    sys.path.insert(0, {str(SCRIPT.parent)!r})
    import train_in_background as script
    script.TRAIN, script.POLL_SECONDS = [sys.executable, {str(trainer)!r}], 0.05
    clock = {str(tmp_path / 'clock')!r}
    open(clock, 'a').close()
    script.time = types.SimpleNamespace(
      sleep=time.sleep, monotonic=lambda: 0.02 * os.path.getsize(clock)
    )
    script.run_command(script.main)
  """

  def run(*args, **options):
    command = [sys.executable, '-c', textwrap.dedent(code), f'--dir={tmp_path / "run"}', *args]
    environment = os.environ | {'PYTHONPATH': str(SCRIPT.parent.parent)}
    return subprocess.run(
      command, capture_output=True, text=True, env=environment, timeout=60, **options
    )

  return run


@pytest.mark.full
def test_the_trunk_and_its_legs_take_turns_and_go_on_where_they_were(background, tmp_path):
  options = ['--config=c.py:deblur', f'--leg_every={2.0 / 3600}', '--', '--config.training.seed=3']
  options += ['--config.run.init_from=a', '--config.run.init_except=b']
  result = background(f'--hours={5.0 / 3600}', *options)
  assert result.returncode == 0, result.stderr
  run = tmp_path / 'run'
  legs = sorted(int(leg.name) for leg in (run / 'legs').iterdir())
  assert 1 <= len(legs) <= 4
  trunk = json.loads((run / 'trunk' / 'weights.json').read_text())['step']
  assert legs[-1] == trunk
  calls = [json.loads(line) for line in (tmp_path / 'calls.txt').read_text().splitlines()]
  trunks = [call for call in calls if call[1] == '--config=c.py:deblur']
  expected = [19, '--config=c.py:deblur', f'--workdir={run / "trunk"}', *options[3:]]
  assert len(trunks) >= len(legs)  # more if one had no time to save
  assert trunks == [expected] * len(trunks)
  calls = [call for call in calls if call not in trunks]
  for step, call in zip(legs, calls, strict=True):
    leg = run / 'legs' / str(step)
    start = leg / 'start.safetensors'
    assert call[1:3] == ['--config=c.py:deblur,decay', f'--workdir={leg}']
    assert call[3:] == ['--config.training.seed=3', f'--config.run.init_from={start}']
    assert start.read_text() == str(step)  # the trunk's weights of that step
  line = result.stdout.splitlines()[-1]
  assert line.startswith(
    f'trunk: {trunk:,} steps, 0.00 hours; leg of step {trunk:,}: held out +1.50'
  )
  assert line.endswith('gopro_gain +0.00')
  assert background('--status').stdout.strip() == line

  again = background(f'--hours={8.0 / 3600}', *options)
  assert again.returncode == 0, again.stderr
  assert json.loads((run / 'trunk' / 'weights.json').read_text())['step'] > trunk
  assert len(list((run / 'legs').iterdir())) > len(legs)


def test_mistakes_are_reported_in_one_line(background, tmp_path):
  result = background('--status')
  assert (result.returncode, result.stderr) == (
    1,
    f'error: {tmp_path}/run: no training was started there\n',
  )
  result = background()
  assert result.stderr == 'error: --config is missing; pass --config=FILE, as for run_train.py\n'
  (tmp_path / 'run').mkdir()
  with open(tmp_path / 'run' / 'lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    result = background('--config=c.py')
  assert result.returncode == 1
  assert 'another training is running there' in result.stderr


@pytest.mark.full
def test_time_in_which_the_trainer_is_stopped_does_not_count(tmp_path):
  code = f"""
    import sys
    sys.path.insert(0, {str(SCRIPT.parent)!r})
    import psutil
    import train_in_background as script
    script.flags.FLAGS(['x', '--dir={tmp_path}'])
    stops = 'import os, signal; os.kill(os.getpid(), signal.SIGSTOP)'
    script.TRAIN, script.POLL_SECONDS = [sys.executable, '-c', stops], 0.05
    counted = []

    def is_due(seconds):
      counted.append(seconds)
      if counted[-20:] == [seconds] * 20:
        psutil.Process().children()[0].resume()
      return False

    assert script.run([], is_due) == 0
    print(len(counted), counted[-1])
  """
  environment = os.environ | {'PYTHONPATH': str(SCRIPT.parent.parent)}
  command = [sys.executable, '-c', textwrap.dedent(code)]
  result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
  assert result.returncode == 0, result.stderr
  polls, seconds = result.stdout.split()
  assert float(seconds) < 0.05 * (int(polls) - 15)
