"""Weights of a paper's table, checked to be the paper's networks after as much training."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gfn_jax.errors import UserError
from gfn_jax.evaluation.paper_tables import Table
from gfn_jax.models import RestorationModel, create_model
from gfn_jax.system.files import file_sha256, is_file, is_folder, printable
from gfn_jax.weights.cards import card_path, read_card
from gfn_jax.weights.pretrained import load_pretrained

_FREE_FIELDS = {'dtype', 'precision', 'initialization', 'axis_name', 'parent', 'name'}
"""Fields of networks that change neither their parameters nor, beyond rounding, their images."""


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights of a row.

  Attributes:
    path: the file.
    sha256: its hash.
    steps: training steps, None if its card does not say.
  """

  path: str
  sha256: str
  steps: int | None


def find_weights(
  folder: str | os.PathLike,
  table: Table,
  data_sets: Iterable[str],
  get_config: Callable[[str], Mapping[str, Any]],
) -> dict[str, Weights]:
  """Find the weights of a table's rows, and check that each is the paper's network.

  Args:
    folder: holds `VARIANT.safetensors`, or the run `VARIANT/weights.safetensors`. A variant is that
      of the table's config, such as 'gfn'; may be in a bucket, `gs://...`.
    table: the table.
    data_sets: data sets whose networks are looked for.
    get_config: returns the training config of a variant, or raises `UserError` for a row that the
      paper did not train.

  Returns:
    The weights by variant; rows without a file are left out.

  Raises:
    UserError: if there are no weights, a file cannot be read, or it holds another network or one
      that was trained less.
  """
  if not is_folder(folder):
    raise UserError(f'no such folder: {printable(folder)}')
  variants = {
    row.variant(name, data_set): row.network(data_set)
    for data_set in data_sets
    for name, row in table.rows.items()
  }
  found = {}
  for variant, network in variants.items():
    files = [
      os.path.join(folder, f'{variant}.safetensors'),
      os.path.join(folder, variant, 'weights.safetensors'),
    ]
    files = [file for file in files if is_file(file)]
    if len(files) > 1:
      raise UserError(f'{" and ".join(map(printable, files))} are weights of one row; remove one')
    if files and network is not None:
      _check_network(files[0], create_model(**network))
      card = read_card(files[0]) or {}
      _check_budget(files[0], card, functools.partial(get_config, variant))
      steps = card.get('step')
      steps = steps if isinstance(steps, int) else None
      found[variant] = Weights(files[0], file_sha256(files[0]), steps)
  if not found:
    names = ', '.join(name for name, network in variants.items() if network is not None)
    raise UserError(
      f'{printable(folder)} has no weights of this table: expected ROW.safetensors or '
      f'ROW/weights.safetensors, where ROW is one of {names}'
    )
  return found


def find_difference(model: Any, expected: Any) -> str | None:
  """Return how two networks differ, but for their initialisation and the type of computations.

  Args:
    model: a network.
    expected: the network that it is compared with.

  Returns:
    Text such as 'features is 16, not 64', or None for equal networks.
  """
  if type(model) is not type(expected):
    return f'{type(model).__name__}, not {type(expected).__name__}'
  for field in dataclasses.fields(model):
    found, wanted = getattr(model, field.name), getattr(expected, field.name)
    if field.name in _FREE_FIELDS or found == wanted:
      continue
    if not isinstance(found, RestorationModel):
      return f'{field.name} is {found!r}, not {wanted!r}'
    if difference := find_difference(found, wanted):
      return f'{field.name}: {difference}'
  return None


def _check_network(path: str, expected: RestorationModel) -> None:
  """Raise a UserError if a file cannot be read, or holds another network than a row's."""
  if difference := find_difference(load_pretrained(path)[0], expected):
    raise UserError(
      f"{printable(path)} is not the paper's network: {difference}; only equal networks stand "
      'beside published numbers'
    )


def _check_budget(
  path: str, card: Mapping[str, Any], get_config: Callable[[], Mapping[str, Any]]
) -> None:
  """Raise a UserError if a run has seen fewer examples than the config of its row asks for.

  Weights that no run wrote, such as imported ones, are accepted.
  """
  config = card.get('config')
  if not isinstance(config, dict) or 'training' not in config:
    return
  try:
    wanted = get_config()
  except UserError:  # not trained by the paper
    return
  try:
    batch_size = config['training']['batch_size']
    seen = card['step'] * batch_size
    windows = card['data'].get('counts', {}).get('train', {}).get('windows_kept', 0)
    one_pass = windows // batch_size * batch_size  # a remainder is left out
  except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
    raise UserError(f'cannot read {printable(card_path(path))}: not the card of a run') from error
  epoch = wanted['training']['steps_per_epoch'] * wanted['training']['batch_size'] or one_pass
  needed = epoch * sum(phase['epochs'] for phase in wanted['phases'].values())
  if seen < needed:
    raise UserError(
      f'{printable(path)} was trained on {seen:,} examples, fewer than the {needed:,} of its '
      "row's config; only equal trainings stand beside published numbers"
    )
