"""Model cards: JSON files beside weights files, with the same name, that describe the weights.

In the layout of model hubs, the card of `model.safetensors` is `config.json`.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from gfn_jax.errors import UserError, first_line
from gfn_jax.system.files import exists, is_file, local_copy, printable

CARD_FORMAT = 1
"""Version of the format of cards; cards without one have this version."""

HUB_WEIGHTS = 'model.safetensors'
"""The weights file in the layout of model hubs."""

HUB_CARD = 'config.json'
"""The card of `HUB_WEIGHTS`."""

MAX_BYTES = 2**22
"""Size limit for a card. Larger files are not read."""


def card_path(path: str | os.PathLike) -> str:
  """Return the path of the card to write beside a weights file: its name, with .json."""
  return os.path.splitext(path)[0] + '.json'


def find_card(path: str | os.PathLike) -> str:
  """Return the path of the card to read: `card_path`, or `HUB_CARD` in the layout of hubs."""
  card = card_path(path)
  folder, name = os.path.split(os.fspath(path))
  hub_card = os.path.join(folder, HUB_CARD)
  return hub_card if name == HUB_WEIGHTS and exists(hub_card) and not exists(card) else card


def read_card(path: str | os.PathLike) -> dict[str, Any] | None:
  """Read the card of a weights file.

  Args:
    path: the weights file.

  Returns:
    The card, with at least `model` and `sha256`, or None if there is no such file, or if a
    `HUB_CARD` is another library's.

  Raises:
    UserError: if the card cannot be read, lacks a required entry or has another format.
  """
  file = find_card(path)
  name = printable(file)
  if exists(file) and not is_file(file):  # reading a pipe would wait for ever
    raise UserError(f'cannot read {name}: not a file')
  try:
    with local_copy(file) as copy, open(copy, 'rb') as opened:
      content = opened.read(MAX_BYTES + 1)
  except FileNotFoundError:
    return None
  except OSError as error:
    raise UserError(f'cannot read {name}: {first_line(error)}') from error
  if len(content) > MAX_BYTES:
    raise UserError(f'cannot read {name}: larger than {MAX_BYTES:,} bytes, so not a model card')
  try:
    card = json.loads(content.decode())
  except (ValueError, RecursionError) as error:
    raise UserError(f'cannot read {name}: {first_line(error)}') from error
  if not isinstance(card, dict) or not {'model', 'sha256'} <= card.keys():
    if os.path.basename(file) == HUB_CARD:
      return None
    raise UserError(f'cannot read {name}: not a model card, model or sha256 is missing')
  if card.get('format_version', CARD_FORMAT) != CARD_FORMAT:
    raise UserError(
      f'cannot read {name}: unsupported format {card["format_version"]!r} (expected '
      f'{CARD_FORMAT}); update gfn_jax'
    )
  return card


def card_section(card: Mapping[str, Any], name: str) -> dict[str, Any]:
  """Return a section of a card, such as `data`. A missing one, or one of another type, is empty."""
  section = card.get(name)
  return section if isinstance(section, dict) else {}


def card_licence(card: Mapping[str, Any]) -> str | None:
  """Return the licence that a card states, in one line; None if it states none."""
  licence = card_section(card, 'data').get('licence')
  return printable(' '.join(licence.split())) if isinstance(licence, str) else None
