"""Reading of TensorFlow 1 checkpoints, by TensorFlow."""

import glob
import math
import os
import re
from collections.abc import Mapping

import numpy as np

from gfn_jax.errors import UserError, install_extra
from gfn_jax.interop.torch_pickle import show
from gfn_jax.system.files import printable

_FILE = re.compile(r'(.*)\.(index|meta|data-\d{5}-of-\d{5})')
_COUNTER = re.compile(r'beta[12]_power(_\d+)?')
_TENSORS = {'weights': 'weight', 'biases': 'bias'}


def tensorflow_prefix(path: str | os.PathLike) -> str | None:
  """Return the path that the names of a TensorFlow checkpoint's files begin with.

  Args:
    path: this path, such as 'deblur.model-523000', or that of one of the files.

  Returns:
    The path without an extension; None if `path` does not belong to a TensorFlow checkpoint.
  """
  path = os.fspath(path)
  if match := _FILE.fullmatch(path):
    return match[1]
  return path if os.path.isfile(f'{path}.index') else None


def load_tensorflow_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Read the weights of a checkpoint that TensorFlow 1 saved as `.index` and `.data-...` files.

  Nothing in the files is executed. TensorFlow verifies their checksums.

  Args:
    path: the checkpoint, with or without an extension.

  Returns:
    The floating-point variables as `to_torch_tensors` returns them. State of the optimiser is left
    out.

  Raises:
    UserError: if a file is missing or damaged, or TensorFlow is not installed.
  """
  prefix = tensorflow_prefix(path) or os.fspath(path)
  if not os.path.isfile(f'{prefix}.index'):
    raise UserError(f'{printable(prefix)}.index does not exist')
  try:
    import tensorflow as tf
  except ImportError as error:
    raise UserError(
      f'TensorFlow checkpoints need {error.name}: {install_extra("train")}'
    ) from error
  try:
    reader = tf.train.load_checkpoint(prefix)
    shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    names = [name for name in sorted(shapes) if types[name].is_floating]
    names = [name for name in names if not _belongs_to_optimizer(name, shapes)]
    _check_size(prefix, sum(math.prod(shapes[name]) * types[name].size for name in names))
    return to_torch_tensors({name: reader.get_tensor(name) for name in names})
  # TensorFlow raises errors of its own, and Python's where it has no translation.
  except (UserError, tf.errors.OpError, LookupError, RuntimeError, ValueError) as error:
    raise UserError(
      f'cannot read {printable(prefix)} as a TensorFlow checkpoint: {show(str(error))}'
    ) from error


def to_torch_tensors(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Return TensorFlow's variables under names and in layouts as PyTorch has them.

  Args:
    variables: arrays by names such as 'g_net/enc1_1/weights'. Kernels are `[h, w, in, out]`, those
      of transposed convolutions `[h, w, out, in]`.

  Returns:
    Arrays by names such as 'g_net.enc1_1.weight'. Kernels are `[out, in, h, w]`, those of
    transposed convolutions `[in, out, h, w]`.
  """
  tensors = {}
  for name, array in variables.items():
    *modules, tensor = name.split('/')
    if np.ndim(array) == 4:
      array = np.ascontiguousarray(np.transpose(array, (3, 2, 0, 1)))
    tensors['.'.join([*modules, _TENSORS.get(tensor, tensor)])] = array
  return tensors


def _belongs_to_optimizer(name: str, names: Mapping[str, object]) -> bool:
  """Return True for a variable that an optimiser adds to those of the network.

  It keeps the state of `g_net/enc1_1/weights` in `g_net/enc1_1/weights/Adam`.
  """
  parent, _, last = name.rpartition('/')
  return parent in names or _COUNTER.fullmatch(last) is not None


def _check_size(prefix: str, expected: int) -> None:
  """Raise a UserError if the data files are smaller than the tensors, before memory is taken."""
  files = glob.glob(f'{glob.escape(prefix)}.data-*')
  if not files:
    raise UserError(f'{printable(prefix)}.data-* does not exist')
  if (found := sum(map(os.path.getsize, files))) < expected:
    raise UserError(f'truncated data (expected {expected:,} bytes, found {found:,})')
