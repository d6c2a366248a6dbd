"""Finds and checks sequences: folders of sharp frames that follow each other in time."""

import dataclasses
import itertools
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from absl import logging
from etils import epath

from data_prep import frame_files
from gfn_jax.errors import UserError
from gfn_jax.models.bmdsrnet import SHARP_FRAMES
from gfn_jax.system.files import printable

ARCHIVE = 'the frames'  # what to unpack again if a file is damaged
SPLITS = ('train', 'test')

_SIZE_OF = {
  '.png': frame_files.png_size,
  '.jpg': frame_files.jpeg_size,
  '.jpeg': frame_files.jpeg_size,
}
_STEM = re.compile(r'(.*?)([0-9]+)')
_AT_ONCE = 16  # sequences looked at; in the cloud, each look takes a while


@dataclasses.dataclass(frozen=True)
class Sequence:
  """The frames of one folder.

  Attributes:
    name: the folder's.
    frames: their paths, in order of time.
    size: height and width of all.
  """

  name: str
  frames: tuple[epath.Path, ...]
  size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Window:
  """Neighbouring frames of one sequence.

  Attributes:
    name: `<sequence>/<frame in the middle>`, without the file's ending.
    frames: seven paths, in order of time.
  """

  name: str
  frames: tuple[epath.Path, ...]


def windows(sequence: Sequence, stride: int) -> list[Window]:
  """The windows of seven frames that begin at every `stride`-th frame."""
  starts = range(0, len(sequence.frames) - SHARP_FRAMES + 1, stride)
  found = [sequence.frames[start : start + SHARP_FRAMES] for start in starts]
  middle = SHARP_FRAMES // 2
  return [Window(f'{sequence.name}/{frames[middle].stem}', frames) for frames in found]


def find_splits(
  root: epath.Path, test_sequences: Collection[str] = ()
) -> dict[str, list[Sequence]]:
  """Lists the sequences of each split, and checks all files without decoding them.

  Args:
    root: a folder with `train` or `test` or both, of one folder per sequence, as GOPRO_Large_all; a
      missing one is left out with a logged warning. Or a folder of such sequences itself. Frames
      are PNG or JPEG files, 8-bit RGB, whose names end in their number. Other files and hidden ones
      are passed over.
    test_sequences: names of those that are the test split, where there is neither `train` nor
      `test`. The others are for training.

  Returns:
    The split's name to its sequences, by name; no split is empty.

  Raises:
    UserError: if there is no sequence, or not the one named, or one has a gap, a number twice,
      frames of several sizes or kinds, or less than seven. The message names the file.
  """
  folders = _split_folders(root, test_sequences)
  with ThreadPoolExecutor(_AT_ONCE) as pool:
    return {split: list(pool.map(_find_sequence, found)) for split, found in folders.items()}


def _split_folders(
  root: epath.Path, test_sequences: Collection[str]
) -> dict[str, list[epath.Path]]:
  """The sequences' folders, by split."""
  splits = [split for split in SPLITS if (root / split).is_dir()]
  if not splits:
    return _named_folders(root, test_sequences)
  if test_sequences:
    raise UserError(f'{root / splits[0]} exists, so test_sequences must be left away')
  for split in SPLITS:
    if split not in splits:
      logging.warning('%s does not exist: the %s split is left out', root / split, split)
  folders = {split: _subfolders(root / split) for split in splits}
  for split in splits:
    if not folders[split]:
      raise UserError(f'{root / split} holds no folder; put the frames of each sequence into one')
  return folders


def _named_folders(
  root: epath.Path, test_sequences: Collection[str]
) -> dict[str, list[epath.Path]]:
  """The same where there is neither `train` nor `test`."""
  folders = {folder.name: folder for folder in _subfolders(root) if _images(folder)}
  if not folders and _images(root):
    raise UserError(f'{root} holds frames itself; give the folder above, {root.parent}')
  if not folders:
    raise UserError(
      f'{root} has neither train nor test, nor any folder of frames (PNG or JPEG); give '
      'GOPRO_Large_all, or put the frames of each sequence into a folder'
    )
  for name in test_sequences:
    if name not in folders:
      raise UserError(f'test_sequences: {root} has no sequence {name!r}; it has {_few(folders)}')
  splits = {
    'train': [folder for name, folder in folders.items() if name not in test_sequences],
    'test': [folder for name, folder in folders.items() if name in test_sequences],
  }
  return {split: found for split, found in splits.items() if found}


def _few(names: Collection[str]) -> str:
  return ', '.join([*sorted(names)[:5], *(['...'] if len(names) > 5 else [])])


def _subfolders(folder: epath.Path) -> list[epath.Path]:
  return sorted(path for path in folder.iterdir() if path.name[0] != '.' and path.is_dir())


def _images(folder: epath.Path) -> list[epath.Path]:
  paths = [path for path in folder.iterdir() if path.suffix.lower() in _SIZE_OF]
  return sorted(path for path in paths if path.name[0] != '.')


def _find_sequence(folder: epath.Path) -> Sequence:
  frames = _in_order(_images(folder))
  if not frames:
    raise UserError(
      f'{folder} holds no frame (PNG or JPEG); remove it, or give GOPRO_Large_all, not GOPRO_Large'
    )
  if len(frames) < SHARP_FRAMES:
    raise UserError(
      f'{folder} holds {len(frames)} frames, less than the {SHARP_FRAMES} of one example; remove '
      'it, or unpack the frames again'
    )
  name = f'{folder.name}/{frames[0].stem}'  # as in those of examples
  if printable(name) != name:
    raise UserError(f'{printable(frames[0])} has characters that cannot be shown; rename it')
  size = _size(frames[0])
  for path in frames[1:]:
    if (other := _size(path)) != size:
      raise UserError(
        f'{path} is {other[0]}x{other[1]} but {frames[0]} is {size[0]}x{size[1]} (height x width); '
        'put them into different folders, or unpack both again'
      )
  return Sequence(folder.name, frames, size)


def _in_order(paths: list[epath.Path]) -> tuple[epath.Path, ...]:
  """Sorts frames by the numbers in their names, which must follow each other."""
  found: dict[int, epath.Path] = {}
  beginnings: dict[tuple[str, str], epath.Path] = {}
  for path in paths:
    if not (match := _STEM.fullmatch(path.stem)):
      raise UserError(f'{path} is no frame, as 000001.png is: no number ends its name; remove it')
    beginnings[match[1], path.suffix.lower()] = path
    if len(beginnings) > 1:
      one, other = beginnings.values()
      raise UserError(
        f'{one} and {other} differ in more than their number; put them into different folders'
      )
    if (number := int(match[2])) in found:
      raise UserError(f'{found[number]} and {path} have one number; remove one of them')
    found[number] = path
  for before, after in itertools.pairwise(sorted(found)):
    if after != before + 1:
      raise UserError(
        f'frames are missing between {found[before]} and {found[after]}; unpack them, or put the '
        'parts into different folders'
      )
  return tuple(found[number] for number in sorted(found))


def _size(path: epath.Path) -> tuple[int, int]:
  return _SIZE_OF[path.suffix.lower()](path, ARCHIVE)
