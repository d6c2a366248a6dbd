"""The one exception for mistakes that a user can correct, and how entry points print it."""

import contextlib
import sys
from collections.abc import Iterator


class UserError(ValueError):
  """Something outside the code is wrong: an input file, an option, a folder.

  Its message is one line that says what is wrong, where, and what to do. Entry points print it
  and exit with status 1; in Python it is an ordinary `ValueError`.
  """


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
  """Turns a `UserError` or Ctrl-C in the block into one line on stderr and an exit status."""
  try:
    yield
  except UserError as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    sys.exit(130)
