"""Export of weights as a folder that model hubs and `load_pretrained` read."""

import os
import tempfile
from collections.abc import Mapping
from typing import Any

from gfn_jax.errors import UserError, first_line
from gfn_jax.interop.hub_readme import ATTRIBUTION, README, make_readme
from gfn_jax.models import param_count
from gfn_jax.system.files import (
  check_local,
  file_sha256,
  printable,
  read_file,
  remove,
  to_json,
  write_file,
)
from gfn_jax.weights.cards import (
  CARD_FORMAT,
  HUB_CARD,
  HUB_WEIGHTS,
  card_licence,
  card_section,
  find_card,
  read_card,
)
from gfn_jax.weights.pretrained import (
  RELEASED_DIR,
  load_model_config,
  load_pretrained,
  weights_path,
)

FILES = (HUB_CARD, HUB_WEIGHTS, README, ATTRIBUTION)
"""Files of a folder. The card is removed first and put in place last."""


def check_new_hub_folder(folder: str | os.PathLike, overwrite: bool) -> None:
  """Raise, before long work, if a folder cannot be written.

  Raises:
    UserError: if it is in a bucket, its parent is missing, it is a file, or it is not empty and
      `overwrite` is False.
  """
  check_local(folder, "a hub's folder")
  name, parent = printable(folder), os.path.dirname(os.path.abspath(folder))
  if not os.path.isdir(parent):
    raise UserError(f'no such folder: {printable(parent)}')
  if os.path.lexists(folder) and not os.path.isdir(folder):
    raise UserError(f'{name} is a file; choose another folder')
  if os.path.isdir(folder) and os.listdir(folder) and not overwrite:
    raise UserError(f'{name} is not empty; choose another folder, or pass --overwrite')


def export_hub_folder(weights: str | os.PathLike, folder: str | os.PathLike) -> None:
  """Write weights, card and README into a folder, and print a summary.

  The weights are copied as they are, and loaded again before they are put in place. Other files of
  an existing folder, such as those of git, are kept.

  Args:
    weights: as for `load_pretrained`.
    folder: folder to write into; made if needed. Its name is that of the weights on the hub.

  Raises:
    UserError: as `load_pretrained`, or if the folder cannot be written.
  """
  model, variables = load_pretrained(weights)
  parameters = param_count(variables)
  path = weights_path(weights)
  card = read_card(path)
  if card is None:
    card = {
      'format_version': CARD_FORMAT,
      'model': load_model_config(weights),
      'parameters': parameters,
      'sha256': file_sha256(path),
    }
    card_text = to_json(card)
  else:
    card_text = read_file(find_card(path))
  name, attribution = os.path.basename(os.path.abspath(folder)), _attribution(card)
  text = make_readme(name, card, model, parameters, attribution is not None)
  contents = {HUB_WEIGHTS: read_file(path), HUB_CARD: card_text, README: text.encode()}
  if attribution is not None:
    contents[ATTRIBUTION] = attribution
  _write(folder, contents)
  size = len(contents[HUB_WEIGHTS]) / 1e6
  print(f'wrote {", ".join(sorted(contents))} to {printable(folder)}: {size:.1f} MB of parameters')
  print(f'licence of the weights: {card_licence(card) or "the model card states none"}')


def _write(folder: str | os.PathLike, contents: Mapping[str, bytes]) -> None:
  """Write files into a folder: first into a temporary one beside it, which must load."""
  folder = os.path.abspath(folder)
  try:
    with tempfile.TemporaryDirectory(prefix='.gfn_export', dir=os.path.dirname(folder)) as aside:
      for name, content in contents.items():
        write_file(os.path.join(aside, name), content)
      load_pretrained(aside)
      os.makedirs(folder, exist_ok=True)
      for name in FILES:  # an interrupted command leaves no card beside other weights
        remove(os.path.join(folder, name))
      for name in reversed(FILES):
        if name in contents:
          os.replace(os.path.join(aside, name), os.path.join(folder, name))
  except OSError as error:
    raise UserError(f'cannot write {printable(folder)}: {first_line(error)}') from error


def _attribution(card: Mapping[str, Any]) -> bytes | None:
  """Return the package's list of photographs, if a card was trained on exactly those."""
  digest = card_section(card, 'data').get('photo_list_sha256')
  path = os.path.join(RELEASED_DIR, ATTRIBUTION)
  if not isinstance(digest, str) or len(digest) != 64 or not os.path.exists(path):
    return None
  content = read_file(path)
  return content if digest.encode() in content else None
