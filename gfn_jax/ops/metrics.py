"""PSNR and SSIM under named protocols, comparable with numbers from MATLAB.

Papers of this field report different quantities under the same two names. A protocol fixes the
border that is cut and the kind of SSIM. Every result of this library names its protocol.
"""

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from gfn_jax.ops.pixels import to_uint8
from gfn_jax.ops.protocols import PROTOCOLS

_SIGMA, _RADIUS = 1.5, 5  # Wang et al. 2004: 11 taps, sigma 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(a: UInt8[np.ndarray, '*shape'], b: UInt8[np.ndarray, '*shape']) -> float:
  """Return the peak signal-to-noise ratio of two images in dB, over pixels and channels.

  It is infinite for equal images.
  """
  mse = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
  return float('inf') if mse == 0 else float(10 * np.log10(255**2 / mse))


def _ssim_map(a: np.ndarray, b: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
  """Return the SSIM map (Wang et al. 2004, eq. 13), a Gaussian over `axes`, replicate padding."""

  def blur(x: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(x, _SIGMA, mode='nearest', radius=_RADIUS, axes=axes)

  a, b = a.astype(np.float64), b.astype(np.float64)
  mean_a, mean_b = blur(a), blur(b)
  var_a = blur(a * a) - mean_a**2
  var_b = blur(b * b) - mean_b**2
  cov = blur(a * b) - mean_a * mean_b
  luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
  return luminance * (2 * cov + _C2) / (var_a + var_b + _C2)


def ssim3d(a: UInt8[np.ndarray, 'h w 3'], b: UInt8[np.ndarray, 'h w 3']) -> float:
  """Return the SSIM that MATLAB's `ssim(A, ref)` computes for RGB arrays, as for a grey volume.

  The Gaussian runs over rows, columns and channels, with replicate padding on all three, so the
  channels are mixed. It is 0.04 to 0.19 above the per-channel SSIM for bicubic x4 of Set5 and
  GOPRO. GFN, MPRNet's GoPro script and DeepDeblur use it.

  Args:
    a: an image.
    b: the image to compare it with.

  Returns:
    The mean of the map.
  """
  return float(_ssim_map(a, b, axes=(0, 1, 2)).mean())


def ssim2d_valid(a: UInt8[np.ndarray, 'h w 3'], b: UInt8[np.ndarray, 'h w 3']) -> float:
  """Return the usual SSIM per channel, over pixels whose 11x11 window lies within the image.

  CNLRN and BasicSR use it. It equals scikit-image's with `gaussian_weights=True`, `sigma=1.5` and
  `use_sample_covariance=False`.

  Args:
    a: an image, at least 11 pixels high and wide.
    b: the image to compare it with.

  Returns:
    The mean of the map over pixels and channels.
  """
  valid = slice(_RADIUS, -_RADIUS)
  return float(_ssim_map(a, b, axes=(0, 1))[valid, valid].mean())


_SSIM = {'ssim3d': ssim3d, 'ssim2d_valid': ssim2d_valid}


def evaluate_pair(
  prediction: UInt8[np.ndarray, 'h w 3'] | Float[np.ndarray, 'h w 3'],
  target: UInt8[np.ndarray, 'h w 3'] | Float[np.ndarray, 'h w 3'],
  protocol: str,
  scale: int = 4,
) -> dict[str, float]:
  """Compare a restored image with its target as a paper does.

  Every protocol first converts both to uint8, clipped and rounded half up.

  Args:
    prediction: the restored image; floats are in [0, 1].
    target: the sharp image, as `prediction`.
    protocol: a key of `PROTOCOLS`.
    scale: factor by which the restored image was enlarged, 1 for a deblurred one.

  Returns:
    `{'psnr': dB, 'ssim': mean}`.

  Raises:
    ValueError: for an unknown protocol, shapes that differ or are not `[H, W, 3]`, images that are
      too small for the protocol, or values that are not finite.
    TypeError: for element types other than uint8 and floats.
  """
  a, b = _prepare_pair(prediction, target, protocol, scale)
  return {'psnr': psnr(a, b), 'ssim': _SSIM[PROTOCOLS[protocol].ssim](a, b)}


def pair_psnr(
  prediction: UInt8[np.ndarray, 'h w 3'] | Float[np.ndarray, 'h w 3'],
  target: UInt8[np.ndarray, 'h w 3'] | Float[np.ndarray, 'h w 3'],
  protocol: str,
  scale: int = 4,
) -> float:
  """Return the PSNR of `evaluate_pair`, without its slower SSIM; arguments and errors are equal."""
  return psnr(*_prepare_pair(prediction, target, protocol, scale))


def _prepare_pair(
  prediction: np.ndarray, target: np.ndarray, protocol: str, scale: int
) -> tuple[np.ndarray, np.ndarray]:
  """Return both images as uint8, without the border that the protocol cuts."""
  if protocol not in PROTOCOLS:
    raise ValueError(f'unknown protocol {protocol!r}; choose from {", ".join(sorted(PROTOCOLS))}')
  border = PROTOCOLS[protocol].border(scale)
  a, b = to_uint8(prediction), to_uint8(target)
  if a.shape != b.shape or a.ndim != 3 or a.shape[-1] != 3:
    raise ValueError(f'images must be [H, W, 3] and of equal size, not {a.shape} and {b.shape}')
  smallest = 2 * border + 2 * _RADIUS + 1
  if min(a.shape[:2]) < smallest:
    raise ValueError(f'protocol {protocol} needs at least {smallest} pixels a side, not {a.shape}')
  inside = slice(border, -border if border else None)
  return a[inside, inside], b[inside, inside]
