"""A network's output for batches of images, on all devices of this machine."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.layers.borders import apply_within
from gfn_jax.models.base import RestorationModel
from gfn_jax.ops.pixels import to_float
from gfn_jax.ops.symmetries import SYMMETRIES, apply_symmetry, undo_symmetry
from gfn_jax.system import cpu_bfloat16, memory
from gfn_jax.system.compiling import announce_compiling

OUTPUTS = ('hr', 'lr', 'frames')
"""Outputs of a network, by their names in `RestorationOutput`."""

DTYPES = ('float32', 'bfloat16', 'float16')
"""Types of a network's computation."""


def _output_of(
  model: RestorationModel,
  output: str,
  variables: Mapping[str, Any],
  x: jax.Array,
  inside: jax.Array | None,
) -> jax.Array | None:
  """Return a network's output for images, as float32; None if it has no such output.

  Args:
    model: the network.
    output: name of the output.
    variables: its variables.
    x: `[B, h, w, 3]`.
    inside: `[1, h, w, 1]` bool, the part of the arrays that the images fill; None for all.

  Returns:
    `[B, s * h, s * w, 3]`, or frames as channels, `[B, h, w, 7 * 3]`.
  """
  x = to_float(x)
  if inside is None:
    images = getattr(model.apply(variables, x), output)
  else:
    images = getattr(apply_within(model, variables, x, inside), output)
  if output == 'frames' and images is not None:
    return jnp.moveaxis(images, 1, 3).reshape(*x.shape[:3], -1)
  return images


@functools.cache
def _compiled(onednn: bool) -> Callable[..., jax.Array]:
  """Return `_output_of`, compiled; with `onednn`, bfloat16 convolutions are passed to oneDNN."""
  options = cpu_bfloat16.compiler_options('bfloat16') if onednn else None
  forward = jax.jit(_output_of, static_argnums=(0, 1), compiler_options=options)
  return cpu_bfloat16.without_cache_warning(forward) if onednn else forward


class Predictor:
  """Computes one output of a network, compiled for each size and device.

  Args:
    model: the network.
    variables: its variables.
    output: name of the output.
    ensemble: True for the mean over the eight symmetries of a square.
    dtype: type of the computation; None is the network's.
    dtype_8bit: type of the computation for 8-bit images; None is `dtype`.

  Attributes:
    model: the network, as `RestorationModel.for_output` returns it.
    output: name of the output.
    scale: factor between the sizes of input and output.
    ensemble: True for the mean over the eight symmetries of a square.
    devices: the local devices.
    variables: the network's variables, on the first of them.

  Raises:
    UserError: for an unknown type, or if the network does not have the output.
  """

  def __init__(
    self,
    model: RestorationModel,
    variables: Mapping[str, Any],
    output: str,
    *,
    ensemble: bool = False,
    dtype: str | None = None,
    dtype_8bit: str | None = None,
  ):
    for kind in (dtype, dtype_8bit):
      if kind not in (None, *DTYPES):
        raise UserError(f'dtype {kind!r}: choose from {", ".join(DTYPES)}')
    self.output = output
    self.scale = model.scale if output == 'hr' else 1
    self.ensemble = ensemble
    self.devices = jax.local_devices()
    self.variables = jax.device_put(variables, self.devices[0])
    self._copies = {self.devices[0]: self.variables}
    model = model.for_output(output)
    self.model = model.clone(dtype=dtype) if dtype else model
    self._model_8bit = model.clone(dtype=dtype_8bit) if dtype_8bit else self.model
    self._check_output()

  def predict(self, x: jax.Array, inside: jax.Array | None) -> jax.Array:
    """Return the network's output for a batch.

    Args:
      x: `[B, h, w, 3]` of uint8, uint16 or float in [0, 1], on one device.
      inside: `[1, h, w, 1]` bool, the part of the arrays that the images fill; None for all.

    Returns:
      float32 `[B, s * h, s * w, 3]`, or frames `[B, h, w, 7 * 3]`.
    """
    if not self.ensemble:
      return self._forward(x, inside)
    total = jnp.zeros(())
    for symmetry in SYMMETRIES:
      mask = None if inside is None else apply_symmetry(inside, symmetry)
      y = self._forward(apply_symmetry(x, symmetry), mask)
      total += undo_symmetry(y, symmetry)
    return total / len(SYMMETRIES)

  def dtype_for(self, pixels: jax.typing.DTypeLike) -> str:
    """Return the type of the computation for images of a type, such as uint16."""
    return jnp.dtype(getattr(self._model_for(pixels), 'dtype', None) or 'float32').name

  def peak_bytes(self, batch_size: int) -> float:
    """Return the bytes that a batch takes at its peak, for each pixel of an image."""
    side = 64
    x = jax.ShapeDtypeStruct((batch_size, side, side, 3), jnp.float32)
    return memory.peak_bytes(self._bound_output(), self.variables, x, None) / side**2

  def _forward(self, x: jax.Array, inside: jax.Array | None) -> jax.Array:
    name, (height, width) = type(self.model).__name__, x.shape[1:3]
    onednn = cpu_bfloat16.compiler_options(self.dtype_for(x.dtype)) is not None
    with announce_compiling(f'compiling {name} for {width}x{height}'):
      return _compiled(onednn)(
        self._model_for(x.dtype), self.output, self._variables_on(x.device), x, inside
      )

  def _variables_on(self, device: Any) -> Mapping[str, Any]:
    """Return the variables on a device, copied on its first use."""
    if device not in self._copies:
      self._copies[device] = jax.device_put(self.variables, device)
    return self._copies[device]

  def _model_for(self, pixels: jax.typing.DTypeLike) -> RestorationModel:
    return self._model_8bit if np.dtype(pixels) == np.uint8 else self.model

  def _bound_output(self) -> Callable[..., jax.Array | None]:
    return functools.partial(_output_of, self.model, self.output)

  def _check_output(self) -> None:
    network = type(self.model).__name__
    if self.output == 'hr' and self.model.scale == 1:
      raise UserError(f"{network} only deblurs: omit output, or pass 'lr'")
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    if self.output == 'hr' or jax.eval_shape(self._bound_output(), self.variables, x, None):
      return
    if self.output == 'lr':
      raise UserError(f'{network} has no deblurred image at the size of its input')
    raise UserError(f'{network} makes no frames; use BMDSRNet')
