"""Parts that several networks use: residual blocks, pixel shuffle, resizing, initialisers."""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from gfn_jax.layers.activations import relu
from gfn_jax.layers.cpu_conv import ConvTranspose, conv_general_dilated
from gfn_jax.ops.imresize import cubic_kernel

INITIALIZATIONS = ('scaled', 'authors')
"""Initialisations of the weights; `models.gfn.GFN` describes them."""

ModuleDef = Callable[..., Callable[..., Any]]
"""Maker of layers: a module class, or a function that fixes its dtype and initialisers."""

torch_kernel_init = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
"""PyTorch's default for the kernel of a convolution."""


SMALL_IMAGES = {
  'kernel_init': nn.initializers.variance_scaling(0.01 / 3, 'fan_in', 'uniform'),
  'bias_init': nn.initializers.zeros,
}
"""Initialisers of a convolution whose image is added to the input: a tenth of PyTorch's default.
With larger images, training first shrinks them, and the ReLUs of a deep network can die from it."""


class ResBlock(nn.Module):
  """Residual block: x + res_scale * conv(act(conv(x))). No activation follows the sum.

  Attributes:
    features: channels of the input and of the output.
    act: the activation between the two convolutions.
    conv: makes a convolution.
    last_init: kernel initialiser of the second convolution, which scales the whole branch.
    norm: makes a normalisation, which follows each convolution; None to have none.
    kernel_size: side of both kernels, odd.
    res_scale: factor of the branch (Szegedy et al. 2017).
  """

  features: int
  act: Callable[[jax.Array], jax.Array]
  conv: ModuleDef = nn.Conv
  last_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  norm: ModuleDef | None = None
  kernel_size: int = 3
  res_scale: float = 1.0

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features to features."""
    size = dict(kernel_size=(self.kernel_size, self.kernel_size), padding=self.kernel_size // 2)
    y = self.conv(self.features, **size, name='conv1')(x)
    y = self.act(self.norm(name='norm1')(y) if self.norm else y)
    y = self.conv(self.features, **size, kernel_init=self.last_init, name='conv2')(y)
    y = self.norm(name='norm2')(y) if self.norm else y
    return x + (y if self.res_scale == 1 else self.res_scale * y)


class Layers(NamedTuple):
  """Constructors of the layers of a network, with the network's dtype and initialisers.

  Attributes:
    conv: makes a convolution.
    deconv: makes a transposed convolution that doubles the size: 4x4, stride 2.
    gate_conv: makes the last convolution of a gate.
    image_conv: makes a convolution whose output is an image; on CPUs in float32.
    res_block: makes a residual block.
  """

  conv: ModuleDef
  deconv: ModuleDef
  gate_conv: ModuleDef
  image_conv: ModuleDef
  res_block: ModuleDef


def make_layers(model: nn.Module, gain: float = 1.0) -> Layers:
  """Return the constructors of the layers of a network.

  Args:
    model: network with the fields `initialization`, `global_skip`, `dtype` and `precision`.
    gain: factor of the kernels' variance if `initialization` is 'scaled'. The usual factor is 2
      (He et al. 2015). GFN needs 1: its three residual groups double their inputs, which makes up
      for the ReLUs.
  """
  layer: dict[str, Any] = dict(dtype=jnp.dtype(model.dtype), precision=model.precision)
  zeros, ones = nn.initializers.zeros, nn.initializers.ones
  scaled = model.initialization == 'scaled'
  conv_init = scaled_normal(gain, 'fan_in') if scaled else scaled_normal(2.0, 'fan_out')
  last_init = scaled_normal(0.01, 'fan_in') if scaled else conv_init
  conv = functools.partial(
    nn.Conv, kernel_init=conv_init, conv_general_dilated=conv_general_dilated, **layer
  )
  gate_bias_init = ones if scaled else zeros
  gate_conv = functools.partial(nn.Conv, kernel_init=last_init, bias_init=gate_bias_init, **layer)
  # With a skip, the network starts near the identity.
  small_images = model.global_skip != 'none'
  image_conv = functools.partial(conv, kernel_init=last_init) if small_images else conv
  if jax.default_backend() == 'cpu':
    # In bfloat16 the sum and its bias would be rounded separately, and images be off by 1 of 255.
    image_conv = functools.partial(image_conv, dtype=jnp.float32)
  res_block = functools.partial(ResBlock, conv=conv, last_init=last_init)

  def deconv(features: int, name: str) -> nn.Module:
    # An output pixel depends on a quarter of a 4x4 kernel of stride 2: four times the variance.
    kernel_init = scaled_normal(4 * gain, 'fan_in') if scaled else torch_uniform_init(16 * features)
    return ConvTranspose(
      features,
      (4, 4),
      (2, 2),
      'SAME',
      kernel_init=kernel_init,
      bias_init=zeros if scaled else kernel_init,
      **layer,
      name=name,
    )

  return Layers(conv, deconv, gate_conv, image_conv, res_block)


class Enlarge(nn.Module):
  """Enlargement by interpolation; at the border, the weights of the existing pixels sum to 1.

  Equals `jax.image.resize`, but is faster. That function multiplies by a matrix as high as the
  image, which is slow for the vertical axis; here this axis is a sum of a few shifted images.

  Attributes:
    scale: integer factor.
    method: 'cubic' (Keys, a = -0.5) or 'linear'.
  """

  scale: int
  method: str = 'cubic'

  def __call__(
    self, x: Float[jax.Array, 'b h w c']
  ) -> Float[jax.Array, 'b {self.scale}*h {self.scale}*w c']:
    """Enlarge images or features."""
    b, h, w, c = x.shape
    x = jax.image.resize(x, (b, h, self.scale * w, c), self.method)  # [B, h, scale * w, C]
    # New row p of old row i lies at i + (p + 1/2) / scale - 1/2.
    places = (np.arange(self.scale) + 0.5) / self.scale - 0.5
    steps = np.arange(-2, 3)  # offsets of the old rows under the kernel
    weights = _KERNELS[self.method](np.abs(places[:, None] - steps))  # [scale, 5]
    padded = jnp.pad(x, ((0, 0), (2, 2), (0, 0), (0, 0)))
    near = [padded[:, i : i + h] for i in range(len(steps))]
    phases = [
      sum(float(weight) * y for weight, y in zip(row, near, strict=True) if weight)
      for row in weights
    ]
    rows = jnp.arange(h)[:, None] + steps[None]
    exists = (rows >= 0) & (rows < h)  # [h, 5]
    total = exists.astype(x.dtype) @ weights.T.astype(x.dtype)  # [h, scale], below 1 at the edges
    y = jnp.stack(phases, axis=2) / total[None, :, :, None, None]  # [B, h, scale, scale * w, C]
    return y.reshape(b, self.scale * h, self.scale * w, c)


_KERNELS = {'cubic': cubic_kernel, 'linear': lambda x: np.maximum(1 - x, 0.0)}


def enlarge_nearest(
  x: Float[jax.Array, 'b h w c'], factor: int
) -> Float[jax.Array, 'b {factor}*h {factor}*w c']:
  """Enlarge images or features by nearest neighbours."""
  return x.repeat(factor, axis=1).repeat(factor, axis=2)


class ChannelAttention(nn.Module):
  """Channel attention: weighs each channel by a score in (0, 1), from the means of all channels.

  Attributes:
    reduction: factor by which the channels are reduced between the two convolutions.
    conv: makes a convolution.
  """

  reduction: int
  conv: ModuleDef = nn.Conv

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features to features."""
    features = x.shape[-1]
    y = jnp.mean(x, axis=(1, 2), keepdims=True)  # [B, 1, 1, F]
    y = relu(self.conv(features // self.reduction, (1, 1), name='conv1')(y))
    return x * nn.sigmoid(self.conv(features, (1, 1), name='conv2')(y))


class ChannelAttentionBlock(nn.Module):
  """Residual channel attention block (RCAB of Zhang et al., ECCV 2018).

  x + attention(conv(act(conv(x)))), kernels of 3x3.

  Attributes:
    features: channels of the input and of the output.
    act: the activation between the two convolutions.
    reduction: as for `ChannelAttention`.
    conv: makes a convolution.
  """

  features: int
  act: Callable[[jax.Array], jax.Array]
  reduction: int
  conv: ModuleDef = nn.Conv

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features to features."""
    y = self.conv(self.features, (3, 3), padding=1, name='conv1')(x)
    y = self.conv(self.features, (3, 3), padding=1, name='conv2')(self.act(y))
    return x + ChannelAttention(self.reduction, self.conv, name='attention')(y)


def pixel_shuffle(
  x: Float[jax.Array, 'b h w channels'], factor: int
) -> Float[jax.Array, 'b {factor}*h {factor}*w channels//{factor}**2']:
  """Rearrange channels into pixels, in PyTorch's order (Shi et al. 2016).

  Args:
    x: features; channel `c * factor**2 + i * factor + j` goes to pixel `(i, j)` of channel `c`.
    factor: factor by which each side grows.
  """
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, c // factor**2, factor, factor)
  x = x.transpose(0, 1, 4, 2, 5, 3)  # [B, h, i, w, j, C]
  return x.reshape(b, h * factor, w * factor, c // factor**2)


def pad_to_multiple(
  x: Float[jax.Array, 'b h w c'], stride: tuple[int, int], mode: str = 'reflect'
) -> Float[jax.Array, 'b height width c']:
  """Pad images at their bottom and right edges, up to the next multiple of each stride.

  Args:
    x: images or features.
    stride: divisors of the height and of the width of the result.
    mode: as for `jnp.pad`.
  """
  _, h, w, _ = x.shape
  below, right = -h % stride[0], -w % stride[1]
  if not below and not right:
    return x  # jax2onnx cannot convert a padding by 0 in mode 'edge'
  return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), mode=mode)


def pad_mirrored(
  x: Float[jax.Array, 'b h w c'], count: int, mode: Literal['reflect', 'symmetric']
) -> Float[jax.Array, 'b h+2*{count} w+2*{count} c']:
  """Pad images on all sides by their mirror images, as `jnp.pad` does.

  Unlike `jnp.pad`, it accepts the symbolic sizes of a network that is exported.

  Args:
    x: images or features.
    count: number of pixels on each side.
    mode: 'reflect' to omit the border itself from the mirror image, 'symmetric' to repeat it.
  """
  skipped = 1 if mode == 'reflect' else 0
  for axis in (1, 2):
    last = x.shape[axis] - 1
    # The mirror image of a mirror image is the image again: places are periodic.
    places = (jnp.arange(count) + skipped) % jnp.maximum(2 * last + 2 - 2 * skipped, 1)
    places = jnp.minimum(places, 2 * last + 1 - skipped - places)
    before, after = (jnp.take(x, i, axis=axis) for i in (places[::-1], last - places))
    x = jnp.concatenate([before, x, after], axis=axis)
  return x


def split(x: Shaped[jax.Array, 'b h w c'], axis: int) -> Shaped[jax.Array, '2*b _ _ c']:
  """Split images along an axis: all first halves, then all second ones."""
  b, *sides, c = x.shape
  sides[axis - 1] //= 2
  halves = x.reshape(*x.shape[:axis], 2, sides[axis - 1], *x.shape[axis + 1 :])
  return jnp.moveaxis(halves, axis, 0).reshape(2 * b, *sides, c)


def merge(x: Shaped[jax.Array, 'b h w c'], axis: int) -> Shaped[jax.Array, 'b//2 _ _ c']:
  """Join the halves of images: the inverse of `split`."""
  b, *sides, c = x.shape
  halves = jnp.moveaxis(x.reshape(2, b // 2, *sides, c), 0, axis)
  sides[axis - 1] *= 2
  return halves.reshape(b // 2, *sides, c)


def halve(x: Float[jax.Array, 'b h w c']) -> Float[jax.Array, 'b h//2 w//2 c']:
  """Reduce even sides by 2, to means of 2x2 pixels: PyTorch's bilinear `interpolate`."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // 2, 2, w, c).mean(axis=2)
  return x.reshape(b, h // 2, w // 2, 2, c).mean(axis=3)


def resize_bilinear(
  x: Float[jax.Array, 'b h w c'], height: int, width: int
) -> Float[jax.Array, 'b {height} {width} c']:
  """Resize images as PyTorch's bilinear `interpolate` with `align_corners=False` does.

  There is no antialiasing.
  """
  b, h, w, c = x.shape
  if (h, w) == (height, width):
    return x
  return jax.image.resize(x, (b, height, width, c), 'bilinear', antialias=False)


def scaled_normal(scale: float, fan: Literal['fan_in', 'fan_out']) -> nn.initializers.Initializer:
  """Return the normal initialiser with variance `scale / fan`.

  Args:
    scale: 2 for He et al. 2015, 1 for LeCun et al. 1998.
    fan: 'fan_in' or 'fan_out', the kernel's area times its input or output channels.
  """
  return nn.initializers.variance_scaling(scale, fan, 'normal')


def torch_uniform_init(fan_in: int) -> nn.initializers.Initializer:
  """Return PyTorch's default initialiser: uniform in `[-1, 1] / sqrt(fan_in)`."""
  bound = fan_in**-0.5

  def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def torch_convolutions(model: nn.Module) -> tuple[ModuleDef, ModuleDef]:
  """Return makers of convolutions and of transposed ones, initialised as PyTorch's.

  Args:
    model: network with the fields `dtype` and `precision`.

  Returns:
    A function of the fields of `nn.Conv`, and one of those of `ConvTranspose`, by default 3x3 with
    a stride of 2.
  """
  layer: dict[str, Any] = dict(dtype=jnp.dtype(model.dtype), precision=model.precision)

  def conv(
    features: int, kernel_size: tuple[int, int], **options: Any
  ) -> Callable[[jax.Array], jax.Array]:
    def apply(x: jax.Array) -> jax.Array:  # becomes a submodule of the calling module
      init = dict(
        kernel_init=torch_kernel_init,
        bias_init=torch_uniform_init(math.prod(kernel_size) * x.shape[-1]),
      )
      fast = dict(conv_general_dilated=conv_general_dilated)
      return nn.Conv(features, kernel_size, **init | fast | layer | options)(x)

    return apply

  def deconv(
    features: int,
    kernel_size: tuple[int, int] = (3, 3),
    strides: tuple[int, int] = (2, 2),
    **options: Any,
  ) -> nn.Module:
    init = torch_uniform_init(math.prod(kernel_size) * features)
    initializers = dict(kernel_init=init, bias_init=init)
    return ConvTranspose(features, kernel_size, strides, **initializers | layer | options)

  return conv, deconv


def batch_norm(model: nn.Module, train: bool) -> ModuleDef:
  """Return a maker of batch normalisations, as PyTorch's.

  Args:
    model: network with the fields `dtype` and `axis_name`.
    train: True to normalise by the statistics of the batch, on all devices mapped over `axis_name`,
      and to update the running ones.
  """
  return functools.partial(
    nn.BatchNorm,
    use_running_average=not train,
    momentum=0.9,
    epsilon=1e-5,
    use_fast_variance=False,
    dtype=jnp.dtype(model.dtype),
    axis_name=model.axis_name,
  )


def check_choice(field: str, value: object, allowed: tuple[object, ...]) -> None:
  """Raise a ValueError if the value of a network's field is not allowed."""
  if value not in allowed:
    raise ValueError(f'unknown {field} {value!r}; choose from {", ".join(map(str, allowed))}')


def check_positive(field: str, value: int) -> None:
  """Raise a ValueError if the number in a network's field is below 1."""
  if value < 1:
    raise ValueError(f'{field} must be at least 1, not {value!r}')
