"""Networks as exported files compute them, and the comparison of a file with its network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.models import RestorationModel, RestorationOutput

TOLERANCE = 1e-4
"""Largest difference between the output of a file and of JAX, in standard deviations of JAX's."""

Images = dict[str, jax.typing.ArrayLike]
"""Outputs of a network, by their names in `RestorationOutput`."""


def restore_images(
  model: RestorationModel,
  variables: Mapping[str, Any],
  lr_blur: jax.typing.ArrayLike,
  output: str | None = None,
) -> Images:
  """Apply a network, as an exported file does.

  Args:
    model: a network of this library.
    variables: its variables.
    lr_blur: `[B, h, w, 3]` float32 in [0, 1]. The sides are multiples of `model.stride`.
    output: the only output to return; None returns all that the network has.

  Returns:
    The outputs, float32 and not clipped: `hr`, `[B, 4h, 4w, 3]`; `lr`, `[B, h, w, 3]`; and
    `frames`, `[B, 7, h, w, 3]`.
  """
  restored = cast(RestorationOutput, model.apply(variables, lr_blur))
  images = {'hr': restored.hr, 'lr': restored.lr, 'frames': restored.frames}
  return {
    name: image for name, image in images.items() if image is not None and output in (None, name)
  }


def output_names(
  model: RestorationModel, variables: Mapping[str, Any], output: str | None = None
) -> list[str]:
  """Return the names of a network's outputs, or `[output]`.

  Raises:
    UserError: if the network does not have `output`.
  """
  lr_blur = jax.ShapeDtypeStruct((1, *(16 * step for step in model.stride), 3), np.float32)
  names = list(jax.eval_shape(lambda x: restore_images(model, variables, x), lr_blur))
  if output is None:
    return names
  if output not in names:
    raise UserError(f'{type(model).__name__} has no output {output}: choose {" or ".join(names)}')
  return [output]


def check_parity(
  restore: Callable[[np.ndarray], Images],
  model: RestorationModel,
  variables: Mapping[str, Any],
  sizes: Sequence[tuple[int, int, int]],
  output: str | None = None,
) -> None:
  """Compare a file with the network on random images, and print the largest differences.

  Args:
    restore: the loaded file, a function of `lr_blur`.
    model: the network.
    variables: its variables.
    sizes: batch, height and width of the images, which the file must accept.
    output: the only output of the file; None for all that the network has.

  Raises:
    UserError: if the outputs differ by more than `TOLERANCE`.
  """
  reference = jax.jit(lambda variables, x: restore_images(model, variables, x, output))
  for size in sizes:
    lr_blur = np.random.default_rng(0).random((*size, 3), np.float32)
    expected, got = reference(variables, lr_blur), restore(lr_blur)
    if got.keys() != expected.keys():
      raise UserError(
        f'not written: the file returns {", ".join(got)} but JAX returns {", ".join(expected)}'
      )
    for name, image in expected.items():
      _compare(f'{name} of {"x".join(map(str, size))}', np.asarray(got[name]), np.asarray(image))


def _compare(what: str, got: np.ndarray, expected: np.ndarray) -> None:
  if got.shape != expected.shape:
    raise UserError(f'not written: {what} has shape {got.shape}, expected {expected.shape}')
  difference = float(np.abs(got - expected).max())
  relative = difference / (float(expected.std()) or 1.0)
  text = f'{what}: maximum difference {difference:.1e}, {relative:.1e} standard deviations'
  if not relative <= TOLERANCE:  # also true for NaN
    raise UserError(f'not written: {text}; the limit is {TOLERANCE:.0e}')
  print(text)
