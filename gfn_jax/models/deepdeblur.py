"""DeepDeblur (Nah et al., CVPR 2017): deblurs from coarse to fine, at three sizes.

    lr_blur at 1/4 ---------------------> level 2 --> image at 1/4
                                             |
                                     conv, pixel shuffle
                                             v
    lr_blur at 1/2 ------------------(concat)--> level 1 --> image at 1/2
                                                    |
                                            conv, pixel shuffle
                                                    v
    lr_blur --------------------------------(concat)--> level 0 --> lr

    level: conv --> residual blocks --> conv, all of 5x5

This is the network of the authors' PyTorch code. Their Torch7 code has the same layers.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gfn_jax.layers.activations import relu
from gfn_jax.layers.blocks import (
  ModuleDef,
  ResBlock,
  check_choice,
  check_positive,
  halve,
  pad_mirrored,
  pad_to_multiple,
  pixel_shuffle,
  torch_convolutions,
  torch_kernel_init,
)
from gfn_jax.models.base import GLOBAL_SKIPS, Pyramid, RestorationModel, RestorationOutput

STRIDE = 4  # two halvings

_RANGE = 255  # the network sees pixels in [-127.5, 127.5]


class Level(nn.Module):
  """Network of one size, from images to an image.

  Attributes:
    features: number of channels.
    blocks: number of residual blocks.
    conv: makes a convolution.
  """

  features: int
  blocks: int
  conv: ModuleDef

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w c']) -> Float[jax.Array, 'b h w 3']:
    """Map the blurred image, and the enlarged one of the next smaller size, to an image."""
    y = self.conv(self.features, (5, 5), padding=2, name='conv_first')(x)
    for i in range(self.blocks):
      y = ResBlock(
        self.features,
        relu,
        self.conv,
        last_init=torch_kernel_init,
        kernel_size=5,
        name=f'resblock_{i}',
      )(y)
    return self.conv(3, (5, 5), padding=2, name='conv_last')(y)


class DeepDeblur(RestorationModel):
  """Multi-scale deblurring at the input's size, 11,721,321 parameters by default.

  Its output has no `hr`. `lr_pyramid` are the images at 1/4 and at 1/2. A loss on 'lr' adds their
  differences from the sharp image's `pyramid` to that of `lr`, as the authors' does. The paper's
  adversarial loss is not included.

  Weights are initialised as in the authors' PyTorch code, uniformly by its default. The images
  start near gray, or with `global_skip` near the input.

  Presets: `small` is for CPUs.

  Attributes:
    features: number of channels.
    blocks: number of residual blocks at each size.
    global_skip: 'none' is the paper's. With 'input', each level predicts the difference of its
      image from the blurred one, which improves short trainings.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 64
  blocks: int = 19
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  stride = (STRIDE, STRIDE)
  pad_mode = 'edge'
  scale = 1
  presets = {'small': dict(features=16, blocks=3)}  # noqa: RUF012

  def __post_init__(self) -> None:
    check_positive('features', self.features)
    check_positive('blocks', self.blocks)
    check_choice('global_skip', self.global_skip, GLOBAL_SKIPS)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, lr_blur: Float[jax.Array, 'b h w 3'], train: bool = False
  ) -> RestorationOutput:
    """Deblur `lr_blur`, in [0, 1], to `lr` and `lr_pyramid`."""
    _, h, w, _ = lr_blur.shape
    conv, _ = torch_convolutions(self)
    x = pad_to_multiple(lr_blur, self.stride, self.pad_mode)
    images: list[jax.Array] = []
    for k, blurred in zip((2, 1, 0), (*self.pyramid(x), x), strict=True):
      y = blurred = _RANGE * (blurred - 0.5)  # [B, h/4, w/4, 3], [B, h/2, w/2, 3], [B, h, w, 3]
      if images:
        enlarged = conv(12, (5, 5), padding=2, name=f'upconv{k + 1}')(images[-1])
        y = jnp.concatenate([blurred, pixel_shuffle(enlarged, 2)], axis=-1)
      image = Level(self.features, self.blocks, conv, name=f'level{k}')(y).astype(jnp.float32)
      images.append(image + blurred if self.global_skip == 'input' else image)
    quarter, half, full = (image / _RANGE + 0.5 for image in images)
    return RestorationOutput(hr=None, lr=full[:, :h, :w], lr_pyramid=(quarter, half))

  def pyramid(self, image: Float[jax.Array, 'b h w 3']) -> Pyramid:
    """Return images at 1/4 and at 1/2, padded first: a Gaussian pyramid."""
    half = reduce_gaussian(pad_to_multiple(image, self.stride, self.pad_mode))
    return reduce_gaussian(half), half


def reduce_gaussian(x: Float[jax.Array, 'b h w c']) -> Float[jax.Array, 'b h//2 w//2 c']:
  """Smooth images and reduce their even sides by 2, as scikit-image's `pyramid_gaussian`.

  A Gaussian of 7 taps, which sees images mirrored at their borders, then means of 2x2 pixels.
  """
  padded = pad_mirrored(x, len(_TAPS) // 2, 'symmetric')
  for axis in (1, 2):
    size = x.shape[axis]
    padded = sum(
      tap * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, tap in enumerate(_TAPS)
    )
  return halve(padded)


_GAUSSIAN = np.exp(-0.5 * (np.arange(-3, 4) / (2 / 3)) ** 2)  # of standard deviation 2/3
_TAPS = (_GAUSSIAN / _GAUSSIAN.sum()).tolist()
