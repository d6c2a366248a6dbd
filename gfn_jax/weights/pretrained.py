"""Trained weights: a safetensors file that names its network, with a model card beside it.

Released weights are files of the package's folder `weights/` and are found by name.
"""

import glob
import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from gfn_jax.errors import UserError, first_line
from gfn_jax.models import (
  RestorationModel,
  create_model,
  list_models,
  param_count,
  variable_shapes,
)
from gfn_jax.system.files import (
  check_new_file,
  file_sha256,
  is_file,
  is_folder,
  local_copy,
  printable,
  remove,
  write_aside,
  write_json,
)
from gfn_jax.weights.cards import CARD_FORMAT, card_path, read_card
from gfn_jax.weights.tensors import find_mismatch, flatten_variables, unflatten_variables

Variables = Mapping[str, Any]
"""Flax's dictionary of collections: `params` and maybe `batch_stats`."""

RELEASED_DIR = os.path.dirname(os.path.abspath(__file__))
"""The folder of the released weights."""

WEIGHTS_FILE = 'weights.safetensors'
"""The newest weights in the folder of a training run."""

DTYPES = {'float32': 'F32', 'bfloat16': 'BF16', 'float16': 'F16'}
"""The types that a file can hold, and their names in its header."""

MAX_OPTION = 1024
"""Limit on the numbers among the options in a header: larger networks take too long to build."""


def list_pretrained() -> list[str]:
  """Return the names of the released weights, sorted, as `load_pretrained` takes them."""
  files = glob.glob('*.safetensors', root_dir=RELEASED_DIR)
  return sorted(file.removesuffix('.safetensors') for file in files)


def load_pretrained(path_or_name: str | os.PathLike) -> tuple[RestorationModel, Variables]:
  """Load trained weights from a file of `save_weights`, or released ones by name.

  The file's hash and network are compared with its card. A file without a card is accepted, unless
  it is a released one. Nothing in a file is executed.

  Args:
    path_or_name: a .safetensors file or the folder of a run, local or remote (`gs://...`); or one
      of `list_pretrained()`.

  Returns:
    The network and its variables, float32.

  Raises:
    UserError: if there is no such file or name, the file is damaged or not one of this library, or
      its tensors do not fit its network, are not finite or not all of one type.
  """
  path, model_config, flat = _read(path_or_name)
  model, shapes = _build_named(model_config, path)
  _check_tensors(flat, flatten_variables(shapes), model, path)
  return model, unflatten_variables(flat)


def load_model_config(path_or_name: str | os.PathLike) -> dict[str, Any]:
  """Return the `name` and the options of a weights file's network, from its header.

  Raises:
    UserError: if there is no such file or name, or it is damaged or not one of this library.
  """
  return _read(path_or_name)[1]


def load_card(path_or_name: str | os.PathLike) -> dict[str, Any]:
  """Return the card of weights: `model`, `config`, `data` with its `licence`, `scores`, `sha256`.

  Raises:
    UserError: if there are no such weights, or they have no card.
  """
  path = weights_path(path_or_name)
  card = _read_card(path)
  if card is None:
    raise UserError(f'{printable(path)} has no model card: no file {printable(card_path(path))}')
  return card


def weights_path(path_or_name: str | os.PathLike) -> str:
  """Return the path of a weights file.

  Args:
    path_or_name: the path itself, the folder of a training run, or the name of released weights,
      which comes before a folder of that name.

  Raises:
    UserError: if there is no such file or name.
  """
  path = os.fspath(path_or_name)
  if is_file(path) and not is_folder(path):
    return path
  if path not in list_pretrained() and is_folder(path):
    file = os.path.join(path, WEIGHTS_FILE)
    if not is_file(file):
      raise UserError(
        f'no weights in the folder {printable(path)}: {WEIGHTS_FILE} is missing; pass the folder '
        'of a training run, or a .safetensors file'
      )
    return file
  if path.endswith('.safetensors') or os.path.basename(path) != path:
    raise UserError(
      f'no weights at {printable(path)}: train a network with run_train.py, which writes '
      'WORKDIR/weights.safetensors, and pass that file'
    )
  names = list_pretrained()
  if path not in names:
    choice = f'choose from {", ".join(names)}, or pass' if names else 'pass'
    raise UserError(f'no released weights are named {path!r}; {choice} a .safetensors file')
  return os.path.join(RELEASED_DIR, f'{path}.safetensors')


def check_new_weights(path: str | os.PathLike, overwrite: bool) -> None:
  """Raise, before long work, if `save_weights` cannot write to a path.

  Raises:
    UserError: as `check_new_file`, also for the card's file, or for another extension.
  """
  if not os.fspath(path).endswith('.safetensors'):
    raise UserError(f'{printable(path)}: the name of a weights file must end in .safetensors')
  check_new_file(path, overwrite)
  check_new_file(card_path(path), overwrite)


def save_weights(
  path: str | os.PathLike,
  variables: Variables,
  model_config: Mapping[str, Any],
  card: Mapping[str, Any],
  dtype: str = 'float32',
) -> None:
  """Write a weights file and its card, which has the suffix .json instead of .safetensors.

  Args:
    path: file that ends in .safetensors; may be in a bucket, `gs://...`.
    variables: the network's variables.
    model_config: `name` and the options of `create_model`, values that JSON can hold.
    card: description for users: `step`, `config`, `data`, `scores`. The file's `model`, `dtype`,
      `parameters` and `sha256` are added.
    dtype: type of the stored parameters, a key of `DTYPES`.

  Raises:
    UserError: for an unknown type, or naming a tensor that is not finite in that type.
  """
  if dtype not in DTYPES:
    raise UserError(f'unknown dtype {dtype!r}; choose from {", ".join(DTYPES)}')
  path = os.fspath(path)
  flat = flatten_variables(variables)
  tensors = {key: _cast(key, value, dtype) for key, value in flat.items()}
  # One entry only: safetensors writes several in a random order, and the hash would change.
  metadata = {'model': json.dumps(dict(model_config), sort_keys=True)}
  content = safetensors.numpy.save(tensors, metadata)
  facts = {'format_version': CARD_FORMAT, 'model': dict(model_config), 'dtype': dtype}
  facts['parameters'] = param_count(variables)
  facts['sha256'] = hashlib.sha256(content).hexdigest()
  facts = facts | dict(card) | facts  # listed first, and not overridden by a card of other weights
  json.dumps(facts)  # fails, if it does, before anything is written
  # The old card is removed before the file is replaced: a run that is killed between the two leaves
  # a file without a card, not one that its card contradicts.
  with write_aside(path) as temporary:
    with open(temporary, 'wb') as file:
      file.write(content)
    remove(card_path(path))
  write_json(card_path(path), facts)


def init_variables_from(
  path_or_name: str | os.PathLike,
  model: RestorationModel,
  variables: Variables,
  exceptions: Sequence[str] = (),
) -> Variables:
  """Return initial variables taken from trained weights, whose network may have other options.

  Args:
    path_or_name: as for `load_pretrained`.
    model: the network to initialise.
    variables: its initial variables.
    exceptions: modules or parameters that need not fit, such as 'gate' or 'reconstruction.conv4'.
      A parameter there keeps its value in `variables` if the file lacks it or has another shape;
      a tensor there that the network lacks is ignored.

  Returns:
    The variables, float32.

  Raises:
    UserError: as `load_pretrained`, if the tensors do not fit the network outside the exceptions,
      or if an exception is found in neither.
  """
  path, _, flat = _read(path_or_name)
  initial = flatten_variables(variables)
  free = set()
  for prefix in exceptions:
    found = {key for key in initial.keys() | flat.keys() if f'{key}.'.startswith(f'{prefix}.')}
    if not found:
      raise UserError(
        f'neither {type(model).__name__} nor {printable(path)} has a module or parameter {prefix!r}'
      )
    free |= found
  free -= {k for k in flat.keys() & initial.keys() if flat[k].shape == initial[k].shape}
  taken, wanted = ({k: v for k, v in tree.items() if k not in free} for tree in (flat, initial))
  _check_tensors(taken, wanted, model, path)
  start = {key: jnp.asarray(value, jnp.float32) for key, value in (initial | taken).items()}
  return unflatten_variables(start)


def convert_weights(
  source: str | os.PathLike,
  path: str | os.PathLike,
  dtype: str,
  changes: Mapping[str, Any] | None = None,
) -> None:
  """Write weights as another type, such as the weights of a run for a release.

  The card gets `reference`: the network's `reference_output` with the stored weights.

  Args:
    source: as for `load_pretrained`, with a card.
    path: the new file, which ends in .safetensors.
    dtype: a key of `DTYPES`.
    changes: entries of the card to add or to replace.

  Raises:
    UserError: as `load_pretrained` and `save_weights`, or if `source` has no card.
  """
  _, variables = load_pretrained(source)
  card = load_card(source) | dict(changes or {})
  stored = {key: _cast(key, value, dtype) for key, value in flatten_variables(variables).items()}
  stored = {key: value.astype(np.float32) for key, value in stored.items()}
  model = create_model(**card['model'])  # the new card's, which may compute in another type
  card['reference'] = reference_output(model, unflatten_variables(stored))
  save_weights(path, variables, card['model'], card, dtype)


def reference_input() -> np.ndarray:
  """Return a fixed image, `[1, 32, 32, 3]` float32 in [0, 1]: waves of several lengths."""
  y, x, c = np.mgrid[:32, :32, :3]
  return (0.5 + 0.5 * np.sin(0.05 * y * x / (c + 1) + 0.7 * c))[None].astype(np.float32)


def reference_output(model: RestorationModel, variables: Variables) -> list[float]:
  """Return 48 values of a network's output for `reference_input`, rounded to 5 decimals."""
  output = jax.jit(model.apply)(variables, reference_input())
  image = np.asarray(output.lr if output.hr is None else output.hr)[0]
  step = image.shape[0] // 4
  return [round(float(value), 5) for value in image[step // 2 :: step, step // 3 :: step].ravel()]


def _cast(key: str, value: jax.typing.ArrayLike, dtype: str) -> np.ndarray:
  with np.errstate(over='ignore'):  # reported below, with the tensor's name
    tensor = np.asarray(value, jnp.dtype(dtype), order='C')
  if not np.isfinite(tensor).all():
    raise UserError(f'{key} has values that are not finite as {dtype}; no weights are written')
  return tensor


def _read_card(path: str) -> dict[str, Any] | None:
  """Return the card of a weights file, or None if there is none; released ones must have one."""
  card = read_card(path)
  if card is None and os.path.dirname(path) == RELEASED_DIR:
    raise UserError(f'cannot read {card_path(path)}: no such file; install gfn_jax again')
  return card


def _read(path_or_name: str | os.PathLike) -> tuple[str, Any, dict[str, np.ndarray]]:
  """Return the path of a file, the network that its header names, and its tensors, float32."""
  path = weights_path(path_or_name)
  name, card_name = printable(path), printable(card_path(path))
  with local_copy(path) as copy:
    if _is_pickle(copy):  # before a .json beside it is taken for its card
      raise _foreign(path, 'a PyTorch checkpoint')
    card = _read_card(path)
    if card and card['sha256'] != file_sha256(copy):
      raise UserError(
        f'{name} is damaged: its SHA-256 is not the one in {card_name}; copy both again'
      )
    metadata, flat = _read_tensors(copy, path)
  try:
    model_config = json.loads(metadata['model'])
  except (ValueError, RecursionError) as error:
    raise _unnamed_network(path) from error
  if card and card['model'] != model_config:
    raise UserError(f'{name} and {card_name} name different networks; copy both again')
  return path, model_config, flat


def _read_tensors(copy: str, path: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
  """Return the metadata of the file at `path`, whose local copy is `copy`, and float32 tensors."""
  name = printable(path)
  try:
    with safetensors.safe_open(copy, framework='numpy') as file:
      metadata = file.metadata() or {}
      if 'model' not in metadata:  # before its types are refused
        raise _unnamed_network(path)
      keys = file.keys()
      types = {file.get_slice(key).get_dtype() for key in keys}
      if len(types) > 1 or not types <= set(DTYPES.values()):
        raise UserError(
          f'cannot read {name}: tensors of type {", ".join(sorted(types))}; all must have the same '
          f'type, one of {", ".join(DTYPES.values())}'
        )
      return metadata, {key: file.get_tensor(key).astype(np.float32, copy=False) for key in keys}
  except (safetensors.SafetensorError, OSError) as error:
    raise UserError(f'cannot read {name} as safetensors: {error}') from error


def build_model(name: str, **options: Any) -> tuple[RestorationModel, Variables]:
  """Return the network of options from a file, and its `variable_shapes`.

  Args:
    name: see `create_model`.
    **options: see `create_model`.

  Raises:
    UserError: for options of no network, or of one too large to build.
  """
  numbers = [value for value in jax.tree.leaves(options) if isinstance(value, int)]
  if max(numbers, default=0) > MAX_OPTION:
    raise UserError(f'option values must be at most {MAX_OPTION}, not {max(numbers)}')
  try:
    model = create_model(name, **options)
    return model, variable_shapes(model)
  except UserError:
    raise
  except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
    raise UserError(f'invalid options of {name!r}: {first_line(error)}') from error


def _build_named(model_config: Any, path: str) -> tuple[RestorationModel, Variables]:
  """Return `build_model` of the header of a file."""
  if not isinstance(model_config, dict) or not isinstance(model_config.get('name'), str):
    raise _unnamed_network(path)
  try:
    return build_model(**model_config)
  except UserError as error:
    own = model_config['name'] not in list_models()
    hint = '; register a network of your own first (docs/own_network.md)' if own else ''
    raise UserError(f'{printable(path)}: {error}{hint}') from error


def _unnamed_network(path: str) -> UserError:
  return _foreign(path, 'a safetensors file whose header does not name a model of gfn_jax')


def _foreign(path: str, kind: str) -> UserError:
  """Return the error for weights of another library, with the command that converts them."""
  new = os.path.splitext(path)[0] + '_imported.safetensors'
  command = shlex.join(['gfn-import', path, new, '--model', 'NAME'])
  return UserError(f'{printable(path)} is {kind}; convert it first: {printable(command)}')


def _is_pickle(copy: str) -> bool:
  """Return True if a file begins as one of `torch.save`: with PK, or the protocol of a pickle."""
  with open(copy, 'rb') as file:
    start = file.read(9)
  return start.startswith((b'PK\x03\x04', b'\x80')) and start[8:] != b'{'  # of safetensors


def _check_tensors(
  flat: Mapping[str, np.ndarray], wanted: Mapping[str, Any], model: RestorationModel, path: str
) -> None:
  """Raise a UserError if tensors differ from `wanted`, arrays or shapes by name."""
  shapes = {name: leaf.shape for name, leaf in wanted.items()}
  if mismatch := find_mismatch(flat, shapes):
    raise UserError(f'{printable(path)} does not fit {type(model).__name__}: {mismatch}')
