"""Bicubic interpolation, the baseline of every table, as a network without parameters."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.blocks import Enlarge, check_choice
from gfn_jax.models.base import RestorationModel, RestorationOutput
from gfn_jax.ops.sizes import SCALES


class Bicubic(RestorationModel):
  """Bicubic enlargement (Keys, a = -0.5) in the place of a super-resolution network.

      create_model('cascade', first=dict(name='dmphn'), second=dict(name='bicubic'))

  It differs from `ops.scores.bicubic`, MATLAB's, in the outermost pixels: here the weights of the
  existing pixels sum to 1, there pixels beyond the border are mirrored.

  Attributes:
    scale: factor between `lr_blur` and `hr`: 2, 3 or 4.
    dtype: without effect, like `precision`: images are float32.
    precision: see `dtype`.
  """

  scale: int = 4
  dtype: Any = jnp.float32
  precision: Any = None

  def __post_init__(self) -> None:
    check_choice('scale', self.scale, SCALES)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Enlarge `lr_blur`, in [0, 1], to `hr`, `[b, scale * h, scale * w, 3]`."""
    return RestorationOutput(hr=Enlarge(self.scale)(lr_blur))
