"""RCAN (Zhang et al., ECCV 2018): super-resolution by channel attention in nested residual blocks.

lr_blur --> - mean --> conv --+--> residual groups --> conv --(+)--> pixel shuffles ---+
|                                |                       |
+--------------------------------+                       v
hr <-- + mean <-- conv -+

group: --+--> channel attention blocks --> conv --(+)-->
+-----------------------------------------+
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gfn_jax.layers.activations import relu
from gfn_jax.layers.blocks import (
  ChannelAttentionBlock,
  Enlarge,
  ModuleDef,
  check_choice,
  check_positive,
  torch_convolutions,
)
from gfn_jax.layers.super_resolution import (
  PIXEL_RANGE,
  Upsampler,
  add_mean,
  mean_shift_tensors,
  subtract_mean,
)
from gfn_jax.models.base import GLOBAL_SKIPS, RestorationModel, RestorationOutput
from gfn_jax.ops.sizes import SCALES


class ResidualGroup(nn.Module):
  """Residual group: channel attention blocks, a convolution, plus the input.

  Attributes:
    blocks: number of channel attention blocks.
    reduction: factor by which a channel attention reduces the channels.
    conv: makes a convolution.
  """

  blocks: int
  reduction: int
  conv: ModuleDef = nn.Conv

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features to features."""
    f, y = x.shape[-1], x
    for i in range(self.blocks):
      y = ChannelAttentionBlock(f, relu, self.reduction, self.conv, name=f'rcab_{i}')(y)
    return x + self.conv(f, (3, 3), padding=1, name='conv')(y)


class RCAN(RestorationModel):
  """Residual channel attention network: enlarges 4x, 15,592,355 parameters by default; no `lr`.

  The network computes with pixels in [0, 255]. Channels are weighed by their means over the image,
  which tiles would change. Weights and biases start uniform, by PyTorch's default.

  The authors' code intends to fix the mean shift, but trains it. `trained_mean_shift` is for their
  weights: 15,592,379 parameters.

  Presets: `small` is for CPUs.

  Attributes:
    features: number of channels.
    groups: number of residual groups.
    blocks: number of channel attention blocks of a group.
    reduction: factor by which a channel attention reduces the channels.
    scale: factor between `lr_blur` and `hr`: 2, 3 or 4.
    trained_mean_shift: True for parameters instead of the mean: a matrix between the colours and a
      bias, before and after the network.
    global_skip: 'none' is the paper's. 'input' adds the input, enlarged bicubically, in place of
      the mean, which improves short trainings.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 64
  groups: int = 10
  blocks: int = 20
  reduction: int = 16
  scale: int = 4
  trained_mean_shift: bool = False
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  local = False
  presets = {  # noqa: RUF012
    'small': dict(features=16, groups=3, blocks=4, reduction=4),
  }

  def __post_init__(self) -> None:
    for field in ('features', 'groups', 'blocks', 'reduction'):
      check_positive(field, getattr(self, field))
    if self.features < self.reduction:
      raise ValueError(
        f'features must be at least reduction, {self.reduction}, not {self.features}'
      )
    check_choice('scale', self.scale, SCALES)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Enlarge `lr_blur`, in [0, 1], to `hr`, `[b, scale * h, scale * w, 3]`."""
    conv, _ = torch_convolutions(self)
    conv3x3 = functools.partial(conv, kernel_size=(3, 3), padding=1)

    trained = self.trained_mean_shift
    x = _mean_shift('sub_mean')(PIXEL_RANGE * lr_blur) if trained else subtract_mean(lr_blur)
    first = conv3x3(self.features, name='conv_first')(x)  # [B, h, w, F]
    y = first + self.body(first, conv, conv3x3)
    y = Upsampler(self.scale, conv, name='upsample')(y)  # [B, scale * h, scale * w, F]
    y = conv3x3(3, name='conv_last')(y).astype(jnp.float32)
    if self.global_skip == 'input':
      y = y + Enlarge(self.scale)(x)
    hr = _mean_shift('add_mean')(y) / PIXEL_RANGE if trained else add_mean(y)
    return RestorationOutput(hr=hr)

  def body(
    self, y: Float[jax.Array, 'b h w f'], conv: ModuleDef, conv3x3: ModuleDef
  ) -> Float[jax.Array, 'b h w f']:
    """Map features to those that are added to them: the last ones of `layers`."""
    return self.layers(y, conv, conv3x3)[-1]

  def layers(
    self, y: Float[jax.Array, 'b h w f'], conv: ModuleDef, conv3x3: ModuleDef
  ) -> list[Float[jax.Array, 'b h w f']]:
    """Return the features after each group, and after the convolution that follows them."""
    layers = []
    for i in range(self.groups):
      y = ResidualGroup(self.blocks, self.reduction, conv, name=f'group_{i}')(y)
      layers.append(y)
    return [*layers, conv3x3(self.features, name='conv_mid')(y)]


def _mean_shift(name: str) -> nn.Conv:
  """Return the layer of a trained mean shift, initially the constant one of the same name."""
  tensors = mean_shift_tensors()

  def init(tensor: np.ndarray) -> nn.initializers.Initializer:
    return lambda key, shape, dtype: jnp.asarray(tensor, dtype).reshape(shape)

  return nn.Conv(
    3,
    (1, 1),
    kernel_init=init(tensors[f'{name}.weight']),  # an identity, whose transpose is itself
    bias_init=init(tensors[f'{name}.bias']),
    precision=jax.lax.Precision.HIGHEST,  # pixels
    name=name,
  )
