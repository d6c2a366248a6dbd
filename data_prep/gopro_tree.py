"""Finds and checks the frame pairs of a GOPRO_Large folder, and reads them."""

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
_AT_ONCE = 16  # sequences looked at; in the cloud, each look takes a while


@dataclasses.dataclass(frozen=True)
class FramePair:
  """One moment of one sequence, sharp and blurred.

  Attributes:
    name: `<sequence>/<frame>`, without the file's ending.
    sharp: path of the sharp frame.
    blur: path of the blurred frame, same name and size.
  """

  name: str
  sharp: epath.Path
  blur: epath.Path


def find_splits(root: epath.Path, blur_folder: str) -> dict[str, list[FramePair]]:
  """Lists the frame pairs of the splits that exist; one may be missing, with a logged warning.

  Args:
    root: the GOPRO_Large folder, with `train` or `test` or both.
    blur_folder: 'blur_gamma' or 'blur'.

  Returns:
    The split's name to its pairs.

  Raises:
    UserError: if there is neither split, or one is not as `find_pairs` expects.
  """
  found = [split for split in SPLITS if (root / split).is_dir()]
  if not found:
    raise UserError(f'{root} has neither train nor test; give the GOPRO_Large folder itself')
  for split in SPLITS:
    if split not in found:
      logging.warning('%s does not exist: the %s split is left out', root / split, split)
  return {split: find_pairs(root / split, blur_folder) for split in found}


def find_pairs(split_dir: epath.Path, blur_folder: str) -> list[FramePair]:
  """Lists the frame pairs of one split, in order, and checks them without decoding.

  Args:
    split_dir: `GOPRO_Large/train` or `GOPRO_Large/test`: one folder per sequence, each with
      `sharp/*.png` and `<blur_folder>/*.png`. Hidden files are passed over.
    blur_folder: 'blur_gamma' or 'blur'.

  Returns:
    The pairs, sorted by sequence and frame name; at least one.

  Raises:
    UserError: for a missing or empty folder, a frame without its partner, two sizes in a pair, or
      a file that is not an 8-bit RGB PNG. The message names it.
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
    raise UserError(f'{found} has no partner {partner}; restore that file or remove this one')
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
      hint = f'give --blur_folder={others[0]}, which is there, or '
    raise UserError(f'{folder} does not exist; {hint}unpack GOPRO_Large again')
  frames = {p.name: p for p in folder.glob('*.png') if not p.name.startswith('.')}
  if not frames:
    raise UserError(f'{folder} holds no PNG frame; unpack GOPRO_Large again or remove the sequence')
  return frames


def read_pair(pair: FramePair) -> tuple[np.ndarray, np.ndarray]:
  """Reads the frames.

  Returns:
    sharp, blur: uint8 `[H, W, 3]` each.

  Raises:
    UserError: if a file cannot be decoded.
  """
  return frame_files.read_rgb(pair.sharp, _ARCHIVE), frame_files.read_rgb(pair.blur, _ARCHIVE)
