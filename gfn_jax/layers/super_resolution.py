"""Parts that EDSR and the networks after it share: the mean of the colours, and the enlargement."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from gfn_jax.layers.blocks import ModuleDef, pixel_shuffle

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Means of DIV2K's training images. The networks see pixels in [0, 255] less this mean."""

PIXEL_RANGE = 255
"""Largest value of a pixel inside these networks."""


def subtract_mean(x: Float[jax.Array, 'b h w 3']) -> Float[jax.Array, 'b h w 3']:
  """Map images in [0, 1] to [0, 255], less the mean of each colour."""
  return PIXEL_RANGE * (x - _mean())


def add_mean(x: Float[jax.Array, 'b h w 3']) -> Float32[jax.Array, 'b h w 3']:
  """Map images as a network makes them to [0, 1]: the inverse of `subtract_mean`."""
  return x.astype(jnp.float32) / PIXEL_RANGE + _mean()


def mean_shift_tensors() -> dict[str, np.ndarray]:
  """Return the tensors of `sub_mean` and `add_mean` in the authors' PyTorch weights.

  They are convolutions of 1x1 that their code never trains, but for RCAN's.
  """
  mean = np.float32(PIXEL_RANGE) * np.asarray(RGB_MEAN, np.float32)
  tensors: dict[str, np.ndarray] = {}
  for name, sign in (('sub_mean', -1), ('add_mean', 1)):
    tensors[f'{name}.weight'] = np.eye(3, dtype=np.float32)[..., None, None]
    tensors[f'{name}.bias'] = sign * mean
  return tensors


def _mean() -> Float32[jax.Array, '1 1 1 3']:
  return jnp.asarray(RGB_MEAN, jnp.float32)[None, None, None]


class Upsampler(nn.Module):
  """Enlargement by pixel shuffles: one of 3, or one of 2 for each factor of 2; no activation.

  Attributes:
    scale: 2, 3 or 4.
    conv: makes a convolution.
  """

  scale: int
  conv: ModuleDef = nn.Conv

  @nn.compact
  def __call__(
    self, y: Float[jax.Array, 'b h w f']
  ) -> Float[jax.Array, 'b {self.scale}*h {self.scale}*w f']:
    """Enlarge features."""
    f = y.shape[-1]
    factors = {2: (2,), 3: (3,), 4: (2, 2)}[self.scale]
    for i, factor in enumerate(factors, start=1):
      conv = self.conv(factor**2 * f, (3, 3), padding=1, name=f'conv{i}')
      y = pixel_shuffle(conv(y), factor)  # [B, 2h, 2w, F], [B, 3h, 3w, F] or [B, 4h, 4w, F]
    return y
