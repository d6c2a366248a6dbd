"""Import of the authors' checkpoints as weights of this library, without PyTorch."""

import functools
import os
from collections.abc import Mapping
from typing import Any

from gfn_jax.errors import UserError
from gfn_jax.interop.conversion import (
  convert,
  find_missing_options,
  find_prefixes,
  infer_options,
)
from gfn_jax.interop.exported import import_tensors
from gfn_jax.interop.tensorflow_checkpoint import load_tensorflow_checkpoint, tensorflow_prefix
from gfn_jax.interop.torch_checkpoint import Checkpoint, checkpoint_parts, read_checkpoint
from gfn_jax.interop.torch_names import VERSIONS
from gfn_jax.interop.torch_pickle import show
from gfn_jax.models import create_model, param_count
from gfn_jax.system.console import print_message
from gfn_jax.system.files import file_sha256, printable
from gfn_jax.weights.pretrained import save_weights
from gfn_jax.weights.tensors import first_names

HIDDEN_OPTIONS = (
  'gate_recursions',
  'size_mode',
  'heads',
  'patch_size',
  'final_activation',
  'res_scale',
  'steps',
  'global_skip',
)
"""Options of networks with authors' weights that change images but no tensor's name or shape."""


def import_torch(
  source: str | os.PathLike,
  target: str | os.PathLike,
  model_name: str | None = None,
  key: str | None = None,
  options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Convert a checkpoint to a weights file and a model card that names the source.

  Lines on stderr name the entry that was read, the tensors that were not, and options that the
  checkpoint does not show. A file of `gfn-export` has its model card: the network, its options and
  the entries of the card are taken from there.

  Args:
    source: PyTorch checkpoint, a file or a folder, as for `load_torch_checkpoint`, or TensorFlow
      checkpoint, as for `load_tensorflow_checkpoint`.
    target: .safetensors file to write. An existing file is replaced.
    model_name: a key of `gfn_jax.interop.torch_names.VERSIONS`. None takes that of the card.
    key: entry of a PyTorch checkpoint, as for `load_torch_checkpoint`.
    options: options of the network, as for `convert`.

  Returns:
    The network's `name` and options, and its number of parameters as `parameters`.

  Raises:
    UserError: as `load_torch_checkpoint`, `load_tensorflow_checkpoint`, `convert` and
      `save_weights`; also for the `key` of a TensorFlow checkpoint, and for a `model_name` that is
      missing or not that of the card.
  """
  file, checkpoint = _read(source, model_name, key)
  name = printable(source)
  _print_choice(name, checkpoint)
  try:
    if checkpoint.card is not None:
      card = checkpoint.card
      model_config = _card_network(card['model'], model_name, options or {})
      variables = import_tensors(model_config, checkpoint.tensors)
    else:
      card, model_name = {}, _check_name(model_name)
      given = dict(options or {})
      found = infer_options(model_name, checkpoint.tensors, **given)
      variables = convert(model_name, checkpoint.tensors, **found)
      if missing := find_missing_options(model_name, checkpoint.tensors, **found):
        raise UserError(
          f'{missing[0]} is not in the file and differs between networks; pass --option '
          f'{missing[0]}=VALUE as the network was trained'
        )
      model_config = {'name': model_name, **found}
      _print_assumed(name, model_config)
  except UserError as error:
    raise UserError(f'{name}: {error}') from error
  save_weights(target, variables, model_config, card | {'imported_from': _describe(file)})
  return model_config | {'parameters': param_count(variables)}


def _read(
  source: str | os.PathLike, model_name: str | None, key: str | None
) -> tuple[str | os.PathLike, Checkpoint]:
  """Return the file that identifies a checkpoint, and what it holds."""
  prefix = tensorflow_prefix(source)
  if prefix is None:
    locate = functools.partial(find_prefixes, model_name) if model_name in VERSIONS else None
    return source, read_checkpoint(source, key, locate)
  if key is not None:
    raise UserError(f'{printable(source)}: a TensorFlow checkpoint has no entry {show(key)}')
  # The index has the checksums of all tensors.
  return f'{prefix}.index', Checkpoint(load_tensorflow_checkpoint(source))


def _check_name(model_name: str | None) -> str:
  if model_name is None:
    raise UserError(
      f'the file does not name its network; pass --model, one of {", ".join(sorted(VERSIONS))}'
    )
  return model_name


def _card_network(
  model_config: dict[str, Any], model_name: str | None, options: Mapping[str, Any]
) -> dict[str, Any]:
  """Return the network of a card with options that replace those of the card."""
  if model_name not in (None, model_config['name']):
    raise UserError(
      f'the file has weights of {show(model_config["name"])}, not of {model_name}; omit --model'
    )
  return model_config | dict(options)


def _print_choice(name: str, checkpoint: Checkpoint) -> None:
  """Print which entry was read, and what beside it was not."""
  if not checkpoint.entry or checkpoint.card is not None:
    return
  line = f'{name}: the weights are those of {show(checkpoint.entry)}'
  if checkpoint.others:
    line += f', not of {", ".join(map(show, checkpoint.others))}; --key chooses others'
  if checkpoint.outside:
    line += f'; ignored beside them: {first_names(checkpoint.outside)}'
  print_message(line)


def _print_assumed(name: str, model_config: Mapping[str, Any]) -> None:
  """Print the options that change the network's images and do not show in the tensors."""
  options = {key: value for key, value in model_config.items() if key != 'name'}
  model = create_model(model_config['name'], **options)
  assumed = [
    f'{option}={getattr(model, option)}'
    for option in HIDDEN_OPTIONS
    if option not in options and hasattr(model, option)
  ]
  if assumed:
    print_message(
      f"{name}: not in the file, so that the authors' values are taken: {', '.join(assumed)}; "
      '--option NAME=VALUE sets others'
    )


def _describe(source: str | os.PathLike) -> dict[str, Any]:
  """Return the name of a checkpoint and the SHA-256 of its file, or of each file of its folder."""
  name = os.path.basename(os.path.normpath(source))
  if parts := checkpoint_parts(source):
    hashes = {os.path.basename(file): file_sha256(file) for file in parts.values()}
    return {'folder': name, 'sha256': hashes}
  return {'file': name, 'sha256': file_sha256(source)}
