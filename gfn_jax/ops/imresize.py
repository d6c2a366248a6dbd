"""MATLAB's bicubic `imresize`, exact in every uint8 value, for NumPy and JAX arrays.

The degradation of every paper in this library is `imresize(image, 1/4, 'bicubic')`. PIL,
`jax.image.resize` and OpenCV all differ from it, at least near the border.
"""

import functools
from collections.abc import Sequence
from typing import Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float64, Real

Array = TypeVar('Array', np.ndarray, jax.Array)

BORDERS: dict[str, Literal['symmetric', 'edge']] = {'symmetric': 'symmetric', 'replicate': 'edge'}
"""MATLAB's names of the borders, with the names of `np.pad`."""

# Values this close below a half are rounded up, too. Halves are common, as the weights are small
# fractions, and their rounding must not depend on the last bit of a sum.
_TIE = 1e-6


def round_half_up(x: Float[np.ndarray, '*shape']) -> Float[np.ndarray, '*shape']:
  """Round to the nearest integer, halves up, as MATLAB does for the positive values of an image."""
  return np.floor(x + (0.5 + _TIE))


def cubic_kernel(x: Float[np.ndarray, '*shape']) -> Float[np.ndarray, '*shape']:
  """Return Keys' cubic convolution kernel, a = -0.5, at distances `x` (Keys 1981, eq. 15)."""
  x = np.abs(x)
  near = 1.5 * x**3 - 2.5 * x**2 + 1
  far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
  return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@functools.lru_cache(maxsize=64)
def resize_weights(
  in_size: int, out_size: int, scale: float, border: str
) -> Float64[np.ndarray, '{out_size} {in_size}']:
  """Return the matrix that resizes one axis: `out = weights @ axis`.

  Args:
    in_size: input length in pixels.
    out_size: output length in pixels.
    scale: factor that maps coordinates; may differ from `out_size / in_size`.
    border: 'symmetric' (mirrors the border, edge pixel included) or 'replicate'.

  Returns:
    The matrix, each row summing to 1. Read-only, as it is cached.
  """
  stretch = min(scale, 1.0)  # MATLAB's antialiasing widens the kernel to shrink
  support = 4.0 / stretch
  centre = (np.arange(out_size) + 0.5) / scale - 0.5
  left = np.floor(centre - support / 2).astype(np.int64)
  taps = left[:, None] + np.arange(int(np.ceil(support)) + 2)
  weights = cubic_kernel(stretch * (centre[:, None] - taps))
  weights /= weights.sum(axis=1, keepdims=True)
  pad = max(0, -int(taps.min()), int(taps.max()) - in_size + 1)
  source = np.pad(np.arange(in_size), pad, mode=BORDERS[border])[taps + pad]
  matrix = np.zeros((out_size, in_size))
  np.add.at(matrix, (np.arange(out_size)[:, None], source), weights)
  matrix.setflags(write=False)
  return matrix


def imresize(
  image: Real[Array, 'h w *c'], scale: float | tuple[int, int], border: str = 'symmetric'
) -> Real[Array, 'height width *c']:
  """Resize an image as MATLAB's `imresize(image, scale, 'bicubic')` does.

  The kernel is Keys' cubic (a = -0.5), widened by 1/scale when shrinking. The axis with the smaller
  scale is resized first, or rows first if the scales are equal. Integer images are rounded (half
  up) and clipped after each axis, as in MATLAB. Float images are not, and can overshoot slightly.

  A NumPy image is computed in float64. A JAX image is computed in its own float type (float32
  for uint8), may be traced by `jit`, `vmap` and `grad`, and gives the same integers.

  Args:
    image: `[h, w]` or `[h, w, c]`; NumPy: any integer or float type, JAX: uint8 or float.
    scale: a factor, giving `ceil(h * scale)` by `ceil(w * scale)` pixels; or the output size
      `(height, width)`, as in MATLAB's `imresize(image, [height width])`.
    border: 'symmetric' mirrors the border, edge pixel included (MATLAB since about 2012, the
      default); 'replicate' repeats the edge pixel (older MATLAB, the common Set5 / Set14 files).

  Returns:
    The resized image, with the type of `image`.

  Raises:
    ValueError: for another rank, an empty image, a scale of 0 or less, or an unknown border.
    TypeError: for an unsupported element type.
  """
  if image.ndim not in (2, 3) or 0 in image.shape:
    raise ValueError(f'image must be [H, W] or [H, W, C] without an empty axis, not {image.shape}')
  if border not in BORDERS:
    raise ValueError(f'unknown border {border!r}; choose from {", ".join(sorted(BORDERS))}')
  resize_axis = _resize_axis_jax if isinstance(image, jax.Array) else _resize_axis_numpy
  in_size = image.shape[:2]
  out_size: Sequence[int]
  if isinstance(scale, tuple):
    out_size, scales = scale, [out / size for out, size in zip(scale, in_size, strict=True)]
  else:
    out_size, scales = [int(np.ceil(size * scale)) for size in in_size], [float(scale)] * 2
  if not min(scales) > 0:
    raise ValueError(f'scale must be positive, not {scale}')
  for axis in sorted((0, 1), key=scales.__getitem__):
    weights = resize_weights(in_size[axis], out_size[axis], scales[axis], border)
    image = resize_axis(image, weights, axis)
  return image


def _resize_axis_numpy(image: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
  if image.dtype.kind not in 'uif':
    raise TypeError(f'image must be of integers or floats, not {image.dtype}')
  out = np.moveaxis(np.tensordot(weights, image.astype(np.float64), (1, axis)), 0, axis)
  if image.dtype.kind == 'f':
    return out.astype(image.dtype)
  limits = np.iinfo(image.dtype)
  return np.clip(round_half_up(out), limits.min, limits.max).astype(image.dtype)


def _resize_axis_jax(image: jax.Array, weights: np.ndarray, axis: int) -> jax.Array:
  def matmul(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    out = jnp.tensordot(
      jnp.asarray(matrix, x.dtype), x, (1, axis), precision=jax.lax.Precision.HIGHEST
    )
    return jnp.moveaxis(out, 0, axis)

  if jnp.issubdtype(image.dtype, jnp.floating):
    return matmul(weights, image)
  if image.dtype != jnp.uint8:
    raise TypeError(f'a JAX image must be uint8 or float, not {image.dtype}')
  # float32 sums are inexact, but halves must round as in float64. So the weights are split into
  # multiples of 2**-15, whose sums are exact, and a small remainder.
  coarse = np.round(weights * 2**15) / 2**15
  exact = matmul(coarse, image.astype(jnp.float32))
  rest = matmul(weights - coarse, image.astype(jnp.float32))
  whole = jnp.floor(exact)
  rounded = whole + jnp.floor(exact - whole + rest + (0.5 + _TIE))
  return jnp.clip(rounded, 0, 255).astype(jnp.uint8)
