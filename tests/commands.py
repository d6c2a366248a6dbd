"""Commands in processes of their own, forked from one that has done the slow imports."""

import atexit
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import types

# Nothing of gfn_jax.cli, which looks at sys.argv and defines flags, and nothing that
# tests/test_import.py wants late.
_IMPORTS = ['gfn_jax.training.loop', 'gfn_jax.restoration.report_files', 'ml_collections']


def run(*command, env=None, timeout=300):
  """Return what `subprocess.run([sys.executable, *command])` returns, with output as text.

  Of the variables that JAX reads when it is imported, only JAX_PLATFORMS can differ from those of
  this process.

  Args:
    command: `FILE.py ARGUMENTS`, `-m MODULE ARGUMENTS` or `-c CODE ARGUMENTS`.
    env: environment of the command; None is that of this process.
    timeout: seconds.
  """
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(_IMPORTS)
  with tempfile.TemporaryDirectory() as folder:
    outputs = [pathlib.Path(folder) / name for name in ('stdout', 'stderr')]
    arguments = (list(map(str, command)), dict(env or os.environ), os.getcwd(), outputs)
    process = context.Process(target=_run, args=arguments)
    process.start()
    process.join(timeout)
    if process.exitcode is None:
      process.kill()
      raise subprocess.TimeoutExpired(command, timeout)
    status = process.exitcode
    process.close()
    return subprocess.CompletedProcess(command, status, *(path.read_text() for path in outputs))


def _run(command, env, folder, outputs):
  """Run a command in this process, which nothing else uses."""
  for descriptor, path in enumerate(outputs, start=1):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
  os.environ.clear()
  os.environ.update(env)
  sys.modules['jax'].config.update('jax_platforms', env.get('JAX_PLATFORMS'))
  os.chdir(folder)
  try:
    _execute(command)
  finally:
    atexit._run_exitfuncs()  # multiprocessing ends its processes without these


def _execute(command):
  kind, rest = command[0], command[1:]
  if kind == '-m':
    sys.argv = rest
    runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
  elif kind == '-c':
    sys.argv = [kind, *rest[1:]]
    main = sys.modules['__main__'] = types.ModuleType('__main__')
    exec(rest[0], vars(main))
  else:
    sys.argv = command
    runpy.run_path(kind, run_name='__main__')
