"""Tensors of an exported PyTorch file, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.interop.conversion import from_torch, has_torch_names, to_torch
from gfn_jax.weights.model_options import build_model
from gfn_jax.weights.tensors import find_mismatch, flatten_variables, unflatten_variables


def export_tensors(
  model_config: Mapping[str, Any], variables: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """Return variables as the tensors of an exported file.

  Args:
    model_config: `name` and the options of `create_model`.
    variables: the network's variables, float32.

  Returns:
    float32 arrays under the authors' names and in PyTorch's layouts; under our names and in our
    layouts, such as `[h, w, in, out]` for kernels, if the authors' code does not name them all.
  """
  name, options = _split(model_config)
  if has_torch_names(name, **options):
    return to_torch(name, variables, **options)
  return {key: np.asarray(value) for key, value in flatten_variables(variables).items()}


def import_tensors(
  model_config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  """Return the variables of `export_tensors`, bit for bit.

  Args:
    model_config: `name` and the options of `create_model`.
    tensors: arrays as `export_tensors` returns them.

  Raises:
    UserError: if the tensors do not fit the network.
  """
  name, options = _split(model_config)
  _, shapes = build_model(name, **options)
  wanted = {key: leaf.shape for key, leaf in flatten_variables(shapes).items()}
  # No authors' code has a tensor named `kernel`; files keep our names if it gets a table later.
  if any(key in wanted for key in tensors if key.endswith('.kernel')):
    if mismatch := find_mismatch(tensors, wanted):
      raise UserError(f'these are not weights for {name}: {mismatch}')
    return unflatten_variables({key: np.asarray(tensors[key], np.float32) for key in wanted})
  return from_torch(name, tensors, **options)


def _split(model_config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
  options = dict(model_config)
  return options.pop('name'), options
