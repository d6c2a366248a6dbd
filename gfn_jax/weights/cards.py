"""Model cards: JSON files beside weights files, with the same name, that describe the weights."""

import json
import os
from typing import Any

from gfn_jax.errors import UserError, first_line
from gfn_jax.system.files import printable, read_file

CARD_FORMAT = 1
"""Version of the format of cards; cards without one have this version."""


def card_path(path: str | os.PathLike) -> str:
  """Return the path of the card of a weights file."""
  return os.path.splitext(path)[0] + '.json'


def read_card(path: str | os.PathLike) -> dict[str, Any] | None:
  """Read the card of a weights file.

  Args:
    path: the weights file.

  Returns:
    The card, with at least `model` and `sha256`, or None if there is no such file.

  Raises:
    UserError: if the card cannot be read, lacks a required entry or has another format.
  """
  file = card_path(path)
  name = printable(file)
  try:
    card = json.loads(read_file(file).decode())
  except FileNotFoundError:
    return None
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'cannot read {name}: {first_line(error)}') from error
  if not isinstance(card, dict) or not {'model', 'sha256'} <= card.keys():
    raise UserError(f'cannot read {name}: not a model card, model or sha256 is missing')
  if card.get('format_version', CARD_FORMAT) != CARD_FORMAT:
    raise UserError(
      f'cannot read {name}: unsupported format {card["format_version"]!r} (expected '
      f'{CARD_FORMAT}); update gfn_jax'
    )
  return card
