"""Discovery, checks and reading of the frame pairs of a GOPRO_Large folder."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging
from etils import epath

from gfn_jax.data import layouts
from gfn_jax.data_prep import frame_files
from gfn_jax.errors import UserError

SPLITS = ('train', 'test')
CITATION = """\
@inproceedings{Nah2017,
  title = {Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring},
  author = {Nah, Seungjun and Kim, Tae Hyun and Lee, Kyoung Mu},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2017}
}
"""

_ARCHIVE = 'GOPRO_Large'
_AT_ONCE = 16  # headers read concurrently, because remote reading is slow


@dataclasses.dataclass(frozen=True)
class FramePair:
  """Sharp and blurred frame of one moment.

  Attributes:
    name: `<sequence>/<frame>`, without file extension; `<frame>` without sequences.
    sharp: path of the sharp frame.
    blur: path of the blurred frame, of the same name and size.
  """

  name: str
  sharp: epath.Path
  blur: epath.Path


def find_splits(root: epath.Path, blur_folder: str) -> dict[str, list[FramePair]]:
  """List the frame pairs of the existing splits, and log a warning for a missing one.

  Args:
    root: the GOPRO_Large folder, with `train` or `test` or both, or a folder that holds it.
    blur_folder: 'blur_gamma' or 'blur'.

  Returns:
    Name of each split to its pairs.

  Raises:
    UserError: if there is neither split, or as `find_pairs`.
  """
  root = layouts.with_splits(root, SPLITS)
  found = [split for split in SPLITS if (root / split).is_dir()]
  if not found:
    raise UserError(f'{root} has neither train nor test; pass the GOPRO_Large folder itself')
  for split in SPLITS:
    if split not in found:
      logging.warning('%s does not exist: the %s split is left out', root / split, split)
  return {split: find_pairs(root / split, blur_folder) for split in found}


def find_pairs(split_dir: epath.Path, blur_folder: str) -> list[FramePair]:
  """List the frame pairs of one split, and check them without decoding.

  Args:
    split_dir: `GOPRO_Large/train` or `GOPRO_Large/test`, in any layout of `gfn_jax.data.layouts`.
      The frames are PNG or JPEG files.
    blur_folder: 'blur_gamma' or 'blur'. A warning is logged if `input` is read in its place.

  Returns:
    The pairs, sorted by sequence and frame name; at least one.

  Raises:
    UserError: as `layouts.find_pairs`, or if the sizes of a pair differ or a file is not an 8-bit
      RGB PNG or JPEG. The message names the file.
  """
  pairs = layouts.find_pairs(split_dir, blur_folder, complete=True)
  for blur in {pair.blur.parent for pair in pairs if 'input' in pair.blur.parts}:
    logging.warning(
      '%s is read as %s; the input of MPRNet is made as blur (--blur_folder=blur)',
      blur, blur_folder,
    )  # fmt: skip
    break
  with ThreadPoolExecutor(_AT_ONCE) as pool:
    return list(pool.map(_check_pair, pairs))


def _check_pair(pair: layouts.ImagePair) -> FramePair:
  (height, width), other = (
    frame_files.frame_size(path, _ARCHIVE) for path in (pair.sharp, pair.blur)
  )
  if other != (height, width):
    raise UserError(
      f'{pair.blur} is {other[0]}x{other[1]} but {pair.sharp} is {height}x{width} '
      '(height x width); unpack both again'
    )
  name = f'{pair.folder}/{pair.name}' if pair.folder else pair.name
  return FramePair(name, pair.sharp, pair.blur)


def read_pair(pair: FramePair) -> tuple[np.ndarray, np.ndarray]:
  """Read the sharp and the blurred frame of a pair.

  Returns:
    sharp, blur: uint8 `[H, W, 3]` each.

  Raises:
    UserError: if a file cannot be decoded.
  """
  return frame_files.read_rgb(pair.sharp, _ARCHIVE), frame_files.read_rgb(pair.blur, _ARCHIVE)
