"""Train at low priority for days on a machine that may restart, with scores on the way.

    python examples/train_in_background.py --dir=RUN --config=configs/gfn_open.py:deblur -- \
      --config.data.photos=PHOTOS ...
    python examples/train_in_background.py --dir=RUN --status

The trunk is a run at a constant rate in RUN/trunk. Every `--leg_every` hours, a leg starts from a
copy of its weights in RUN/legs/STEP, with a decaying rate (the variant `decay` of the config), and
is scored. Scores at a constant rate would be too low. Then the trunk continues.

Both run at the lowest priority and save every few minutes. The same command continues after a
restart of the machine (`@reboot` in a crontab), a kill or Ctrl-C. RUN/status.txt has one line with
the steps, the hours and the newest scores.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO

import psutil
from absl import flags

from gfn_jax.cli.runner import run_command
from gfn_jax.errors import UserError
from gfn_jax.system.files import write_file

DIR = flags.DEFINE_string('dir', None, 'Folder of the training.', required=True)
CONFIG = flags.DEFINE_string('config', None, 'Config with a variant `decay`.')
LEG_EVERY = flags.DEFINE_float('leg_every', 3.0, 'Hours of trunk training between two legs.')
HOURS = flags.DEFINE_float('hours', 0.0, 'Hours of trunk training until the end; 0: no end.')
STATUS = flags.DEFINE_bool('status', False, 'Print the status line and exit.')

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRAIN = [sys.executable, os.path.join(ROOT, 'run_train.py')]
POLL_SECONDS = 5.0
TERMINATED = 143
MAX_FAILURES = 3


def main(argv: list[str]) -> None:
  """Alternate between the trunk and its legs, until `--hours` or a signal."""
  if STATUS.value:
    print(read_status())
    return
  if not CONFIG.value:
    raise UserError('--config is missing; pass --config=FILE, as for run_train.py')
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  options = argv[1:]
  os.makedirs(DIR.value, exist_ok=True)
  with open(path('lock'), 'w') as lock:
    acquire(lock)
    try:
      while True:
        finish_leg(options)
        if HOURS.value and hours() >= HOURS.value:
          break
        grow_trunk(options)
        start_leg()
    finally:
      print(write_status())


def acquire(lock: IO) -> None:
  """Lock the folder against a second training; the trainer inherits the lock."""
  os.set_inheritable(lock.fileno(), True)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    raise UserError(
      f'{DIR.value}: another training is running there; wait for it or stop it'
    ) from error


def grow_trunk(options: list[str]) -> None:
  """Train the trunk until the next leg is due."""
  until = last_leg_hours() + LEG_EVERY.value
  if HOURS.value:
    until = min(until, HOURS.value)
  failures = 0
  while hours() < until:
    before, step = hours(), trunk_step()

    def is_due(seconds: float, before=before) -> bool:
      write_hours(before + seconds / 3600)
      write_status()
      return hours() >= until

    status = run([f'--config={CONFIG.value}', f'--workdir={path("trunk")}', *options], is_due)
    if trunk_step() > step:
      failures = 0
      if status in (0, TERMINATED):
        break
    else:
      write_hours(before)  # no step was saved
      failures += 1
    if status == 1 or failures == MAX_FAILURES:
      raise UserError(f'training failed with status {status}; see {path("log.txt")}')


def start_leg() -> None:
  """Copy the trunk's newest weights to the folder of a new leg."""
  weights = path('trunk', 'weights')
  leg = path('legs', str(trunk_step()))
  if os.path.exists(leg):  # killed before the trunk continued
    return
  os.makedirs(f'{leg}.new', exist_ok=True)
  for extension in ('.safetensors', '.json'):
    shutil.copyfile(weights + extension, os.path.join(f'{leg}.new', 'start' + extension))
  write_file(os.path.join(f'{leg}.new', 'hours.txt'), f'{hours()}'.encode())
  os.rename(f'{leg}.new', leg)


def finish_leg(options: list[str]) -> None:
  """Train the newest leg to its end and score it, unless that is done."""
  steps = leg_steps()
  if not steps or leg_scores(steps[-1]):
    return
  leg = path('legs', str(steps[-1]))
  variant = ',decay' if ':' in os.path.basename(CONFIG.value) else ':decay'
  start = f'--config.run.init_from={os.path.join(leg, "start.safetensors")}'
  options = [option for option in options if not option.startswith('--config.run.init_')]
  status = run([f'--config={CONFIG.value}{variant}', f'--workdir={leg}', *options, start])
  if status:
    raise UserError(
      f'the leg of step {steps[-1]} failed with status {status}; see {path("log.txt")}'
    )
  card = read_json(os.path.join(leg, 'weights.json'))
  write_file(os.path.join(leg, 'scores.json'), json.dumps(card['scores'], indent=1).encode())
  print(write_status(), flush=True)


def run(options: list[str], is_due: Callable[[float], bool] = lambda seconds: False) -> int:
  """Run one training at the lowest priority, and end it with SIGTERM when it is due.

  Args:
    options: command-line options of the trainer.
    is_due: function from the running time in seconds, without pauses by SIGSTOP, to True if the
      training is to end.

  Returns:
    The trainer's exit status.
  """
  with open(path('log.txt'), 'a') as log:
    process = subprocess.Popen(
      ['nice', '-n', '19', *TRAIN, *options],
      stdout=log,
      stderr=log,
      cwd=ROOT,
      close_fds=False,  # inherit the lock
    )
    trainer, seconds = psutil.Process(process.pid), 0.0
    try:
      while process.poll() is None:
        start = time.monotonic()
        time.sleep(POLL_SECONDS)
        with contextlib.suppress(psutil.NoSuchProcess):
          if trainer.status() != psutil.STATUS_STOPPED:
            seconds += time.monotonic() - start
        if is_due(seconds):
          process.terminate()
          process.wait()
    except KeyboardInterrupt:
      process.terminate()  # the trainer saves and exits
      process.wait()
      raise
  return process.returncode


def path(*names: str) -> str:
  """Return a path in the folder of this run."""
  return os.path.abspath(os.path.join(DIR.value, *names))


def read_json(name: str) -> dict:
  """Return the content of a JSON file, or an empty dict if the file is missing."""
  try:
    with open(name) as file:
      return json.load(file)
  except FileNotFoundError:
    return {}


def trunk_step() -> int:
  """Return the step of the trunk's newest weights, 0 before the first."""
  return read_json(path('trunk', 'weights.json')).get('step', 0)


def hours() -> float:
  """Return the hours of trunk training."""
  return read_json(path('hours.json')).get('trunk', 0.0)


def write_hours(value: float) -> None:
  """Write the hours of trunk training."""
  write_file(path('hours.json'), json.dumps({'trunk': round(value, 4)}).encode())


def leg_steps() -> list[int]:
  """Return the trunk's steps at which legs started, in ascending order."""
  folder = path('legs')
  names = os.listdir(folder) if os.path.isdir(folder) else []
  return sorted(int(name) for name in names if name.isdecimal())


def leg_scores(step: int) -> dict:
  """Return the scores of a leg, or an empty dict if it is not finished."""
  return read_json(path('legs', str(step), 'scores.json'))


def last_leg_hours() -> float:
  """Return the hours of trunk training at the newest leg."""
  steps = leg_steps()
  if not steps:
    return 0.0
  with open(path('legs', str(steps[-1]), 'hours.txt')) as file:
    return float(file.read())


def write_status() -> str:
  """Write and return one line: the trunk's steps and hours, and the scores of the newest leg."""
  line = f'trunk: {trunk_step():,} steps, {hours():.2f} hours'
  finished = [step for step in leg_steps() if leg_scores(step)]
  if finished:
    scores = leg_scores(finished[-1])
    gain = scores['test/psnr'] - scores.get('test/bicubic_psnr', scores.get('test/input_psnr', 0.0))
    parts = [f'held out {gain:+.2f} dB']
    parts += [
      f'{key.removeprefix("test/")} {value:+.2f}'
      for key, value in scores.items()
      if key.endswith(('_gain', '_change'))
    ]
    line += f'; leg of step {finished[-1]:,}: {", ".join(parts)}'
  write_file(path('status.txt'), (line + '\n').encode())
  return line


def read_status() -> str:
  """Return the status line.

  Raises:
    UserError: if the folder has no status file.
  """
  try:
    with open(path('status.txt')) as file:
      return file.read().strip()
  except FileNotFoundError as error:
    raise UserError(f'{DIR.value}: no training was started there') from error


if __name__ == '__main__':
  run_command(main)
