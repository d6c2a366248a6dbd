import os
import pathlib
import subprocess
import sys

import pytest

from gfn_jax.cli import prepare
from gfn_jax.data.tfrecords import TFRecordDataset

ROOT = pathlib.Path(__file__).parents[2]
DATA_PREP = ROOT / 'data_prep'
CHOICES = 'choose from lr_gopro, motion_blurred_lr, reds, lr_koehler, open_photos'

# Reports on stderr whether TensorFlow was imported.
RUN = """
import atexit, sys
atexit.register(lambda: print('tensorflow' in sys.modules, file=sys.stderr))
from gfn_jax.cli import prepare
prepare.run()
"""


def gfn_prepare(*args, command=('-m', 'gfn_jax.cli.prepare')):
  return subprocess.run(
    [sys.executable, *command, *args],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


def test_every_command_of_data_prep_is_a_choice():
  commands = {path.stem for path in DATA_PREP.glob('*.py') if 'def main(' in path.read_text()}
  assert commands - {'attribution'} == prepare.DATASETS.keys()  # writes a file of the package


@pytest.mark.parametrize(
  ('args', 'problem'),
  [
    ([], 'the name of the data set is missing'),
    (['gopro'], "unknown data set 'gopro'"),
    (['--manual_dir=a', 'lr_gopro'], "unknown data set '--manual_dir=a'"),
    (['tfds_build'], "unknown data set 'tfds_build'"),  # a module, but not a command
  ],
)
def test_a_missing_or_unknown_name_gives_one_line(args, problem):
  result = gfn_prepare(*args)
  assert (result.returncode, result.stdout) == (2, '')
  assert result.stderr == f'error: {problem}; {CHOICES}\n'


def test_help_lists_the_data_sets_without_tensorflow():
  result = gfn_prepare('--help', command=('-c', RUN))
  assert (result.returncode, result.stderr) == (0, 'False\n')
  for name in prepare.DATASETS:
    assert f'\n  {name} ' in result.stdout
    assert f'\ngfn-prepare {name} --' in result.stdout


@pytest.mark.parametrize('name', prepare.DATASETS)
def test_the_help_of_a_data_set_is_that_of_its_command(name):
  result = gfn_prepare(name, '--help', command=('-c', RUN))
  assert result.stderr == 'False\n'
  assert f'\n  gfn-prepare {name} --' in result.stdout
  flag = 'output_dir' if name == 'open_photos' else 'manual_dir'
  assert f'\ngfn-prepare {name}:\n' in result.stdout
  assert f'\n  --{flag}: ' in result.stdout


def test_wrong_flags_give_one_line():
  result = gfn_prepare('reds', '--data_dir=a', '--manual_dir=b', '--frames=c')
  assert (result.returncode, result.stdout) == (2, '')
  assert result.stderr.startswith("error: Unknown command line flag 'frames'")
  assert result.stderr.count('\n') == 1


@pytest.mark.full
@pytest.mark.end_to_end
def test_a_data_set_is_built(gopro_tree, tmp_path):
  flags = [f'--manual_dir={gopro_tree}', f'--data_dir={tmp_path}', '--workers=2']
  result = gfn_prepare('lr_gopro', *flags)
  assert result.returncode == 0, result.stderr
  folder = tmp_path / 'lr_gopro' / 'blur_gamma' / '1.0.1'
  assert result.stdout.startswith(f'{folder}: train 11, test 1 examples')
  assert TFRecordDataset(folder).num_examples('train') == 11
