"""Exit statuses, `--help`, `--version` and Ctrl-C of the commands."""

import configparser
import importlib
import pathlib
import subprocess
import sys
import types

import pytest

import gfn_jax
from gfn_jax.cli import commands, runner
from gfn_jax.errors import UsageError, UserError

ROOT = pathlib.Path(__file__).parents[2]


def scripts():
  """Return the scripts of setup.cfg: 'module:function' by name."""
  setup = configparser.ConfigParser()
  setup.read(ROOT / 'setup.cfg')
  lines = setup['options.entry_points']['console_scripts'].strip().splitlines()
  return dict(map(str.strip, line.split('=')) for line in lines)


def run(*command):
  return subprocess.run(
    [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, timeout=300
  )


@pytest.mark.parametrize(
  ('error', 'status', 'line'),
  [
    (UserError('no such file'), 1, 'error: no such file\n'),
    (UsageError('--a contradicts --b'), 2, 'error: --a contradicts --b\n'),
    (OSError(28, 'No space left', 'a.png'), 1, "error: [Errno 28] No space left: 'a.png'\n"),
    (KeyboardInterrupt(), 130, 'interrupted\n'),
  ],
)
def test_an_error_becomes_a_line_and_a_status(error, status, line, capsys):
  with pytest.raises(SystemExit) as end, runner.exit_on_user_error():
    raise error
  printed = capsys.readouterr().err
  if status == 1:  # Python prints the code, a text
    assert f'{end.value.code}\n' == line
  else:
    assert (end.value.code, printed) == (status, line)


def test_gfn_lists_every_script(capsys):
  commands.main([])
  output = capsys.readouterr().out
  names = [name.removeprefix('gfn-') for name in scripts() if name != 'gfn']
  assert sorted(names) == sorted(commands.COMMANDS)
  for name, description in commands.COMMANDS.items():
    assert f'  {name:12}  {description}\n' in output
  with pytest.raises(UsageError, match="unknown command 'restor'; choose from restore, demo"):
    commands.main(['restor'])


@pytest.mark.parametrize('name', commands.COMMANDS)
def test_gfn_runs_the_script_of_a_name(name, monkeypatch):
  called = []

  def import_module(module):
    script = scripts()[f'gfn-{name}'].removeprefix(f'{module}:')
    return types.SimpleNamespace(**{script: lambda: called.append(sys.argv)})

  monkeypatch.setattr(sys, 'argv', ['gfn'])
  monkeypatch.setattr(importlib, 'import_module', import_module)
  commands.main([name, 'a.png', '--help'])
  assert called == [[f'gfn-{name}', 'a.png', '--help']]


@pytest.mark.parametrize('name', [n for n in commands.COMMANDS if n not in ('eval', 'train')])
def test_commands_have_help_and_a_version(name, monkeypatch, capsys):
  module = importlib.import_module(scripts()[f'gfn-{name}'].split(':')[0])
  for option in ('--help', '--version'):
    if (name, option) == ('prepare', '--version'):
      continue  # its flags are those of each data set
    try:
      module.main([option])
    except SystemExit as end:
      assert not end.code
    output = capsys.readouterr().out
    if option == '--version':
      assert output == f'gfn-{name} (gfn_jax {gfn_jax.__version__})\n'
    else:
      assert module.__doc__.splitlines()[0] in output


@pytest.mark.end_to_end
@pytest.mark.parametrize(
  ('command', 'option'),
  [('run_train.py', '--help'), pytest.param('run_eval.py', '-h', marks=pytest.mark.full)],
)
def test_help_of_training_and_evaluation(command, option):
  result = run(command, option)
  assert (result.returncode, result.stderr) == (0, '')
  assert '--workdir' in result.stdout


IMPORT = """
import sys
sys.argv = ['gfn-restore']
import gfn_jax.cli
assert 'jax' not in sys.modules
{interrupt}
import time
for _ in range(1000):
  time.sleep(0.02)
"""


@pytest.mark.parametrize(
  'interrupt',
  [
    'import signal; signal.raise_signal(signal.SIGINT)',
    # In a callback whose exceptions Python ignores.
    'import gc, signal\n'
    'gc.callbacks.append(lambda *_: gc.callbacks.clear() or signal.raise_signal(signal.SIGINT))\n'
    'gc.collect()',
  ],
)
def test_ctrl_c_during_imports(interrupt):
  result = run('-c', IMPORT.format(interrupt=interrupt))
  assert (result.returncode, result.stderr) == (130, 'interrupted\n')


@pytest.mark.parametrize(
  ('argv', 'line'),
  [
    (['/bin/gfn-demo'], 'gfn-demo: loading\n'),
    (['gfn', 'restore', 'a.png', 'b.png'], 'gfn-restore: loading\n'),
    (['gfn-restore', '--help'], ''),
    (['gfn', 'train'], ''),
    (['gfn'], ''),
    (['gfn-export'], ''),
    (['mine.py'], ''),
  ],
)
def test_commands_that_load_for_seconds_announce_it_on_a_terminal(argv, line, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', argv)
  runner.announce_start()
  assert capsys.readouterr().err == ''
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
  runner.announce_start()
  assert capsys.readouterr().err == line


def test_other_programs_keep_their_hooks():
  assert sys.excepthook.__module__ != runner.__name__
  script = "import sys; sys.argv = ['mine.py']; import gfn_jax.cli; raise KeyboardInterrupt"
  result = run('-c', script)
  assert 'Traceback' in result.stderr
