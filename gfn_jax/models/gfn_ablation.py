"""Models 1 to 3 of the GFN paper's ablation (Table 2): other ways to join the same modules.

    Model-1: lr_blur --> deblurring module --> lr --> SR modules --> hr
    Model-2: lr_blur --> SR modules --> deblurring module --> hr
    Model-3: lr_blur --+--> SR modules ------------------------------------------(+)--> hr
                       |                                                          ^
                       +--> deblurring module --> lr --> conv --> reconstruction -+

Models 4 and 5 are GFN with `gated=False`, trained without and with the deblurring loss. The details
of Models 1 to 3 were in a supplement that is no longer public; `GFNAblation` states the choices
made here.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.activations import leaky_relu
from gfn_jax.layers.blocks import (
  INITIALIZATIONS,
  Enlarge,
  check_choice,
  check_positive,
  make_layers,
  pad_to_multiple,
)
from gfn_jax.models.base import RestorationModel, RestorationOutput
from gfn_jax.models.gfn import SCALE, STRIDE, DeblurModule, ReconstructionModule, SRFeatureModule

VARIANTS = ('deblur_first', 'sr_first', 'dual_branch')


class GFNAblation(RestorationModel):
  """Modules of GFN in sequence, or in parallel with their images added.

  Attributes:
    variant: arrangement of the modules.
      'deblur_first', the paper's Model-1: the deblurring module makes an image, and the SR feature
      and reconstruction modules enlarge it. The paper adds "the deblurring module to the baseline
      model" without naming the SR network. Here it is GFN's own modules, and the image between is
      not clipped. 12,130,758 parameters.
      'sr_first', Model-2: the SR modules enlarge the blurred input, and the deblurring module works
      at the final size. There is no `lr`: the blurred HR image is not available as a target, so the
      deblurring loss equals the loss of the result. 12,130,758 parameters.
      'dual_branch', Model-3: two branches, joined as images. The SR modules make one image. A
      convolution and a second reconstruction module make the other from the deblurred `lr`, and the
      two are added. The paper does not describe how the small image is joined with the large one;
      its running time, equal to Model-1's, suggests a second reconstruction. 13,057,481 parameters.
    features: as for GFN, like all below.
    deblur_blocks: number of residual blocks of the deblurring module at each of its three sizes.
    sr_blocks: number of residual blocks of the SR feature module.
    reconstruction_blocks: number of residual blocks of a reconstruction module.
    initialization: 'scaled' or 'authors'.
    global_skip: 'input' adds to the output of each part its input, enlarged if needed; or 'none'.
    dtype: type of the computation.
    precision: precision of the matrix products.
  """

  variant: str = 'deblur_first'
  features: int = 64
  deblur_blocks: int = 6
  sr_blocks: int = 8
  reconstruction_blocks: int = 8
  initialization: str = 'scaled'
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  stride = (STRIDE, STRIDE)
  scale = SCALE

  def __post_init__(self) -> None:
    check_choice('variant', self.variant, VARIANTS)
    check_choice('initialization', self.initialization, INITIALIZATIONS)
    check_choice('global_skip', self.global_skip, ('none', 'input'))
    check_positive('features', self.features)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Restore `lr_blur`, in [0, 1], to `hr`, `[b, 4h, 4w, 3]`, and `lr`."""
    f, layers, skip = self.features, make_layers(self), self.global_skip == 'input'
    deblur_module = DeblurModule(f, (self.deblur_blocks,) * 3, layers, name='deblur')
    sr_feature = SRFeatureModule(f, self.sr_blocks, layers, name='sr_feature')
    reconstruction = ReconstructionModule(
      f, self.reconstruction_blocks, layers, name='reconstruction'
    )

    def deblur(x: jax.Array) -> jax.Array:
      _, image = deblur_module(x)  # [B, h, w, 3]
      image = image.astype(jnp.float32)
      return image + x if skip else image

    def super_resolve(x: jax.Array) -> jax.Array:
      image = reconstruction(sr_feature(x)).astype(jnp.float32)  # [B, 4h, 4w, 3]
      return image + Enlarge(SCALE)(x) if skip else image

    if self.variant == 'sr_first':
      return RestorationOutput(hr=deblur(super_resolve(lr_blur)))  # [B, 4h, 4w, 3]

    _, h, w, _ = lr_blur.shape
    x = pad_to_multiple(lr_blur, self.stride)
    lr = deblur(x)  # [B, h, w, 3]
    if self.variant == 'deblur_first':
      hr = super_resolve(lr)  # [B, 4h, 4w, 3]
    else:
      f_lr = leaky_relu(layers.conv(f, (3, 3), padding=1, name='lr_feature')(lr))  # [B, h, w, F]
      enlarged = ReconstructionModule(
        f, self.reconstruction_blocks, layers, name='lr_reconstruction'
      )(f_lr)  # [B, 4h, 4w, 3]
      hr = super_resolve(x) + enlarged.astype(jnp.float32)
    return RestorationOutput(hr=hr[:, : SCALE * h, : SCALE * w], lr=lr[:, :h, :w])
