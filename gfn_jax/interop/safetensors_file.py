"""Reading of safetensors files of other libraries."""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors

from gfn_jax.errors import UserError
from gfn_jax.interop.torch_pickle import show

_ITEM_SIZES = {
  'F64': 8,
  'F32': 4,
  'F16': 2,
  'BF16': 2,
  'I64': 8,
  'I32': 4,
  'I16': 2,
  'I8': 1,
  'U8': 1,
  'BOOL': 1,
}
"""Bytes per value of the types that can be read: those of `torch_pickle.DTYPES`."""


@dataclasses.dataclass(frozen=True)
class FileTensor:
  """Tensor that is not read yet."""

  name: str
  dtype: str
  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    """Number of bytes.

    Raises:
      UserError: for a type that cannot be read.
    """
    if self.dtype not in _ITEM_SIZES:
      raise UserError(f'{show(self.name)} has the unsupported type {self.dtype}')
    return math.prod(self.shape) * _ITEM_SIZES[self.dtype]


class SafetensorsFile:
  """Open safetensors file.

  Attributes:
    tensors: records of the tensors by name. A tensor that was stored once under one of several
      names, as `safetensors.torch.save_model` does it, has all of them.
  """

  def __init__(self, file: Any):
    """List the tensors.

    Args:
      file: an open `safetensors.safe_open`.

    Raises:
      UserError: if the file is one of this library.
    """
    self._file = file
    metadata = file.metadata() or {}
    if _names_model(metadata):
      raise UserError('this is a weights file of gfn_jax already, which needs no conversion')
    self.tensors: dict[str, FileTensor] = {}
    for name in file.keys():  # noqa: SIM118  # not a dictionary
      view = file.get_slice(name)
      self.tensors[name] = FileTensor(name, view.get_dtype(), tuple(view.get_shape()))
    for name, stored in metadata.items():
      if name not in self.tensors and stored in self.tensors:
        self.tensors[name] = self.tensors[stored]

  def read(self, tensor: FileTensor) -> np.ndarray:
    """Return a tensor as a new array; bfloat16 becomes float32."""
    array = self._file.get_tensor(tensor.name)
    return array.astype(np.float32) if tensor.dtype == 'BF16' else array


def _names_model(metadata: Mapping[str, str]) -> bool:
  """Return True for the metadata that `gfn_jax.weights.pretrained.save_weights` writes."""
  try:
    model = json.loads(metadata['model'])
  except (KeyError, ValueError, RecursionError):
    return False
  return isinstance(model, dict) and 'name' in model


def is_safetensors(path: str | os.PathLike) -> bool:
  """Return True if a file begins as a safetensors file: a length of 8 bytes, then JSON."""
  with open(path, 'rb') as file:
    return file.read(9)[8:] == b'{'


@contextlib.contextmanager
def open_safetensors(path: str | os.PathLike) -> Iterator[SafetensorsFile]:
  """Open a file. The library checks the header against the size of the file.

  Raises:
    UserError: if the file is damaged, or one of this library.
  """
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      yield SafetensorsFile(file)
  except safetensors.SafetensorError as error:
    raise UserError(f'not a valid safetensors file ({show(str(error))})') from error
