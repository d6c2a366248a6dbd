"""PyTorch's tensors of a network that is not trained here: read from files, and checked."""

import dataclasses
import os
from collections.abc import Iterable, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from gfn_jax.errors import UserError
from gfn_jax.interop import load_torch_checkpoint
from gfn_jax.system.files import printable


@dataclasses.dataclass(frozen=True)
class TensorSet:
  """Which tensors a network has.

  Attributes:
    network: its name, for messages.
    files: what a user is to pass, for messages.
    shapes: of the tensors, by their PyTorch names.
    aliases: other names that they may have.
    ignored: how names begin that do not matter.
  """

  network: str
  files: str
  shapes: Mapping[str, tuple[int, ...]]
  aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
  ignored: tuple[str, ...] = ()

  def read(self, paths: Iterable[str | os.PathLike]) -> dict[str, np.ndarray]:
    """Reads PyTorch's checkpoints, or safetensors files with the same names; nothing is executed.

    Args:
      paths: files that have the tensors among them.

    Returns:
      What they have of these, float32, by their names in `shapes`.

    Raises:
      UserError: if a file cannot be read, they contradict each other, or as `check`, but that
        tensors may be missing.
    """
    tensors: dict[str, np.ndarray] = {}
    for path in paths:
      state = _read(path)
      try:
        tensors = self._add(tensors, state)
      except UserError as error:
        raise UserError(f'{printable(path)}: {error}') from error
    return tensors

  def check(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All tensors, float32, by their names in `shapes`.

    Raises:
      UserError: naming tensors that are missing, unknown, of another shape or not finite.
    """
    tensors = self._add({}, state)
    if missing := [name for name in self.shapes if name not in tensors]:
      raise UserError(f'{self.network} lacks {_few(missing)}: pass {self.files}')
    return tensors

  def _add(
    self, tensors: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]
  ) -> dict[str, np.ndarray]:
    tensors = dict(tensors)
    for key, value in state.items():
      if key.startswith(self.ignored):
        continue
      name = self.aliases.get(key, key)
      if name not in self.shapes:
        raise UserError(f'{printable(key)} is no tensor of {self.network}')
      with np.errstate(over='ignore'):
        value = np.asarray(value, np.float32)
      if value.shape != self.shapes[name]:
        raise UserError(f'{key} is {value.shape}, not {self.shapes[name]} as of {self.network}')
      if not np.isfinite(value).all():
        raise UserError(f'{key} has values that are not finite')
      if name in tensors and not np.array_equal(tensors[name], value):
        raise UserError(f'{key} is there twice, with different values')
      tensors[name] = value
    return tensors


def conv_params(tensors: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Flax's parameters of the convolution that PyTorch calls `name`."""
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
    raise UserError(f'{printable(path)} is no readable safetensors file: {error}') from error


def _few(names: list[str]) -> str:
  return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')
