"""SRN-Deblur, the scale-recurrent network (Tao et al., CVPR 2018).

    lr_blur at 1/4 --> ScaleNet --> image at 1/4
                          |
                          v  image and state, enlarged 2x
    lr_blur at 1/2 --> ScaleNet --> image at 1/2
                          |
                          v  image and state, enlarged 2x
    lr_blur ---------> ScaleNet --> lr

    ScaleNet:
    conv --> blocks --+--------------------------------------------------(+)--> blocks --> conv
                      v                                                   ^
                     conv --> blocks --+-------------------(+)--> blocks --> deconv
                                       v                    ^
                                      conv --> blocks --> (ConvLSTM) --> blocks --> deconv

All scales share the weights of one ScaleNet. Its input is the blurred image and the image of the
coarser scale; for the coarsest scale, the blurred image twice. The state is the ConvLSTM's, which
the preset `lstm` has.

This follows the authors' TensorFlow code. Images are reduced to every 4th or 2nd pixel, without
means. Strided convolutions pad more at the bottom and the right. Gradients pass to the coarser
scale through the state, but not through the image.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.activations import relu
from gfn_jax.layers.blocks import (
  SMALL_IMAGES,
  ModuleDef,
  ResBlock,
  check_choice,
  check_positive,
  pad_to_multiple,
)
from gfn_jax.layers.conv_lstm import ConvLSTM, State
from gfn_jax.layers.cpu_conv import ConvTranspose, conv_general_dilated
from gfn_jax.models.base import GLOBAL_SKIPS, Pyramid, RestorationModel, RestorationOutput

STEPS = (4, 2)  # between the pixels of the coarser scales
STRIDE = 16  # two convolutions of stride 2, at 1/4

_kernel_init = nn.initializers.glorot_uniform()


class ScaleNet(nn.Module):
  """Encoder-decoder with kernels of 5x5, for the images of one scale.

  Attributes:
    features: channels at the scale's size, doubled at 1/2 of it and again at 1/4.
    blocks: number of residual blocks in each stage of the encoder and of the decoder.
    channels: channels of the result.
    lstm: True for a ConvLSTM between encoder and decoder.
    conv: makes a convolution.
    deconv: makes a transposed convolution that doubles the size.
    last_init: kernel initialiser of the convolution that makes the image.
  """

  features: int
  blocks: int
  channels: int
  lstm: bool
  conv: ModuleDef
  deconv: ModuleDef
  last_init: nn.initializers.Initializer = _kernel_init

  # Blocks have the authors' numbers: from 2 in the encoder, down to 1 in the decoder.

  def _encode(self, y: jax.Array, level: int) -> jax.Array:
    for i in range(2, self.blocks + 2):
      y = self._res_block(y, f'encoder{level}_{i}')
    return y

  def _decode(self, y: jax.Array, level: int) -> jax.Array:
    for i in range(self.blocks, 0, -1):
      y = self._res_block(y, f'decoder{level}_{i}')
    return y

  def _res_block(self, y: jax.Array, name: str) -> jax.Array:
    f = y.shape[-1]
    return ResBlock(f, relu, self.conv, last_init=_kernel_init, kernel_size=5, name=name)(y)

  @nn.compact
  def __call__(
    self, x: Float[jax.Array, 'b h w c'], state: State | None
  ) -> tuple[Float[jax.Array, 'b h w {self.channels}'], State | None]:
    """Map images, sides multiples of 4, and a ConvLSTM's state to an image and a new state.

    A state of None is zeros. It stays None without a ConvLSTM.
    """
    f = self.features
    conv = functools.partial(self.conv, kernel_size=(5, 5), padding=2)
    halve = functools.partial(conv, strides=2, padding=((1, 2), (1, 2)))  # TensorFlow's 'SAME'
    # Encoder.
    full = self._encode(relu(conv(f, name='conv1')(x)), level=1)  # [B, h, w, F]
    half = self._encode(relu(halve(2 * f, name='conv2')(full)), level=2)  # [B, h/2, w/2, 2F]
    y = self._encode(relu(halve(4 * f, name='conv3')(half)), level=3)  # [B, h/4, w/4, 4F]
    if self.lstm:
      lstm = ConvLSTM(4 * f, self.conv, nn.initializers.truncated_normal(1e-3), name='lstm')
      state, y = lstm(state or (jnp.zeros_like(y), jnp.zeros_like(y)), y)
    # Decoder.
    y = self._decode(y, level=3)
    y = relu(self.deconv(2 * f, name='deconv2')(y)) + half  # [B, h/2, w/2, 2F]
    y = self._decode(y, level=2)
    y = relu(self.deconv(f, name='deconv1')(y)) + full  # [B, h, w, F]
    y = self._decode(y, level=1)
    return conv(self.channels, kernel_init=self.last_init, name='conv_last')(y), state


class SRN(RestorationModel):
  """Deblurring from coarse to fine, at the input's size; 6,881,251 parameters by default.

  Its output has no `hr`. `lr_pyramid` are the images at 1/4 and 1/2. The paper's loss adds the mean
  squared errors of all three. Weights are initialised as the authors', with Glorot's uniform
  kernels.

  Presets: `color`, the default, and `lstm`, 8,056,609 parameters, are the authors' versions of
  these names. The paper's scores are those of `lstm`. `small`, 162,747, trains on CPUs.

  Attributes:
    features: channels at the full size of each scale.
    blocks: number of residual blocks in each stage of the encoder and of the decoder.
    lstm: True for a ConvLSTM between encoder and decoder; 8,061,411 parameters without `gray`.
    gray: True to deblur red, green and blue as three gray images; 6,876,449 parameters without
      `lstm`.
    global_skip: 'none' is the authors'. 'input' adds to the image of each scale the blurred image
      at that scale, and starts near it, which improves short trainings.
    dtype: type of the computation, such as 'bfloat16'. Parameters and outputs are float32.
    precision: precision of the matrix products, as `jax.lax.Precision`; 'highest' for parity on GPU
      and TPU.
  """

  features: int = 32
  blocks: int = 3
  lstm: bool = False
  gray: bool = False
  global_skip: str = 'none'
  dtype: Any = jnp.float32
  precision: Any = None

  scale = 1
  stride = (STRIDE, STRIDE)
  pad_mode = 'edge'
  # At 1/4, convolutions reach four times as far. With the random weights of the parity test, a
  # pixel 48 from the border of a tile changes by up to 3 % of the deviation: 1 of 255.
  local = False
  presets = {  # noqa: RUF012
    'color': {},
    'lstm': dict(lstm=True, gray=True),
    'small': dict(features=8, blocks=1),
  }

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
    b, h, w, _ = lr_blur.shape
    x = pad_to_multiple(lr_blur, self.stride, self.pad_mode)
    blurred = (*self.pyramid(x), x)
    if self.gray:
      blurred = tuple(map(_split_colors, blurred))
    images = self._deblur(blurred)
    if self.gray:
      images = [_join_colors(image, b) for image in images]
    *smaller, lr = (
      image[:, : -(-h // step), : -(-w // step)]
      for image, step in zip(images, (*STEPS, 1), strict=True)
    )
    return RestorationOutput(hr=None, lr=lr, lr_pyramid=tuple(smaller))

  def pyramid(self, image: Float[jax.Array, 'b h w 3']) -> Pyramid:
    """Return every 4th and every 2nd pixel of an image, as TensorFlow 1 reduces it."""
    return tuple(image[:, ::step, ::step] for step in STEPS)

  def _deblur(self, blurred: tuple[jax.Array, ...]) -> list[jax.Array]:
    """Map the blurred images of all scales, from coarse to fine, to sharp ones of the same sizes.

    Args:
      blurred: images `[B, h, w, C]`, sides multiples of 4, each twice as large as the one before.
    """
    layer: dict[str, Any] = dict(
      kernel_init=_kernel_init, dtype=jnp.dtype(self.dtype), precision=self.precision
    )
    conv = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated, **layer)
    deconv = functools.partial(ConvTranspose, kernel_size=(4, 4), strides=(2, 2), **layer)
    skip = self.global_skip == 'input'
    net = ScaleNet(
      self.features,
      self.blocks,
      blurred[0].shape[-1],
      self.lstm,
      conv,
      deconv,
      last_init=SMALL_IMAGES['kernel_init'] if skip else _kernel_init,
      name='net',
    )

    images: list[jax.Array] = []
    state = None
    for x in blurred:
      coarser = enlarge(jax.lax.stop_gradient(images[-1])) if images else x
      image, state = net(jnp.concatenate([x, coarser], axis=-1), state)
      image = image.astype(jnp.float32)
      images.append(image + x if skip else image)
      state = jax.tree.map(enlarge, state)
    return images


def enlarge(x: Float[jax.Array, 'b h w c']) -> Float[jax.Array, 'b 2*h 2*w c']:
  """Enlarge by 2, bilinearly, as TensorFlow 1 does: pixel i moves to 2i.

  The mean of two neighbours lies between them. The last pixel is repeated.
  """
  for axis in (1, 2):
    size = x.shape[axis]
    steps = jnp.pad(jnp.diff(x, axis=axis), [(0, int(i == axis)) for i in range(4)])
    pairs = jnp.stack([x, x + steps / 2], axis + 1)  # [B, h, 2, w, C], then [B, 2h, w, 2, C]
    x = pairs.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
  return x


def _split_colors(x: Float[jax.Array, 'b h w 3']) -> Float[jax.Array, '3*b h w 1']:
  """Make a gray image of each colour."""
  b, h, w, _ = x.shape
  return x.transpose(3, 0, 1, 2).reshape(3 * b, h, w, 1)


def _join_colors(x: Float[jax.Array, '3*b h w 1'], batch: int) -> Float[jax.Array, 'b h w 3']:
  """Join the colours of a number of images: the inverse of `_split_colors`."""
  _, h, w, _ = x.shape
  return x.reshape(3, batch, h, w).transpose(1, 2, 3, 0)
