"""Surrogate for ED-DSRN (Zhang et al., ICASSP 2018), a baseline of the GFN paper's Table 1.

    lr_blur --> conv --> blocks --+-----------------------------(+)--> blocks --> reconstruction
                                  v                              ^                      |
                                 conv --> blocks --+----(+)--> blocks --> deconv        v
                                                   v     ^                             hr
                                                  conv --> blocks --> deconv

Zhang, Wang, Dong, and Guo, "A Deep Encoder-Decoder Network for Joint Deblurring and
Super-Resolution". It is NOT the authors' network: neither code nor a table of its layers is public.
Known are one branch from `lr_blur` to `hr`, an encoder-decoder, 25 million parameters, and 1.4
times the time of GFN. This one is made of GFN's parts to match the parameters, at about 1.15 times
the operations of GFN. Its scores are not those of ED-DSRN.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.activations import leaky_relu, relu
from gfn_jax.layers.blocks import (
  INITIALIZATIONS,
  Enlarge,
  check_choice,
  check_positive,
  make_layers,
  pad_to_multiple,
)
from gfn_jax.models.base import GLOBAL_SKIPS, RestorationModel, RestorationOutput
from gfn_jax.models.gfn import SCALE, STRIDE, ReconstructionModule


class EDDSRNLike(RestorationModel):
  """Surrogate for ED-DSRN, not a reproduction: a symmetric encoder-decoder, 25,269,827 parameters.

  It has no `lr`. Convolutions, residual blocks and the reconstruction module are GFN's. The preset
  `small`, 72,507 parameters, trains on CPUs.

  Attributes:
    features: channels at full size, doubled at 1/2 and again at 1/4.
    blocks: number of residual blocks at full size and at 1/2, in the encoder and in the decoder.
    bottleneck_blocks: number of residual blocks at 1/4.
    reconstruction_blocks: number of residual blocks of the reconstruction module.
    initialization: 'scaled' or 'authors', as for GFN; but the variance of 'scaled' is He's.
    global_skip: 'input' adds the input, enlarged bicubically, to `hr`; or 'none'.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`.
  """

  features: int = 64
  blocks: int = 6
  bottleneck_blocks: int = 16
  reconstruction_blocks: int = 8
  initialization: str = 'scaled'
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  scale = SCALE
  stride = (STRIDE, STRIDE)
  presets = {  # noqa: RUF012
    'small': dict(features=8, blocks=1, bottleneck_blocks=2, reconstruction_blocks=1),
  }

  def __post_init__(self) -> None:
    for field in ('features', 'blocks', 'bottleneck_blocks', 'reconstruction_blocks'):
      check_positive(field, getattr(self, field))
    check_choice('initialization', self.initialization, INITIALIZATIONS)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Restore `lr_blur`, in [0, 1], to `hr`, `[b, 4h, 4w, 3]`."""
    f, layers = self.features, make_layers(self, gain=2.0)
    conv, deconv = layers.conv, layers.deconv
    _, h, w, _ = lr_blur.shape
    x = pad_to_multiple(lr_blur, self.stride)

    def res_blocks(y: jax.Array, count: int, name: str) -> jax.Array:
      for i in range(count):
        y = layers.res_block(y.shape[-1], relu, name=f'{name}_{i}')(y)
      return y

    # Encoder.
    y = leaky_relu(conv(f, (7, 7), padding=3, name='conv1')(x))
    full = res_blocks(y, self.blocks, 'encoder1')  # [B, h, w, F]
    y = relu(conv(2 * f, (3, 3), strides=2, padding=1, name='conv2')(full))
    half = res_blocks(y, self.blocks, 'encoder2')  # [B, h/2, w/2, 2F]
    y = relu(conv(4 * f, (3, 3), strides=2, padding=1, name='conv3')(half))
    y = res_blocks(y, self.bottleneck_blocks, 'bottleneck')  # [B, h/4, w/4, 4F]
    # Decoder.
    y = relu(deconv(2 * f, name='deconv2')(y)) + half  # [B, h/2, w/2, 2F]
    y = res_blocks(y, self.blocks, 'decoder2')
    y = relu(deconv(f, name='deconv1')(y)) + full  # [B, h, w, F]
    y = res_blocks(y, self.blocks, 'decoder1')
    # Image.
    reconstruction = ReconstructionModule(
      f, self.reconstruction_blocks, layers, name='reconstruction'
    )
    hr = reconstruction(y).astype(jnp.float32)  # [B, 4h, 4w, 3]
    if self.global_skip == 'input':
      hr = hr + Enlarge(SCALE)(x)
    return RestorationOutput(hr=hr[:, : SCALE * h, : SCALE * w])
