"""Application of a network to an image that fills only a part of an array."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from gfn_jax.layers.blocks import Enlarge

SPATIAL = (nn.Conv, nn.ConvTranspose, Enlarge)
"""Layers whose output at a pixel depends on other pixels."""

POINTWISE = (nn.BatchNorm, nn.PReLU)
"""Flax's layers whose output at a pixel depends on that pixel alone."""


def apply_within(
  model: nn.Module,
  variables: Mapping[str, Any],
  x: Float[jax.Array, 'b h w 3'],
  inside: Bool[jax.Array, '1 h w 1'],
) -> Any:
  """Apply a local network to images of any size in arrays of one size.

  The result equals that of the images alone: convolutions see zeros beyond an image, not beyond the
  array. The input of each spatial layer is masked, since biases fill the area beyond an image. A
  network's `pyramid` sees images mirrored at their borders.

  Args:
    model: a network.
    variables: its variables.
    x: arrays that the images fill in part.
    inside: True in the images. The images begin and end at multiples of the network's stride, in
      both directions.

  Returns:
    The network's `RestorationOutput`. Beyond the images its values are meaningless.

  Raises:
    TypeError: for a Flax layer that is neither in `SPATIAL` nor in `POINTWISE`.
  """

  def mask(
    next_layer: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
  ) -> Any:
    layer = context.module
    if context.method_name == 'pyramid':
      return next_layer(_mirror_beyond(args[0], inside))
    if not isinstance(layer, SPATIAL) or context.method_name != '__call__':
      if type(layer).__module__.startswith('flax.') and not isinstance(layer, POINTWISE):
        raise TypeError(f'{type(layer).__name__} is neither in SPATIAL nor in POINTWISE')
      return next_layer(*args, **kwargs)
    y = args[0]
    exists = _mask_of_size(inside, y.shape[1])
    y = next_layer(jnp.where(exists, y, 0))
    if isinstance(layer, Enlarge):  # its weights of the existing pixels sum to 1
      y = y / jnp.maximum(next_layer(exists.astype(y.dtype)), 0.1)
    return y

  with nn.intercept_methods(mask):
    return model.apply(variables, x)


def _mirror_beyond(x: jax.Array, inside: jax.Array) -> jax.Array:
  """Fill the area beyond images `[b, h, w, 3]` with their mirror images, borders included."""
  for axis in (1, 2):
    exists = inside.any(axis=(0, 3 - axis, 3))
    start, size = jnp.argmax(exists), exists.sum()
    places = (jnp.arange(exists.size) - start) % (2 * size)
    x = jnp.take(x, start + jnp.minimum(places, 2 * size - 1 - places), axis=axis)
  return x


def _mask_of_size(inside: jax.Array, height: int) -> jax.Array:
  """Return the mask `[1, h, w, 1]`, resized to features of the given height."""
  if height <= inside.shape[1]:
    step = inside.shape[1] // height
    return inside[:, ::step, ::step]
  factor = height // inside.shape[1]
  return inside.repeat(factor, axis=1).repeat(factor, axis=2)
