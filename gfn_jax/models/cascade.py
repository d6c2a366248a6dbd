"""Cascade of two networks, one for deblurring and one for super-resolution, in either order.

    lr_blur --> deblurring network --> lr --> SR network --> hr
    lr_blur --> SR network --> deblurring network --> hr

These are the rows "A -> B" in the papers' tables. There the first network's result usually went
through an 8-bit file; `quantize` simulates this.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.models.base import PadMode, Pyramid, RestorationModel, RestorationOutput


class Cascade(RestorationModel):
  """Two networks in sequence: one only deblurs, the other one super-resolves.

      create_model('cascade', first=dict(name='mprnet'), second=dict(name='srresnet'))

  The parameters of the networks are under 'first' and 'second', and are trained together. `lr` is
  the deblurred image; None if the first network super-resolves.

  Attributes:
    first: the network that gets the input.
    second: the network that gets the first network's image.
    quantize: True to clip the image between the networks and round it to 8 bits. The gradient
      ignores both.
    dtype: type of the computation of both networks; None to keep each network's own.
    precision: precision of the matrix products of both networks; None to keep each network's own.
  """

  first: RestorationModel
  second: RestorationModel
  quantize: bool = False
  dtype: Any = None
  precision: Any = None

  def __post_init__(self) -> None:
    if Cascade in (type(self.first), type(self.second)):
      raise ValueError('the networks of a cascade must not be cascades')
    if (self.first.scale == 1) == (self.second.scale == 1):
      scales = f'{self.first.scale}x and {self.second.scale}x'
      raise ValueError(f'one network must enlarge and the other one only deblur, not {scales}')
    changes = {'dtype': self.dtype, 'precision': self.precision}
    changes = {field: value for field, value in changes.items() if value is not None}
    if changes:
      self.first = self.first.clone(**changes)
      self.second = self.second.clone(**changes)
    super().__post_init__()

  @property
  def stride(self) -> tuple[int, int]:
    """Least common multiples of both strides."""
    (rows, columns), (more_rows, more_columns) = self.first.stride, self.second.stride
    return math.lcm(rows, more_rows), math.lcm(columns, more_columns)

  @property
  def pad_mode(self) -> PadMode:
    """The first network's; each network pads what it gets."""
    return self.first.pad_mode

  @property
  def local(self) -> bool:
    """True if both networks are local."""
    return self.first.local and self.second.local

  @property
  def scale(self) -> int:
    """Scale of the SR network."""
    return self.first.scale * self.second.scale

  def pyramid(self, image: Float[jax.Array, 'b h w 3']) -> Pyramid:
    """Return the pyramid of the first network, whose `lr_pyramid` the cascade returns."""
    return self.first.pyramid(image)

  def for_training(self, axis_name: str | None) -> 'Cascade':
    """Return the cascade of both networks' `for_training`."""
    first, second = (part.for_training(axis_name) for part in (self.first, self.second))
    return self.clone(first=first, second=second)

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Restore `lr_blur`, in [0, 1], to `hr` and, if the first network deblurs, `lr`."""
    output = self.first(lr_blur, train)
    if self.first.scale == 1:
      assert output.lr is not None  # all networks of scale 1 have it
      return output.replace(hr=self.second(self._between(output.lr), train).hr)
    assert output.hr is not None  # all other networks have it
    return RestorationOutput(hr=self.second(self._between(output.hr), train).lr)

  def _between(self, image: jax.Array) -> jax.Array:
    if not self.quantize:
      return image
    rounded = jnp.round(255 * jnp.clip(image, 0, 1)) / 255
    return image + jax.lax.stop_gradient(rounded - image)
