"""SRFBN, the Super-Resolution Feedback Network (Li et al., CVPR 2019).

    lr_blur --+--> 2 convs --> feedback block --+--> deconv --> conv --(+)--> hr
              |                 ^               |                       |
              |                 +--- hidden <---+                       |
              +----------------------- bilinear ------------------------+

    feedback block:

        input, hidden --> conv --> LR --> deconv --> HR --> conv --> LR ... LR --> conv --> hidden

The block runs four times with the same weights. Each time makes an image, and the loss compares all
of them with the same target. In the block, LR features are made from all HR features before them,
and HR features from all LR features before them.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.blocks import (
  Enlarge,
  ModuleDef,
  check_choice,
  check_positive,
  torch_convolutions,
)
from gfn_jax.layers.super_resolution import add_mean, subtract_mean
from gfn_jax.models.base import RestorationModel, RestorationOutput
from gfn_jax.ops.sizes import SCALES


class Activated(nn.Module):
  """A layer and a PReLU with one parameter.

  Attributes:
    layer: makes the layer.
  """

  layer: ModuleDef

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w c']) -> Float[jax.Array, 'b _ _ _']:
    """Map features to features."""
    return nn.PReLU(negative_slope_init=0.2, name='prelu')(self.layer(name='conv')(x))


class FeedbackLayers(NamedTuple):
  """Layers of the network, all with a PReLU except the last.

  Attributes:
    first_conv: makes the first convolution, with four times the channels.
    fuse: makes a convolution of 1x1.
    up: makes a transposed convolution that enlarges.
    down: makes a strided convolution that undoes this enlargement.
    image_conv: makes the convolution whose output is an image.
  """

  first_conv: ModuleDef
  fuse: ModuleDef
  up: ModuleDef
  down: ModuleDef
  image_conv: ModuleDef


class FeedbackBlock(nn.Module):
  """Feedback block: projections to the larger size and back, densely connected.

  Attributes:
    groups: number of projections in each direction.
    layers: makes the layers.
  """

  groups: int
  layers: FeedbackLayers

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, 'b h w f'], hidden: Float[jax.Array, 'b h w f']
  ) -> Float[jax.Array, 'b h w f']:
    """Map features, and the hidden features of the step before, to hidden features."""
    fuse, up, down = self.layers.fuse, self.layers.up, self.layers.down

    def fuse_all(features: Sequence[jax.Array], name: str) -> jax.Array:
      if len(features) == 1:
        return features[0]
      return fuse(name=f'{name}{len(features) - 2}')(jnp.concatenate(features, axis=-1))

    lr = [fuse(name='fuse_in')(jnp.concatenate([x, hidden], axis=-1))]  # each [B, h, w, F]
    hr: list[jax.Array] = []  # each [B, scale * h, scale * w, F]
    for i in range(self.groups):
      hr.append(up(name=f'up{i}')(fuse_all(lr, 'fuse_lr')))
      lr.append(down(name=f'down{i}')(fuse_all(hr, 'fuse_hr')))
    return fuse(name='fuse_out')(jnp.concatenate(lr[1:], axis=-1))


class Reconstruction(nn.Module):
  """Enlargement of hidden features to an image.

  Attributes:
    layers: makes the layers.
  """

  layers: FeedbackLayers

  @nn.compact
  def __call__(self, hidden: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b height width 3']:
    """Map features to an image."""
    y = self.layers.up(name='up')(hidden)  # [B, scale * h, scale * w, F]
    return self.layers.image_conv(name='conv_last')(y)


class SRFBN(RestorationModel):
  """Super-Resolution Feedback Network; for 4x 3,631,454 parameters by default.

  It has 2,832,734 parameters for 3x, 2,140,510 for 2x, and no `lr`. `hr_stages` are the images of
  the steps before the last one. The paper's loss is the sum of the mean absolute errors of all
  images, a term 'l1' on 'hr'.

  Weights and biases start uniform, by PyTorch's default, and the slopes of the PReLUs at 0.2. The
  images start near the input, enlarged bilinearly.

  Presets: `srfbn_s` is the paper's SRFBN-S, 483,122 parameters. `small` is for CPUs, 122,018.

  Attributes:
    scale: factor between `lr_blur` and `hr`: 2, 3 or 4.
    features: number of channels.
    groups: number of projections in each direction in the feedback block.
    steps: number of times that the feedback block runs.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  scale: int = 4
  features: int = 64
  groups: int = 6
  steps: int = 4
  dtype: Any = jnp.float32
  precision: Any = None

  presets = {  # noqa: RUF012
    'srfbn_s': dict(features=32, groups=3),
    'small': dict(features=16, groups=3),
  }

  def __post_init__(self) -> None:
    check_choice('scale', self.scale, SCALES)
    for field in ('features', 'groups', 'steps'):
      check_positive(field, getattr(self, field))
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Enlarge `lr_blur`, in [0, 1], to `hr`, `[b, scale * h, scale * w, 3]`, and `hr_stages`."""
    layers = self._make_layers()
    block = FeedbackBlock(self.groups, layers, name='block')
    reconstruction = Reconstruction(layers, name='reconstruction')

    x = subtract_mean(lr_blur)
    enlarged = Enlarge(self.scale, 'linear')(x)  # [B, scale * h, scale * w, 3]
    y = layers.first_conv(name='conv_first')(x)  # [B, h, w, 4F]
    y = hidden = layers.fuse(name='conv_reduce')(y)  # [B, h, w, F]
    images = []
    for _ in range(self.steps):
      hidden = block(y, hidden)
      images.append(add_mean(enlarged + reconstruction(hidden)))
    *hr_stages, hr = images
    return RestorationOutput(hr=hr, hr_stages=tuple(hr_stages))

  def _make_layers(self) -> FeedbackLayers:
    f, (conv, deconv) = self.features, torch_convolutions(self)
    strides = (self.scale, self.scale)
    kernel_size = (self.scale + 4, self.scale + 4)  # 6x6, 7x7 or 8x8

    def activated(layer: ModuleDef, *fields: Any, **options: Any) -> ModuleDef:
      return functools.partial(Activated, functools.partial(layer, *fields, **options))

    return FeedbackLayers(
      first_conv=activated(conv, 4 * f, (3, 3), padding=1),
      fuse=activated(conv, f, (1, 1)),
      up=activated(deconv, f, kernel_size, strides),
      down=activated(conv, f, kernel_size, strides=strides, padding=2),
      image_conv=functools.partial(conv, 3, (3, 3), padding=1),
    )
