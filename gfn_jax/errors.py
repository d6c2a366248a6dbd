"""The exception for mistakes that a user can correct, and texts for the causes of others."""

import importlib.metadata
import pathlib
import shlex


class UserError(ValueError):
  """Mistake outside the code, such as a wrong input file, option or folder.

  The message is one line that says what is wrong, where, and what to do. Commands print it and exit
  with status 1; in Python it is an ordinary `ValueError`.
  """


class UsageError(UserError):
  """Unknown, invalid or contradicting options of a command, which exits with status 2."""


def missing_package(package: str, error: ImportError) -> str:
  """Return a message that a package cannot be imported, and how to install it."""
  return f'cannot import {package} ({error}); pip install {package}'


def install_extra(extra: str) -> str:
  """Return the command that installs an extra of setup.cfg, also in a clone without installation.

  Args:
    extra: name of the extra, or several with commas between.
  """
  try:
    importlib.metadata.version('gfn_jax')
  except importlib.metadata.PackageNotFoundError:
    clone = pathlib.Path(__file__).parents[1]
    return f'pip install -e {shlex.quote(f"{clone}[{extra}]")}'
  return f"pip install 'gfn_jax[{extra}]'"


def first_line(error: BaseException) -> str:
  """Return the first line of an error's message; for an `OSError`, without its path."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  return str(error).strip().partition('\n')[0] or type(error).__name__
