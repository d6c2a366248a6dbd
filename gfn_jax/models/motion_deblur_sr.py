"""Shoyan et al., "Single Image Joint Motion Deblurring and Super-Resolution": MPRNet, and 4x.

    lr_blur --> MPRNet --> lr
                | | |
                v v v  features of the three stages
                fusion --> reconstruction --> hr

The three deblurring stages are MPRNet's, and the reconstruction is GFN's. Where the paper and the
authors' released code differ, this is the code: a convolution before the third block of the fusion,
a PReLU behind it, and a sigmoid at the end.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gfn_jax.layers.blocks import (
  INITIALIZATIONS,
  Enlarge,
  RestorationOutput,
  check_choice,
  check_positive,
  make_layers,
  pad_to_multiple,
)
from gfn_jax.models.gfn import GLOBAL_SKIPS, SCALE, ReconstructionModule
from gfn_jax.models.mprnet import STRIDE, AttentionLayers, MPRNet

FINAL_ACTIVATIONS = ('sigmoid', 'none')


class FusionModule(nn.Module):
  """From the features of the three stages to those of the reconstruction.

  Attributes:
    stage_features: channels of the first two stages, to which the third's are reduced.
    features: channels of the result.
    layers: makes the layers.
  """

  stage_features: int
  features: int
  layers: AttentionLayers

  @nn.compact
  def __call__(self, stages: list[jax.Array]) -> jax.Array:
    """Maps three features `[B, h, w, .]` to `[B, h, w, F]`."""
    conv, block = self.layers.conv, self.layers.block
    first, second, third = stages
    third = conv(self.stage_features, (3, 3), padding=1, name='stage3_conv')(third)
    y = jnp.concatenate(
      [
        block(self.stage_features, name=f'stage{i}_block')(stage)
        for i, stage in enumerate((first, second, third), start=1)
      ],
      axis=-1,
    )
    return self.layers.act(conv(self.features, (3, 3), padding=1, name='conv')(y))


class MotionDeblurSR(MPRNet):
  """MPRNet with its features used again for 4x super-resolution, 21,839,972 parameters by default.

  `lr` is the image of MPRNet's third stage, `lr_stages` are those before. As MPRNet it restores an
  image whole. What it adds to MPRNet's parameters are the modules `fusion` and `reconstruction`:
  trained weights of MPRNet fit all others.

  Attributes:
    features: as MPRNet's, like all that are not below.
    sr_features: channels of the reconstruction.
    reconstruction_blocks: residual blocks of the reconstruction.
    final_activation: 'sigmoid', which the paper does not mention and the authors' weights need, or
      'none'.
    initialization: of the reconstruction, as GFN's. With 'authors' many pixels start where the
      sigmoid is flat. The rest is drawn as MPRNet.
    global_skip: as GFN's, without a sigmoid; 'input' and 'deblurred' differ in `hr` only, as MPRNet
      always adds its input to `lr`.
  """

  sr_features: int = 64
  reconstruction_blocks: int = 8
  final_activation: str = 'sigmoid'
  initialization: str = 'scaled'
  global_skip: str = 'none'

  scale = SCALE

  def __post_init__(self):
    check_positive('sr_features', self.sr_features)
    check_choice('final_activation', self.final_activation, FINAL_ACTIVATIONS)
    check_choice('initialization', self.initialization, INITIALIZATIONS)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    if self.global_skip != 'none' and self.final_activation != 'none':
      raise ValueError(f"global_skip {self.global_skip!r} needs final_activation 'none'")
    super().__post_init__()

  @nn.compact
  def __call__(self, lr_blur: jax.Array) -> RestorationOutput:
    """Restores `lr_blur`, `[B, h, w, 3]` in [0, 1], to `hr` `[B, 4h, 4w, 3]`, `lr`, `lr_stages`."""
    _, h, w, _ = lr_blur.shape
    layers, f = self.make_layers(), self.sr_features
    x = pad_to_multiple(lr_blur, STRIDE)
    images, stages = self.deblur(x, layers)
    y = FusionModule(self.features, f, layers, name='fusion')(stages)  # [B, h, w, F]
    reconstruction = ReconstructionModule(
      f, self.reconstruction_blocks, make_layers(self), name='reconstruction'
    )
    hr = reconstruction(y).astype(jnp.float32)  # [B, 4h, 4w, 3]
    if self.final_activation == 'sigmoid':
      hr = nn.sigmoid(hr)
    if self.global_skip != 'none':
      hr = hr + Enlarge(SCALE)(images[-1] if self.global_skip == 'deblurred' else x)
    *lr_stages, lr = (image[:, :h, :w] for image in images)
    return RestorationOutput(hr[:, : SCALE * h, : SCALE * w], lr, tuple(lr_stages))
