"""Trained weights: a safetensors file that names its network, and a JSON card beside it.

Released weights lie in the package's folder `weights/` and are found by their name.
"""

import glob
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from gfn_jax.errors import UserError
from gfn_jax.models import as_variables, create_model, param_count, param_shapes
from gfn_jax.system.files import (
  check_new_file,
  exists,
  file_sha256,
  is_remote,
  local_copy,
  printable,
  read_file,
  remove,
  write_aside,
  write_json,
)

RELEASED_DIR = os.path.dirname(os.path.abspath(__file__))
"""The folder of the released weights."""

DTYPES = {'float32': 'F32', 'bfloat16': 'BF16', 'float16': 'F16'}
"""The types that a file can hold, and their names in its header."""

MAX_OPTION = 1024
"""Largest number among the options in a header: a million blocks would take for ever to build."""


def check_new_weights(path: str | os.PathLike, overwrite: bool) -> None:
  """Checks, before long work, that `save_weights` can write there.

  Raises:
    UserError: as `check_new_file`, or for another extension.
  """
  if not os.fspath(path).endswith('.safetensors'):
    raise UserError(f'{printable(path)}: the name of weights ends in .safetensors')
  check_new_file(path, overwrite)


def save_weights(
  path: str | os.PathLike,
  params: Any,
  model_config: Mapping[str, Any],
  card: Mapping[str, Any],
  dtype: str = 'float32',
) -> None:
  """Writes `path` (safetensors) and, beside it, `path` with suffix .json (the card).

  Args:
    path: ends in .safetensors; may be in a bucket, `gs://...`.
    params: the network's parameters.
    model_config: `name` and the options of `create_model`, values that JSON can hold.
    card: what a user should know about them: `step`, `config`, `data`, `scores`. The facts of the
      file are added: `model`, `dtype`, `parameters`, `sha256`.
    dtype: what the parameters are stored as, a key of `DTYPES`.

  Raises:
    UserError: for another type, or naming a tensor with values that are not finite in it.
  """
  if dtype not in DTYPES:
    raise UserError(f'weights are stored as one of {", ".join(DTYPES)}, not {dtype}')
  path = os.fspath(path)
  flat = _flatten(params)
  tensors = {key: _cast(key, value, dtype) for key, value in flat.items()}
  # One entry only: safetensors writes several in a random order, and the hash would change.
  metadata = {'model': json.dumps(dict(model_config), sort_keys=True)}
  content = safetensors.numpy.save(tensors, metadata)
  facts = {'model': dict(model_config), 'dtype': dtype, 'parameters': param_count(params)}
  facts['sha256'] = hashlib.sha256(content).hexdigest()
  facts = facts | dict(card) | facts  # they stand first, and a card of other weights yields
  json.dumps(facts)  # a card that JSON cannot hold is refused before anything is written
  # The old card goes before the new file comes: a run killed between the two leaves a file without
  # a card, and not one that its card calls damaged.
  with write_aside(path) as temporary:
    with open(temporary, 'wb') as file:
      file.write(content)
    remove(_card_path(path))
  write_json(_card_path(path), facts)


def load_pretrained(path_or_name: str | os.PathLike) -> tuple[nn.Module, Any]:
  """Reads weights that `save_weights` wrote: a file, or released ones by their name.

  What the card beside the file says of its hash and its network is verified. A file alone is
  taken too, but for released ones.

  Args:
    path_or_name: a .safetensors file, of which nothing is executed, here or in a bucket
      (`gs://...`); or a name such as 'gfn'.

  Returns:
    The network and its parameters, float32.

  Raises:
    UserError: if there is no such file or name, the file is damaged, is not one of this library, or
      its tensors are not exactly those of its network, all finite and of one type.
  """
  path, model_config, flat = _read(path_or_name)
  model, shapes = _network(model_config, path)
  _check_tensors(flat, traverse_util.flatten_dict(shapes, sep='.'), model, path)
  return model, traverse_util.unflatten_dict(flat, sep='.')


def init_params_from(
  path_or_name: str | os.PathLike, model: nn.Module, params: Any, exceptions: Sequence[str] = ()
) -> Any:
  """Initial parameters taken from trained weights, whatever the options of their own network.

  Args:
    path_or_name: as for `load_pretrained`.
    model: the network to initialise.
    params: its parameters, of `init_params`.
    exceptions: modules or parameters that need not fit, such as 'gate' or 'reconstruction.conv4'.
      Under these a parameter that the file lacks, or has in another shape, stays as it is in
      `params`, and a tensor of the file that the network lacks is ignored.

  Returns:
    The parameters, float32.

  Raises:
    UserError: as `load_pretrained`, if the file's tensors are not exactly the network's but for the
      exceptions, or if an exception is found in neither.
  """
  path, _, flat = _read(path_or_name)
  initial = traverse_util.flatten_dict(params, sep='.')
  free = set()
  for prefix in exceptions:
    found = {key for key in initial.keys() | flat.keys() if f'{key}.'.startswith(f'{prefix}.')}
    if not found:
      raise UserError(f'nothing in {type(model).__name__} or in {path} is named {prefix!r}')
    free |= found
  strict = [{k: v for k, v in tree.items() if k not in free} for tree in (flat, initial)]
  _check_tensors(*strict, model, path)
  fitting = {k: v for k, v in flat.items() if k in initial and v.shape == initial[k].shape}
  start = {key: jnp.asarray(value, jnp.float32) for key, value in (initial | fitting).items()}
  return traverse_util.unflatten_dict(start, sep='.')


def convert_weights(
  source: str | os.PathLike,
  path: str | os.PathLike,
  dtype: str,
  changes: Mapping[str, Any] | None = None,
) -> None:
  """Write weights as another type, such as those of a run for a release.

  The card gets `reference`: what the network makes of `reference_input` with the stored weights.

  Args:
    source: as for `load_pretrained`, with a card.
    path: of the new file; ends in .safetensors.
    dtype: a key of `DTYPES`.
    changes: entries of the card to add or to replace.

  Raises:
    UserError: as `load_pretrained` and `save_weights`, or if `source` has no card.
  """
  _, params = load_pretrained(source)
  card = load_card(source) | dict(changes or {})
  model = create_model(**card['model'])
  stored = {key: _cast(key, value, dtype) for key, value in _flatten(params).items()}
  stored = {key: value.astype(np.float32) for key, value in stored.items()}
  card['reference'] = reference_output(model, traverse_util.unflatten_dict(stored, sep='.'))
  save_weights(path, params, card['model'], card, dtype)


def reference_input() -> np.ndarray:
  """Return a fixed image, `[1, 32, 32, 3]` float32 in [0, 1]: waves of several lengths."""
  y, x, c = np.mgrid[:32, :32, :3]
  return (0.5 + 0.5 * np.sin(0.05 * y * x / (c + 1) + 0.7 * c))[None].astype(np.float32)


def reference_output(model: nn.Module, params: Any) -> list[float]:
  """Return what a network makes of `reference_input`: 48 values of its output, to 5 digits."""
  output = jax.jit(model.apply)(as_variables(params), reference_input())
  image = np.asarray(output.lr if output.hr is None else output.hr)[0]
  step = image.shape[0] // 4
  return [round(float(value), 5) for value in image[step // 2 :: step, step // 3 :: step].ravel()]


def load_model_config(path_or_name: str | os.PathLike) -> dict[str, Any]:
  """The `name` and the options of the network that the header of a weights file names.

  Raises:
    UserError: if there is no such file or name, or it is damaged or not one of this library.
  """
  return _read(path_or_name)[1]


def load_card(path_or_name: str | os.PathLike) -> dict[str, Any]:
  """The card of weights: `model`, `config`, `data` with its `licence`, `scores`, `sha256`.

  Raises:
    UserError: if there are no such weights, or they have no card.
  """
  path = weights_path(path_or_name)
  card = _read_card(path)
  if card is None:
    raise UserError(f'{path} has no card: there is no {_card_path(path)}')
  return card


def weights_path(path_or_name: str | os.PathLike) -> str:
  """The path of a weights file, given itself or the name of released weights.

  Raises:
    UserError: if there is no such file or name.
  """
  path = os.fspath(path_or_name)
  if exists(path) if is_remote(path) else os.path.isfile(path):
    return path
  if path.endswith('.safetensors') or os.path.basename(path) != path:
    raise UserError(
      f'no weights at {path}: train a network with run_train.py, which writes '
      'WORKDIR/weights.safetensors, and pass that file'
    )
  files = glob.glob('*.safetensors', root_dir=RELEASED_DIR)
  if f'{path}.safetensors' not in files:
    names = ', '.join(sorted(file.removesuffix('.safetensors') for file in files))
    raise UserError(
      f'no released weights are named {path!r}; there are {names or "none"}. The name of a file '
      'ends in .safetensors'
    )
  return os.path.join(RELEASED_DIR, f'{path}.safetensors')


def _cast(key: str, value: jax.typing.ArrayLike, dtype: str) -> np.ndarray:
  with np.errstate(over='ignore'):  # told below, by name
    tensor = np.asarray(value, jnp.dtype(dtype), order='C')
  if not np.isfinite(tensor).all():
    raise UserError(f'{key} has values that are not finite as {dtype}; no weights are written')
  return tensor


def _flatten(params: Any) -> dict[str, Any]:
  return traverse_util.flatten_dict(params, sep='.')


def _card_path(path: str) -> str:
  return os.path.splitext(path)[0] + '.json'


def _read_card(path: str) -> dict[str, Any] | None:
  """The card of a weights file, or None where there is none."""
  card_path = _card_path(path)
  try:
    card = json.loads(read_file(card_path).decode())
  except FileNotFoundError as error:
    if os.path.dirname(path) == RELEASED_DIR:
      raise UserError(f'{card_path} is missing: install gfn_jax anew') from error
    return None
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'{card_path} is no readable card: {error}') from error
  if not isinstance(card, dict) or not {'model', 'sha256'} <= card.keys():
    raise UserError(f'{card_path} is no card of weights: it lacks model or sha256')
  return card


def _read(path_or_name: str | os.PathLike) -> tuple[str, Any, dict[str, np.ndarray]]:
  """The path of a file, the network that its header names, and its tensors, float32."""
  path = weights_path(path_or_name)
  card = _read_card(path)
  with local_copy(path) as copy:
    if card and card['sha256'] != file_sha256(copy):
      raise UserError(
        f'{path} is damaged: its SHA-256 is not the one in {_card_path(path)}; get both anew'
      )
    metadata, flat = _read_tensors(copy, path)
  try:
    model_config = json.loads(metadata['model'])
  except (KeyError, ValueError, RecursionError) as error:
    raise _no_network(path) from error
  if card and card['model'] != model_config:
    raise UserError(f'{path} names another network than {_card_path(path)}; get both anew')
  return path, model_config, flat


def _read_tensors(copy: str, path: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
  """A file's metadata, and its tensors as float32; `path` is its name for the errors."""
  try:
    with safetensors.safe_open(copy, framework='numpy') as file:
      keys = file.keys()
      types = {file.get_slice(key).get_dtype() for key in keys}
      if len(types) > 1 or not types <= set(DTYPES.values()):
        raise UserError(
          f'{path} has tensors of type {", ".join(sorted(types))}; weights are all of one of '
          f'{", ".join(DTYPES.values())}'
        )
      metadata = file.metadata() or {}
      flat = {key: file.get_tensor(key).astype(np.float32) for key in keys}
  except (safetensors.SafetensorError, OSError) as error:
    raise UserError(f'{path} is no readable safetensors file: {error}') from error
  for key, tensor in flat.items():
    if not np.isfinite(tensor).all():
      raise UserError(f'{path}: {key} has values that are not finite')
  return metadata, flat


def _network(model_config: Any, path: str) -> tuple[nn.Module, Any]:
  """The network that a header names, and its `param_shapes`."""
  try:
    numbers = [value for value in jax.tree.leaves(model_config) if isinstance(value, int)]
    if max(numbers, default=0) > MAX_OPTION:
      raise UserError(f"model options are at most {MAX_OPTION}, not the header's {max(numbers)}")
    model = create_model(**model_config)
    return model, param_shapes(model)
  except UserError as error:
    raise UserError(f'{path}: {error}') from error
  except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
    raise _no_network(path) from error


def _no_network(path: str) -> UserError:
  return UserError(f'{path} does not name a network of gfn_jax in its header')


def _check_tensors(
  flat: Mapping[str, np.ndarray], wanted: Mapping[str, Any], model: nn.Module, source: str
) -> None:
  """Refuses tensors, named 'module.layer.kernel', other than `wanted`: the first few are named."""
  problems = {
    'missing': sorted(wanted.keys() - flat.keys()),
    'unexpected': sorted(flat.keys() - wanted.keys()),
    'of another shape': sorted(
      f'{key} {flat[key].shape} for {wanted[key].shape}'
      for key in wanted.keys() & flat.keys()
      if flat[key].shape != wanted[key].shape
    ),
  }
  lines = [
    f'{len(names)} {problem} ({", ".join(names[:3])}{", ..." if len(names) > 3 else ""})'
    for problem, names in problems.items()
    if names
  ]
  if lines:
    raise UserError(f'{source} does not fit {type(model).__name__}: {"; ".join(lines)}')
