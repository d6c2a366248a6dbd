"""Pretrained PyTorch tensors of auxiliary networks, such as VGG19: reading and checks."""

import dataclasses
import os
from collections.abc import Iterable, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from gfn_jax.errors import UserError
from gfn_jax.interop.torch_checkpoint import load_torch_checkpoint
from gfn_jax.system.files import printable
from gfn_jax.weights.tensors import find_mismatch


@dataclasses.dataclass(frozen=True)
class TensorSet:
  """Names and shapes of a network's tensors.

  Attributes:
    network: name of the network, for messages.
    files: the files that a user must pass, for messages.
    shapes: shape of each tensor, by its PyTorch name.
    aliases: alternative names, each with its name in `shapes`.
    ignored: prefixes of names to ignore.
  """

  network: str
  files: str
  shapes: Mapping[str, tuple[int, ...]]
  aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
  ignored: tuple[str, ...] = ()

  def read(self, paths: Iterable[str | os.PathLike]) -> dict[str, np.ndarray]:
    """Read tensors from PyTorch checkpoints or safetensors files, without executing their content.

    Args:
      paths: files that together hold the tensors.

    Returns:
      The tensors found, float32, by their names in `shapes`. Some may be missing.

    Raises:
      UserError: if a file cannot be read, or has a tensor that is unexpected, of the wrong shape,
        not finite, or different from that in another file.
    """
    tensors: dict[str, np.ndarray] = {}
    for path in paths:
      state = _read(path)
      try:
        added = self._select(state, partial=True)
        for name in sorted(added.keys() & tensors.keys()):
          _check_equal(name, tensors[name], added[name])
      except UserError as error:
        raise UserError(f'{printable(path)}: {error}') from error
      tensors |= added
    return tensors

  def check(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return all tensors of the network, float32, by their names in `shapes`.

    Raises:
      UserError: if a tensor is missing, unexpected, of the wrong shape or not finite.
    """
    return self._select(state, partial=False)

  def _select(self, state: Mapping[str, np.ndarray], partial: bool) -> dict[str, np.ndarray]:
    """Return the tensors of a state, checked; with `partial`, some may be missing."""
    tensors: dict[str, np.ndarray] = {}
    for key, value in state.items():
      if key.startswith(self.ignored):
        continue
      name = self.aliases.get(key, key)
      with np.errstate(over='ignore'):
        value = np.asarray(value, np.float32)
      if name in tensors:
        _check_equal(key, tensors[name], value)
      tensors[name] = value
    if mismatch := find_mismatch(tensors, self.shapes, partial=partial):
      raise UserError(f'these are not weights for {self.network}: {mismatch}; pass {self.files}')
    return tensors


def conv_params(tensors: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Return the Flax parameters of the convolution that PyTorch names `name`."""
  return {
    'kernel': tensors[f'{name}.weight'].transpose(2, 3, 1, 0),
    'bias': tensors[f'{name}.bias'],
  }


def _read(path: str | os.PathLike) -> Mapping[str, np.ndarray]:
  if not os.fspath(path).endswith('.safetensors'):
    return load_torch_checkpoint(path)
  try:
    return safetensors.numpy.load_file(path)
  except (safetensors.SafetensorError, OSError) as error:
    raise UserError(f'cannot read {printable(path)} as safetensors: {error}') from error


def _check_equal(name: str, first: np.ndarray, second: np.ndarray) -> None:
  if not np.array_equal(first, second):
    raise UserError(f'{name} is given twice, with different values')
