"""What the networks of this library share: residual blocks, pixel shuffle, sizes, initialisers."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

ModuleDef = Callable[..., nn.Module]
"""A module class, or a `functools.partial` of one that fixes its dtype and initialisers."""

leaky_relu = functools.partial(nn.leaky_relu, negative_slope=0.2)


@flax.struct.dataclass
class RestorationOutput:
  """What every model of this library returns for an `lr_blur` of `[B, h, w, 3]` in [0, 1].

  Attributes:
    hr: `[B, 4h, 4w, 3]` float32, sharp and super-resolved. Not clipped.
    lr: `[B, h, w, 3]` float32, deblurred at the input's size, or None where a model has no such
      output. Not clipped.
  """

  hr: jax.Array
  lr: jax.Array | None = None


class ResBlock(nn.Module):
  """conv 3x3, activation, conv 3x3, plus the input. No normalisation, no activation after the sum.

  Attributes:
    features: channels of the input and of the output.
    act: the activation between the two convolutions.
    conv: makes a convolution.
    last_init: kernel initialiser of the second convolution, which scales the whole branch.
  """

  features: int
  act: Callable[[jax.Array], jax.Array]
  conv: ModuleDef = nn.Conv
  last_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, h, w, F]` to `[B, h, w, F]`."""
    y = self.act(self.conv(self.features, (3, 3), padding=1, name='conv1')(x))
    y = self.conv(self.features, (3, 3), padding=1, kernel_init=self.last_init, name='conv2')(y)
    return x + y


class Enlarge(nn.Module):
  """Bicubic enlargement (Keys, a = -0.5); the weights of the pixels that exist sum to 1.

  Attributes:
    scale: factor.
  """

  scale: int

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, h, w, C]` to `[B, scale * h, scale * w, C]`."""
    b, h, w, c = x.shape
    return jax.image.resize(x, (b, self.scale * h, self.scale * w, c), 'cubic')


def pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
  """Rearranges channels into pixels in PyTorch's order (Shi et al. 2016).

  Args:
    x: `[B, h, w, C * factor**2]`; channel `c * factor**2 + i * factor + j` goes to pixel `(i, j)`
      of channel `c`.
    factor: how many times larger each side becomes.

  Returns:
    `[B, h * factor, w * factor, C]`.
  """
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, c // factor**2, factor, factor)
  x = x.transpose(0, 1, 4, 2, 5, 3)  # [B, h, i, w, j, C]
  return x.reshape(b, h * factor, w * factor, c // factor**2)


def pad_to_multiple(x: jax.Array, multiple: int) -> jax.Array:
  """Reflects `[B, h, w, C]` at its right and bottom edge up to the next multiple in each axis."""
  _, h, w, _ = x.shape
  return jnp.pad(x, ((0, 0), (0, -h % multiple), (0, -w % multiple), (0, 0)), mode='reflect')


def resize_bilinear(x: jax.Array, height: int, width: int) -> jax.Array:
  """PyTorch's `interpolate(mode='bilinear', align_corners=False)`: without antialiasing."""
  b, h, w, c = x.shape
  if (h, w) == (height, width):
    return x
  return jax.image.resize(x, (b, height, width, c), 'bilinear', antialias=False)


def scaled_normal(scale: float, fan: str) -> nn.initializers.Initializer:
  """Normal with variance `scale / fan`: 2 is He et al. 2015, 1 is LeCun et al. 1998.

  Args:
    scale: of the variance.
    fan: 'fan_in' or 'fan_out', the kernel's area times its input or output channels.
  """
  return nn.initializers.variance_scaling(scale, fan, 'normal')


def torch_uniform_init(fan_in: int) -> nn.initializers.Initializer:
  """PyTorch's default for weights and biases: uniform within `1 / sqrt(fan_in)` of zero."""
  bound = fan_in**-0.5

  def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init
