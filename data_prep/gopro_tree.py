"""Discovery, checks and reading of the frame pairs of a GOPRO_Large folder."""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging
from etils import epath

from data_prep import frame_files
from gfn_jax.errors import UserError

BLUR_FOLDERS = ('blur_gamma', 'blur')
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
_AT_ONCE = 16  # sequences listed concurrently, because remote listing is slow


@dataclasses.dataclass(frozen=True)
class FramePair:
  """Sharp and blurred frame of one moment.

  Attributes:
    name: `<sequence>/<frame>`, without file extension.
    sharp: path of the sharp frame.
    blur: path of the blurred frame, of the same name and size.
  """

  name: str
  sharp: epath.Path
  blur: epath.Path


def find_splits(root: epath.Path, blur_folder: str) -> dict[str, list[FramePair]]:
  """List the frame pairs of the existing splits, and log a warning for a missing one.

  Args:
    root: the GOPRO_Large folder, with `train` or `test` or both.
    blur_folder: 'blur_gamma' or 'blur'.

  Returns:
    Name of each split to its pairs.

  Raises:
    UserError: if there is neither split, or as `find_pairs`.
  """
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
    split_dir: `GOPRO_Large/train` or `GOPRO_Large/test`, with one folder per sequence that holds
      `sharp/*.png` and `<blur_folder>/*.png`. Hidden files are ignored.
    blur_folder: 'blur_gamma' or 'blur'.

  Returns:
    The pairs, sorted by sequence and frame name; at least one.

  Raises:
    UserError: if a folder is missing or empty, a frame has no counterpart, the sizes of a pair
      differ, or a file is not an 8-bit RGB PNG. The message names the file.
  """
  sequences = sorted(p for p in split_dir.iterdir() if p.is_dir() and not p.name.startswith('.'))
  if not sequences:
    raise UserError(f'{split_dir} holds no sequence folder; unpack GOPRO_Large there')
  with ThreadPoolExecutor(_AT_ONCE) as pool:
    pairs = pool.map(functools.partial(_sequence_pairs, blur_folder=blur_folder), sequences)
    return [pair for of_sequence in pairs for pair in of_sequence]


def _sequence_pairs(sequence: epath.Path, blur_folder: str) -> list[FramePair]:
  sharp, blur = (_frames(sequence / folder) for folder in ('sharp', blur_folder))
  for name in sorted(sharp.keys() ^ blur.keys()):
    found = sharp.get(name) or blur[name]
    partner = sequence / (blur_folder if name in sharp else 'sharp') / name
    raise UserError(f'{found} has no counterpart {partner}; restore that file or remove this one')
  for name in sorted(sharp):
    sizes = [frame_files.png_size(frames[name], _ARCHIVE) for frames in (sharp, blur)]
    if sizes[0] != sizes[1]:
      raise UserError(
        f'{blur[name]} is {sizes[1][0]}x{sizes[1][1]} but {sharp[name]} is '
        f'{sizes[0][0]}x{sizes[0][1]} (height x width); unpack both again'
      )
  return [
    FramePair(f'{sequence.name}/{sharp[name].stem}', sharp[name], blur[name])
    for name in sorted(sharp)
  ]


def _frames(folder: epath.Path) -> dict[str, epath.Path]:
  if not folder.is_dir():
    others = [name for name in BLUR_FOLDERS if (folder.parent / name).is_dir()]
    hint = ''
    if others and folder.name != 'sharp':
      hint = f'pass --blur_folder={others[0]}, which exists, or '
    raise UserError(f'{folder} does not exist; {hint}unpack GOPRO_Large again')
  frames = {p.name: p for p in folder.glob('*.png') if not p.name.startswith('.')}
  if not frames:
    raise UserError(f'{folder} holds no PNG frame; unpack GOPRO_Large again or remove the sequence')
  return frames


def read_pair(pair: FramePair) -> tuple[np.ndarray, np.ndarray]:
  """Read the sharp and the blurred frame of a pair.

  Returns:
    sharp, blur: uint8 `[H, W, 3]` each.

  Raises:
    UserError: if a file cannot be decoded.
  """
  return frame_files.read_rgb(pair.sharp, _ARCHIVE), frame_files.read_rgb(pair.blur, _ARCHIVE)
