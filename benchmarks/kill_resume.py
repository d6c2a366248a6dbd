"""Kill and resume a training run at random moments, and compare it with an uninterrupted run.

    python -m benchmarks.kill_resume --workdir=W --output=benchmarks/results/kill_resume.json

The run trains a small GFN on scikit-image's photographs in a separate process. It receives SIGKILL
30 times: while it starts, trains, evaluates, and, every third time, while it writes a checkpoint.
Its weights, optimiser state and logs must equal those of the uninterrupted run, bit for bit.
Otherwise the exit status is 1.
"""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import skimage.data
from absl import flags
from PIL import Image
from tqdm import tqdm

from gfn_jax.cli.runner import run_command
from gfn_jax.errors import UserError
from gfn_jax.system.files import write_json
from gfn_jax.training.step_log import SYSTEM

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for the runs; must be empty.', required=True)
KILLS = flags.DEFINE_integer('kills', 30, 'Number of kills.', lower_bound=1)
STEPS = flags.DEFINE_integer('steps', 600, 'Steps of the run.', lower_bound=10)
SEED = flags.DEFINE_integer('seed', 0, 'Seed of the moments.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')


def main(_):
  """Run both, compare them, and print and write the figures."""
  root = Path(WORKDIR.value)
  if root.exists() and any(root.iterdir()):
    raise UserError(f'{root} is not empty; pass a new folder')
  make_photos(root / 'photos')
  if (status := start_run(root, 'uninterrupted').wait()) != 0:
    log = root / 'uninterrupted.log'
    raise UserError(f'the uninterrupted run failed with status {status}; see {log}')
  moments = kill_often(root)
  differences = compare(root / 'uninterrupted', root / 'killed')
  figures = {
    'kills': KILLS.value,
    'seed': SEED.value,
    'steps': STEPS.value,
    'killed_at_step': [moment['step'] for moment in moments],
    'killed_in_a_write': sum(moment['writing'] for moment in moments),
    'differences': differences,
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
  }
  print(json.dumps(figures, indent=2))
  if OUTPUT.value:
    write_json(OUTPUT.value, figures)
  if differences:
    raise UserError(f'the two runs differ: {"; ".join(differences[:5])}')


def make_photos(folder: Path) -> None:
  """Write four photographs."""
  folder.mkdir(parents=True)
  for name in ('astronaut', 'chelsea', 'coffee', 'rocket'):
    Image.fromarray(getattr(skimage.data, name)()).save(folder / f'{name}.png')


def start_run(root: Path, name: str) -> subprocess.Popen:
  """Start a run, or continue it."""
  command = [sys.executable, 'run_train.py', '--config=configs/gfn_photos.py:small']
  command += [f'--workdir={root / name}', f'--config.data.photos={root / "photos"}']
  settings = {
    'model.features': 8,
    'model.deblur_blocks': 1,
    'model.sr_blocks': 1,
    'model.reconstruction_blocks': 1,
    'training.steps_per_epoch': STEPS.value // 5,
    'phases.phase_1.epochs': 2,
    'phases.phase_2.epochs': 3,
    'phases.phase_1.schedule.warmup_steps': 5,
    'phases.phase_2.schedule.warmup_steps': 5,
    'training.crop_size': 16,
    'data.held_out': 1,
    'run.log_every': 7,
    'run.checkpoint_every': 10,
    'evaluation.every': STEPS.value // 4,
  }
  command += [f'--config.{key}={value}' for key, value in settings.items()]
  with open(root / f'{name}.log', 'ab') as log:
    return subprocess.Popen(command, stdout=log, stderr=log)


def kill_often(root: Path) -> list[dict]:
  """Kill and continue the run, then let it finish.

  Returns:
    For each kill, `step` of the newest checkpoint, and `writing`: True if its write was cut off.
  """
  draw = random.Random(SEED.value)
  folder = root / 'killed' / 'checkpoints'
  moments = []
  for number in tqdm(range(KILLS.value), 'kills'):
    process = start_run(root, 'killed')
    if number % 5 == 1:  # while it starts
      wait_for(process, lambda: False, draw.uniform(0, 5))
    else:
      goal = newest(folder) + draw.uniform(0, 1.5 * STEPS.value / KILLS.value)
      wait_for(process, lambda goal=goal: newest(folder) >= goal)
      if number % 3 == 0:
        wait_for(process, lambda: unfinished(folder))
      else:
        wait_for(process, lambda: False, draw.uniform(0, 0.5))
    process.kill()
    if process.wait() != -signal.SIGKILL:
      raise UserError(f'the run ended before it was killed; see {root / "killed.log"}')
    moments.append({'step': newest(folder), 'writing': bool(unfinished(folder))})
  if (status := start_run(root, 'killed').wait()) != 0:
    raise UserError(f'the continued run failed with status {status}; see {root / "killed.log"}')
  return moments


def wait_for(
  process: subprocess.Popen, condition: Callable[[], Any], seconds: float = math.inf
) -> None:
  """Wait until a condition holds, the time is over or the process has ended."""
  end = time.monotonic() + seconds
  while process.poll() is None and time.monotonic() < end and not condition():
    time.sleep(0.0005)


def newest(folder: Path) -> int:
  """Return the step of the newest checkpoint, complete or not; 0 without checkpoints."""
  return max((int(path.name) for path in checkpoints(folder)), default=0)


def unfinished(folder: Path) -> list[Path]:
  """Return the checkpoints without a manifest."""
  return [path for path in checkpoints(folder) if not (path / 'manifest.json').exists()]


def checkpoints(folder: Path) -> list[Path]:
  """Return the checkpoints in a folder, complete or not."""
  return list(folder.iterdir()) if folder.exists() else []


def compare(uninterrupted: Path, killed: Path) -> list[str]:
  """List the differences in the newest weights, their card, the optimiser state and the logs."""
  differences = []
  for name in ('weights.safetensors', 'weights.json'):
    if (uninterrupted / name).read_bytes() != (killed / name).read_bytes():
      differences.append(name)
  states = [read_state(run) for run in (uninterrupted, killed)]
  for (path, a), (_, b) in zip(*map(leaves, states), strict=True):
    if not np.array_equal(a, b):
      differences.append(f'checkpoint: {path}')
  logs = [read_log(run / 'metrics.jsonl') for run in (uninterrupted, killed)]
  if len(logs[0]) != len(logs[1]):
    differences.append(f'metrics.jsonl: {len(logs[0])} and {len(logs[1])} rows')
  differences += [f'metrics.jsonl: {a} and {b}' for a, b in zip(*logs, strict=False) if a != b]
  return differences


def read_state(workdir: Path) -> Any:
  """Read the train state of the last step with Orbax."""
  folder = workdir.resolve() / 'checkpoints' / str(STEPS.value) / 'state'
  return ocp.StandardCheckpointer().restore(folder)


def leaves(tree: Any) -> list[tuple[str, Any]]:
  """Return the paths and arrays of a tree."""
  return [
    (jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


def read_log(path: Path) -> list[dict]:
  """Read the rows of a log without the values that depend on the clock."""
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  return [
    {k: v for k, v in row.items() if k != 'time' and not k.startswith(SYSTEM)} for row in rows
  ]


if __name__ == '__main__':
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  run_command(main)
