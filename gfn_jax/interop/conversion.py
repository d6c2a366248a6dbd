"""Conversion between the authors' PyTorch tensors and our parameters.

    state = load_torch_checkpoint('GFN_epoch_55.pkl')
    variables = convert('gfn', state)

`gfn_jax/interop/torch_names.py` lists our and the authors' layer names for each network. A
convolution kernel `[out, in, h, w]` becomes `[h, w, in, out]`. A transposed convolution
`[in, out, h, w]` is also rotated by 180 degrees. Pixel shuffles need no conversion. A PReLU that
several layers share is one parameter of ours, and one tensor per layer in the authors' weights. A
kernel of three spatial axes, `[out, in, c, h, w]`, becomes `[h, w, c, in, out]`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from gfn_jax.errors import UserError
from gfn_jax.interop.torch_entries import is_counter
from gfn_jax.interop.torch_names import VERSIONS
from gfn_jax.interop.torch_pickle import show
from gfn_jax.interop.version import Version
from gfn_jax.models import RestorationModel
from gfn_jax.system.console import print_message
from gfn_jax.weights.model_options import build_model
from gfn_jax.weights.tensors import find_mismatch, first_names

MAX_BLOCKS = 64
"""Limit on the number of blocks that is inferred from the names in a file."""

_PRELU = 'prelu.negative_slope'  # shared by all layers
_TENSORS = {
  'kernel': 'weight',
  'scale': 'weight',
  'negative_slope': 'weight',
  'bias': 'bias',
  'gamma': 'gamma',
}


def convert(model_name: str, state: Mapping[str, np.ndarray], /, **options: Any) -> dict[str, Any]:
  """Convert the authors' weights to variables of our network.

  Args:
    model_name: a key of `torch_names.VERSIONS`.
    state: all tensors of the authors' network by name, as returned by `load_torch_checkpoint`. A
      prefix that all names share is removed. Tensors that only count something are ignored.
    **options: options of `create_model`. Those that `infer_options` finds may be omitted.

  Returns:
    Variables of `create_model(model_name, **infer_options(model_name, state, **options))`:
    float32 arrays in nested dictionaries.

  Raises:
    UserError: if `state` does not fit the network and its options, or the tensors of a shared
      parameter differ. The message names tensors that are missing, unexpected, of the wrong shape,
      not floating-point, or not finite.
  """
  state = _unwrap(model_name, state)
  options = infer_options(model_name, state, **options)
  return _convert(_find_version(model_name, state, options), model_name, state, options)


def from_torch(
  model_name: str, tensors: Mapping[str, np.ndarray], /, **options: Any
) -> dict[str, Any]:
  """Convert tensors back to variables of our network: the exact inverse of `to_torch`.

  Args:
    model_name: as for `to_torch`.
    tensors: what `to_torch` returns.
    **options: as for `to_torch`. No option is inferred.

  Raises:
    UserError: as `convert`.
  """
  return _convert(_versions(model_name, options)[0], model_name, tensors, options)


def has_torch_names(model_name: str, /, **options: Any) -> bool:
  """Return True if the authors' PyTorch code names all tensors of a network."""
  try:
    version = _versions(model_name, options)[0]
  except UserError:
    return False
  model, variables = build_model(model_name, **options)
  shared = {_PRELU} if version.prelus else set()
  paths = traverse_util.flatten_dict(variables['params'], sep='.').keys() - shared
  return (
    version.framework == 'PyTorch'
    and variables.keys() == {'params'}  # running statistics have no names
    and all(_torch_name(version, model, path) is not None for path in paths)
  )


def find_prefixes(model_name: str, tensors: Mapping[str, Any]) -> list[str]:
  """Return the prefixes that precede the authors' names of a network, such as 'generator.'.

  Args:
    model_name: a key of `torch_names.VERSIONS`.
    tensors: arrays or records with a `shape`, by name.

  Returns:
    One prefix for each copy of the network; empty if there is none.
  """
  firsts = [version.features for version in _versions(model_name, {})]
  return sorted(
    {
      name.removesuffix(first)
      for name, tensor in tensors.items()
      for first in firsts
      if f'.{name}'.endswith(f'.{first}') and len(tensor.shape) == 4
    }
  )


def _unwrap(model_name: str, state: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
  """Remove the prefix of all names, if they share one."""
  for prefix in find_prefixes(model_name, state):
    if all(name.startswith(prefix) or is_counter(name) for name in state):
      return {name.removeprefix(prefix): array for name, array in state.items()}
  return state


def _convert(
  version: Version,
  model_name: str,
  state: Mapping[str, np.ndarray],
  options: Mapping[str, Any],
) -> dict[str, Any]:
  """Convert tensors of a version to variables of the network with the given options."""
  model, shapes = _network(model_name, options)
  paths = _torch_names(version, model, shapes)
  wanted = {name: _torch_shape(version, path, shapes[path]) for name, path in paths.items()}
  constants = _constants(version, paths)
  wanted |= {name: array.shape for name, array in constants.items()}
  used = {
    name: array
    for name, array in state.items()
    if name in wanted or not (is_counter(name) or name.endswith(version.ignored))
  }
  _report_ignored(model_name, [name for name in state if name not in used])
  _check(used, wanted, f'{model_name} ({_describe(options)})')
  _check_copies({name: state[name] for name, path in paths.items() if path == _PRELU})
  _check_constants(constants, state)
  flat = {path: _to_flax(version, path, state[name], shapes[path]) for name, path in paths.items()}
  return {'params': traverse_util.unflatten_dict(flat, sep='.')}


def to_torch(
  model_name: str, variables: Mapping[str, Any], /, **options: Any
) -> dict[str, np.ndarray]:
  """Convert variables of our network to the authors' tensors: the inverse of `convert`.

  Args:
    model_name: a key of `torch_names.VERSIONS`.
    variables: variables of `create_model(model_name, **options)`.
    **options: options of the network. Defaults may be omitted.

  Returns:
    float32 arrays by the authors' names, for `save_torch_checkpoint` and their `load_state_dict`.
    The authors' networks ignore options without parameters, such as `global_skip`.

  Raises:
    UserError: if there is no PyTorch version of the network, or `variables` do not fit it.
  """
  version = _versions(model_name, options)[0]
  model, shapes = _network(model_name, options)
  flat = traverse_util.flatten_dict(variables['params'], sep='.')
  arrays = {path: np.asarray(value, np.float32) for path, value in flat.items()}
  _check(arrays, shapes, f'{model_name} ({_describe(options)})')
  paths = _torch_names(version, model, shapes)
  tensors = {name: _from_flax(version, path, arrays[path]) for name, path in paths.items()}
  return tensors | _constants(version, paths)


def infer_options(
  model_name: str, state: Mapping[str, np.ndarray], /, **options: Any
) -> dict[str, Any]:
  """Infer options of `create_model` from the authors' weights.

  Args:
    model_name: a key of `torch_names.VERSIONS`.
    state: the authors' tensors, as for `convert`.
    **options: options that take precedence over inferred ones.

  Returns:
    `options` with the numbers of features and blocks, and the preset if the network has presets.

  Raises:
    UserError: if there is no PyTorch version of the network, or the weights are of another network.
  """
  state = _unwrap(model_name, state)
  version = _find_version(model_name, state, options)
  inferred = dict(version.options)
  inferred['features'] = state[version.features].shape[0]
  for option, name in version.blocks.items():
    pattern = _pattern(name)
    inferred[option] = sum(pattern.fullmatch(key) is not None for key in state)
    if inferred[option] > MAX_BLOCKS:
      raise UserError(f'{inferred[option]} {option}: at most {MAX_BLOCKS} are supported')

  def width(name: str) -> int:
    if not _has_kernel(state, f'{name}.weight'):
      raise UserError(f'these are not weights for {model_name}: missing convolution {name}')
    return state[f'{name}.weight'].shape[0]

  for option, infer in version.widths.items():
    inferred[option] = infer(width)
  return inferred | version.infer(state) | options


def find_missing_options(
  model_name: str, state: Mapping[str, np.ndarray], /, **options: Any
) -> list[str]:
  """Return the options that `infer_options` did not find and that have no default for the weights.

  Args:
    model_name: a key of `torch_names.VERSIONS`.
    state: the authors' tensors, as for `convert`.
    **options: what `infer_options` returned.
  """
  version = _find_version(model_name, _unwrap(model_name, state), options)
  return [option for option in version.asked if option not in options]


def _has_kernel(state: Mapping[str, np.ndarray], name: str) -> bool:
  """Return True if a tensor exists and has the axes of a convolution kernel."""
  return name in state and np.ndim(state[name]) == 4


def _versions(model_name: str, options: Mapping[str, Any]) -> list[Version]:
  """Return the PyTorch versions of a network that the given options allow."""
  if model_name not in VERSIONS:
    raise UserError(
      f'no PyTorch weights are known for {model_name!r}; choose one of {", ".join(VERSIONS)}'
    )
  preset = options.get('preset')
  # A version without a preset has the names of all presets.
  found = [
    version
    for version in VERSIONS[model_name]
    if preset is None or version.options.get('preset', preset) == preset
  ]
  if not found:
    raise UserError(f'no PyTorch weights are known for {model_name}, preset {preset!r}')
  return found


def _find_version(
  model_name: str, state: Mapping[str, np.ndarray], options: Mapping[str, Any]
) -> Version:
  """Return the PyTorch version that the tensors are of."""
  versions = _versions(model_name, options)
  fitting = [version for version in versions if _has_kernel(state, version.features)]
  if len(fitting) != 1:
    firsts = ' or '.join(version.features for version in versions)
    found = first_names(list(state))
    raise UserError(
      f'these are not weights for {model_name}: missing convolution {firsts}; found {found}'
    )
  return fitting[0]


def _network(
  model_name: str, options: Mapping[str, Any]
) -> tuple[RestorationModel, dict[str, tuple[int, ...]]]:
  """Return the network and the shapes of its parameters by name."""
  try:
    model, shapes = build_model(model_name, **options)
  except UserError as error:
    raise UserError(f'{model_name} ({_describe(options)}): {error}') from error
  flat = traverse_util.flatten_dict(shapes['params'], sep='.')
  return model, {path: leaf.shape for path, leaf in flat.items()}


def _describe(options: Mapping[str, Any]) -> str:
  return (
    ', '.join(f'{key}={show(str(value))}' for key, value in options.items()) or 'default options'
  )


def _pattern(name: str) -> re.Pattern[str]:
  """Return the pattern of a name in which `{i}`, `{j}` and `{k}` stand for numbers."""
  return re.compile(re.sub(r'\\{(\w)\\}', r'(?P<\1>[0-9]+)', re.escape(name)))


def fill_in(name: str, numbers: Mapping[str, Any]) -> str:
  """Return an authors' layer name with its numbers, such as `{i}`, `{i+1}` and `{blocks+10}`."""

  def number(match: re.Match[str]) -> str:
    return str(int(numbers[match['name']]) + int(match['added'] or 0))

  return re.sub(r'\{(?P<name>\w+)(?:\+(?P<added>[0-9]+))?\}', number, name)


def _torch_names(
  version: Version, model: RestorationModel, shapes: Mapping[str, Any]
) -> dict[str, str]:
  """Return our parameter names by the authors' tensor names; several may share a parameter."""
  shared = {_PRELU} if version.prelus else set()
  paths: dict[str, str] = {}
  for path in shapes:
    if path not in shared:
      name = _torch_name(version, model, path)
      if name is None:
        raise UserError(f"the authors' network has no counterpart of {path}")
      paths[name] = path
  for name in list(paths):
    for layer, prelu in version.prelus.items():
      if name.endswith(f'{layer}.weight'):
        paths[f'{name.removesuffix(f"{layer}.weight")}{prelu}.weight'] = _PRELU
  return paths


def _torch_name(version: Version, model: RestorationModel, path: str) -> str | None:
  """Translate a parameter name of ours to the authors'; None if their network has no such layer.

  `'deblur.resblock1_0.conv1.kernel'` becomes `'deblurMoudle.0.resBlock1.0.layers.0.weight'`.
  """
  layer, _, tensor = path.rpartition('.')
  for ours, theirs in version.layers.items():
    if match := _pattern(ours).fullmatch(layer):
      return f'{fill_in(theirs, vars(model) | match.groupdict())}.{_TENSORS[tensor]}'
  return None


def _axes(version: Version, path: str, ndim: int) -> tuple[int, ...]:
  """Return the axes of our kernel in the authors' order, for both kinds of convolutions."""
  if ndim == 5:
    return 4, 3, 2, 0, 1
  return (2, 3, 0, 1) if _is_transposed(version, path) else (3, 2, 0, 1)


def _is_transposed(version: Version, path: str) -> bool:
  layer = path.rpartition('.')[0]
  return any(_pattern(name).fullmatch(layer) for name in version.transposed)


def _torch_shape(version: Version, path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  if len(shape) < 4:
    return shape or (1,)  # PyTorch stores the slope of a PReLU as a vector
  return tuple(shape[axis] for axis in _axes(version, path, len(shape)))


def _to_flax(version: Version, path: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  array = np.array(array, np.float32)
  if array.ndim < 4:
    return array.reshape(shape)
  array = array.transpose(np.argsort(_axes(version, path, array.ndim)))
  return np.ascontiguousarray(_rotate(version, path, array))


def _from_flax(version: Version, path: str, array: np.ndarray) -> np.ndarray:
  if array.ndim < 4:
    return np.array(array, ndmin=1)
  axes = _axes(version, path, array.ndim)
  return np.ascontiguousarray(_rotate(version, path, array).transpose(axes))


def _rotate(version: Version, path: str, kernel: np.ndarray) -> np.ndarray:
  """Rotate the kernel of a transposed convolution by 180 degrees; return others unchanged."""
  return kernel[::-1, ::-1] if _is_transposed(version, path) else kernel


def _check(
  arrays: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]], network: str
) -> None:
  """Raise `UserError` if arrays differ from `wanted`, shapes by name."""
  if mismatch := find_mismatch(arrays, wanted):
    raise UserError(f'these are not weights for {network}: {mismatch}')


def _report_ignored(model_name: str, names: Sequence[str]) -> None:
  """Print a message that names the first of the tensors that are ignored, if there are any."""
  if names:
    print_message(
      f'{model_name} has no counterpart of {len(names)} tensors such as {show(names[0])}: ignored'
    )


def _check_copies(copies: Mapping[str, np.ndarray]) -> None:
  """Raise `UserError` if the copies of the shared parameter differ."""
  values = {name: np.float32(array).item() for name, array in copies.items()}
  for name, value in values.items():
    first = next(iter(values))
    if value != values[first]:
      raise UserError(
        'all PReLUs of this network share one slope, but '
        f'{first} is {values[first]:.9g} and {name} is {value:.9g}'
      )


def _constants(version: Version, paths: Mapping[str, str]) -> dict[str, np.ndarray]:
  """Return copies of the constants that are not among the parameters, by the authors' names."""
  return {name: array.copy() for name, array in version.constants.items() if name not in paths}


def _check_constants(constants: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> None:
  """Raise `UserError` if a tensor differs from a constant of our network."""
  for name, constant in constants.items():
    if not np.allclose(state[name], constant, rtol=1e-4, atol=1e-4):
      raise UserError(
        f'{name} is {show(str(np.ravel(state[name])[:3]))}..., but this network has it fixed at '
        f'{np.ravel(constant)[:3]}...'
      )
