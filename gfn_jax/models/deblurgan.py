"""DeblurGAN's generator (Kupyn et al., CVPR 2018).

    lr_blur --+--> conv 7x7 --> 2 x conv, stride 2 --> residual blocks
              |                                              |
              v                                              v
      lr <--(+) <--- tanh <--- conv 7x7 <--- 2 x transposed conv, stride 2

An instance normalisation and a ReLU follow each convolution but the last one. The second
convolution of a residual block has no ReLU.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.activations import relu
from gfn_jax.layers.blocks import ModuleDef, check_positive, pad_mirrored, pad_to_multiple
from gfn_jax.layers.cpu_conv import ConvTranspose
from gfn_jax.models.base import RestorationModel, RestorationOutput

STRIDE = 4  # two strided convolutions

_kernel_init = nn.initializers.normal(0.02)

mirrored = functools.partial(pad_mirrored, mode='reflect')


class MirroredResBlock(nn.Module):
  """Residual block: x + norm(conv(relu(norm(conv(x))))), with images mirrored at their borders.

  Attributes:
    conv: makes a convolution, not padded.
    norm: makes a normalisation.
  """

  conv: ModuleDef
  norm: ModuleDef

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features to features."""
    conv = functools.partial(self.conv, x.shape[-1], (3, 3))
    y = relu(self.norm()(conv(name='conv1')(mirrored(x, 1))))
    return x + self.norm()(conv(name='conv2')(mirrored(y, 1)))


class DeblurGAN(RestorationModel):
  """Generator that deblurs at the input's size, 11,378,179 parameters by default.

  Its output has no `hr`. Unlike that of other networks, `lr` is clipped to [0, 1], as in the
  authors' code. The network restores an image whole, not in tiles: its instance normalisations use
  the statistics of the whole image.

  The authors train it with an adversarial and a perceptual loss, and with dropout in the residual
  blocks. Neither is included: losses compare `lr` with the sharp image, and the training step has
  no random numbers for a dropout.

  Weights are initialised as the authors', normally, biases at zero.

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
    layer: dict[str, Any] = dict(
      kernel_init=_kernel_init, dtype=jnp.dtype(self.dtype), precision=self.precision
    )
    conv: ModuleDef = functools.partial(nn.Conv, padding=0, **layer)
    deconv: ModuleDef = functools.partial(
      ConvTranspose, kernel_size=(3, 3), strides=(2, 2), **layer
    )
    norm = functools.partial(
      nn.InstanceNorm,
      epsilon=1e-5,
      use_bias=False,
      use_scale=False,
      use_fast_variance=False,
      dtype=jnp.dtype(self.dtype),
    )

    x = 2 * pad_to_multiple(lr_blur, self.stride, self.pad_mode) - 1
    y = relu(norm()(conv(f, (7, 7), name='conv1')(mirrored(x, 3))))  # [B, h, w, F]
    y = relu(norm()(conv(2 * f, (3, 3), strides=2, padding=1, name='conv2')(y)))
    y = relu(norm()(conv(4 * f, (3, 3), strides=2, padding=1, name='conv3')(y)))
    for i in range(self.blocks):
      y = MirroredResBlock(conv, norm, name=f'resblock_{i}')(y)  # [B, h/4, w/4, 4F]
    y = relu(norm()(deconv(2 * f, name='deconv1')(y)))  # [B, h/2, w/2, 2F]
    y = relu(norm()(deconv(f, name='deconv2')(y)))  # [B, h, w, F]
    y = nn.tanh(conv(3, (7, 7), name='conv_last')(mirrored(y, 3)).astype(jnp.float32))
    lr = (jnp.clip(x + y, -1, 1) + 1) / 2
    return RestorationOutput(hr=None, lr=lr[:, :h, :w])
