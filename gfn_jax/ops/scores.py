"""Scores of a restored image and of bicubic interpolation, the baseline of every table."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from jaxtyping import Float, UInt8

from gfn_jax.errors import UserError
from gfn_jax.ops import metrics
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.pixels import to_uint8

DIGITS = {'psnr': 2, 'ssim': 4, 'lpips': 4}
"""The metrics in the order of tables, with the number of decimals to show."""

Metric = Callable[[UInt8[np.ndarray, 'h w 3'], UInt8[np.ndarray, 'h w 3']], float]
"""A metric of two images of the same size."""

_BASELINE = 'bicubic_'  # prefix of the baseline's scores


@dataclasses.dataclass(frozen=True)
class Reference:
  """One of several sharp images of a scene.

  Attributes:
    name: name of the image.
    pixels: `[H, W, 3]`, uint8 or float in [0, 1].
  """

  name: str
  pixels: np.ndarray


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
  lpips: Metric | None = None,
) -> dict[str, float]:
  """Compare a restored image, and the bicubic enlargement of its input, with the target.

  Args:
    name: name of the image, for error messages.
    lr_blur: the input; floats are in [0, 1], like those of the others.
    restored: `[s * h, s * w, 3]`, s from 1 to 4; with 1 the baseline is `lr_blur` itself.
    target: the sharp image.
    protocol: a key of `metrics.PROTOCOLS`.
    lpips: a further metric. It gets the images whole, without the protocol's crop.

  Returns:
    `psnr`, `ssim`, `bicubic_psnr`, `bicubic_ssim`; with LPIPS also `lpips` and `bicubic_lpips`.

  Raises:
    UserError: if the target's size differs from the image's, or is too small for a metric.
  """
  _check_size(name, lr_blur, restored, target)
  with _naming(name):
    images = _with_baseline(lr_blur, restored)
    return _compare(images, dict.fromkeys(images, target), protocol, _scale(lr_blur, target), lpips)


def score_references(
  name: str,
  lr_blur: UInt8[np.ndarray, 'h w 3'] | Float[np.ndarray, 'h w 3'],
  restored: UInt8[np.ndarray, 'height width 3'] | Float[np.ndarray, 'height width 3'],
  references: Iterable[Reference],
  protocol: str,
  lpips: Metric | None = None,
) -> tuple[dict[str, float], Reference, Reference]:
  """Compare a restored image, and the bicubic enlargement, each with its best reference.

  An image's best reference is the one to which it has the highest PSNR under the protocol, and the
  first one of equals. All metrics are those to the best reference.

  Args:
    name: name of the image, for error messages.
    lr_blur: see `score`.
    restored: see `score`.
    references: the sharp images, at least one. They are read once, one after the other; the two
      best ones are kept.
    protocol: see `score`.
    lpips: see `score`.

  Returns:
    The scores, as `score` returns them; the best reference of `restored`; and that of the baseline.

  Raises:
    UserError: as `score`, for any reference.
  """
  scale = _scale(lr_blur, restored)
  best: dict[str, tuple[float, Reference]] = {}
  with _naming(name):
    images = _with_baseline(lr_blur, restored)
    for reference in references:
      _check_size(f'{name}, {reference.name}', lr_blur, restored, reference.pixels)
      for prefix, image in images.items():
        psnr = metrics.pair_psnr(image, reference.pixels, protocol, scale)
        if prefix not in best or psnr > best[prefix][0]:
          best[prefix] = psnr, reference
    found = {prefix: reference for prefix, (_, reference) in best.items()}
    targets = {prefix: reference.pixels for prefix, reference in found.items()}
    scores = _compare(images, targets, protocol, scale, lpips)
  return scores, found[''], found[_BASELINE]


def _check_size(name: str, lr_blur: np.ndarray, restored: np.ndarray, target: np.ndarray) -> None:
  if target.shape != restored.shape:
    (h, w), (height, width) = lr_blur.shape[:2], restored.shape[:2]
    raise UserError(
      f'{name}: expected a target of {width}x{height} for the input of {w}x{h}, found '
      f'{target.shape[1]}x{target.shape[0]}'
    )


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
  """Turn the `ValueError` of a metric into a `UserError` that names the image."""
  try:
    yield
  except UserError:
    raise
  except ValueError as error:
    raise UserError(f'{name}: {error}') from error


def _scale(lr_blur: np.ndarray, enlarged: np.ndarray) -> int:
  return enlarged.shape[0] // lr_blur.shape[0]


def _with_baseline(lr_blur: np.ndarray, restored: np.ndarray) -> dict[str, np.ndarray]:
  """Return the images to score, by the prefix of their scores."""
  scale = _scale(lr_blur, restored)
  return {'': restored, _BASELINE: bicubic(lr_blur, scale) if scale > 1 else lr_blur}


def _compare(
  images: Mapping[str, np.ndarray],
  targets: Mapping[str, np.ndarray],
  protocol: str,
  scale: int,
  lpips: Metric | None,
) -> dict[str, float]:
  """Return the scores of images, each with its target, by prefix and metric."""
  scores: dict[str, float] = {}
  for prefix, image in images.items():
    target = targets[prefix]
    values = metrics.evaluate_pair(image, target, protocol, scale)
    if lpips is not None:
      values['lpips'] = lpips(to_uint8(image), to_uint8(target))
    scores |= {prefix + key: value for key, value in values.items()}
  return scores
