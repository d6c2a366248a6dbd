"""Run a command: parse its arguments, and turn errors into one line and an exit status."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from absl import app, flags, logging

from gfn_jax.errors import UserError


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
  """Turn an error of the user or Ctrl-C into one line on stderr and an exit status.

  These are `UserError`, `OSError` and a `JAX_PLATFORMS` that JAX cannot use.
  """
  try:
    yield
  except (UserError, OSError) as error:
    sys.exit(f'error: {_last_line(error)}')
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    sys.exit(130)
  except Exception:
    if problem := _platform_problem():
      sys.exit(f'error: {problem}')
    raise


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
  """Argument parser of a command without a config. It raises `UserError` for a mistake."""

  def __init__(self, name: str, description: str):
    """Create the parser of a command, without options.

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

  def error(self, message: str) -> NoReturn:
    """Raise `UserError` with a message of argparse."""
    raise UserError(f'{message} (--help lists the options)')


def run_command(main: Callable[[list[str]], None]) -> None:
  """Run `main` like absl's `app.run`, with errors, also in flags and configs, in one line.

  `--help` shows the docstring of `main`'s module, and the flags defined there.
  """
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
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:  # contains the traceback of a failing config file
    reason = _last_line(error).removeprefix('gfn_jax.errors.UserError: ')
    raise UserError(f'{reason} (--help lists the flags)') from error
  except AttributeError as error:  # from ml_collections: an override of an unknown key
    key = str(error).replace('\\n', ' ').translate(str.maketrans('', '', "\\'")).strip('"')
    raise UserError(f'no such key in the config: {key}') from error


def _last_line(error: Exception) -> str:
  """Return the last line of a message; ml_collections and absl put a history before it."""
  return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
