"""PSNR and SSIM under named protocols, so that numbers can be compared without MATLAB.

Papers of this field report different quantities under the same two names. A protocol fixes the
border that is cut and the kind of SSIM; every result of this library names its protocol.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from gfn_jax.ops.imresize import round_half_up

_SIGMA, _RADIUS = 1.5, 5  # Wang et al. 2004: 11 taps, sigma 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How a paper compares two images.

  Attributes:
    name: what results call it.
    border_x4: pixels cut on each of the four sides before both metrics, of images enlarged 4x.
    ssim: 'ssim3d' or 'ssim2d_valid', the functions of these names.
  """

  name: str
  border_x4: int
  ssim: str

  def border(self, scale: int = 4) -> int:
    """Return the pixels cut on each side of an image that was enlarged `scale` times.

    They grow with the scale, rounded up; the papers' code is for 4 only. None are cut at scale 1.
    """
    return -(-self.border_x4 * scale // 4) if scale > 1 else 0


PROTOCOLS = {
  protocol.name: protocol
  for protocol in (
    Protocol('gfn', border_x4=6, ssim='ssim3d'),  # 1.5 * scale
    Protocol('cnlrn', border_x4=4, ssim='ssim2d_valid'),
    Protocol('mprnet', border_x4=0, ssim='ssim3d'),
  )
}


def to_uint8(image: np.ndarray) -> np.ndarray:
  """An image in [0, 1] as uint8, clipped and rounded half up; uint8 stays as it is.

  Raises:
    TypeError: for element types other than uint8 and floats.
    ValueError: for values that are not finite.
  """
  image = np.asarray(image)
  if image.dtype == np.uint8:
    return image
  if not np.issubdtype(image.dtype, np.floating) and image.dtype.name != 'bfloat16':
    raise TypeError(f'an image is uint8 or float in [0, 1], not {image.dtype}')
  if not np.isfinite(image).all():
    raise ValueError('the image holds values that are not finite')
  return round_half_up(np.clip(image.astype(np.float64), 0, 1) * 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
  """Peak signal-to-noise ratio in dB of two uint8 images, over all pixels and channels together.

  Infinite for equal images.
  """
  mse = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
  return float('inf') if mse == 0 else float(10 * np.log10(255**2 / mse))


def _ssim_map(a: np.ndarray, b: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
  """Wang et al. 2004, eq. 13, with a Gaussian over `axes` and replicate padding."""

  def blur(x):
    return ndimage.gaussian_filter(x, _SIGMA, mode='nearest', radius=_RADIUS, axes=axes)

  a, b = a.astype(np.float64), b.astype(np.float64)
  mean_a, mean_b = blur(a), blur(b)
  var_a = blur(a * a) - mean_a**2
  var_b = blur(b * b) - mean_b**2
  cov = blur(a * b) - mean_a * mean_b
  luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
  return luminance * (2 * cov + _C2) / (var_a + var_b + _C2)


def ssim3d(a: np.ndarray, b: np.ndarray) -> float:
  """What MATLAB's `ssim(A, ref)` gives for an RGB array: it takes it for a grey volume.

  The Gaussian runs over rows, columns and channels, with replicate padding on all three, so the
  channels are mixed. Reads 0.04 to 0.19 above the per-channel SSIM on bicubic x4 of Set5 and GOPRO.
  Used by GFN, by MPRNet's GoPro script and by DeepDeblur.

  Args:
    a: `[H, W, 3]` uint8.
    b: `[H, W, 3]` uint8.

  Returns:
    The mean of the map.
  """
  return float(_ssim_map(a, b, axes=(0, 1, 2)).mean())


def ssim2d_valid(a: np.ndarray, b: np.ndarray) -> float:
  """The usual SSIM per channel, over the pixels whose 11x11 window lies within the image.

  Used by CNLRN and BasicSR; equal to scikit-image's with `gaussian_weights=True`, `sigma=1.5` and
  `use_sample_covariance=False`.

  Args:
    a: `[H, W, 3]` uint8, at least 11 pixels high and wide.
    b: `[H, W, 3]` uint8.

  Returns:
    The mean of the map over pixels and channels.
  """
  valid = slice(_RADIUS, -_RADIUS)
  return float(_ssim_map(a, b, axes=(0, 1))[valid, valid].mean())


_SSIM = {'ssim3d': ssim3d, 'ssim2d_valid': ssim2d_valid}


def evaluate_pair(
  prediction: np.ndarray, target: np.ndarray, protocol: str, scale: int = 4
) -> dict[str, float]:
  """Compares a restored image with its target as a paper does.

  Both are brought to uint8 first (clipped, rounded half up), as every protocol here does.

  Args:
    prediction: `[H, W, 3]`, uint8 or float in [0, 1].
    target: `[H, W, 3]`, uint8 or float in [0, 1].
    protocol: a key of `PROTOCOLS`.
    scale: how many times the restored image was enlarged, 1 for a deblurred one.

  Returns:
    `{'psnr': dB, 'ssim': mean}`.

  Raises:
    ValueError: for an unknown protocol, shapes that differ or are not `[H, W, 3]`, images too small
      for the protocol, or values that are not finite.
    TypeError: for element types other than uint8 and floats.
  """
  if protocol not in PROTOCOLS:
    raise ValueError(f'unknown protocol {protocol!r}; there are {", ".join(sorted(PROTOCOLS))}')
  border, ssim = PROTOCOLS[protocol].border(scale), PROTOCOLS[protocol].ssim
  a, b = to_uint8(prediction), to_uint8(target)
  if a.shape != b.shape or a.ndim != 3 or a.shape[-1] != 3:
    raise ValueError(f'two [H, W, 3] images of one size are needed, not {a.shape} and {b.shape}')
  smallest = 2 * border + 2 * _RADIUS + 1
  if min(a.shape[:2]) < smallest:
    raise ValueError(f'protocol {protocol} needs at least {smallest} pixels a side, not {a.shape}')
  inside = slice(border, -border if border else None)
  a, b = a[inside, inside], b[inside, inside]
  return {'psnr': psnr(a, b), 'ssim': _SSIM[ssim](a, b)}
