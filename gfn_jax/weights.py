"""Trained weights as one safetensors file that names its network, and a JSON card beside it."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from gfn_jax.errors import UserError
from gfn_jax.files import write_file, write_json
from gfn_jax.models import create_model


def param_count(params: Any) -> int:
  """Number of values in a pytree of arrays or shapes."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def param_shapes(model: nn.Module) -> Any:
  """A network's parameters, as a pytree of `jax.ShapeDtypeStruct`; nothing is computed."""
  lr_blur = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
  return jax.eval_shape(model.init, jax.random.key(0), lr_blur)['params']


def save_weights(
  path: str | os.PathLike, params: Any, model_config: Mapping[str, Any], card: Mapping[str, Any]
) -> None:
  """Writes `path` (safetensors) and, beside it, `path` with suffix .json (the card).

  Args:
    path: ends in .safetensors.
    params: the network's parameters.
    model_config: `name` and the options of `create_model`, values that JSON can hold.
    card: what a user should know about them: data, metrics, licence. The number of parameters and
      the file's hash are added.
  """
  path = os.fspath(path)
  flat = traverse_util.flatten_dict(params, sep='.')
  tensors = {key: np.ascontiguousarray(value) for key, value in flat.items()}
  # One entry only: safetensors writes several in a random order, and the hash would change.
  metadata = {'model': json.dumps(dict(model_config), sort_keys=True)}
  content = safetensors.numpy.save(tensors, metadata)
  facts = {'model': dict(model_config), 'parameters': param_count(params)}
  facts |= {'sha256': hashlib.sha256(content).hexdigest(), **card}
  json.dumps(facts)  # a card that JSON cannot hold is refused before anything is written
  write_file(path, content)
  write_json(os.path.splitext(path)[0] + '.json', facts)


def load_weights(path: str | os.PathLike) -> tuple[nn.Module, Any]:
  """Reads a file that `save_weights` wrote.

  Args:
    path: of a .safetensors file. Nothing in it is executed.

  Returns:
    The network and its parameters.

  Raises:
    UserError: if the file is missing or damaged, is not one of this library, or its tensors are not
      exactly those of its network.
  """
  if not os.path.isfile(path):
    raise UserError(
      f'no weights at {os.fspath(path)}: train a network with run_train.py, which writes '
      'WORKDIR/weights.safetensors, and pass that file'
    )
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      metadata = file.metadata() or {}
      flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
  except (safetensors.SafetensorError, OSError) as error:
    raise UserError(f'{os.fspath(path)} is no readable safetensors file: {error}') from error
  try:
    model_config = json.loads(metadata['model'])
    model = create_model(**model_config)
  except UserError as error:
    raise UserError(f'{os.fspath(path)}: {error}') from error
  except (KeyError, TypeError, json.JSONDecodeError) as error:
    raise UserError(
      f'{os.fspath(path)} does not name a network of gfn_jax in its header'
    ) from error
  check_params(flat, model, os.fspath(path))
  return model, traverse_util.unflatten_dict(flat, sep='.')


def check_params(flat: Mapping[str, np.ndarray], model: nn.Module, source: str) -> None:
  """Checks that tensors, named 'module.layer.kernel', are exactly a network's parameters.

  Raises:
    UserError: naming the missing, unexpected and misshapen tensors (the first few of each).
  """
  wanted = traverse_util.flatten_dict(param_shapes(model), sep='.')
  problems = {
    'missing': sorted(wanted.keys() - flat.keys()),
    'unexpected': sorted(flat.keys() - wanted.keys()),
    'of another shape or type': sorted(
      f'{key} {flat[key].dtype}{flat[key].shape} for {wanted[key].dtype}{wanted[key].shape}'
      for key in wanted.keys() & flat.keys()
      if (flat[key].shape, flat[key].dtype) != (wanted[key].shape, wanted[key].dtype)
    ),
  }
  lines = [
    f'{len(names)} {problem} ({", ".join(names[:3])}{", ..." if len(names) > 3 else ""})'
    for problem, names in problems.items()
    if names
  ]
  if lines:
    raise UserError(f'{source} does not fit {type(model).__name__}: {"; ".join(lines)}')
