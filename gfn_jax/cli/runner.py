"""Run a command: parse its arguments, and turn errors into one line and an exit status."""

import _thread
import argparse
import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, cast

from gfn_jax import __version__
from gfn_jax.errors import UsageError, UserError


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
  """Turn an error or Ctrl-C into one line on stderr and an exit status.

  The status is 2 for a `UsageError`, 130 for Ctrl-C, and 1 for another `UserError`, an `OSError` or
  a `JAX_PLATFORMS` that JAX cannot use.
  """
  try:
    yield
  except UsageError as error:
    print(f'error: {_last_line(error)}', file=sys.stderr)
    sys.exit(2)
  except (UserError, OSError) as error:
    sys.exit(f'error: {_last_line(error)}')
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    sys.exit(_INTERRUPTED)
  except Exception:
    if problem := _platform_problem():
      sys.exit(f'error: {problem}')
    raise


_INTERRUPTED = 128 + signal.SIGINT


def prepare_for_ctrl_c() -> None:
  """Make Ctrl-C end the process of a command without a traceback, also during its imports.

  Has no effect in the process of another program, which may import the modules of the commands.
  """
  program = os.path.basename(sys.argv[0] if sys.argv else '')
  if not re.match(r'gfn|run_(eval|train)\.py|-m$', program):  # '-m': until Python has the module
    return
  excepthook, unraisablehook = sys.excepthook, sys.unraisablehook

  def end(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if not issubclass(kind, KeyboardInterrupt):
      return excepthook(kind, error, trace)
    print('interrupted', file=sys.stderr, flush=True)
    os._exit(_INTERRUPTED)  # otherwise Python sends SIGINT to itself

  def repeat(unraisable: Any) -> None:
    """Interrupt again if the exception was lost in a callback, such as JAX's of the collector."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
      return unraisablehook(unraisable)
    threading.Timer(0.01, _interrupt_main).start()

  sys.excepthook, sys.unraisablehook = end, repeat


def announce_start() -> None:
  """Print a line on a terminal if this is `gfn-restore` or `gfn-demo`, which load for seconds."""
  program, *arguments = sys.argv or ['']
  name = os.path.basename(program)
  if name == 'gfn' and arguments:
    name, *arguments = f'gfn-{arguments[0]}', *arguments[1:]
  slow = name in ('gfn-restore', 'gfn-demo') and not {'-h', '--help', '--version'} & set(arguments)
  if slow and sys.stderr.isatty():  # scripts expect nothing but errors there
    print(f'{name}: loading', file=sys.stderr, flush=True)


def _interrupt_main() -> None:
  """Interrupt the main thread, also while it waits."""
  if hasattr(signal, 'pthread_kill'):
    signal.pthread_kill(cast(int, threading.main_thread().ident), signal.SIGINT)
  else:  # Windows
    _thread.interrupt_main()


def _platform_problem() -> str | None:
  """Return why JAX has no device, if the environment asks for some platform; otherwise None."""
  platforms = os.environ.get('JAX_PLATFORMS')
  if not platforms or 'jax' not in sys.modules:
    return None
  try:
    sys.modules['jax'].devices()
  except Exception as error:  # AssertionError if the platform's plugin is not installed
    reason = str(error).strip().partition('\n')[0]
    return (
      f'JAX_PLATFORMS={platforms}: JAX has no such device{reason and f" ({reason})"}; unset '
      'JAX_PLATFORMS, or install JAX for it (docs/install.md)'
    )
  return None


class ArgumentParser(argparse.ArgumentParser):
  """Argument parser of a command without a config. It raises `UsageError` for a mistake."""

  def __init__(self, name: str, description: str):
    """Create the parser of a command, with the options `--help` and `--version`.

    Args:
      name: name of the command.
      description: text that `--help` shows unchanged.
    """
    super().__init__(
      name,
      description=description,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )
    version = f'{name} (gfn_jax {__version__})'
    self.add_argument('--version', action='version', version=version, help='show the version')

  def error(self, message: str) -> NoReturn:
    """Raise `UsageError` with a message of argparse."""
    raise UsageError(f'{message} (--help lists the options)')


def run_command(main: Callable[[list[str]], None]) -> None:
  """Run `main` like absl's `app.run`, with errors, also in flags and configs, in one line.

  `--help` shows the docstring of `main`'s module, and the flags defined there. `-h` does, too.
  """
  from absl import app, flags, logging  # late: slow to import

  module = sys.modules[main.__module__]
  sys.modules['__main__'].__doc__ = module.__doc__
  for flag in flags.FLAGS.get_key_flags_for_module(module):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)

  def quiet_main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # JAX, TFDS and Orbax log much
    main(argv)

  with exit_on_user_error():
    app.run(quiet_main, flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
  from absl import flags

  try:
    return flags.FLAGS(['--help' if argument == '-h' else argument for argument in argv])
  except SystemExit:  # of --help, which absl ends with status 1
    sys.exit(0)
  except flags.Error as error:  # contains the traceback of a failing config file
    reason = _last_line(error).removeprefix('gfn_jax.errors.UserError: ')
    raise UsageError(f'{reason} (--help lists the flags)') from error
  except AttributeError as error:  # from ml_collections: an override of an unknown key
    key = str(error).replace('\\n', '; ').translate(str.maketrans('', '', "\\'")).strip('"')
    raise UsageError(f'no such key in the config: {key}') from error


def _last_line(error: Exception) -> str:
  """Return the last line of a message; ml_collections and absl put a history before it."""
  return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
