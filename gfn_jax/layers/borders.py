"""Runs a network on an array that is larger than the image in it, as if it ended with the image."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gfn_jax.layers.blocks import Enlarge, RestorationOutput
from gfn_jax.models.variables import as_variables

LAYERS = (nn.Conv, nn.ConvTranspose, Enlarge)
"""The layers that see beyond a pixel."""


def apply_within(model: nn.Module, params: Any, x: jax.Array, inside: jax.Array):
  """Applies a network to images of any size in arrays of one size.

  A convolution sees zeros beyond an image. Here these begin where the image ends and not where the
  array does: the input of each layer is cut anew, as biases fill what lies beyond.

  Args:
    model: a network of this library.
    params: its parameters.
    x: `[B, h, w, 3]`, images that fill a part of it.
    inside: `[1, h, w, 1]` bool, the same part of all. It begins and ends at multiples of the
      network's stride, in both directions.

  Returns:
    What the network returns. Beyond the images it means nothing.
  """

  def cut(next_layer: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext):
    if not isinstance(context.module, LAYERS) or context.method_name != '__call__':
      return next_layer(*args, **kwargs)
    y = args[0]
    mask = _mask_of_size(inside, y.shape[1])
    y = next_layer(jnp.where(mask, y, 0))
    if isinstance(context.module, Enlarge):  # the weights of the pixels that exist sum to 1
      y = y / jnp.maximum(next_layer(mask.astype(y.dtype)), 0.1)
    return y

  with nn.intercept_methods(cut):
    output: RestorationOutput = model.apply(as_variables(params), x)
  return output


def _mask_of_size(inside: jax.Array, height: int) -> jax.Array:
  """The mask `[1, h, w, 1]` for features that are smaller or larger than the images."""
  if height <= inside.shape[1]:
    step = inside.shape[1] // height
    return inside[:, ::step, ::step]
  factor = height // inside.shape[1]
  return inside.repeat(factor, axis=1).repeat(factor, axis=2)
