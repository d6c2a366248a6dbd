"""DMPHN, the Deep Multi-Patch Hierarchical Network (Zhang et al., CVPR 2019).

    8 patches ----------> encoder 4 ----------> join --> f4 --> decoder 4 --> r4
    4 patches --> + r4 -> encoder 3 --> + f4 -> join --> f3 --> decoder 3 --> r3
    2 patches --> + r3 -> encoder 2 --> + f3 -> join --> f2 --> decoder 2 --> r2
    the whole --> + r2 -> encoder 1 --> + f2 -----------------> decoder 1 --> lr

This is the authors' DMPHN(1-2-4-8). From level 1 to 4, a patch becomes two of half its height or
half its width by turns: 1x1, 2x1, 2x2 and 4x2 patches. Features of two halves are joined again.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.activations import relu
from gfn_jax.layers.blocks import (
  ModuleDef,
  ResBlock,
  check_choice,
  check_positive,
  merge,
  pad_to_multiple,
  scaled_normal,
  split,
)
from gfn_jax.layers.cpu_conv import ConvTranspose, conv_general_dilated
from gfn_jax.models.base import GLOBAL_SKIPS, RestorationModel, RestorationOutput

LEVELS = (1, 2, 3, 4)

_BLOCKS = 2  # residual blocks at each size of an encoder or a decoder

_kernel_init = scaled_normal(0.5, 'fan_out')


class Encoder(nn.Module):
  """Encoder of one level, from patches to features at 1/4 of their size.

  Attributes:
    features: channels at full size, doubled at 1/2 and again at 1/4.
    conv: makes a convolution.
  """

  features: int
  conv: ModuleDef

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w 3']) -> Float[jax.Array, 'b h//4 w//4 4*f']:
    """Map patches, sides multiples of 4, to features."""
    f = self.features
    y = self.conv(f, name='conv1')(x)
    y = _res_blocks(y, self.conv, 'resblock1')  # [B, h, w, F]
    y = self.conv(2 * f, strides=2, name='conv2')(y)
    y = _res_blocks(y, self.conv, 'resblock2')  # [B, h/2, w/2, 2F]
    y = self.conv(4 * f, strides=2, name='conv3')(y)
    return _res_blocks(y, self.conv, 'resblock3')  # [B, h/4, w/4, 4F]


class Decoder(nn.Module):
  """Decoder of one level, from features to patches of four times their size.

  Attributes:
    features: channels at full size, doubled at 1/2 and again at 1/4.
    conv: makes a convolution.
    deconv: makes a transposed convolution that doubles the size.
  """

  features: int
  conv: ModuleDef
  deconv: ModuleDef

  @nn.compact
  def __call__(self, y: Float[jax.Array, 'b h w 4*f']) -> Float[jax.Array, 'b 4*h 4*w 3']:
    """Map features to patches."""
    f = self.features
    y = _res_blocks(y, self.conv, 'resblock3')  # [B, h/4, w/4, 4F]
    y = self.deconv(2 * f, name='deconv2')(y)
    y = _res_blocks(y, self.conv, 'resblock2')  # [B, h/2, w/2, 2F]
    y = self.deconv(f, name='deconv1')(y)
    y = _res_blocks(y, self.conv, 'resblock1')  # [B, h, w, F]
    return self.conv(3, name='conv_last')(y)


def _res_blocks(y: jax.Array, conv: ModuleDef, name: str) -> jax.Array:
  """Apply residual blocks, as submodules of the calling module."""
  for i in range(_BLOCKS):
    y = ResBlock(y.shape[-1], relu, conv, last_init=_kernel_init, name=f'{name}_{i}')(y)
  return y


class DMPHN(RestorationModel):
  """Multi-patch deblurring at the input's size, 7,232,524 parameters by default.

  Its output has no `hr`. Each level adds what the one before has decoded to its patches, and the
  features of the one before to theirs. It restores an image whole, not in tiles: it divides the
  image itself.

  Weights are initialised as the authors', normally, biases at zero. The images start near gray, or
  with `global_skip` near the input.

  Presets: `small` is for CPUs.

  Attributes:
    features: channels at full size, doubled at 1/2 and again at 1/4.
    levels: 4 is the paper's (1-2-4-8), which divides the image into 8 patches at most; 3 is
      (1-2-4), 5,424,393 parameters; 2 is (1-2), and 1 a network that does not divide the image.
    global_skip: 'none' is the paper's. With 'input', the network predicts the difference of `lr`
      from its input, which improves short trainings.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 32
  levels: int = 4
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  pad_mode = 'edge'
  local = False
  scale = 1
  presets = {'small': dict(features=4)}  # noqa: RUF012

  @property
  def stride(self) -> tuple[int, int]:
    """4 times the numbers of rows and of columns of the smallest patches."""
    return 4 * 2 ** (self.levels // 2), 4 * 2 ** ((self.levels - 1) // 2)

  def __post_init__(self) -> None:
    check_positive('features', self.features)
    check_choice('levels', self.levels, LEVELS)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Deblur `lr_blur`, in [0, 1], to `lr`."""
    _, h, w, _ = lr_blur.shape
    conv, deconv = self._make_layers()
    x = pad_to_multiple(lr_blur, self.stride, self.pad_mode) - 0.5
    patches = [x]  # of each level: [B, h, w, 3], [2B, h/2, w, 3], [4B, h/2, w/2, 3], ...
    for level in range(2, self.levels + 1):
      patches.append(split(patches[-1], _axis(level)))
    decoded, features = jnp.zeros(()), jnp.zeros((), self.dtype)
    for level in range(self.levels, 0, -1):
      encoder = Encoder(self.features, conv, name=f'encoder{level}')
      decoder = Decoder(self.features, conv, deconv, name=f'decoder{level}')
      features = encoder(patches[level - 1] + decoded) + features
      if level > 1:
        features = merge(features, _axis(level))  # of the patches of the next level
      decoded = decoder(features).astype(jnp.float32)
    lr = 0.5 + decoded + (x if self.global_skip == 'input' else 0)
    return RestorationOutput(hr=None, lr=lr[:, :h, :w])

  def _make_layers(self) -> tuple[ModuleDef, ModuleDef]:
    """Return makers of convolutions, 3x3, and of transposed ones, 4x4."""
    layer: dict[str, Any] = dict(
      kernel_init=_kernel_init, dtype=jnp.dtype(self.dtype), precision=self.precision
    )
    conv = functools.partial(
      nn.Conv,
      kernel_size=(3, 3),
      padding=1,
      conv_general_dilated=conv_general_dilated,
      **layer,
    )
    return conv, functools.partial(ConvTranspose, kernel_size=(4, 4), strides=(2, 2), **layer)


def _axis(level: int) -> int:
  """Return the axis along which patches of the level before are divided into those of a level."""
  return 1 if level % 2 == 0 else 2
