"""Discovery and checks of sequences: folders of consecutive sharp frames."""

import dataclasses
import itertools
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from absl import logging
from etils import epath

from gfn_jax.data import layouts
from gfn_jax.data_prep import frame_files
from gfn_jax.errors import UserError
from gfn_jax.ops.sizes import SHARP_FRAMES
from gfn_jax.system.files import printable

ARCHIVE = 'the frames'  # to unpack again if a file is damaged
SPLITS = ('train', 'test')

_STEM = re.compile(r'(.*?)([0-9]+)')
_AT_ONCE = 16  # sequences listed concurrently, because remote listing is slow


@dataclasses.dataclass(frozen=True)
class Sequence:
  """Frames of one folder.

  Attributes:
    name: name of the folder.
    frames: paths of the frames, in temporal order.
    size: height and width of all frames.
  """

  name: str
  frames: tuple[epath.Path, ...]
  size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Window:
  """Consecutive frames of one sequence.

  Attributes:
    name: `<sequence>/<middle frame>`, without file extension.
    frames: seven paths, in temporal order.
  """

  name: str
  frames: tuple[epath.Path, ...]


def windows(sequence: Sequence, stride: int) -> list[Window]:
  """Return the windows of seven frames that begin at every `stride`-th frame."""
  starts = range(0, len(sequence.frames) - SHARP_FRAMES + 1, stride)
  found = [sequence.frames[start : start + SHARP_FRAMES] for start in starts]
  middle = SHARP_FRAMES // 2
  return [Window(f'{sequence.name}/{frames[middle].stem}', frames) for frames in found]


def find_splits(
  root: epath.Path, test_sequences: Collection[str] = ()
) -> dict[str, list[Sequence]]:
  """List the sequences of each split, and check all files without decoding them.

  Args:
    root: a folder with `train` or `test` or both, each with one folder per sequence, as in
      GOPRO_Large_all; a missing split is logged. Or a folder of such sequences. Frames are 8-bit
      RGB PNG or JPEG files whose names end in their number. Other and hidden files are ignored.
    test_sequences: names of the test sequences, if there is neither `train` nor `test`. All others
      are for training.

  Returns:
    Name of each split to its sequences, sorted by name. No split is empty.

  Raises:
    UserError: if there is no sequence, a named one is missing, or one has a gap, a duplicate
      number, frames of different sizes or types, or fewer than seven. The message names the file.
  """
  folders = _split_folders(root, test_sequences)
  with ThreadPoolExecutor(_AT_ONCE) as pool:
    return {split: list(pool.map(_find_sequence, found)) for split, found in folders.items()}


def _split_folders(
  root: epath.Path, test_sequences: Collection[str]
) -> dict[str, list[epath.Path]]:
  """Return the folders of the sequences, by split."""
  root = layouts.with_splits(root, SPLITS)
  splits = [split for split in SPLITS if (root / split).is_dir()]
  if not splits:
    return _named_folders(root, test_sequences)
  if test_sequences:
    raise UserError(f'{root / splits[0]} exists, so test_sequences must be empty')
  for split in SPLITS:
    if split not in splits:
      logging.warning('%s does not exist: the %s split is left out', root / split, split)
  folders = {split: layouts.subfolders(root / split) for split in splits}
  for split in splits:
    if not folders[split]:
      raise UserError(f'{root / split} holds no folder; put the frames of each sequence into one')
  return folders


def _named_folders(
  root: epath.Path, test_sequences: Collection[str]
) -> dict[str, list[epath.Path]]:
  """Return the folders of the sequences, by split, where there is neither `train` nor `test`."""
  folders = {folder.name: folder for folder in layouts.subfolders(root) if _images(folder)}
  if not folders and _images(root):
    raise UserError(f'{root} holds frames itself; pass its parent, {root.parent}')
  if not folders:
    raise UserError(
      f'{root} has neither train nor test, nor any folder of frames (PNG or JPEG); pass '
      'GOPRO_Large_all, or put the frames of each sequence into a folder'
    )
  for name in test_sequences:
    if name not in folders:
      raise UserError(
        f'test_sequences: {root} has no sequence {name!r}; choose from {_summarise(folders)}'
      )
  splits = {
    'train': [folder for name, folder in folders.items() if name not in test_sequences],
    'test': [folder for name, folder in folders.items() if name in test_sequences],
  }
  return {split: found for split, found in splits.items() if found}


def _summarise(names: Collection[str]) -> str:
  return ', '.join([*sorted(names)[:5], *(['...'] if len(names) > 5 else [])])


def _images(folder: epath.Path) -> list[epath.Path]:
  return layouts.images(folder, frame_files.EXTENSIONS)


def _find_sequence(folder: epath.Path) -> Sequence:
  frames = _in_order(_images(folder))
  if not frames:
    raise UserError(
      f'{folder} holds no frame (PNG or JPEG); remove it, or pass GOPRO_Large_all, not GOPRO_Large'
    )
  if len(frames) < SHARP_FRAMES:
    raise UserError(
      f'{folder} holds {len(frames)} frames, fewer than the {SHARP_FRAMES} of one example; remove '
      'it, or unpack the frames again'
    )
  name = f'{folder.name}/{frames[0].stem}'  # as in the names of examples
  if printable(name) != name:
    raise UserError(f'{printable(frames[0])} has unprintable characters; rename it')
  size = frame_files.frame_size(frames[0], ARCHIVE)
  for path in frames[1:]:
    if (other := frame_files.frame_size(path, ARCHIVE)) != size:
      raise UserError(
        f'{path} is {other[0]}x{other[1]} but {frames[0]} is {size[0]}x{size[1]} (height x width); '
        'put them into different folders, or unpack both again'
      )
  return Sequence(folder.name, frames, size)


def _in_order(paths: list[epath.Path]) -> tuple[epath.Path, ...]:
  """Sort frames by the numbers in their names, which must be consecutive."""
  found: dict[int, epath.Path] = {}
  beginnings: dict[tuple[str, str], epath.Path] = {}
  for path in paths:
    if not (match := _STEM.fullmatch(path.stem)):
      raise UserError(f'{path}: the name of a frame ends in its number, as 000001.png; remove it')
    beginnings[match[1], path.suffix.lower()] = path
    if len(beginnings) > 1:
      one, other = beginnings.values()
      raise UserError(
        f'{one} and {other} differ in more than their numbers; put them into different folders'
      )
    if (number := int(match[2])) in found:
      raise UserError(f'{found[number]} and {path} have the same number; remove one of them')
    found[number] = path
  for before, after in itertools.pairwise(sorted(found)):
    if after != before + 1:
      raise UserError(
        f'frames are missing between {found[before]} and {found[after]}; unpack them, or put the '
        'parts into different folders'
      )
  return tuple(found[number] for number in sorted(found))
