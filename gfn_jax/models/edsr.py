"""EDSR (Lim et al., CVPRW 2017): super-resolution by residual blocks without normalisation.

lr_blur --> - mean --> conv --+--> residual blocks --> conv --(+)--> pixel shuffles ---+
|                                |                       |
+--------------------------------+                       v
hr <-- + mean <-- conv -+

block: --+--> conv --> ReLU --> conv --> * res_scale --(+)-->
+----------------------------------------------+
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.activations import relu
from gfn_jax.layers.blocks import (
  Enlarge,
  ResBlock,
  check_choice,
  check_positive,
  torch_convolutions,
  torch_kernel_init,
)
from gfn_jax.layers.super_resolution import Upsampler, add_mean, subtract_mean
from gfn_jax.models.base import GLOBAL_SKIPS, RestorationModel, RestorationOutput
from gfn_jax.ops.sizes import SCALES


class EDSR(RestorationModel):
  """Enhanced deep residual network: enlarges 4x, 43,089,923 parameters by default; it has no `lr`.

  The network computes with pixels in [0, 255]. Weights and biases start uniform, by PyTorch's
  default.

  Presets: `small` is for CPUs.

  Attributes:
    features: number of channels.
    blocks: number of residual blocks.
    res_scale: factor of the residual branches. The paper's 0.1 makes wide networks train stably.
    scale: factor between `lr_blur` and `hr`: 2, 3 or 4.
    global_skip: 'none' is the paper's. 'input' adds the input, enlarged bicubically, in place of
      the mean, which improves short trainings.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 256
  blocks: int = 32
  res_scale: float = 0.1
  scale: int = 4
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  presets = {  # noqa: RUF012
    'small': dict(features=24, blocks=8, res_scale=1.0),
  }

  def __post_init__(self) -> None:
    check_positive('features', self.features)
    check_positive('blocks', self.blocks)
    check_choice('scale', self.scale, SCALES)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    if self.res_scale <= 0:
      raise ValueError(f'res_scale must be above 0, not {self.res_scale}')
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Enlarge `lr_blur`, in [0, 1], to `hr`, `[b, scale * h, scale * w, 3]`."""
    f, (conv, _) = self.features, torch_convolutions(self)
    conv3x3 = functools.partial(conv, kernel_size=(3, 3), padding=1)
    res_block = functools.partial(
      ResBlock, f, relu, conv, last_init=torch_kernel_init, res_scale=self.res_scale
    )

    x = subtract_mean(lr_blur)
    first = y = conv3x3(f, name='conv_first')(x)  # [B, h, w, F]
    for i in range(self.blocks):
      y = res_block(name=f'resblock_{i}')(y)
    y = first + conv3x3(f, name='conv_mid')(y)
    y = Upsampler(self.scale, conv, name='upsample')(y)  # [B, scale * h, scale * w, F]
    y = conv3x3(3, name='conv_last')(y).astype(jnp.float32)
    if self.global_skip == 'input':
      y = y + Enlarge(self.scale)(x)
    return RestorationOutput(hr=add_mean(y))


class EDSRBaseline(EDSR):
  """EDSR-baseline, the authors' smaller network: 1,517,571 parameters by default.

  Attributes:
    features: as for `EDSR`, like all other options.
    blocks: number of residual blocks.
    res_scale: factor of the residual branches.
  """

  features: int = 64
  blocks: int = 16
  res_scale: float = 1.0
