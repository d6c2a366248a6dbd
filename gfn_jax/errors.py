"""The one exception for mistakes that a user can correct, and how commands print it."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from absl import app, flags, logging


class UserError(ValueError):
  """Something outside the code is wrong: an input file, an option, a folder.

  Its message is one line that says what is wrong, where, and what to do. Commands print it and exit
  with status 1; in Python it is an ordinary `ValueError`.
  """


def missing_package(package: str, error: ImportError) -> str:
  """Return why a package cannot be imported, and how to install it."""
  return f'cannot import {package} ({error}); pip install {package}'


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
  """Turns a user's mistake, a failing disk or Ctrl-C into one line on stderr and an exit status."""
  try:
    yield
  except (UserError, OSError) as error:
    sys.exit(f'error: {_last_line(error)}')
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    sys.exit(130)


class ArgumentParser(argparse.ArgumentParser):
  """An argument parser for a command without a config; a mistake is a `UserError`, of one line."""

  def __init__(self, name: str, description: str):
    """Makes the parser of a command, without options yet.

    Args:
      name: of the command.
      description: shown by `--help` as it stands.
    """
    super().__init__(
      name,
      description=description,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )

  def error(self, message: str) -> NoReturn:
    """Raises `UserError`."""
    raise UserError(f'{message} (--help lists the options)')


def run_command(main: Callable[[list[str]], None]) -> None:
  """Runs `main` as absl's `app.run` does, with one line for a mistake, in flags and configs too.

  `--help` shows the docstring of the module that `main` is in, and the flags defined there.
  """
  module = sys.modules[main.__module__]
  sys.modules['__main__'].__doc__ = module.__doc__
  for flag in flags.FLAGS.get_key_flags_for_module(module):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)

  def quiet_main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # JAX, TFDS and Orbax report at length
    main(argv)

  with exit_on_user_error():
    app.run(quiet_main, flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:  # holds the traceback of a config file that failed
    reason = _last_line(error).removeprefix('gfn_jax.errors.UserError: ')
    raise UserError(f'{reason} (--help lists the flags)') from error
  except AttributeError as error:  # ml_collections: an override of a key that is not there
    key = str(error).replace('\\n', ' ').translate(str.maketrans('', '', "\\'")).strip('"')
    raise UserError(f'no such key in the config: {key}') from error


def _last_line(error: Exception) -> str:
  """ml_collections and absl put a history before what matters."""
  return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
