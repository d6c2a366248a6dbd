"""Shoyan et al., "Single Image Joint Motion Deblurring and Super-Resolution": MPRNet with 4x SR.

    lr_blur --> MPRNet --> lr
                | | |
                v v v  features of the three stages
                fusion --> reconstruction --> hr

The three deblurring stages are MPRNet's, and the reconstruction is GFN's. Where the paper and the
authors' released code differ, this follows the code: a convolution precedes the third block of the
fusion, a PReLU follows the fusion, and a sigmoid the reconstruction.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.blocks import (
  INITIALIZATIONS,
  Enlarge,
  check_choice,
  check_positive,
  make_layers,
  pad_to_multiple,
)
from gfn_jax.models.base import RestorationOutput
from gfn_jax.models.gfn import GLOBAL_SKIPS, SCALE, ReconstructionModule
from gfn_jax.models.mprnet import AttentionLayers, MPRNet

FINAL_ACTIVATIONS = ('sigmoid', 'none')


class FusionModule(nn.Module):
  """Fusion of the features of the three stages.

  Attributes:
    stage_features: channels of the first two stages; the third stage is reduced to as many.
    features: channels of the result.
    layers: makes the layers.
  """

  stage_features: int
  features: int
  layers: AttentionLayers

  @nn.compact
  def __call__(
    self, stages: Sequence[Float[jax.Array, 'b h w _']]
  ) -> Float[jax.Array, 'b h w {self.features}']:
    """Map the features of three stages to fused features."""
    conv, block = self.layers.conv, self.layers.block
    first, second, third = stages
    third = conv(self.stage_features, (3, 3), padding=1, name='stage3_conv')(third)
    y = jnp.concatenate(
      [
        block(self.stage_features, name=f'stage{i}_block')(stage)
        for i, stage in enumerate((first, second, third), start=1)
      ],
      axis=-1,
    )  # [B, h, w, 3 * stage_features]
    return self.layers.act(conv(self.features, (3, 3), padding=1, name='conv')(y))


class MotionDeblurSR(MPRNet):
  """MPRNet with 4x super-resolution from its features, 21,839,972 parameters by default.

  `lr` is the image of MPRNet's third stage, `lr_stages` are those of the first two. Like MPRNet it
  restores an image whole. The modules `fusion` and `reconstruction` are new; trained weights of
  MPRNet fit all others.

  Attributes:
    features: as for MPRNet, like all fields that are not listed here.
    sr_features: channels of the reconstruction.
    reconstruction_blocks: number of residual blocks of the reconstruction.
    final_activation: 'sigmoid', which the paper does not mention but the authors' weights need, or
      'none'.
    initialization: initialisation of the reconstruction, as for GFN. With 'authors', many pixels
      start where the sigmoid is flat. All other weights are initialised as in MPRNet.
    global_skip: as for GFN, but only without a sigmoid. 'input' and 'deblurred' differ in `hr`
      only, as MPRNet always adds its input to `lr`.
  """

  sr_features: int = 64
  reconstruction_blocks: int = 8
  final_activation: str = 'sigmoid'
  initialization: str = 'scaled'
  global_skip: str = 'none'

  scale = SCALE

  def __post_init__(self) -> None:
    check_positive('sr_features', self.sr_features)
    check_choice('final_activation', self.final_activation, FINAL_ACTIVATIONS)
    check_choice('initialization', self.initialization, INITIALIZATIONS)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    if self.global_skip != 'none' and self.final_activation != 'none':
      raise ValueError(f"global_skip {self.global_skip!r} needs final_activation 'none'")
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Restore `lr_blur`, in [0, 1], to `hr`, `[b, 4h, 4w, 3]`, `lr` and `lr_stages`."""
    _, h, w, _ = lr_blur.shape
    layers, f = self.make_layers(), self.sr_features
    x = pad_to_multiple(lr_blur, self.stride)
    images, stages = self.deblur(x, layers)  # [B, h, w, 3] and [B, h, w, .] for each stage
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
