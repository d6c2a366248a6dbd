"""HAN (Niu et al., ECCV 2020): RCAN with attention to its layers, channels and positions.

lr_blur --> - mean --> conv --+--> residual groups --> conv --> channel-spatial attention --+
|      |   |   |          |                                   |
|      +---+---+----------+--> layer attention --> conv ------+
|                                                             |
+---------------------(+)<--------------------------- conv <--+
|
hr <-- + mean <-- conv <-- pixel shuffles
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gfn_jax.layers.blocks import (
  Enlarge,
  check_choice,
  check_positive,
  torch_convolutions,
  torch_uniform_init,
)
from gfn_jax.layers.super_resolution import UPSCALE_FACTORS, Upsampler, add_mean, subtract_mean
from gfn_jax.models.base import RestorationModel, RestorationOutput
from gfn_jax.models.rcan import ResidualGroup

GLOBAL_SKIPS = ('none', 'input')


class LayerAttention(nn.Module):
  """Layer attention module (the paper's Section 3.2), in float32.

  Adds to the features of each layer a mixture of the features of all layers. As in the authors'
  code, layers that correlate least get the largest weights.
  """

  @nn.compact
  def __call__(self, layers: Float[jax.Array, 'b h w n f']) -> Float[jax.Array, 'b h w n f']:
    """Map features of n layers to features of n layers."""
    gamma = self.param('gamma', nn.initializers.zeros, ())
    highest = jax.lax.Precision.HIGHEST  # the scores are sums over the image, and differ little
    x = layers.astype(jnp.float32)
    scores = jnp.einsum('bhwnf,bhwmf->bnm', x, x, precision=highest)
    weights = nn.softmax(-scores)
    mixture = jnp.einsum('bnm,bhwmf->bhwnf', weights, x, precision=highest)
    return (x + gamma * mixture).astype(layers.dtype)


class VolumeConv(nn.Module):
  """Convolution of 3x3x3 over height, width and channels, in float32.

  Parameters are those of `nn.Conv` with one feature for `[b, h, w, c, 1]`. For XLA's CPU backend,
  that convolution is hundreds of times slower than this sum of shifted arrays.
  """

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w c']) -> Float[jax.Array, 'b h w c']:
    """Map features to features."""
    init = torch_uniform_init(3**3)
    kernel = self.param('kernel', init, (3, 3, 3, 1, 1))
    bias = self.param('bias', init, (1,))
    _, h, w, c = x.shape
    padded = jnp.pad(x.astype(jnp.float32), ((0, 0), (1, 1), (1, 1), (1, 1)))
    y = jnp.broadcast_to(bias[0], x.shape)
    for i, j, k in np.ndindex(3, 3, 3):
      y = y + kernel[i, j, k, 0, 0] * padded[:, i : i + h, j : j + w, k : k + c]
    return y


class ChannelSpatialAttention(nn.Module):
  """Channel-spatial attention module (the paper's Section 3.3), in float32.

  Weighs each value by a score that depends on its neighbours in both directions and in the
  channels.
  """

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features to features."""
    gamma = self.param('gamma', nn.initializers.zeros, ())
    scores = nn.sigmoid(VolumeConv(name='conv')(x))
    return ((1 + gamma * scores) * x.astype(jnp.float32)).astype(x.dtype)


class HAN(RestorationModel):
  """Holistic attention network: enlarges 4x, 16,071,745 parameters by default; it has no `lr`.

  The network computes with pixels in [0, 255]. It restores an image whole: both channels and layers
  are weighed by sums over the image. Weights and biases start uniform, by PyTorch's default. The
  factors of the two attention modules start at 0, as the authors'.

  Presets: `small` is for CPUs.

  Attributes:
    features: number of channels.
    groups: number of residual groups.
    blocks: number of channel attention blocks of a group.
    reduction: factor by which a channel attention reduces the channels.
    scale: factor between `lr_blur` and `hr`: 2, 3 or 4.
    global_skip: 'none' is the paper's. 'input' adds the input, enlarged bicubically, in place of
      the mean, which improves short trainings.
    dtype: type of the computation, such as 'bfloat16', but for the two attention modules.
      Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 64
  groups: int = 10
  blocks: int = 20
  reduction: int = 16
  scale: int = 4
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
    check_choice('scale', self.scale, UPSCALE_FACTORS)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Enlarge `lr_blur`, in [0, 1], to `hr`, `[b, scale * h, scale * w, 3]`."""
    b, h, w, _ = lr_blur.shape
    f, (conv, _) = self.features, torch_convolutions(self)
    conv3x3 = functools.partial(conv, kernel_size=(3, 3), padding=1)

    x = subtract_mean(lr_blur)
    first = y = conv3x3(f, name='conv_first')(x)  # [B, h, w, F]
    layers: list[jax.Array] = []
    for i in range(self.groups):
      y = ResidualGroup(self.blocks, self.reduction, conv, name=f'group_{i}')(y)
      layers.append(y)
    y = conv3x3(f, name='conv_mid')(y)
    layers.append(y)
    newest_first = jnp.stack(layers[::-1], axis=3)  # [B, h, w, N, F]
    z = LayerAttention(name='layer_attention')(newest_first).reshape(b, h, w, -1)
    z = conv3x3(f, name='layer_conv')(z)  # [B, h, w, F]
    y = ChannelSpatialAttention(name='channel_spatial_attention')(y)
    y = first + conv3x3(f, name='fuse')(jnp.concatenate([y, z], axis=-1))
    y = Upsampler(self.scale, conv, name='upsample')(y)  # [B, scale * h, scale * w, F]
    y = conv3x3(3, name='conv_last')(y).astype(jnp.float32)
    if self.global_skip == 'input':
      y = y + Enlarge(self.scale)(x)
    return RestorationOutput(hr=add_mean(y))
