"""Degradation of LR-GOPRO: from a pair of frames to (lr_blur, lr, hr) examples.

Follows section 4 of the GFN paper (Zhang et al., BMVC 2018) and the authors' MATLAB generator,
whose fixed scales give the paper's number of training windows. TensorFlow is not imported, so that
worker processes start fast.
"""

import dataclasses
from typing import Any

import numpy as np

from gfn_jax.data_prep import gopro_tree
from gfn_jax.errors import UserError
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.pixels import to_uint8

SCALE = 4
FRAME_SCALES = (1.0, 0.7, 0.5)  # the paper says "three random scales"; the generator has these
PATCH_SIZE = 256
STRIDE = 128
MIN_GRADIENT = 0.005
WINDOWS = {'gfn': (FRAME_SCALES, MIN_GRADIENT), 'full_size': ((1.0,), 0.0)}
"""Sizes of the frames and the least gradient of their windows; GFN's, and Shoyan et al.'s."""

TEST_MULTIPLE = 16  # crop of test frames: the sides of the LR input are then multiples of 4
BORDER = 'symmetric'

Example = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Degraded:
  """Examples made from one input.

  Attributes:
    examples: dicts with 'name' (str), 'hr' (`[4h, 4w, 3]` uint8), and 'lr_blur' and 'lr'
      (`[h, w, 3]`, uint8, or float32 if unquantised). Images may be PNG files as bytes.
      Motion-Blurred LR has other scales, and adds 'frames' (seven PNG files).
    windows_seen: number of windows examined, including dropped flat ones; 0 for whole frames.
  """

  examples: list[Example]
  windows_seen: int


def crop_to_multiple(image: np.ndarray, multiple: int) -> np.ndarray:
  """Crop `[H, W, 3]` at the bottom and right so that both sides are multiples of `multiple`."""
  height, width = (size - size % multiple for size in image.shape[:2])
  return image[:height, :width]


def window_corners(height: int, width: int) -> list[tuple[int, int]]:
  """Return the (y, x) corners of the training windows that fit in an image, row by row."""
  rows = range(0, height - PATCH_SIZE + 1, STRIDE)
  columns = range(0, width - PATCH_SIZE + 1, STRIDE)
  return [(y, x) for y in rows for x in columns]


def mean_gradient(patch: np.ndarray) -> float:
  """Return the mean of sqrt(dx^2 + dy^2) over pixels and channels, which detects flat windows.

  Args:
    patch: float `[H, W, C]` in [0, 1], at least 2x2.

  Returns:
    The mean gradient magnitude. Differences are central, and one-sided at the borders, as in
    MATLAB's `gradient`.
  """
  dy, dx = np.gradient(patch, axis=(0, 1))
  return float(np.mean(np.sqrt(dx**2 + dy**2)))


def degrade_train_pair(
  pair: gopro_tree.FramePair, float_lr: bool, scale: int = SCALE, windows: str = 'gfn'
) -> Degraded:
  """Cut a frame pair into training windows, at three sizes or at its own.

  Each 256x256 window is reduced separately, with mirrored borders. Test frames are reduced whole.

  Args:
    pair: paths of the frames, uint8 RGB.
    float_lr: keep the LR images unquantised as float32, with bicubic overshoot outside [0, 1], as
      the authors do. Otherwise round them to 8 bits, as in the test split.
    scale: factor by which the LR images are reduced; 1 keeps their size.
    windows: a key of `WINDOWS`.

  Returns:
    The windows that are not flat, named `<sequence>/<frame>_s<size>_y<row>_x<column>`. `hr` is
    256x256, `lr_blur` and `lr` are 64x64 at a scale of 4.

  Raises:
    UserError: if a frame cannot be decoded.
  """
  frames = gopro_tree.read_pair(pair)
  examples = []
  seen = 0
  sizes, min_gradient = WINDOWS[windows]
  for size in sizes:
    sharp, blur = (_rescale(frame, size) for frame in frames)
    for y, x in window_corners(*sharp.shape[:2]):
      seen += 1
      window = np.s_[y : y + PATCH_SIZE, x : x + PATCH_SIZE]
      hr = sharp[window] / 255.0
      if mean_gradient(hr) < min_gradient:
        continue
      lr_blur, lr = (reduce(image, scale) for image in (blur[window] / 255.0, hr))
      name = f'{pair.name}_s{size}_y{y}_x{x}'
      examples.append(make_example(name, lr_blur, lr, sharp[window], float_lr))
  return Degraded(examples, seen)


def _rescale(frame: np.ndarray, size: float) -> np.ndarray:
  scaled = frame if size == 1 else imresize(frame, size, BORDER)
  return crop_to_multiple(scaled, SCALE)


def reduce(image: np.ndarray, scale: int) -> np.ndarray:
  """Return an image of floats reduced by a factor, with mirrored borders; 1 keeps it."""
  return image if scale == 1 else imresize(image, 1 / scale, BORDER)


def degrade_test_pair(pair: gopro_tree.FramePair, float_lr: bool, scale: int = SCALE) -> Degraded:
  """Reduce a whole frame pair, with 8-bit LR images as in the paper's Table 1.

  Args:
    pair: paths of the frames, uint8 RGB.
    float_lr: return the 8-bit LR values divided by 255, as float32.
    scale: factor by which the LR images are reduced; 1 keeps their size.

  Returns:
    One example. `hr` is the sharp frame, cropped to multiples of 16. `lr_blur` and `lr` are a
    quarter of its size at a scale of 4.

  Raises:
    UserError: if a frame cannot be decoded or is smaller than 16x16.
  """
  sharp, blur = (crop_to_multiple(x, TEST_MULTIPLE) for x in gopro_tree.read_pair(pair))
  if 0 in sharp.shape:
    raise UserError(f'{pair.sharp} is smaller than {TEST_MULTIPLE}x{TEST_MULTIPLE}; remove it')
  lr_blur, lr = (to_uint8(reduce(x / 255.0, scale)) / 255 for x in (blur, sharp))
  return Degraded([make_example(pair.name, lr_blur, lr, sharp, float_lr)], 0)


def make_example(
  name: str, lr_blur: np.ndarray, lr: np.ndarray, hr: np.ndarray, float_lr: bool
) -> Example:
  """Return the content of a record.

  Args:
    name: name, unique within the split.
    lr_blur: blurry LR image, float `[h, w, 3]`.
    lr: sharp LR image, float `[h, w, 3]`.
    hr: sharp HR image, uint8 `[4h, 4w, 3]`.
    float_lr: keep the LR images as float32; otherwise round them to 8 bits.

  Returns:
    An example with the features of `LrGopro`.
  """
  stored = (x.astype(np.float32) if float_lr else to_uint8(x) for x in (lr_blur, lr))
  return dict(zip(('lr_blur', 'lr'), stored, strict=True), hr=hr, name=name)
