"""Conversions between pixel types: uint8, uint16 and float in [0, 1]."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real, UInt8

from gfn_jax.ops.imresize import round_half_up


def to_float(image: Real[jax.Array, '*shape']) -> Float[jax.Array, '*shape']:
  """Return an image as input of a network: integers as float32 in [0, 1], floats unchanged."""
  if jnp.issubdtype(image.dtype, jnp.integer):
    return image.astype(jnp.float32) / jnp.iinfo(image.dtype).max
  return image


@functools.partial(jax.jit, static_argnums=1)
def from_float(image: Float[jax.Array, '*shape'], dtype: Any) -> Real[jax.Array, '*shape']:
  """Return a network's image clipped to [0, 1], as float32 or an integer type, rounded half up."""
  image = jnp.clip(image, 0, 1)
  if dtype == jnp.float32:
    return image
  return jnp.floor(image * jnp.iinfo(dtype).max + 0.5).astype(dtype)


def to_uint8(
  image: UInt8[np.ndarray, '*shape'] | Float[np.ndarray, '*shape'],
) -> UInt8[np.ndarray, '*shape']:
  """Return an image in [0, 1] as uint8, clipped and rounded half up; uint8 is returned unchanged.

  Raises:
    TypeError: for element types other than uint8 and floats.
    ValueError: for values that are not finite.
  """
  image = np.asarray(image)
  if image.dtype == np.uint8:
    return image
  if not np.issubdtype(image.dtype, np.floating) and image.dtype.name != 'bfloat16':
    raise TypeError(f'image must be uint8 or float in [0, 1], not {image.dtype}')
  if not np.isfinite(image).all():
    raise ValueError('image has values that are not finite')
  return round_half_up(np.clip(image.astype(np.float64), 0, 1) * 255).astype(np.uint8)


def to_8_bits(image: Real[np.ndarray, '*shape']) -> Real[np.ndarray, '*shape']:
  """Return uint16 pixels as uint8, rounded; other types are returned unchanged."""
  if image.dtype != np.uint16:
    return image
  return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def is_opaque(image: Real[np.ndarray, '*shape c']) -> bool:
  """Return True if no pixel is transparent in grey and alpha, or RGB and alpha, of integers."""
  return image.shape[-1] not in (2, 4) or bool((image[..., -1] == np.iinfo(image.dtype).max).all())


def spread_colours(
  colours: Real[np.ndarray, 'h w c'], alpha: Real[np.ndarray, 'h w']
) -> Real[np.ndarray, 'h w c']:
  """Replace the colours of fully transparent pixels by those of the nearest other pixels.

  Such colours are invisible and often black. A filter would mix them into the visible ones.

  Args:
    colours: `[h, w, C]` of any type.
    alpha: `[h, w]`; 0 or less is fully transparent.

  Returns:
    A new array, or `colours` itself if all or none of the pixels are fully transparent.
  """
  from scipy import ndimage  # late: only images with alpha need it

  hidden = alpha <= 0
  if hidden.all() or not hidden.any():
    return colours
  rows, columns = ndimage.distance_transform_edt(
    hidden, return_distances=False, return_indices=True
  )
  return colours[rows, columns]


def check_image(image: Any) -> Real[np.ndarray, 'h w *c']:
  """Return an image as an array for `Restorer` and `LPIPS`; floats become float32.

  Args:
    image: `[h, w]` or `[h, w, C]`, C from 1 to 4; uint8, uint16 or float in [0, 1].

  Raises:
    ValueError: for another shape, or floats that are not finite or far from [0, 1].
    TypeError: for another type.
  """
  image = np.asarray(image)
  if image.ndim not in (2, 3) or 0 in image.shape or (image.ndim == 3 and image.shape[-1] > 4):
    raise ValueError(f'image must be [h, w] or [h, w, C] with C from 1 to 4, not {image.shape}')
  if image.dtype in (np.uint8, np.uint16):
    return image
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise TypeError(f'image must be uint8, uint16 or float in [0, 1], not {image.dtype}')
  image = image.astype(np.float32)
  if not (image.min() >= -1 and image.max() <= 2):  # bicubic overshoots a little
    raise ValueError(f'float images must be in [0, 1], not from {image.min()} to {image.max()}')
  return image
