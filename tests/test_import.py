import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

from tests.xla_flags import COMPILE_FAST

ROOT = pathlib.Path(__file__).parents[1]
HEAVY = ['tensorflow', 'tensorflow_datasets', 'torch', 'matplotlib', 'gradio', 'av', 'skimage']
LATE = ['imagecodecs', 'jinja2', 'matplotlib', 'platformdirs', 'tensorboardX', 'tifffile']

IMPORTS = {
  'package': 'import gfn_jax',
  'restorer': 'gfn_jax.Restorer',
  'restore': 'import gfn_jax.cli.restore, gfn_jax.cli.demo, gfn_jax.restoration.gate_figure',
  'train': 'import gfn_jax.training.loop, run_train',
  'tables': 'import gfn_jax.cli.table, gfn_jax.cli.figure, gfn_jax.configs.tables.gfn_table2',
}
"""Statements that one process runs in this order; each adds to the loaded modules."""

BLOCK_LATE = f"""
import sys

class Blocked:
  def find_spec(self, name, *_):
    if name.partition('.')[0] in {LATE}:
      raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Blocked())
"""

POSIX_ONLY = {
  *('fcntl', 'grp', 'pty', 'pwd', 'resource', 'syslog', 'termios', 'tty'),
  *('os.chown', 'os.fork', 'os.getpgid', 'os.geteuid', 'os.getuid', 'os.killpg', 'os.mkfifo'),
  *('os.nice', 'os.posix_fadvise', 'os.pread', 'os.sched_getaffinity', 'os.setsid', 'os.statvfs'),
  *('os.sysconf', 'os.uname', 'os.O_CLOEXEC', 'os.O_DIRECTORY', 'os.O_NOFOLLOW', 'os.O_NONBLOCK'),
  *('signal.SIGALRM', 'signal.SIGHUP', 'signal.SIGKILL', 'signal.SIGUSR1', 'signal.alarm'),
  *('signal.pthread_kill', 'signal.setitimer', 'socket.AF_UNIX'),
}
"""Modules of the standard library, and attributes of them, that Windows lacks."""


def posix_only(source):
  """Return the members of POSIX_ONLY that a module uses without asking whether they exist."""
  used, guarded = set(), set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      used |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      used |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    elif isinstance(node, ast.Attribute):
      used.add(ast.unparse(node))
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'hasattr':
      module, name = node.args
      guarded.add(f'{ast.unparse(module)}.' + ast.unparse(name).strip("'"))
  return used & POSIX_ONLY - guarded


def source_of(module):
  path = ROOT / module.replace('.', '/')
  return (path / '__init__.py' if path.is_dir() else path.with_suffix('.py')).read_text()


def run_python(script):
  """Return what a script prints in a fresh interpreter."""
  command = [sys.executable, '-W', 'error', '-c', script]
  environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
  result = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
  return result.stdout


def imported_by(statements):
  """Return the names of the modules that are loaded after each of some statements."""
  report = 'print(json.dumps(sorted(sys.modules)))'
  lines = [f'{statement}\n{report}' for statement in statements]
  output = run_python('import json, sys\n' + '\n'.join(lines))
  reports = [line for line in output.splitlines() if line.startswith(b'[')]
  return [set(json.loads(line)) for line in reports]


@pytest.fixture(scope='module')
def imported():
  """Return the names of the modules that are loaded after each of `IMPORTS`, in their order."""
  return dict(zip(IMPORTS, imported_by(IMPORTS.values()), strict=True))


def test_the_package_imports_nothing_heavy(imported):
  assert not imported['package'].intersection(['jax', 'numpy', 'absl'])
  assert 'gfn_jax.restoration.restorer' in imported['restorer']
  assert not imported['restorer'].intersection(HEAVY + LATE)


def test_the_command_imports_what_it_needs_and_no_more(imported):
  assert 'gfn_jax.restoration.video' in imported['restore']
  late = [*LATE, 'gfn_jax.interop.torch_checkpoint', 'gfn_jax.ops.metrics']
  assert not imported['restore'].intersection(HEAVY + late)


def test_training_imports_tensorflow_only_when_it_opens_a_dataset(imported):
  assert 'gfn_jax.evaluation.evaluate' in imported['train']
  assert not imported['train'].intersection(HEAVY + LATE)


def test_tables_and_figures_import_matplotlib_only_when_they_draw(imported):
  assert 'gfn_jax.evaluation.table_plot' in imported['tables']
  assert not imported['tables'].intersection(HEAVY + LATE)


def test_training_and_evaluation_can_be_imported_without_tensorflow():
  code = (
    'import sys\n'
    "sys.modules.update({'tensorflow': None, 'tensorflow_datasets': None})\n"
    'import gfn_jax.training.loop, run_train\n'
    'try:\n'
    "  gfn_jax.data.datasets.open_dataset({'data_dir': 'somewhere'})\n"
    'except gfn_jax.UserError as error:\n'
    '  print(error)\n'
  )
  command = [sys.executable, '-c', code]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
  assert "pip install 'gfn_jax[train]'" in result.stdout


def test_restoring_a_photo_imports_nothing_that_it_does_not_need(tmp_path):
  Image.new('RGB', (16, 16), 'teal').save(tmp_path / 'a.png')
  arguments = [str(tmp_path / 'a.png'), str(tmp_path / 'b.jpg'), '--same_size']
  [modules] = imported_by([f'import gfn_jax.cli.restore as command; command.main({arguments})'])
  with Image.open(tmp_path / 'b.jpg') as image:
    assert image.size == (16, 16)
  ours = [name for name in modules if name.startswith('gfn_jax.')]
  assert len(ours) > 30
  for name in ours:
    assert not posix_only(source_of(name)), name
  unneeded = ['optax', 'orbax', 'scipy', 'clu', 'ml_collections', 'grain']
  assert not modules.intersection(HEAVY + LATE + unneeded)


def test_uses_of_posix_alone_are_found():
  guarded = "if hasattr(signal, 'pthread_kill'):\n  signal.pthread_kill(1, 2)\n"
  assert posix_only('import os, fcntl\nos.fork()\nos.getcwd()\n' + guarded) == {'fcntl', 'os.fork'}
  assert posix_only('from os import nice') == {'os.nice'}


@pytest.mark.full
def test_training_on_photos_and_real_pairs_works_without_what_it_imports_late(
  photos_dir, gopro_tree, tmp_path
):
  code = f"""{BLOCK_LATE}
from gfn_jax.training import loop
from tests import small

config = small.sr_branch(small.photos_config({str(photos_dir)!r}, {{'training.batch_size': 4}}))
config.phases.phase_1.epochs = 1
config.data.real_pairs.gopro.update(path={str(gopro_tree / 'train')!r}, share=0.5)
loop.train_and_evaluate(config, {str(tmp_path)!r})
"""
  environment = os.environ | {'XLA_FLAGS': COMPILE_FAST}
  command = [sys.executable, '-c', code]
  result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
  rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert [row['step'] for row in rows if 'loss' in row] == [1, 2]
  assert rows[-1]['test/psnr'] > 0
  assert (tmp_path / 'weights.safetensors').exists()
  assert not (tmp_path / 'curves.png').exists()
  assert not (tmp_path / 'tensorboard').exists()
  for name, package in (('TensorBoard files are', 'tensorboardX'), ('curves.png is', 'matplotlib')):
    assert result.stderr.count(f'{name} left out: cannot import {package} (') == 1
