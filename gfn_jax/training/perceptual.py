"""The last features of VGG19 (Simonyan and Zisserman, ICLR 2015), for a perceptual loss.

    features = VGG19.from_file('vgg19-dcbb9e9d.pth')
    loss = make_loss(config.loss, weights, features)

The weights are not part of this library: bring those of torchvision, trained on ImageNet, from
https://download.pytorch.org/models/vgg19-dcbb9e9d.pth (548 MB).
"""

import os
from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gfn_jax.interop.tensor_sets import TensorSet, conv_params
from gfn_jax.layers.activations import relu

# Of torchvision's VGG19: index among its `features` and output channels. All kernels are 3x3.
_BLOCKS = (
  ((0, 64), (2, 64)),
  ((5, 128), (7, 128)),
  ((10, 256), (12, 256), (14, 256), (16, 256)),
  ((19, 512), (21, 512), (23, 512), (25, 512)),
  ((28, 512), (30, 512), (32, 512), (34, 512)),
)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in [0, 1]

MIN_SIDE = 2 ** (len(_BLOCKS) - 1)
"""Sides of the smallest image: it becomes one pixel."""


class _Convolutions(nn.Module):
  precision: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Map `[B, h, w, 3]` to the output of conv5_4, before its ReLU."""
    last_index, _ = _BLOCKS[-1][-1]
    for number, block in enumerate(_BLOCKS):
      if number:
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
      for index, channels in block:
        x = nn.Conv(channels, (3, 3), padding=1, precision=self.precision, name=f'conv{index}')(x)
        x = x if index == last_index else relu(x)
    return x


def _shapes() -> dict[str, tuple[int, ...]]:
  shapes: dict[str, tuple[int, ...]] = {}
  inputs = 3
  for index, channels in (layer for block in _BLOCKS for layer in block):
    shapes[f'features.{index}.weight'] = (channels, inputs, 3, 3)
    shapes[f'features.{index}.bias'] = (channels,)
    inputs = channels
  return shapes


_TENSORS = TensorSet(
  'VGG19',
  "the file of torchvision's, vgg19-dcbb9e9d.pth",
  shapes=_shapes(),
  ignored=('classifier.',),
)


class VGG19:
  """The features of VGG19's last convolution, conv5_4, before its ReLU: a function of images."""

  def __init__(self, state: Mapping[str, np.ndarray], precision: Any = None):
    """Build the network from PyTorch's tensors.

    Args:
      state: `features.{0,2,...,34}.{weight,bias}`, as of torchvision's VGG19.
      precision: of the matrix products, as `jax.lax.Precision`.

    Raises:
      UserError: naming tensors that are missing, unknown, of another shape or not finite.
    """
    tensors = _TENSORS.check(state)
    names = (f'features.{index}' for block in _BLOCKS for index, _ in block)
    params = {name.replace('features.', 'conv'): conv_params(tensors, name) for name in names}
    self._params = jax.tree.map(jnp.asarray, params)
    self._convolutions = _Convolutions(precision)

  @classmethod
  def from_file(cls, path: str | os.PathLike, precision: Any = None) -> 'VGG19':
    """Read PyTorch's checkpoint, or a safetensors file with the same names, without unpickling.

    Args:
      path: of the file.
      precision: of the matrix products, as `jax.lax.Precision`.

    Raises:
      UserError: if the file cannot be read, or as `VGG19`.
    """
    return cls(_TENSORS.read([path]), precision)

  def __call__(self, images: jax.Array) -> jax.Array:
    """Map RGB `[B, h, w, 3]`, floats in [0, 1], to `[B, h // 16, w // 16, 512]`.

    It may be traced and differentiated. Values beyond [0, 1] are not clipped.

    Raises:
      ValueError: for images of another shape, or with sides below 16 pixels.
      TypeError: for images that are not of floats.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < MIN_SIDE:
      raise ValueError(
        f'VGG19 needs [B, h, w, 3] images, sides at least {MIN_SIDE}, not {images.shape}'
      )
    if not jnp.issubdtype(images.dtype, jnp.floating):
      raise TypeError(f'VGG19 needs floats in [0, 1], not {images.dtype}')
    mean, deviation = (np.reshape(x, (1, 1, 1, 3)).astype(np.float32) for x in (_MEAN, _DEVIATION))
    x = (images - mean) / deviation
    return cast(jax.Array, self._convolutions.apply({'params': self._params}, x))
