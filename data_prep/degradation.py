"""LR-GOPRO's degradation: from a pair of frames to (lr_blur, lr, hr) examples.

Follows section 4 of the GFN paper (Zhang et al., BMVC 2018) and the authors' MATLAB generator,
whose fixed scales give the paper's number of training windows. TensorFlow is not imported here,
so that worker processes start fast.
"""

import dataclasses
from typing import Any

import numpy as np

from data_prep import gopro_tree
from gfn_jax.errors import UserError
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.metrics import to_uint8

SCALE = 4
FRAME_SCALES = (1.0, 0.7, 0.5)  # the paper says "three random scales"; the generator has these
PATCH_SIZE = 256
STRIDE = 128
MIN_GRADIENT = 0.005
TEST_MULTIPLE = 16  # test frames are cropped so that the network's LR input divides by 4
BORDER = 'symmetric'

Example = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Degraded:
  """What one input gives.

  Attributes:
    examples: dicts with 'name' (str), 'hr' (uint8 `[4h, 4w, 3]`), 'lr_blur' and 'lr' (`[h, w, 3]`,
      uint8, or float32 where the LR images are kept unquantised); or PNG files as bytes. Of another
      scale, and with 'frames' (seven PNG files), in Motion-Blurred LR.
    windows_seen: windows looked at, the flat ones that were dropped included; 0 for whole frames.
  """

  examples: list[Example]
  windows_seen: int


def crop_to_multiple(image: np.ndarray, multiple: int) -> np.ndarray:
  """Crops `[H, W, 3]` at the bottom and the right so that both sides divide by `multiple`."""
  height, width = (size - size % multiple for size in image.shape[:2])
  return image[:height, :width]


def window_corners(height: int, width: int) -> list[tuple[int, int]]:
  """The (y, x) corners of the training windows that fit in an image, row by row."""
  rows = range(0, height - PATCH_SIZE + 1, STRIDE)
  columns = range(0, width - PATCH_SIZE + 1, STRIDE)
  return [(y, x) for y in rows for x in columns]


def mean_gradient(patch: np.ndarray) -> float:
  """The mean of sqrt(dx^2 + dy^2) over pixels and channels, by which flat windows are dropped.

  Args:
    patch: float `[H, W, C]` in [0, 1], at least 2x2.

  Returns:
    The mean magnitude; differences are central, one-sided at the borders (MATLAB's `gradient`).
  """
  dy, dx = np.gradient(patch, axis=(0, 1))
  return float(np.mean(np.sqrt(dx**2 + dy**2)))


def degrade_train_pair(pair: gopro_tree.FramePair, float_lr: bool) -> Degraded:
  """Cuts a frame pair into training windows, at three scales.

  The LR images are shrunk from the 256x256 window, whose own borders are mirrored: unlike at test
  time, where the whole frame is shrunk.

  Args:
    pair: the frames, uint8 RGB.
    float_lr: keep the LR images as the authors did, float32 and unquantised, with bicubic's
      overshoot outside [0, 1]; otherwise round them to 8 bit as at test time.

  Returns:
    The windows that are not flat, named `<sequence>/<frame>_s<scale>_y<row>_x<column>`: `hr`
    256x256, `lr_blur` and `lr` 64x64.

  Raises:
    UserError: if a frame cannot be decoded.
  """
  frames = gopro_tree.read_pair(pair)
  examples = []
  seen = 0
  for scale in FRAME_SCALES:
    sharp, blur = (_rescale(frame, scale) for frame in frames)
    for y, x in window_corners(*sharp.shape[:2]):
      seen += 1
      window = np.s_[y : y + PATCH_SIZE, x : x + PATCH_SIZE]
      hr = sharp[window] / 255.0
      if mean_gradient(hr) < MIN_GRADIENT:
        continue
      lr_blur, lr = (imresize(image, 1 / SCALE, BORDER) for image in (blur[window] / 255.0, hr))
      name = f'{pair.name}_s{scale}_y{y}_x{x}'
      examples.append(make_example(name, lr_blur, lr, sharp[window], float_lr))
  return Degraded(examples, seen)


def _rescale(frame: np.ndarray, scale: float) -> np.ndarray:
  scaled = frame if scale == 1 else imresize(frame, scale, BORDER)
  return crop_to_multiple(scaled, SCALE)


def degrade_test_pair(pair: gopro_tree.FramePair, float_lr: bool) -> Degraded:
  """Shrinks a whole frame pair, as for the paper's Table 1: the LR images are 8-bit files there.

  Args:
    pair: the frames, uint8 RGB.
    float_lr: give the 8-bit LR values divided by 255 as float32.

  Returns:
    One example: `hr` is the sharp frame, cropped so that its sides divide by 16; `lr_blur` and
    `lr` are a quarter of its size.

  Raises:
    UserError: if a frame cannot be decoded or is smaller than 16x16.
  """
  sharp, blur = (crop_to_multiple(x, TEST_MULTIPLE) for x in gopro_tree.read_pair(pair))
  if 0 in sharp.shape:
    raise UserError(f'{pair.sharp} is smaller than {TEST_MULTIPLE}x{TEST_MULTIPLE}; remove it')
  lr_blur, lr = (to_uint8(imresize(x / 255.0, 1 / SCALE, BORDER)) / 255 for x in (blur, sharp))
  return Degraded([make_example(pair.name, lr_blur, lr, sharp, float_lr)], 0)


def make_example(
  name: str, lr_blur: np.ndarray, lr: np.ndarray, hr: np.ndarray, float_lr: bool
) -> Example:
  """Makes a record's content.

  Args:
    name: unique within the split.
    lr_blur: float `[h, w, 3]`.
    lr: float `[h, w, 3]`.
    hr: uint8 `[4h, 4w, 3]`.
    float_lr: keep the LR images as float32, else round them to 8 bit.

  Returns:
    The example, for `LrGopro`'s features.
  """
  stored = (x.astype(np.float32) if float_lr else to_uint8(x) for x in (lr_blur, lr))
  return dict(zip(('lr_blur', 'lr'), stored, strict=True), hr=hr, name=name)
