"""CNLRN, the Cascaded Non-Local Residual Network (Bai et al., CVPRW 2021).

    lr_blur --> DeblurNet --> f_deblur --+--> 6 groups --(+)--+--> 2 groups --(+)--> 2x --> f_up
                                 |       |                |   |                |
                                 v       +----------------+   +----------------+
                      (pre-training: lr)
    f_up --+--> 2 groups --(+)--> 2x --> reconstruction --> hr
           |                |
           +----------------+

    group:     --+--> 2 sub-groups --> conv --(+)-->
                 +----------------------------+
    sub-group: --+--> non-local block --> 4 channel attention blocks --> conv --(+)-->
                 +--------------------------------------------------------------+

Where the paper and the authors' released code differ, this follows the code: scores are divided by
the root of a token's length. A leaky ReLU follows the attention's convolution and both convolutions
of the feed-forward part, the first of which is dilated. A convolution follows each sequence of
groups, and precedes the pixel shuffle of each enlargement. The second network is named NLRN in
both. The first one is SRN-Deblur's encoder-decoder at one scale, twice as wide.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.activations import leaky_relu, relu
from gfn_jax.layers.attention import PatchAttention
from gfn_jax.layers.blocks import (
  SMALL_IMAGES,
  ChannelAttentionBlock,
  Enlarge,
  ModuleDef,
  ResBlock,
  check_choice,
  check_positive,
  pad_to_multiple,
  pixel_shuffle,
  torch_convolutions,
  torch_kernel_init,
)
from gfn_jax.models.base import GLOBAL_SKIPS, RestorationModel, RestorationOutput

SCALE = 4  # two pixel shuffles of 2
DEBLUR_STRIDE = 4  # two strided convolutions


class DeblurNet(nn.Module):
  """Deblurring encoder-decoder at the input's size, with kernels of 5x5.

  Attributes:
    features: channels at full size, doubled at 1/2 and again at 1/4.
    blocks: number of residual blocks at 1/4.
    stage_blocks: number of residual blocks in each of the four other stages.
    conv: makes a convolution.
    deconv: makes a transposed convolution that doubles the size.
  """

  features: int
  blocks: int
  stage_blocks: int
  conv: ModuleDef
  deconv: ModuleDef

  def _res_blocks(self, y: jax.Array, count: int, name: str) -> jax.Array:
    block = functools.partial(
      ResBlock, y.shape[-1], relu, self.conv, last_init=torch_kernel_init, kernel_size=5
    )
    for i in range(count):
      y = block(name=f'{name}_{i}')(y)
    return y

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w 3']) -> Float[jax.Array, 'b h w f']:
    """Map an image, sides multiples of 4, to features."""
    f, n = self.features, self.stage_blocks
    conv = functools.partial(self.conv, kernel_size=(5, 5), padding=2)
    # Encoder.
    full = relu(conv(f, name='conv1')(x))
    full = self._res_blocks(full, n, 'encoder1')  # [B, h, w, F]
    half = relu(conv(2 * f, strides=2, name='conv2')(full))
    half = self._res_blocks(half, n, 'encoder2')  # [B, h/2, w/2, 2F]
    y = relu(conv(4 * f, strides=2, name='conv3')(half))
    y = self._res_blocks(y, self.blocks, 'body')  # [B, h/4, w/4, 4F]
    # Decoder.
    y = relu(self.deconv(2 * f, name='deconv1')(y)) + half  # [B, h/2, w/2, 2F]
    y = self._res_blocks(y, n, 'decoder2')
    y = relu(self.deconv(f, name='deconv2')(y)) + full  # [B, h, w, F]
    return self._res_blocks(y, n, 'decoder1')


class NonLocalBlock(nn.Module):
  """Non-local block: attention between all patches of the image, and two convolutions.

  Attributes:
    heads: number of heads of the attention.
    patch_size: side of the attention's patches, in pixels.
    conv: makes a convolution.
    precision: precision of the attention's matrix products.
  """

  heads: int
  patch_size: int
  conv: ModuleDef
  precision: Any = None

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features, sides multiples of `patch_size`, to features."""
    conv = functools.partial(self.conv, x.shape[-1], (3, 3))
    attention = PatchAttention(
      self.heads, self.patch_size, self.conv, self.precision, name='attention'
    )
    x = x + leaky_relu(conv(padding=1, name='conv')(attention(x)))
    y = leaky_relu(conv(kernel_dilation=2, padding=2, name='feed_forward1')(x))
    return x + leaky_relu(conv(padding=1, name='feed_forward2')(y))


class Subgroup(nn.Module):
  """Sub-group: a non-local block, channel attention blocks, a convolution, plus the input.

  Attributes:
    rcabs: number of channel attention blocks.
    reduction: factor by which a channel attention reduces the channels.
    conv: makes a convolution.
    nonlocal_block: makes a non-local block; None to have none.
  """

  rcabs: int
  reduction: int
  conv: ModuleDef
  nonlocal_block: ModuleDef | None

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features to features."""
    f = x.shape[-1]
    y = self.nonlocal_block(name='nonlocal')(x) if self.nonlocal_block else x
    for i in range(self.rcabs):
      y = ChannelAttentionBlock(f, relu, self.reduction, self.conv, name=f'rcab_{i}')(y)
    return x + self.conv(f, (3, 3), padding=1, name='conv')(y)


class Group(nn.Module):
  """Non-local residual group: sub-groups, a convolution, plus the input.

  Attributes:
    subgroups: number of sub-groups.
    subgroup: makes a sub-group.
    conv: makes a convolution.
  """

  subgroups: int
  subgroup: ModuleDef
  conv: ModuleDef

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features to features."""
    y = x
    for i in range(self.subgroups):
      y = self.subgroup(name=f'subgroup_{i}')(y)
    return x + self.conv(x.shape[-1], (3, 3), padding=1, name='conv')(y)


class NLRN(nn.Module):
  """Non-local residual network, from features to an image of four times the size.

  Attributes:
    groups: number of groups in the body.
    upsample_groups: number of groups that precede each of the two enlargements.
    progressive: True for groups between the two enlargements; False for both enlargements after
      all groups.
    group: makes a group.
    conv: makes a convolution.
    last_conv: makes the last convolution.
  """

  groups: int
  upsample_groups: int
  progressive: bool
  group: ModuleDef
  conv: ModuleDef
  last_conv: ModuleDef

  @nn.compact
  def __call__(self, y: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b 4*h 4*w 3']:
    """Map features to an image."""
    f = y.shape[-1]
    conv = functools.partial(self.conv, kernel_size=(3, 3), padding=1)

    def refine(y: jax.Array, groups: int, name: str) -> jax.Array:
      z = y
      for i in range(groups):
        z = self.group(name=f'{name}_{i}')(z)
      return y + conv(f, name=f'{name}_conv')(z)

    def upsample(y: jax.Array, i: int) -> jax.Array:
      return pixel_shuffle(conv(4 * f, name=f'upconv{i}')(y), 2)

    y = refine(y, self.groups, 'body')
    y = refine(y, self.upsample_groups, 'refine1')
    if self.progressive:
      y = upsample(y, 1)  # [B, 2h, 2w, F]
    y = refine(y, self.upsample_groups, 'refine2')
    if not self.progressive:
      y = upsample(y, 1)  # [B, 2h, 2w, F]
    y = upsample(y, 2)  # [B, 4h, 4w, F]
    y = conv(f, name='conv_hr')(y)
    return self.last_conv(3, (3, 3), padding=1, name='conv_last')(y)


class CNLRNDeblur(RestorationModel):
  """CNLRN's deblurring network alone, for pre-training; 73,095,427 parameters by default.

  Its output has no `hr`. The parameters of its module `deblur` fit CNLRN's.

  Attributes:
    features: channels at full size, doubled at 1/2 and again at 1/4.
    blocks: number of residual blocks at 1/4.
    stage_blocks: number of residual blocks in each of the four other stages.
    global_skip: 'none' is the paper's. 'input' adds the input to `lr`, which improves short
      trainings.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 64
  blocks: int = 20
  stage_blocks: int = 3
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  stride = (DEBLUR_STRIDE, DEBLUR_STRIDE)
  scale = 1

  def __post_init__(self) -> None:
    for field in ('features', 'blocks', 'stage_blocks'):
      check_positive(field, getattr(self, field))
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Deblur `lr_blur`, in [0, 1], to `lr`."""
    _, h, w, _ = lr_blur.shape
    conv, deconv = torch_convolutions(self)
    x = pad_to_multiple(lr_blur, self.stride)
    f_deblur = DeblurNet(
      self.features, self.blocks, self.stage_blocks, conv, deconv, name='deblur'
    )(x)
    lr = _deblurred(f_deblur, x, conv, self.global_skip)
    return RestorationOutput(hr=None, lr=lr[:, :h, :w])


class CNLRN(RestorationModel):
  """Cascaded Non-Local Residual Network: deblurs and enlarges 4x, 83,063,491 parameters by default.

  The deblurring network passes features to NLRN, not an image. The paper pre-trains it with a loss
  of `lr` alone: set `deblur_head` for this, and drop it afterwards. The network restores an image
  whole, as patches attend to all others and channels are weighed by means over the image.

  Weights and biases are initialised as the authors', uniformly by PyTorch's default. The images
  start near zero, or with `global_skip`, which makes them smaller, near the input.

  Presets: `small` is for CPUs.

  Attributes:
    features: channels of the second network, NLRN.
    deblur_features: channels of the deblurring network at full size, doubled at 1/2 and again at
      1/4. If they differ from `features`, a convolution, `conv_first`, joins the networks.
    deblur_blocks: number of residual blocks of the deblurring network at 1/4.
    deblur_stage_blocks: number of residual blocks in each of its four other stages.
    groups: number of groups in the body of NLRN.
    upsample_groups: number of groups that precede each of the two enlargements.
    subgroups: number of sub-groups of a group.
    rcabs: number of channel attention blocks of a sub-group.
    heads: number of heads of the attention.
    patch_size: side of the attention's patches, in pixels.
    reduction: factor by which a channel attention reduces the channels.
    deblur: False to replace the deblurring network by `conv_first`.
    deblur_head: True for an output `lr`, by one more convolution of 4,803 parameters.
    use_nonlocal: False to omit the non-local blocks.
    progressive: False for both enlargements at the end, with all groups at the input's size.
    global_skip: 'none' is the paper's. 'input' adds the input to `lr`, and the input enlarged
      bicubically to `hr`, which improves short trainings.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 64
  deblur_features: int = 64
  deblur_blocks: int = 20
  deblur_stage_blocks: int = 3
  groups: int = 6
  upsample_groups: int = 2
  subgroups: int = 2
  rcabs: int = 4
  heads: int = 4
  patch_size: int = 4
  reduction: int = 16
  deblur: bool = True
  deblur_head: bool = False
  use_nonlocal: bool = True
  progressive: bool = True
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  local = False
  scale = SCALE
  presets = {  # noqa: RUF012
    'small': dict(
      features=16,
      deblur_features=12,
      deblur_blocks=1,
      deblur_stage_blocks=1,
      groups=3,
      upsample_groups=1,
      subgroups=1,
      rcabs=2,
      reduction=4,
    ),
  }

  @property
  def stride(self) -> tuple[int, int]:
    """Least common multiple of the deblurring network's stride and the patch size."""
    stride = math.lcm(DEBLUR_STRIDE, self.patch_size)
    return stride, stride

  def __post_init__(self) -> None:
    for field in (
      'features',
      'deblur_features',
      'deblur_blocks',
      'deblur_stage_blocks',
      'groups',
      'upsample_groups',
      'subgroups',
      'rcabs',
      'heads',
      'patch_size',
      'reduction',
    ):
      check_positive(field, getattr(self, field))
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    if self.features < self.reduction:
      raise ValueError(
        f'features must be at least reduction, {self.reduction}, not {self.features}'
      )
    if self.features % self.heads:
      raise ValueError(f'features must be a multiple of heads, {self.heads}, not {self.features}')
    if self.deblur_head and not self.deblur:
      raise ValueError('deblur_head needs deblur')
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Restore `lr_blur`, in [0, 1], to `hr`, `[b, 4h, 4w, 3]`, and maybe `lr`."""
    _, h, w, _ = lr_blur.shape
    conv, deconv = torch_convolutions(self)
    x = pad_to_multiple(lr_blur, self.stride)
    y, lr = x, None
    if self.deblur:
      y = DeblurNet(
        self.deblur_features,
        self.deblur_blocks,
        self.deblur_stage_blocks,
        conv,
        deconv,
        name='deblur',
      )(x)  # [B, h, w, F_deblur]
    if self.deblur_head:
      lr = _deblurred(y, x, conv, self.global_skip)[:, :h, :w]
    if y.shape[-1] != self.features:
      y = conv(self.features, (3, 3), padding=1, name='conv_first')(y)
    hr = self._make_nlrn(conv)(y).astype(jnp.float32)  # [B, 4h, 4w, 3]
    if self.global_skip == 'input':
      hr = hr + Enlarge(SCALE)(x)
    return RestorationOutput(hr=hr[:, : SCALE * h, : SCALE * w], lr=lr)

  def _make_nlrn(self, conv: ModuleDef) -> NLRN:
    nonlocal_block = functools.partial(
      NonLocalBlock, self.heads, self.patch_size, conv, self.precision
    )
    subgroup = functools.partial(
      Subgroup, self.rcabs, self.reduction, conv, nonlocal_block if self.use_nonlocal else None
    )
    group = functools.partial(Group, self.subgroups, subgroup, conv)
    last_conv = _image_conv(conv, self.global_skip)
    return NLRN(
      self.groups, self.upsample_groups, self.progressive, group, conv, last_conv, name='nlrn'
    )


def _deblurred(f_deblur: jax.Array, x: jax.Array, conv: ModuleDef, global_skip: str) -> jax.Array:
  """Return the image `[B, h, w, 3]` that the deblurring network's features give."""
  head = _image_conv(conv, global_skip)
  lr = head(3, (5, 5), padding=2, name='deblur_head')(f_deblur).astype(jnp.float32)
  return lr + x if global_skip == 'input' else lr


def _image_conv(conv: ModuleDef, global_skip: str) -> ModuleDef:
  """Return a maker of the convolution that makes an image, small where it is added to the input."""
  return functools.partial(conv, **SMALL_IMAGES) if global_skip == 'input' else conv
