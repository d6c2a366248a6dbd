"""Joining of the weights of two networks to the weights of a cascade."""

import os
from typing import Any

from gfn_jax.models import create_model, param_count
from gfn_jax.system.files import file_sha256
from gfn_jax.weights.pretrained import (
  load_model_config,
  load_pretrained,
  save_weights,
  weights_path,
)

BICUBIC = 'bicubic'
"""Name of the network without parameters."""


def join_weights(
  first: str | os.PathLike,
  second: str | os.PathLike,
  target: str | os.PathLike,
  quantize: bool = False,
) -> int:
  """Write the weights of a cascade, with a card that names the two files.

  Args:
    first: weights of the network that gets the input, a file or a name; or 'bicubic' for 4x
      interpolation, which needs no weights.
    second: the same for the network that gets the first network's image.
    target: the new file, which ends in .safetensors; an old one is replaced.
    quantize: True to round the image between the networks to 8 bits.

  Returns:
    The number of parameters.

  Raises:
    UserError: if weights cannot be read, or the networks do not form a cascade.
  """
  parts = {'first': first, 'second': second}
  paths = {part: weights_path(path) for part, path in parts.items() if path != BICUBIC}
  loaded = {part: load_pretrained(path)[1] for part, path in paths.items()}
  names = sorted({name for variables in loaded.values() for name in variables})
  collections = {
    name: {part: variables[name] for part, variables in loaded.items() if name in variables}
    for name in names
  }
  networks = {
    part: load_model_config(paths[part]) if part in paths else {'name': BICUBIC} for part in parts
  }
  model_config: dict[str, Any] = {'name': 'cascade', **networks, 'quantize': quantize}
  create_model(**model_config)
  origin = {
    part: {'file': os.path.basename(path), 'sha256': file_sha256(path)}
    for part, path in paths.items()
  }
  save_weights(target, collections, model_config, {'joined_from': origin})
  return param_count(collections)
