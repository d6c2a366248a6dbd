"""Motion-Blurred LR's degradation: from seven neighbouring frames to examples.

Follows section 4.1 of the BMDSRNet paper (Niu et al., TIP 2021), which leaves much open;
docs/datasets.md tells what was chosen. TensorFlow is not imported here, so that worker processes
start fast.
"""

import math
from collections.abc import Sequence

import numpy as np

from data_prep import degradation, frame_files, frame_tree
from gfn_jax.errors import UserError
from gfn_jax.models.bmdsrnet import SCALES, SHARP_FRAMES
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.metrics import to_uint8

MULTIPLE = math.lcm(*SCALES)  # so that the data of all scales show the same

_MIDDLE = SHARP_FRAMES // 2


def average(frames: Sequence[np.ndarray], gamma: float | None = None) -> np.ndarray:
  """The blurred image that one exposure over all frames gives.

  Args:
    frames: uint8 `[H, W, 3]` each.
    gamma: of the frames, which are averaged in linear light; None averages the values themselves.

  Returns:
    float64 `[H, W, 3]` in [0, 1], not rounded.
  """
  exponent = gamma or 1.0
  light = (np.arange(256) / 255) ** exponent  # of each value of 8 bits
  return (sum(light[frame] for frame in frames) / len(frames)) ** (1 / exponent)


def shrink(image: np.ndarray, scale: int) -> np.ndarray:
  """MATLAB's bicubic reduction of an image `[H, W, 3]` in [0, 1], rounded to uint8 at the end."""
  return to_uint8(imresize(image, 1 / scale, degradation.BORDER))


def patch_corners(height: int, width: int, size: int) -> list[tuple[int, int]]:
  """The (y, x) corners of the fewest patches that cover an image evenly, row by row.

  The first ones lie at the top and the left, the last ones at the bottom and the right.

  Args:
    height: of the image, at least `size`.
    width: the same.
    size: side of a patch.
  """
  rows, columns = (
    np.linspace(0, length - size, -(-length // size)).round().astype(int).tolist()
    for length in (height, width)
  )
  return [(y, x) for y in rows for x in columns]


def smallest_side(sequence: frame_tree.Sequence, patch_size: int) -> int:
  """The smaller side of a sequence's `hr`.

  Args:
    sequence: its frames.
    patch_size: side of the patches that are cut of `hr`; 0 for none.

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
      + ('; give a smaller patch_size' if patch_size else '; remove the sequence')
    )
  return side


def degrade_window(
  window: frame_tree.Window, scale: int, gamma: float | None, patch_size: int
) -> degradation.Degraded:
  """Averages and shrinks the frames of a window.

  Args:
    window: the frames, 8-bit RGB of one size.
    scale: how much smaller the LR images are.
    gamma: as of `average`.
    patch_size: side of the patches, LR pixels, that are cut of the shrunk frames; 0 leaves them
      whole.

  Returns:
    Examples whose images are PNG files: `hr`, the frame in the middle, cropped at the bottom and
    the right so that its sides divide by 12; `frames`, all seven shrunk; `lr`, the one in the
    middle; `lr_blur`, the blurred image shrunk. Patches are named `<window>_y<row>_x<column>`, by
    their corner in `hr`.

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
