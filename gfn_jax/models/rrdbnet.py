"""RRDBNet, the generator of ESRGAN (Wang et al., ECCV Workshops 2018).

    lr_blur --> conv --+--> RRDBs --> conv --(+)--> 2 x (2x, conv) --> conv --> conv --> hr
                       |                      |
                       +----------------------+

    RRDB:        --+--> 3 dense blocks --> 0.2 x --(+)-->
                   +--------------------------------+
    dense block: --+--> 4 convs --> conv --> 0.2 x --(+)-->
                   +----------------------------------+

An RRDB is a residual in residual dense block. Each convolution of a dense block receives the input
of the block and the results of all convolutions before it.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.activations import leaky_relu
from gfn_jax.layers.blocks import (
  Enlarge,
  ModuleDef,
  check_choice,
  check_positive,
  enlarge_nearest,
  scaled_normal,
)
from gfn_jax.layers.cpu_conv import conv_general_dilated
from gfn_jax.models.base import GLOBAL_SKIPS, RestorationModel, RestorationOutput

SCALE = 4  # two enlargements of 2
RESIDUAL_SCALE = 0.2


class DenseBlock(nn.Module):
  """Dense block: five convolutions of all features before them, scaled, plus the input.

  Attributes:
    growth: channels that each of the first four convolutions adds.
    conv: makes a convolution of 3x3.
  """

  growth: int
  conv: ModuleDef

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features to features."""
    y = x
    for i in range(1, 5):
      new = leaky_relu(self.conv(self.growth, name=f'conv{i}')(y))
      y = jnp.concatenate([y, new], axis=-1)  # [B, h, w, F + i * growth]
    return x + RESIDUAL_SCALE * self.conv(x.shape[-1], name='conv5')(y)


class RRDB(nn.Module):
  """Residual in residual dense block: three dense blocks, scaled, plus the input.

  Attributes:
    growth: channels that each convolution of a dense block adds.
    conv: makes a convolution of 3x3.
  """

  growth: int
  conv: ModuleDef

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features to features."""
    y = x
    for i in range(1, 4):
      y = DenseBlock(self.growth, self.conv, name=f'dense{i}')(y)
    return x + RESIDUAL_SCALE * y


class RRDBNet(RestorationModel):
  """Network of residual in residual dense blocks; 16,697,987 parameters by default.

  It enlarges 4x by nearest neighbours, and has no `lr`. Leaky ReLUs follow four of the five
  convolutions in a dense block, and those at the larger sizes except the last.

  Weights start as the authors', at a tenth of those of He et al. (2015), so that the images start
  near zero, or with `global_skip` near the input.

  Presets: `small` is for CPUs, 145,379 parameters.

  Attributes:
    features: number of channels.
    growth: channels that each convolution of a dense block adds.
    blocks: number of residual in residual dense blocks.
    global_skip: 'none' is the paper's. 'input' adds the input, enlarged bicubically, to `hr`, which
      improves short trainings.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 64
  growth: int = 32
  blocks: int = 23
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  scale = SCALE
  presets = {'small': dict(features=16, growth=8, blocks=3)}  # noqa: RUF012

  def __post_init__(self) -> None:
    for field in ('features', 'growth', 'blocks'):
      check_positive(field, getattr(self, field))
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Enlarge `lr_blur`, in [0, 1], to `hr`, `[b, 4h, 4w, 3]`."""
    f, conv = self.features, self._make_conv()
    first = y = conv(f, name='conv_first')(lr_blur)  # [B, h, w, F]
    for i in range(self.blocks):
      y = RRDB(self.growth, conv, name=f'rrdb_{i}')(y)
    y = first + conv(f, name='conv_mid')(y)
    for i in (1, 2):
      y = enlarge_nearest(y, 2)  # [B, 2h, 2w, F], then [B, 4h, 4w, F]
      y = leaky_relu(conv(f, name=f'upconv{i}')(y))
    y = leaky_relu(conv(f, name='conv_hr')(y))
    hr = conv(3, name='conv_last')(y).astype(jnp.float32)  # [B, 4h, 4w, 3]
    if self.global_skip == 'input':
      hr = hr + Enlarge(SCALE)(lr_blur)
    return RestorationOutput(hr=hr)

  def _make_conv(self) -> ModuleDef:
    return functools.partial(
      nn.Conv,
      kernel_size=(3, 3),
      padding=1,
      kernel_init=scaled_normal(2 * 0.1**2, 'fan_in'),
      conv_general_dilated=conv_general_dilated,
      dtype=jnp.dtype(self.dtype),
      precision=self.precision,
    )
