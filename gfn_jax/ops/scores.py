"""Scores of a restored image and of bicubic interpolation, the baseline of every table."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from gfn_jax.errors import UserError
from gfn_jax.ops import metrics
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.pixels import to_uint8

DIGITS = {'psnr': 2, 'ssim': 4, 'lpips': 4}
"""The metrics in the order of tables, with the number of decimals to show."""


def bicubic(
  lr_blur: UInt8[np.ndarray, 'h w 3'] | Float[np.ndarray, 'h w 3'], scale: int = 4
) -> UInt8[np.ndarray, '{scale}*h {scale}*w 3']:
  """Return `lr_blur` enlarged by MATLAB's bicubic interpolation.

  Args:
    lr_blur: the image; floats are in [0, 1].
    scale: factor of enlargement.
  """
  lr_blur = lr_blur / 255 if lr_blur.dtype == np.uint8 else lr_blur
  return to_uint8(imresize(lr_blur.astype(np.float64), scale))


def score(
  name: str,
  lr_blur: UInt8[np.ndarray, 'h w 3'] | Float[np.ndarray, 'h w 3'],
  restored: UInt8[np.ndarray, 'height width 3'] | Float[np.ndarray, 'height width 3'],
  target: UInt8[np.ndarray, 'height width 3'] | Float[np.ndarray, 'height width 3'],
  protocol: str,
  lpips: Callable[[UInt8[np.ndarray, 'h w 3'], UInt8[np.ndarray, 'h w 3']], float] | None = None,
) -> dict[str, float]:
  """Compare a restored image, and the bicubic enlargement of its input, with the target.

  Args:
    name: name of the image, for error messages.
    lr_blur: the input; floats are in [0, 1], like those of the others.
    restored: `[s * h, s * w, 3]`, s from 1 to 4; with 1 the baseline is `lr_blur` itself.
    target: the sharp image.
    protocol: a key of `metrics.PROTOCOLS`.
    lpips: a further metric of two images. It gets them whole, without the protocol's crop.

  Returns:
    `psnr`, `ssim`, `bicubic_psnr`, `bicubic_ssim`; with LPIPS also `lpips` and `bicubic_lpips`.

  Raises:
    UserError: if the target's size differs from the image's, or is too small for a metric.
  """
  if target.shape != restored.shape:
    (h, w), (height, width) = lr_blur.shape[:2], restored.shape[:2]
    raise UserError(
      f'{name}: expected a target of {width}x{height} for the input of {w}x{h}, found '
      f'{target.shape[1]}x{target.shape[0]}'
    )
  scale = target.shape[0] // lr_blur.shape[0]

  def compare(image: np.ndarray) -> dict[str, float]:
    scores = metrics.evaluate_pair(image, target, protocol, scale)
    if lpips is not None:
      scores['lpips'] = lpips(to_uint8(image), to_uint8(target))
    return scores

  try:
    scores = compare(restored)
    baseline = compare(bicubic(lr_blur, scale) if scale > 1 else lr_blur)
  except ValueError as error:
    raise UserError(f'{name}: {error}') from error
  return scores | {f'bicubic_{key}': value for key, value in baseline.items()}
