"""Variables as the named tensors of a file, and comparison with those that a network expects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from gfn_jax.system.files import printable

_STATISTICS = ('batch_stats',)  # collections beside `params`
_NAMED = 3  # tensors that a message names for each problem


def flatten_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
  """Return variables by their names in a file.

  Parameters have no prefix, such as 'gate.conv1.bias'. Running statistics begin with 'batch_stats'.
  """
  collections = dict(variables)
  return traverse_util.flatten_dict(collections.pop('params') | collections, sep='.')


def unflatten_variables(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Return variables by collection: the inverse of `flatten_variables`."""
  params = traverse_util.unflatten_dict(dict(flat), sep='.')
  collections = {name: params.pop(name) for name in _STATISTICS if name in params}
  return {'params': params, **collections}


def find_mismatch(
  tensors: Mapping[str, np.ndarray],
  shapes: Mapping[str, tuple[int, ...]],
  *,
  partial: bool = False,
) -> str:
  """Return how tensors differ from those that a network expects, for an error message.

  Args:
    tensors: arrays by name.
    shapes: expected shape of each tensor, by name.
    partial: True to allow missing tensors.

  Returns:
    The number of tensors that are missing, unexpected, of the wrong shape, not floating-point or
    not finite as float32, with the first names of each kind. Empty if all tensors fit.
  """
  problems = _compare_shapes({name: tensor.shape for name, tensor in tensors.items()}, shapes)
  if partial:
    problems['missing'] = []
  common = sorted(tensors.keys() & shapes.keys())
  problems['not floating-point'] = [name for name in common if tensors[name].dtype.kind != 'f']
  problems['not finite'] = [name for name in common if not _is_finite(tensors[name])]
  return _describe(problems)


def find_shape_mismatch(
  found: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> str:
  """Return `find_mismatch` of names and shapes alone, before any tensor is read."""
  return _describe(_compare_shapes(found, shapes))


def _compare_shapes(
  found: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, list[str]]:
  return {
    'missing': sorted(shapes.keys() - found.keys()),
    'unexpected': sorted(found.keys() - shapes.keys()),
    'of the wrong shape': [
      f'{name} {list(found[name])}, expected {list(shapes[name])}'
      for name in sorted(found.keys() & shapes.keys())
      if found[name] != shapes[name]
    ],
  }


def _describe(problems: Mapping[str, Sequence[str]]) -> str:
  return '; '.join(
    f'{len(names)} {problem} ({first_names(names)})' for problem, names in problems.items() if names
  )


def first_names(names: Sequence[str]) -> str:
  """Return the first names of tensors for an error message."""
  shown = [printable(name if len(name) <= 100 else f'{name[:97]}...') for name in names[:_NAMED]]
  return ', '.join(shown) + (', ...' if len(names) > _NAMED else '')


def _is_finite(array: np.ndarray) -> bool:
  with np.errstate(over='ignore'):
    return bool(np.isfinite(array.astype(np.float32)).all())
