"""MPRNet (Zamir et al., CVPR 2021): deblurs in three stages, at the size of its input.

    4 quarters --> encoder --> decoder --> attention --> image of stage 1
                      |           |            |
                      v           v            |
    2 halves -----> encoder --> decoder <------+ --> attention --> image of stage 2
                      |           |                      |
                      v           v                      |
    the whole ----> ORSNet, at full resolution <---------+ ------> image of stage 3: lr

Every stage predicts the difference from its part of the input. This is the authors' deblurring
network: convolutions have no bias, and all blocks share the slope of one PReLU.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.blocks import (
  ChannelAttentionBlock,
  Enlarge,
  ModuleDef,
  check_positive,
  halve,
  merge,
  pad_to_multiple,
  split,
  torch_kernel_init,
)
from gfn_jax.layers.cpu_conv import conv_general_dilated
from gfn_jax.models.base import RestorationModel, RestorationOutput

STRIDE = 8  # half of a side is halved twice

Levels = Sequence[jax.Array]
"""Features at full size, at 1/2 and at 1/4."""


class AttentionLayers(NamedTuple):
  """Layers of the network.

  Attributes:
    conv: makes a convolution without bias.
    act: the PReLU that all blocks share.
    block: makes a channel attention block.
  """

  conv: ModuleDef
  act: Callable[[jax.Array], jax.Array]
  block: ModuleDef


class Encoder(nn.Module):
  """U-Net encoder: features at three sizes, with more channels at smaller sizes.

  Attributes:
    features: channels at full size.
    step: channels that each halving adds.
    blocks: number of channel attention blocks at each size.
    layers: makes the layers.
  """

  features: int
  step: int
  blocks: int
  layers: AttentionLayers

  @nn.compact
  def __call__(
    self, y: Float[jax.Array, 'b h w f'], encoded: Levels = (), decoded: Levels = ()
  ) -> Levels:
    """Map features, with sides that are multiples of 4, to features at three sizes.

    Features of the previous stage, encoded and decoded, are added to those of the same size.
    """
    conv = self.layers.conv
    levels: list[jax.Array] = []
    for i in range(3):
      f = self.features + i * self.step
      if i:
        y = conv(f, (1, 1), name=f'down{i}')(halve(y))  # [B, h/2, w/2, .], then [B, h/4, w/4, .]
      y = _run_blocks(y, self.layers, f, self.blocks, f'level{i + 1}')
      if encoded:
        y = y + conv(f, (1, 1), name=f'fuse_encoded{i + 1}')(encoded[i])
        y = y + conv(f, (1, 1), name=f'fuse_decoded{i + 1}')(decoded[i])
      levels.append(y)
    return levels


class Decoder(nn.Module):
  """U-Net decoder: back to the full size, with a channel attention block in each skip.

  Attributes:
    features: channels at full size.
    step: channels that each halving adds.
    blocks: number of channel attention blocks at each size.
    layers: makes the layers.
  """

  features: int
  step: int
  blocks: int
  layers: AttentionLayers

  @nn.compact
  def __call__(self, encoded: Levels) -> Levels:
    """Map the encoder's features to features of the same shapes."""
    levels: list[jax.Array] = []
    y = None
    for i in (2, 1, 0):
      f = self.features + i * self.step
      if y is None:
        y = encoded[i]
      else:
        skip = self.layers.block(f, name=f'skip{i + 1}')(encoded[i])
        y = enlarge(self.layers.conv(f, (1, 1), name=f'up{i + 1}')(y)) + skip
      y = _run_blocks(y, self.layers, f, self.blocks, f'level{i + 1}')
      levels.insert(0, y)
    return levels


class SupervisedAttention(nn.Module):
  """Supervised attention module: a stage's image, and features weighed by it for the next stage.

  Attributes:
    features: number of channels.
    conv: makes a convolution.
  """

  features: int
  conv: ModuleDef

  @nn.compact
  def __call__(
    self, y: Float[jax.Array, 'b h w f'], x: Float[jax.Array, 'b h w 3']
  ) -> tuple[Float[jax.Array, 'b h w f'], Float[jax.Array, 'b h w 3']]:
    """Map features and the input to features and the image."""
    image = self.conv(3, (1, 1), name='conv2')(y).astype(jnp.float32) + x
    attention = nn.sigmoid(self.conv(self.features, (1, 1), name='conv3')(image))
    return self.conv(self.features, (1, 1), name='conv1')(y) * attention + y, image


class ORSNet(nn.Module):
  """Original resolution subnetwork: never downsampled, with one U-Net level added per group.

  Attributes:
    features: number of channels.
    step: channels that each halving adds in the U-Nets.
    level_features: channels of the U-Nets at full size.
    blocks: number of channel attention blocks in each of the three groups.
    layers: makes the layers.
  """

  features: int
  step: int
  level_features: int
  blocks: int
  layers: AttentionLayers

  def _at_full_size(self, y: jax.Array, level: int, name: str) -> jax.Array:
    """Return features of a U-Net level as `[B, h, w, F]`."""
    for i in range(level, 0, -1):
      up = self.layers.conv(self.level_features + (i - 1) * self.step, (1, 1), name=f'{name}_up{i}')
      y = enlarge(up(y))
    return self.layers.conv(self.features, (1, 1), name=name)(y)

  @nn.compact
  def __call__(
    self, y: Float[jax.Array, 'b h w f'], encoded: Levels, decoded: Levels
  ) -> Float[jax.Array, 'b h w f']:
    """Map features, and those of the previous stage's U-Net, to features."""
    f = self.features
    for i in range(3):
      name = f'group{i + 1}'
      z = _run_blocks(y, self.layers, f, self.blocks, name)
      y = self.layers.conv(f, (3, 3), padding=1, name=f'{name}_conv')(z) + y
      y = y + self._at_full_size(encoded[i], i, f'encoded{i + 1}')
      y = y + self._at_full_size(decoded[i], i, f'decoded{i + 1}')
    return y


class MPRNet(RestorationModel):
  """Multi-stage deblurring at the input's size, 20,127,073 parameters by default.

  Its output has no `hr`. `lr` is the image of the third stage, `lr_stages` are those of the first
  two. It restores an image whole, not in tiles: it divides the image itself, and its blocks weigh
  channels by means over a quarter, a half or all of the image.

  Weights are initialised as the authors', uniformly by PyTorch's default. The images start near the
  input.

  Attributes:
    features: channels at full size.
    unet_step: channels that each halving adds, in the first two stages.
    orsnet_step: channels that the third stage has in addition to `features`.
    unet_blocks: number of channel attention blocks at each size of the encoders and decoders.
    orsnet_blocks: number of channel attention blocks in each of the third stage's three groups.
    reduction: factor by which a channel attention reduces the channels.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 96
  unet_step: int = 48
  orsnet_step: int = 32
  unet_blocks: int = 2
  orsnet_blocks: int = 8
  reduction: int = 4
  dtype: Any = jnp.float32
  precision: Any = None

  stride = (STRIDE, STRIDE)
  local = False
  scale = 1

  def __post_init__(self) -> None:
    check_positive('reduction', self.reduction)
    check_positive('orsnet_blocks', self.orsnet_blocks)
    if self.features < self.reduction:
      raise ValueError(
        f'features must be at least reduction, {self.reduction}, not {self.features}'
      )
    for field in ('unet_step', 'orsnet_step'):
      if getattr(self, field) < 0:
        raise ValueError(f'{field} must be at least 0, not {getattr(self, field)}')
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Deblur `lr_blur`, in [0, 1], to `lr` and `lr_stages`."""
    _, h, w, _ = lr_blur.shape
    images, _ = self.deblur(pad_to_multiple(lr_blur, self.stride), self.make_layers())
    *lr_stages, lr = (image[:, :h, :w] for image in images)
    return RestorationOutput(hr=None, lr=lr, lr_stages=tuple(lr_stages))

  def make_layers(self) -> AttentionLayers:
    """Return the layers, with the network's dtype. Call it once: the layers share a parameter."""
    conv = functools.partial(
      nn.Conv,
      use_bias=False,
      kernel_init=torch_kernel_init,
      conv_general_dilated=conv_general_dilated,
      dtype=jnp.dtype(self.dtype),
      precision=self.precision,
    )
    act = nn.PReLU(negative_slope_init=0.25, name='prelu')
    block = functools.partial(ChannelAttentionBlock, act=act, reduction=self.reduction, conv=conv)
    return AttentionLayers(conv, act, block)

  def deblur(
    self, x: Float[jax.Array, 'b h w 3'], layers: AttentionLayers
  ) -> tuple[list[Float[jax.Array, 'b h w 3']], list[Float[jax.Array, 'b h w _']]]:
    """Map an image, sides multiples of 8, to the image and last features of each stage.

    All have the input's size. The features of the last stage have `orsnet_step` more channels.
    """
    f, conv = self.features, layers.conv
    unet: dict[str, Any] = dict(
      features=f, step=self.unet_step, blocks=self.unet_blocks, layers=layers
    )

    def shallow(x: jax.Array, stage: int) -> jax.Array:
      y = conv(f, (3, 3), padding=1, name=f'shallow{stage}_conv')(x)
      return layers.block(f, name=f'shallow{stage}_block')(y)

    halves = split(x, axis=1)  # [2B, h/2, w, 3]
    quarters = split(halves, axis=2)  # [4B, h/2, w/2, 3]

    encoded = Encoder(**unet, name='encoder1')(shallow(quarters, 1))
    encoded = [merge(y, axis=2) for y in encoded]  # [2B, ...], of the halves
    decoded = Decoder(**unet, name='decoder1')(encoded)
    features1 = decoded[0]  # [2B, h/2, w, F]
    attended, image1 = SupervisedAttention(f, conv, name='sam12')(features1, halves)

    y = jnp.concatenate([shallow(halves, 2), attended], axis=-1)  # [2B, h/2, w, 2F]
    y = conv(f, (3, 3), padding=1, name='concat12')(y)
    encoded = Encoder(**unet, name='encoder2')(y, encoded, decoded)
    encoded = [merge(y, axis=1) for y in encoded]  # [B, ...], of the whole
    decoded = Decoder(**unet, name='decoder2')(encoded)
    features2 = decoded[0]  # [B, h, w, F]
    attended, image2 = SupervisedAttention(f, conv, name='sam23')(features2, x)

    y = jnp.concatenate([shallow(x, 3), attended], axis=-1)  # [B, h, w, 2F]
    f3 = f + self.orsnet_step
    y = conv(f3, (3, 3), padding=1, name='concat23')(y)
    orsnet = ORSNet(f3, self.unet_step, f, self.orsnet_blocks, layers, name='orsnet')
    features3 = orsnet(y, encoded, decoded)  # [B, h, w, F3]
    image3 = conv(3, (3, 3), padding=1, name='tail')(features3).astype(jnp.float32) + x

    images = [merge(image1, axis=1), image2, image3]
    return images, [merge(features1, axis=1), features2, features3]


def enlarge(x: Float[jax.Array, 'b h w c']) -> Float[jax.Array, 'b 2*h 2*w c']:
  """Enlarge by 2, bilinearly.

  A 1x1 convolution without bias gives the same result before and after it. The authors apply it
  after, where it takes four times as long.
  """
  return Enlarge(2, 'linear')(x)


def _run_blocks(
  y: jax.Array, layers: AttentionLayers, features: int, count: int, name: str
) -> jax.Array:
  """Apply a sequence of channel attention blocks, as submodules of the calling module."""
  for i in range(count):
    y = layers.block(features, name=f'{name}_{i}')(y)
  return y
