"""Messages and progress bars for the terminal."""

import sys

import jax
from tqdm import tqdm


def print_message(line: str) -> None:
  """Print a line on stderr, above any progress bar; only the first process prints."""
  if jax.process_index() == 0:
    tqdm.write(line, file=sys.stderr)


def print_warning(line: str) -> None:
  """Print a line on stderr, above any progress bar, in every process that finds it."""
  tqdm.write(line, file=sys.stderr)


def progress_bar(total: int, initial: int, unit: str) -> tqdm:
  """Return a progress bar, shown by the first process; without a terminal, every half minute.

  Args:
    total: number of units.
    initial: number of units that are done already.
    unit: name of a unit.
  """
  return tqdm(
    total=total,
    initial=initial,
    unit=unit,
    mininterval=0.5 if sys.stderr.isatty() else 30,
    smoothing=0.05,
    disable=jax.process_index() > 0,
  )
