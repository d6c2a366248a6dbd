"""Two networks, one after the other: deblurring and super-resolution apart, in either order.

    lr_blur --> deblurs --> lr --> enlarges --> hr
    lr_blur --> enlarges --> deblurs --> hr

The rows "A -> B" in the papers' tables. There the first network's result usually went through an
8-bit file; `quantize` does that.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gfn_jax.layers.blocks import RestorationOutput


class Cascade(nn.Module):
  """Hands the image of one network to another, of which one enlarges and one only deblurs.

  `create_model('cascade', first=dict(name='mprnet'), second=dict(name='srresnet'))` makes one. The
  parameters are those of both, under 'first' and 'second', and are trained together; `lr` is the
  deblurred image, in the order that has one.

  Attributes:
    first: the network that sees the input.
    second: the network that sees the first one's image.
    quantize: whether that image is rounded to 8 bits, and clipped. The gradient passes as if not.
    dtype: of the computation of both; None leaves each its own.
    precision: of the matrix products of both; None leaves each its own.
    stride: sides that need no padding are multiples of it. Not an option.
    local: whether a result depends on what is near it only. Not an option.
    scale: how much larger `hr` is. Not an option.
  """

  first: nn.Module
  second: nn.Module
  quantize: bool = False
  dtype: Any = None
  precision: Any = None

  def __post_init__(self):
    if Cascade in (type(self.first), type(self.second)):
      raise ValueError('a cascade has two networks, and no cascade among them')
    if (self.first.scale == 1) == (self.second.scale == 1):
      scales = f'{self.first.scale}x and {self.second.scale}x'
      raise ValueError(f'one of the two networks must enlarge and one only deblur; these: {scales}')
    changes = {'dtype': self.dtype, 'precision': self.precision}
    changes = {field: value for field, value in changes.items() if value is not None}
    if changes:
      self.first = self.first.clone(**changes)
      self.second = self.second.clone(**changes)
    super().__post_init__()

  @property
  def stride(self) -> int:
    """What both need."""
    return math.lcm(self.first.stride, self.second.stride)

  @property
  def local(self) -> bool:
    """Whether both are."""
    return self.first.local and self.second.local

  @property
  def scale(self) -> int:
    """That of the one that enlarges."""
    return self.first.scale * self.second.scale

  @nn.compact
  def __call__(self, lr_blur: jax.Array) -> RestorationOutput:
    """Restores `lr_blur`, `[B, h, w, 3]` in [0, 1]: `hr` `[B, 4h, 4w, 3]`, `lr` `[B, h, w, 3]`."""
    output = self.first(lr_blur)
    if self.first.scale == 1:
      return output.replace(hr=self.second(self._handed_over(output.lr)).hr)
    return RestorationOutput(hr=self.second(self._handed_over(output.hr)).lr)

  def _handed_over(self, image: jax.Array) -> jax.Array:
    if not self.quantize:
      return image
    rounded = jnp.round(255 * jnp.clip(image, 0, 1)) / 255
    return image + jax.lax.stop_gradient(rounded - image)
