"""Degradation of Motion-Blurred LR: from seven consecutive frames to examples.

Follows section 4.1 of the BMDSRNet paper (Niu et al., TIP 2021), which leaves several choices open;
docs/datasets.md lists ours. TensorFlow is not imported, so that worker processes start fast.
"""

import math
from collections.abc import Sequence

import numpy as np

from gfn_jax.data_prep import degradation, frame_files, frame_tree
from gfn_jax.errors import UserError
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.pixels import to_uint8
from gfn_jax.ops.sizes import SCALES, SHARP_FRAMES

MULTIPLE = math.lcm(*SCALES)  # so that all scales show the same crop

_MIDDLE = SHARP_FRAMES // 2


def average(frames: Sequence[np.ndarray], gamma: float | None = None) -> np.ndarray:
  """Return the blurred image of one exposure over all frames.

  Args:
    frames: sharp frames, uint8 `[H, W, 3]` each.
    gamma: gamma of the frames, which are averaged in linear light; None averages the stored values.

  Returns:
    float64 `[H, W, 3]` in [0, 1], not rounded.
  """
  exponent = gamma or 1.0
  light = (np.arange(256) / 255) ** exponent  # linear light of each 8-bit value
  return (sum(light[frame] for frame in frames) / len(frames)) ** (1 / exponent)


def shrink(image: np.ndarray, scale: int) -> np.ndarray:
  """Reduce `[H, W, 3]` in [0, 1] with MATLAB's bicubic filter, and round to uint8."""
  return to_uint8(imresize(image, 1 / scale, degradation.BORDER))


def patch_corners(height: int, width: int, size: int) -> list[tuple[int, int]]:
  """Return the (y, x) corners of the fewest patches that cover an image evenly, row by row.

  Args:
    height: height of the image, at least `size`.
    width: width of the image, at least `size`.
    size: side of a patch.
  """
  rows, columns = (
    np.linspace(0, length - size, -(-length // size)).round().astype(int).tolist()
    for length in (height, width)
  )
  return [(y, x) for y in rows for x in columns]


def smallest_side(sequence: frame_tree.Sequence, patch_size: int) -> int:
  """Return the smaller side of a sequence's `hr` images.

  Args:
    sequence: the sequence.
    patch_size: side of the patches cut from `hr`, in pixels; 0 for whole frames.

  Raises:
    UserError: if the frames are too small.
  """
  side = min(sequence.size)
  side -= side % MULTIPLE
  if side < (needed := max(patch_size, MULTIPLE)):
    height, width = sequence.size
    raise UserError(
      f'{sequence.frames[0]} is {height}x{width} (height x width), cropped to a multiple of '
      f'{MULTIPLE} smaller than {needed}x{needed}'
      + ('; pass a smaller patch_size' if patch_size else '; remove the sequence')
    )
  return side


def degrade_window(
  window: frame_tree.Window, scale: int, gamma: float | None, patch_size: int
) -> degradation.Degraded:
  """Average and reduce the frames of a window.

  Args:
    window: the frames, 8-bit RGB of one size.
    scale: reduction factor of the LR images.
    gamma: gamma of the frames, as for `average`.
    patch_size: side of the patches cut from the reduced frames, in LR pixels; 0 keeps whole frames.

  Returns:
    Examples whose images are PNG files. `hr` is the middle frame, cropped at the bottom and right
    to multiples of 12; `frames` are all seven frames reduced, and `lr` the middle one; `lr_blur` is
    the reduced blurred image. Patches are named `<window>_y<row>_x<column>`, the corner in `hr`.

  Raises:
    UserError: if a frame cannot be decoded.
  """
  sharp = [_read(path) for path in window.frames]
  lr_blur = shrink(average(sharp, gamma), scale)
  frames = np.stack([shrink(frame / 255.0, scale) for frame in sharp])
  hr = sharp[_MIDDLE]
  if not patch_size:
    return degradation.Degraded([_example(window.name, hr, lr_blur, frames)], windows_seen=0)
  examples = []
  for y, x in patch_corners(*lr_blur.shape[:2], patch_size):
    small = np.s_[y : y + patch_size, x : x + patch_size]
    large = np.s_[scale * y : scale * (y + patch_size), scale * x : scale * (x + patch_size)]
    name = f'{window.name}_y{scale * y}_x{scale * x}'
    examples.append(_example(name, hr[large], lr_blur[small], frames[:, *small]))
  return degradation.Degraded(examples, windows_seen=0)


def _read(path) -> np.ndarray:
  frame = frame_files.read_rgb(path, frame_tree.ARCHIVE)
  return degradation.crop_to_multiple(frame, MULTIPLE)


def _example(
  name: str, hr: np.ndarray, lr_blur: np.ndarray, frames: np.ndarray
) -> degradation.Example:
  files = [frame_files.encode_png(frame) for frame in frames]
  return {
    'name': name,
    'hr': frame_files.encode_png(hr),
    'lr_blur': frame_files.encode_png(lr_blur),
    'lr': files[_MIDDLE],
    'frames': files,
  }
