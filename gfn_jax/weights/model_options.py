"""Networks from the options in a file, which may have any type and value."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import flax.errors
import flax.linen as nn
import jax

from gfn_jax.errors import UserError, first_line
from gfn_jax.models import RestorationModel, create_model, variable_shapes

MAX_OPTION = 1024
"""Limit on the numbers among the options in a header: larger networks take too long to build."""

MAX_CALLS = 2500
"""Limit on the calls of modules in one pass of a network. The largest published one has 1,234."""

_OPTION_ERRORS = (
  ArithmeticError,
  AttributeError,
  LookupError,
  NotImplementedError,
  RecursionError,
  TypeError,
  ValueError,
  flax.errors.FlaxError,
)
"""Errors of networks whose options have any type and value."""

MAX_MESSAGE = 500
"""Limit on the characters of an error about options."""


def build_model(name: str, **options: Any) -> tuple[RestorationModel, Mapping[str, Any]]:
  """Return the network of options from a file, and its `variable_shapes`.

  Args:
    name: see `create_model`.
    **options: see `create_model`.

  Raises:
    UserError: for options of no network, or of one too large to build.
  """
  try:
    numbers = [value for value in jax.tree.leaves(options) if isinstance(value, int)]
    if max(numbers, default=0) > MAX_OPTION:
      raise UserError(f'option values must be at most {MAX_OPTION}, not {max(numbers)}')
    model = create_model(name, **options)
    with nn.intercept_methods(_limit_calls(name)):
      return model, variable_shapes(model)
  except UserError as error:  # whose text may repeat an option of any length
    raise UserError(_shorten(str(error))) from error
  except _OPTION_ERRORS as error:
    raise UserError(_shorten(f'invalid options of {name!r}: {first_line(error)}')) from error


def _shorten(message: str) -> str:
  message = ' '.join(message.split())
  return message if len(message) <= MAX_MESSAGE else f'{message[: MAX_MESSAGE - 3]}...'


def _limit_calls(name: str) -> Callable[..., Any]:
  """Return an interceptor of Flax that raises in networks of more than `MAX_CALLS` calls."""
  calls = itertools.count(1)

  def count(next_call: Callable, args: tuple, kwargs: dict, _: nn.module.InterceptorContext) -> Any:
    if next(calls) > MAX_CALLS:
      raise UserError(f'the options of {name!r} make a network of more than {MAX_CALLS:,} layers')
    return next_call(*args, **kwargs)

  return count
