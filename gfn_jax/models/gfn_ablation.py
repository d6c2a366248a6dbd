"""Models 1 to 3 of the GFN paper's ablation (Table 2): other ways to join the same modules.

Model-4 is GFN with `gated=False`, trained without the deblurring loss, and Model-5 is that with it:
they need no class of their own. How Models 1 to 3 are built was in a supplement that is no longer
public; where the paper leaves a choice, `GFNAblation` states the one that is made here.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gfn_jax.layers.activations import leaky_relu
from gfn_jax.layers.blocks import (
  INITIALIZATIONS,
  Enlarge,
  RestorationOutput,
  check_choice,
  check_positive,
  make_layers,
  pad_to_multiple,
)
from gfn_jax.models.gfn import SCALE, STRIDE, DeblurModule, ReconstructionModule, SRFeatureModule

VARIANTS = ('deblur_first', 'sr_first', 'dual_branch')


class GFNAblation(nn.Module):
  """The modules of GFN in a row, or side by side with their images added.

  Attributes:
    variant: how the modules are joined.
      'deblur_first', the paper's Model-1: the deblurring module gives an image, and the SR feature
      and reconstruction modules enlarge it. The paper adds "the deblurring module to the baseline
      model" and does not say which SR network that is; GFN's own modules are taken, and the image
      between is not clipped. 12,130,758 parameters.
      'sr_first', Model-2: the SR modules enlarge the blurred input, and the deblurring module works
      at the size of the result. A blurred image of that size is no target, as it is not given to
      the network, so there is no `lr`, and the deblurring loss is that of the result itself.
      12,130,758 parameters.
      'dual_branch', Model-3: two branches, joined as images. The SR modules give one image; the
      deblurred `lr` goes through a convolution and a second reconstruction module, which gives the
      other one, and the two are added. The paper says nothing of how the small image meets the
      large one; its time, as long as Model-1's, speaks for a second reconstruction. 13,057,481
      parameters.
    features: as GFN's, like all below.
    deblur_blocks: residual blocks at each of the deblurring module's three sizes.
    sr_blocks: residual blocks of the SR feature module.
    reconstruction_blocks: residual blocks of a reconstruction module.
    initialization: 'scaled' or 'authors'.
    global_skip: 'input' adds its input, enlarged where needed, to what each part makes of it; or
      'none'.
    dtype: of the computation.
    precision: of the matrix products.
    stride: sides that need no padding are multiples of it. Not an option.
    local: whether a result depends on what is near it only. Not an option.
    scale: as GFN's. Not an option.
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

  stride = STRIDE
  local = True
  scale = SCALE

  def __post_init__(self):
    check_choice('variant', self.variant, VARIANTS)
    check_choice('initialization', self.initialization, INITIALIZATIONS)
    check_choice('global_skip', self.global_skip, ('none', 'input'))
    check_positive('features', self.features)
    super().__post_init__()

  @nn.compact
  def __call__(self, lr_blur: jax.Array) -> RestorationOutput:
    """Restores `lr_blur`, `[B, h, w, 3]` in [0, 1], to `hr` `[B, 4h, 4w, 3]` and `lr`."""
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
      return RestorationOutput(hr=deblur(super_resolve(lr_blur)))

    _, h, w, _ = lr_blur.shape
    x = pad_to_multiple(lr_blur, STRIDE)
    lr = deblur(x)  # [B, h, w, 3]
    if self.variant == 'deblur_first':
      hr = super_resolve(lr)  # [B, 4h, 4w, 3]
    else:
      f_lr = leaky_relu(layers.conv(f, (3, 3), padding=1, name='lr_feature')(lr))  # [B, h, w, F]
      enlarged = ReconstructionModule(
        f, self.reconstruction_blocks, layers, name='lr_reconstruction'
      )(f_lr)
      hr = super_resolve(x) + enlarged.astype(jnp.float32)
    return RestorationOutput(hr=hr[:, : SCALE * h, : SCALE * w], lr=lr[:, :h, :w])
