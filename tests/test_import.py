import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
HEAVY = ['tensorflow', 'tensorflow_datasets', 'torch', 'matplotlib', 'gradio', 'av', 'skimage']


def imported_by(statement):
  """Names of the modules loaded after `statement` in a fresh interpreter."""
  script = f'import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))'
  command = [sys.executable, '-W', 'error', '-c', script]
  environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
  result = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
  return set(json.loads(result.stdout.splitlines()[-1]))


def test_the_package_imports_nothing_heavy():
  modules = imported_by('import gfn_jax')
  assert 'gfn_jax.restore' in modules
  assert not modules.intersection(HEAVY)


def test_training_imports_tensorflow_only_when_it_opens_a_dataset():
  modules = imported_by('import gfn_jax.train')
  assert 'gfn_jax.evaluate' in modules
  assert not modules.intersection(HEAVY)


def test_training_and_evaluation_can_be_imported_without_tensorflow():
  code = (
    'import sys\n'
    "sys.modules.update({'tensorflow': None, 'tensorflow_datasets': None})\n"
    'import gfn_jax.train, run_train\n'
    'try:\n'
    "  gfn_jax.train.evaluate.open_dataset({'data_dir': 'somewhere'})\n"
    'except gfn_jax.UserError as error:\n'
    '  print(error)\n'
  )
  command = [sys.executable, '-c', code]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
  assert "pip install 'gfn_jax[train]'" in result.stdout


def test_the_command_imports_what_it_needs_and_no_more():
  modules = imported_by('import gfn_jax.commands.restore, gfn_jax.demo, gfn_jax.visualize')
  assert 'gfn_jax.restore_video' in modules
  assert not modules.intersection(HEAVY)
