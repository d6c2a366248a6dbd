"""The eight symmetries of the square, numbered 0 to 7.

The bits of a number mean: mirror the image (1), flip it upside down (2), then transpose it (4).
Number 0 leaves it unchanged.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Shaped

Array = TypeVar('Array', np.ndarray, jax.Array)

SYMMETRIES = tuple(range(8))

_STEPS = (
  (1, lambda x: x[..., ::-1, :]),
  (2, lambda x: x[..., ::-1, :, :]),
  (4, lambda x: x.swapaxes(-3, -2)),
)


def apply_symmetry(image: Shaped[Array, '... h w c'], symmetry: int) -> Shaped[Array, '... _ _ c']:
  """Return images under a symmetry; numbers from 4 exchange h and w."""
  for bit, step in _STEPS:
    image = step(image) if symmetry & bit else image
  return image


def undo_symmetry(image: Shaped[Array, '... h w c'], symmetry: int) -> Shaped[Array, '... _ _ c']:
  """Return the inverse of `apply_symmetry`."""
  for bit, step in reversed(_STEPS):
    image = step(image) if symmetry & bit else image
  return image


def apply_traced_symmetry(
  image: Shaped[jax.Array, 'n n c'], symmetry: Int[jax.Array, '']
) -> Shaped[jax.Array, 'n n c']:
  """Return a square image under a symmetry whose number may be traced."""
  for bit, step in _STEPS:
    image = jnp.where(symmetry & bit, step(image), image)
  return image
