"""Weights of the authors' PyTorch networks as parameters of ours, and back.

    state = load_torch_checkpoint('GFN_epoch_55.pkl')
    params = convert('gfn', state)

`gfn_jax/interop/torch_names.py` has a table for each network: the names of its layers, ours and the
authors'. Layouts follow from the tensors: a convolution's `[out, in, h, w]` is our `[h, w, in,
out]`, and a transposed one's `[in, out, h, w]` is turned by 180 degrees too. A pixel shuffle needs
nothing: ours has PyTorch's order. A PReLU that layers share is one parameter of ours and a tensor
of theirs for each layer.
"""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from flax import traverse_util

from gfn_jax.errors import UserError
from gfn_jax.interop.torch_names import VERSIONS, Version
from gfn_jax.interop.torch_pickle import show
from gfn_jax.models import create_model
from gfn_jax.weights.pretrained import MAX_OPTION, param_shapes

MAX_BLOCKS = 64
"""Of a group, where their number is taken from the names in a file."""

_PRELU = 'prelu.negative_slope'  # where all layers share it
_TENSORS = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}


def convert(model_name: str, state: Mapping[str, np.ndarray], /, **options) -> dict[str, Any]:
  """Turns the authors' weights into parameters of our network.

  Args:
    model_name: a key of `torch_names.VERSIONS`.
    state: their tensors by their names, of `load_torch_checkpoint`; all and no others.
    **options: of `create_model`. What `infer_options` finds in `state` need not be given.

  Returns:
    Parameters for `create_model(model_name, **infer_options(model_name, state, **options))`:
    float32 arrays in nested dictionaries.

  Raises:
    UserError: if `state` is not of this network with these options: the message tells which tensors
      are missing, unexpected, of another shape, no floating-point numbers, or not finite; or if
      those that are one parameter here differ.
  """
  options = infer_options(model_name, state, **options)
  version = _version(model_name, options)
  model, shapes = _network(model_name, options)
  paths = _torch_names(version, model, shapes)
  wanted = {name: _torch_shape(version, path, shapes[path]) for name, path in paths.items()}
  used = {name: array for name, array in state.items() if not name.endswith(version.ignored)}
  _check(used, wanted, f'{model_name} ({_describe(options)})')
  _check_copies({name: state[name] for name, path in paths.items() if path == _PRELU})
  flat = {path: _to_flax(version, path, state[name]) for name, path in paths.items()}
  return traverse_util.unflatten_dict(flat, sep='.')


def to_torch(model_name: str, params: Any, /, **options) -> dict[str, np.ndarray]:
  """Turns parameters of our network into the authors' tensors: `convert`, backwards.

  Args:
    model_name: a key of `torch_names.VERSIONS`.
    params: of `create_model(model_name, **options)`.
    **options: of the network; its defaults need not be given.

  Returns:
    float32 arrays by the authors' names, for `save_torch_checkpoint` and their `load_state_dict`.
    Their networks know nothing of options that add no parameters, such as `global_skip`.

  Raises:
    UserError: if the network has no version of other authors, or `params` are not this network's.
  """
  version = _version(model_name, options)
  model, shapes = _network(model_name, options)
  flat = traverse_util.flatten_dict(params, sep='.')
  arrays = {path: np.asarray(value, np.float32) for path, value in flat.items()}
  _check(arrays, shapes, f'{model_name} ({_describe(options)})')
  paths = _torch_names(version, model, shapes)
  return {name: _from_flax(version, path, arrays[path]) for name, path in paths.items()}


def infer_options(model_name: str, state: Mapping[str, np.ndarray], /, **options) -> dict[str, Any]:
  """The options of `create_model` that follow from the authors' weights, and those given.

  Args:
    model_name: a key of `torch_names.VERSIONS`.
    state: as for `convert`.
    **options: these take precedence.

  Returns:
    `options`, with the numbers of features and of blocks, and the preset where the network has any.

  Raises:
    UserError: if the network has no version of other authors, or none whose weights these are.
  """
  versions = _versions(model_name, options)
  fitting = [version for version in versions if np.ndim(state.get(version.features)) == 4]
  if len(fitting) != 1:
    firsts = ' or '.join(version.features for version in versions)
    raise UserError(f'these are no weights for {model_name}: they have no convolution {firsts}')
  [version] = fitting
  inferred = dict(version.options)
  inferred['features'] = state[version.features].shape[0]
  for option, name in version.blocks.items():
    pattern = _pattern(name)
    inferred[option] = sum(pattern.fullmatch(key) is not None for key in state)
    if inferred[option] > MAX_BLOCKS:
      raise UserError(f'there are {inferred[option]} {option}; at most {MAX_BLOCKS} are taken')

  def width(name: str) -> int:
    if np.ndim(state.get(f'{name}.weight')) != 4:
      raise UserError(f'these are no weights for {model_name}: they have no convolution {name}')
    return state[f'{name}.weight'].shape[0]

  for option, infer in version.widths.items():
    inferred[option] = infer(width)
  return inferred | options


def _versions(model_name: str, options: Mapping[str, Any]) -> list[Version]:
  """Those that `options` do not rule out."""
  if model_name not in VERSIONS:
    raise UserError(
      f'no PyTorch weights are known for {model_name!r}, but for {", ".join(VERSIONS)}'
    )
  preset = options.get('preset')
  found = [v for v in VERSIONS[model_name] if preset is None or v.options.get('preset') == preset]
  if not found:
    raise UserError(f'no PyTorch weights are known for {model_name}, preset {preset!r}')
  return found


def _version(model_name: str, options: Mapping[str, Any]) -> Version:
  return _versions(model_name, options)[0]


def _network(
  model_name: str, options: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, tuple[int, ...]]]:
  """The network, and the shapes of its parameters by their names."""
  network = f'{model_name} ({_describe(options)})'
  numbers = [value for value in options.values() if isinstance(value, int)]
  if max(numbers, default=0) > MAX_OPTION:
    raise UserError(f'{network}: options are at most {MAX_OPTION}')
  try:
    model = create_model(model_name, **options)
    shapes = param_shapes(model)
  except UserError:
    raise
  except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
    reason = str(error).partition('\n')[0]
    raise UserError(f'{network} is no network: {reason}') from error
  flat = traverse_util.flatten_dict(shapes, sep='.')
  return model, {path: leaf.shape for path, leaf in flat.items()}


def _describe(options: Mapping[str, Any]) -> str:
  return (
    ', '.join(f'{key}={show(str(value))}' for key, value in options.items()) or 'default options'
  )


def _pattern(name: str) -> re.Pattern[str]:
  """Of a name with `{i}`, `{j}` and `{k}` for numbers."""
  return re.compile(re.sub(r'\\{(\w)\\}', r'(?P<\1>[0-9]+)', re.escape(name)))


def _torch_names(version: Version, model: nn.Module, shapes: Mapping[str, Any]) -> dict[str, str]:
  """Our names by the authors', of which more than one can stand for a parameter of ours."""
  shared = {_PRELU} if version.prelus else set()
  paths = {_torch_name(version, model, path): path for path in shapes if path not in shared}
  for name in list(paths):
    for layer, prelu in version.prelus.items():
      if name.endswith(f'{layer}.weight'):
        paths[f'{name.removesuffix(f"{layer}.weight")}{prelu}.weight'] = _PRELU
  return paths


def _torch_name(version: Version, model: nn.Module, path: str) -> str:
  """`'deblur.resblock1_0.conv1.kernel'` -> `'deblurMoudle.0.resBlock1.0.layers.0.weight'`."""
  layer, _, tensor = path.rpartition('.')
  for ours, theirs in version.layers.items():
    if match := _pattern(ours).fullmatch(layer):
      numbers = match.groupdict()
      following = {f'next_{key}': int(number) + 1 for key, number in numbers.items()}
      return f'{theirs.format(**vars(model) | numbers | following)}.{_TENSORS[tensor]}'
  raise UserError(f"the authors' network has nothing like {path}")


def _axes(version: Version, path: str) -> tuple[int, ...]:
  """The axes of a kernel of ours, `[h, w, in, out]`, in the authors' order."""
  return (2, 3, 0, 1) if path.rpartition('.')[0] in version.transposed else (3, 2, 0, 1)


def _torch_shape(version: Version, path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  if len(shape) != 4:
    return shape or (1,)  # PyTorch has a PReLU's slope as a vector
  return tuple(shape[axis] for axis in _axes(version, path))


def _to_flax(version: Version, path: str, array: np.ndarray) -> np.ndarray:
  array = np.array(array, np.float32)
  if array.ndim != 4:
    return array.reshape(()) if path == _PRELU else array
  array = array.transpose(np.argsort(_axes(version, path)))
  return np.ascontiguousarray(_turn(version, path, array))


def _from_flax(version: Version, path: str, array: np.ndarray) -> np.ndarray:
  if array.ndim != 4:
    return np.array(array, ndmin=1)
  return np.ascontiguousarray(_turn(version, path, array).transpose(_axes(version, path)))


def _turn(version: Version, path: str, kernel: np.ndarray) -> np.ndarray:
  """By 180 degrees, if it is a transposed convolution's."""
  return kernel[::-1, ::-1] if path.rpartition('.')[0] in version.transposed else kernel


def _check(
  arrays: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]], network: str
) -> None:
  """Refuses tensors other than `wanted`: of each kind of problem the first few are named."""
  common = [name for name in wanted if name in arrays]
  problems = {
    'missing': [name for name in wanted if name not in arrays],
    'unexpected': [name for name in arrays if name not in wanted],
    'of another shape': [
      f'{name} {list(arrays[name].shape)} for {list(wanted[name])}'
      for name in common
      if arrays[name].shape != wanted[name]
    ],
    'no floating-point numbers': [name for name in common if arrays[name].dtype.kind != 'f'],
    'not finite as float32': [name for name in common if not _is_finite(arrays[name])],
  }
  texts = [
    f'{len(names)} {problem} ({", ".join(map(show, names[:3]))}{", ..." if len(names) > 3 else ""})'
    for problem, names in problems.items()
    if names
  ]
  if texts:
    raise UserError(f'these are no weights for {network}: {"; ".join(texts)}')


def _check_copies(copies: Mapping[str, np.ndarray]) -> None:
  """Refuses different values for one parameter."""
  values = {name: np.float32(array).item() for name, array in copies.items()}
  for name, value in values.items():
    first = next(iter(values))
    if value != values[first]:
      raise UserError(
        'all PReLUs of this network share one slope, but '
        f'{first} is {values[first]:.9g} and {name} is {value:.9g}'
      )


def _is_finite(array: np.ndarray) -> bool:
  with np.errstate(over='ignore'):
    return bool(np.isfinite(array.astype(np.float32)).all())
