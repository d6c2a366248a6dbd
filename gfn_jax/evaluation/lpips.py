"""LPIPS (Zhang et al., CVPR 2018), version 0.1 with AlexNet: the perceptual distance of images.

    lpips = LPIPS.from_files(['alexnet-owt-7be5be79.pth', 'alex.pth'])
    distance = lpips(restored, hr)

The weights are not part of this library. docs/lpips.md shows where to get them.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gfn_jax.interop.tensor_sets import TensorSet, conv_params
from gfn_jax.ops.pixels import check_image, to_float

# Convolutions of torchvision's AlexNet: index in `features`, channels, kernel, stride, padding.
_CONVS = (
  (0, 64, 11, 4, 2),
  (3, 192, 5, 1, 2),
  (6, 384, 3, 1, 1),
  (8, 256, 3, 1, 1),
  (10, 256, 3, 1, 1),
)
_POOLED = (1, 2)  # convolutions that follow a max pooling
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # for RGB in [-1, 1]

MIN_SIDE = 31
"""Smallest side of an image. It becomes one pixel of the last features."""


class AlexNet(nn.Module):
  """The convolutions of torchvision's AlexNet (Krizhevsky 2014)."""

  @nn.compact
  def __call__(self, x: jax.Array) -> list[jax.Array]:
    """Map `[B, h, w, 3]` to the outputs of the five ReLUs, `[B, ., ., C]`."""
    outputs = []
    for k, (_, channels, size, stride, padding) in enumerate(_CONVS):
      if k in _POOLED:
        x = nn.max_pool(x, (3, 3), strides=(2, 2))
      conv = nn.Conv(channels, (size, size), stride, padding, precision='highest', name=f'conv{k}')
      x = nn.relu(conv(x))
      outputs.append(x)
    return outputs


@jax.jit
def _features(params: Any, image: jax.Array) -> list[jax.Array]:
  """Return five arrays `[h, w, C]` for an image, with length 1 over the channels.

  It takes one image at a time, so that equal images get exactly equal features.
  """
  shift, scale = (np.array(x, np.float32).reshape(1, 1, 1, 3) for x in (_SHIFT, _SCALE))
  x = (2 * to_float(image)[None] - 1 - shift) / scale
  outputs = cast(list[jax.Array], AlexNet().apply({'params': params}, x))
  features = (output[0] for output in outputs)
  return [y / (jnp.sqrt(jnp.sum(y * y, axis=-1, keepdims=True)) + 1e-10) for y in features]


@jax.jit
def _distance(weights: list[jax.Array], a: list[jax.Array], b: list[jax.Array]) -> jax.Array:
  """Return the distance of two images' features, with a weight for each channel."""
  total = jnp.zeros(())
  for weight, features_a, features_b in zip(weights, a, b, strict=True):
    total += jnp.sum(weight * jnp.mean((features_a - features_b) ** 2, axis=(0, 1)))
  return total


def _layers() -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
  """Return, by PyTorch's name of each tensor, its shape and its names in `lpips.LPIPS`."""
  layers: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {}
  inputs = 3
  for k, (index, channels, size, _, _) in enumerate(_CONVS):
    for kind, shape in (('weight', (channels, inputs, size, size)), ('bias', (channels,))):
      layers[f'features.{index}.{kind}'] = shape, (f'net.slice{k + 1}.{index}.{kind}',)
    layers[f'lin{k}.model.1.weight'] = (1, channels, 1, 1), (f'lins.{k}.model.1.weight',)
    inputs = channels
  return layers


_TENSORS = TensorSet(
  'LPIPS with AlexNet',
  "the files of torchvision's AlexNet and of lpips' v0.1/alex.pth",
  shapes={name: shape for name, (shape, _) in _layers().items()},
  aliases={alias: name for name, (_, aliases) in _layers().items() for alias in aliases},
  ignored=('classifier.', 'scaling_layer.'),  # the rest of AlexNet, and _SHIFT and _SCALE
)


class LPIPS:
  """Perceptual distance of two images: 0 for equal images, larger for more different ones."""

  def __init__(self, state: Mapping[str, np.ndarray]):
    """Initialise from PyTorch's tensors.

    Args:
      state: `features.{0,3,6,8,10}.{weight,bias}` as in torchvision's AlexNet, or
        `net.slice{1..5}.*` as in `lpips.LPIPS`; and `lin{0..4}.model.1.weight`.

    Raises:
      UserError: if tensors are missing, unknown, of another shape or not finite.
    """
    tensors = _TENSORS.check(state)
    params = {
      f'conv{k}': conv_params(tensors, f'features.{index}') for k, (index, *_) in enumerate(_CONVS)
    }
    self._params = jax.tree.map(jnp.asarray, params)
    self._weights = [
      jnp.asarray(tensors[f'lin{k}.model.1.weight'].reshape(-1)) for k in range(len(_CONVS))
    ]

  @classmethod
  def from_files(cls, paths: Iterable[str | os.PathLike]) -> 'LPIPS':
    """Read PyTorch checkpoints, or safetensors files with the same names. Nothing is executed.

    Args:
      paths: files of torchvision's AlexNet and of lpips' `v0.1/alex.pth`, or one file with the
        state of `lpips.LPIPS()`.

    Raises:
      UserError: if a file cannot be read, the files contradict each other, or as `LPIPS`.
    """
    return cls(_TENSORS.read(paths))

  def __call__(self, a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance of two images, which is symmetric.

    Args:
      a: `[H, W, 3]`, RGB, uint8, uint16 or float in [0, 1], at least 31 pixels high and wide.
      b: an image of the same size.

    Raises:
      ValueError: for another shape, different sizes, too small images, or floats not in [0, 1].
      TypeError: for element types other than uint8, uint16 and floats.
    """
    a, b = _check_image(a), _check_image(b)
    if a.shape != b.shape:
      raise ValueError(f'LPIPS needs images of the same size, not {a.shape} and {b.shape}')
    features_a, features_b = (_features(self._params, image) for image in (a, b))
    return float(_distance(self._weights, features_a, features_b))


def _check_image(image: np.ndarray) -> np.ndarray:
  image = check_image(image)
  if image.ndim != 3 or image.shape[-1] != 3:
    raise ValueError(f'LPIPS needs [H, W, 3] images, not {image.shape}')
  if min(image.shape[:2]) < MIN_SIDE:
    raise ValueError(f'LPIPS needs at least {MIN_SIDE} pixels a side, not {image.shape}')
  if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 1):
    raise ValueError(f'float images are in [0, 1], not from {image.min()} to {image.max()}')
  return image
