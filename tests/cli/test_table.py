import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from gfn_jax.cli import table
from gfn_jax.evaluation import table_measurement
from gfn_jax.evaluation.table_results import write_results
from tests.evaluation.test_table_results import RESULTS
from tests.paper_table import MODULE, write_all_weights

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def tiny(monkeypatch):
  """Make the tiny table the only one."""
  monkeypatch.setattr(table, 'load_tables', lambda: {'tiny': MODULE})


def run(monkeypatch, *args):
  """Run the command, which is expected to fail, and return its exit status."""
  monkeypatch.setattr(sys, 'argv', ['gfn-table', *map(str, args)])
  with pytest.raises(SystemExit) as raised:
    table.run()
  return raised.value.code


def test_published_numbers_are_printed_alone(tiny, capsys):
  table.main(['tiny'])
  printed = capsys.readouterr().out
  assert printed.startswith('# Tiny networks\n\nNobody, Nothing, 2020, Table 1.')
  assert 'Nothing has been measured' in printed
  assert '| Wide | - | 24.948 | 0.90 | 2.10 |' in printed


@pytest.mark.parametrize(
  ('name', 'psnr'), [('gfn_table1', '25.13'), ('motion_deblur_sr_table1', '25.15')]
)
def test_the_numbers_of_the_package_are_printed(name, psnr, capsys):
  table.main([name])
  printed = capsys.readouterr().out
  assert f'| DMPHN + bicubic | 7,232,524 | - | {psnr} | - | 0.854' in printed
  assert '6 images of GOPRO_Large/test (blur_gamma), protocol' in printed


def test_measurements_beside_the_config_are_printed(tiny, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(MODULE, '__file__', str(tmp_path / 'tiny.py'))
  write_results(tmp_path / 'tiny.json', 'tiny', RESULTS)
  table.main(['tiny'])
  printed = capsys.readouterr().out
  assert '| Narrow | 1,000 | 1.5M | 25.50 | 26.20 |' in printed
  assert 'NVIDIA H200, JAX 0.12.0, 2026-11-30; Narrow (weights 01234567' in printed


def test_a_table_is_measured(tiny, gopro_tree, tmp_path, capsys):
  weights, output = write_all_weights(tmp_path / 'weights'), tmp_path / 'out'
  command = ['tiny', f'--output_dir={output}', f'--weights={weights}', '--rounds=1']
  command += [f'--test_set=photos={gopro_tree}/test']
  table.main(command)
  names = sorted(path.name for path in output.iterdir())
  assert names == ['table.csv', 'table.json', 'table.md', 'table.png']
  printed = capsys.readouterr().out
  assert printed == (output / 'table.md').read_text() + f'\nThe table is in {output}\n'
  entries = json.loads((output / 'table.json').read_text())['data_sets']['photos']
  assert all(entry['scores'] and entry['timing'] for entry in entries.values())


def test_ctrl_c_keeps_what_is_done(tiny, gopro_tree, tmp_path, monkeypatch, capsys):
  weights, output = write_all_weights(tmp_path / 'weights'), tmp_path / 'out'
  evaluate, calls = table_measurement.evaluate, []

  def interrupt(*args, **options):
    calls.append(args)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return evaluate(*args, **options)

  monkeypatch.setattr(table_measurement, 'evaluate', interrupt)
  flags = (f'--weights={weights}', f'--test_set=photos={gopro_tree}/test')
  assert run(monkeypatch, 'tiny', f'--output_dir={output}', *flags) == 130
  assert capsys.readouterr().err.endswith('interrupted\n')
  entries = json.loads((output / 'table.json').read_text())['data_sets']['photos']
  assert list(entries) == ['narrow']


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    ((), 'the following arguments are required: NAME (--help lists the options)'),
    (('gfn_table9',), "unknown table 'gfn_table9'; choose from "),
    (('../gfn_table2',), "unknown table '../gfn_table2'; choose from "),
    (('comparison',), "unknown table 'comparison'; choose from "),
    (('gfn_table2', '--rounds=-1'), 'rounds -1: pass 0 or more'),
    (('gfn_table2', '--weights=W'), '--weights and --test_set require each other'),
    (
      ('gfn_table2', '--test_set=lr_gopro=D', '--output_dir=O'),
      '--weights and --test_set require each other',
    ),
    (('gfn_table2', '--test_set=D'), "argument --test_set: invalid test_set value: 'D'"),
    (
      ('gfn_table2', '--weights=W', '--test_set=lr_gopro=D'),
      'no output folder: pass --output_dir=O',
    ),
    (
      ('gfn_table2', '--output_dir=O', '--lpips_weights=F'),
      '--lpips_weights requires --weights and --test_set',
    ),
    (
      ('gfn_table2', '--weights=W', '--test_set=photos=D', '--output_dir=O'),
      "gfn_table2 has no data set 'photos'; choose from lr_gopro",
    ),
    (
      ('gfn_table2', '--weights=W', '--test_set=lr_gopro=D', '--output_dir=O'),
      'no such folder: D; pass a dataset of gfn-prepare',
    ),
  ],
)
def test_a_mistake_ends_in_one_line(monkeypatch, tmp_path, capsys, args, message):
  monkeypatch.chdir(tmp_path)
  status = run(monkeypatch, *args)
  usage = not message.startswith(('gfn_table2 has', 'no such folder'))
  line = capsys.readouterr().err.removesuffix('\n') if usage else status
  assert (status == 2) == usage
  assert line.startswith(f'error: {message}')
  assert '\n' not in line
  assert not list(tmp_path.iterdir())


def test_a_missing_folder_of_weights_is_one_line(tiny, gopro_tree, monkeypatch, tmp_path):
  flags = (f'--test_set=photos={gopro_tree}/test', f'--weights={tmp_path}/none')
  line = run(monkeypatch, 'tiny', f'--output_dir={tmp_path}/out', *flags)
  assert line == f'error: no such folder: {tmp_path}/none'


def test_the_command_reads_the_tables_of_the_package_in_a_folder_with_configs(tmp_path):
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs' / 'defaults.py').write_text('raise AssertionError\n')
  command = [sys.executable, '-m', 'gfn_jax.cli.table', 'gfn_table2']
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
  assert re.search(r'^\| GFN \| .*27\.74 \| .*0\.05 \|$', result.stdout, re.MULTILINE)
