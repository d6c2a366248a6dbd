"""DeblurGAN's generator (Kupyn et al., CVPR 2018).

    lr_blur --+--> conv 7x7 --> 2 x conv, stride 2 --> residual blocks
              |                                              |
              v                                              v
      lr <--(+) <--- tanh <--- conv 7x7 <--- 2 x transposed conv, stride 2

An instance normalisation and a ReLU follow each convolution but the last one. The second
convolution of a residual block has no ReLU.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.activations import relu
from gfn_jax.layers.blocks import (
  ModuleDef,
  ResBlock,
  check_positive,
  pad_mirrored,
  pad_to_multiple,
)
from gfn_jax.layers.cpu_conv import ConvTranspose
from gfn_jax.models.base import RestorationModel, RestorationOutput

STRIDE = 4  # two strided convolutions

_kernel_init = nn.initializers.normal(0.02)


class DeblurGAN(RestorationModel):
  """Generator that deblurs at the input's size, 11,378,179 parameters by default.

  Its output has no `hr`. Unlike that of other networks, `lr` is clipped to [0, 1], as in the
  authors' code. The network restores an image whole, not in tiles: its instance normalisations use
  the statistics of the whole image.

  The authors train it with an adversarial and a perceptual loss, and with dropout in the residual
  blocks. Neither is included: losses compare `lr` with the sharp image, and the training step has
  no random numbers for a dropout.

  Weights are initialised as the authors', normally, biases at zero. Only the last bias has an
  effect: the normalisations subtract the others.

  Presets: `small` is for CPUs.

  Attributes:
    features: channels at full size, doubled at 1/2 and again at 1/4.
    blocks: number of residual blocks.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 64
  blocks: int = 9
  dtype: Any = jnp.float32
  precision: Any = None

  stride = (STRIDE, STRIDE)
  local = False
  scale = 1
  presets = {'small': dict(features=12, blocks=2)}  # noqa: RUF012

  def __post_init__(self) -> None:
    check_positive('features', self.features)
    check_positive('blocks', self.blocks)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Deblur `lr_blur`, in [0, 1], to `lr`."""
    _, h, w, _ = lr_blur.shape
    f = self.features
    conv, mirrored_conv, deconv, norm = self._make_layers()
    x = 2 * pad_to_multiple(lr_blur, self.stride, self.pad_mode) - 1
    y = relu(norm()(mirrored_conv(f, (7, 7), padding=3, name='conv1')(x)))  # [B, h, w, F]
    y = relu(norm()(conv(2 * f, name='conv2')(y)))  # [B, h/2, w/2, 2F]
    y = relu(norm()(conv(4 * f, name='conv3')(y)))  # [B, h/4, w/4, 4F]
    res_block = functools.partial(ResBlock, 4 * f, relu, mirrored_conv, _kernel_init, norm)
    for i in range(self.blocks):
      y = res_block(name=f'resblock_{i}')(y)
    y = relu(norm()(deconv(2 * f, name='deconv1')(y)))  # [B, h/2, w/2, 2F]
    y = relu(norm()(deconv(f, name='deconv2')(y)))  # [B, h, w, F]
    y = mirrored_conv(3, (7, 7), padding=3, name='conv_last')(y)
    lr = (jnp.clip(x + nn.tanh(y.astype(jnp.float32)), -1, 1) + 1) / 2
    return RestorationOutput(hr=None, lr=lr[:, :h, :w])

  def _make_layers(self) -> tuple[ModuleDef, ModuleDef, ModuleDef, ModuleDef]:
    """Return makers of layers.

    Returns:
      For convolutions that halve the size, those that keep it and see images mirrored at their
      borders, transposed ones that double it, and normalisations.
    """
    dtype = jnp.dtype(self.dtype)
    layer: dict[str, Any] = dict(kernel_init=_kernel_init, dtype=dtype, precision=self.precision)

    def mirrored_conv(
      features: int, kernel_size: tuple[int, int], padding: int, **options: Any
    ) -> Callable[[jax.Array], jax.Array]:
      conv = nn.Conv(features, kernel_size, padding=0, **layer | options)
      return lambda x: conv(pad_mirrored(x, padding, 'reflect'))

    conv = functools.partial(nn.Conv, kernel_size=(3, 3), strides=2, padding=1, **layer)
    deconv = functools.partial(ConvTranspose, kernel_size=(3, 3), strides=(2, 2), **layer)
    norm = functools.partial(
      nn.InstanceNorm,
      epsilon=1e-5,
      use_bias=False,
      use_scale=False,
      use_fast_variance=False,
      dtype=dtype,
    )
    return conv, mirrored_conv, deconv, norm
