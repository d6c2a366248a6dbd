"""Discovery, checks and reading of the frames of the unpacked REDS archives."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from absl import logging
from etils import epath

from gfn_jax.data import layouts
from gfn_jax.data_prep import degradation, frame_files
from gfn_jax.errors import UserError
from gfn_jax.ops.imresize import imresize

PARTS = {'train': 'train', 'test': 'val'}  # split to its name in REDS
_TEST_STEP = 10  # Val300 of CNLRN: frames 9, 19, ..., 99 of each clip

_FOLDERS = {'hr': 'sharp', 'lr_blur': 'blur_bicubic', 'lr': 'sharp_bicubic'}
_FRAME = re.compile(r'\d{8}')
_AT_ONCE = 16  # clips listed concurrently, because remote listing is slow


@dataclasses.dataclass(frozen=True)
class Frame:
  """Frame of a clip.

  Attributes:
    name: `<clip>_<frame>`, as in the lists of CNLRN's authors.
    hr: path of the sharp frame.
    lr_blur: path of the blurred frame at a quarter of the size.
    lr: path of the sharp frame at a quarter of the size; None to compute it from `hr`.
    size: height and width of `hr` in pixels.
  """

  name: str
  hr: epath.Path
  lr_blur: epath.Path
  lr: epath.Path | None
  size: tuple[int, int]


def find_splits(root: epath.Path) -> dict[str, list[Frame]]:
  """List the frames of the existing splits, and log a warning for a missing one.

  Args:
    root: the folder with `train_sharp`, `train_blur_bicubic/X4` and `train_sharp_bicubic/X4`, and
      the same for `val`; directly, in subfolders `train` and `val`, or with each archive in a
      folder of its own. `sharp_bicubic` is optional.

  Returns:
    Name of each split to its frames, in the order of clips and frames: all of `train`, and every
    tenth frame of `val` as `test`.

  Raises:
    UserError: if there is neither split, or a folder, clip or frame is missing or has the wrong
      type or size. The message names it.
  """
  found = {split: _find_folders(root, part) for split, part in PARTS.items()}
  if not any(found.values()):
    raise UserError(f'{root} has neither train_sharp nor val_sharp; pass the folder of REDS itself')
  for split, folders in found.items():
    if not folders:
      logging.warning('%s has no %s_sharp: the %s split is left out', root, PARTS[split], split)
  return {
    split: _find_frames(folders, _TEST_STEP if split == 'test' else 1)
    for split, folders in found.items()
    if folders
  }


def _find_folders(root: epath.Path, part: str) -> dict[str, epath.Path]:
  """Return the folders of the clips by content ('hr', 'lr_blur', 'lr'); empty without this part."""
  folders = {}
  for key, kind in _FOLDERS.items():
    name = f'{part}_{kind}'
    bases = (root, *layouts.subfolders(root))
    places = [base / inner for base in bases for inner in (name, f'{part}/{name}')]
    places = list(dict.fromkeys(place for place in places if place.is_dir()))
    # The folder of an archive may have the name of the folder in it.
    places = [place for place in places if not any(place in other.parents for other in places)]
    if len(places) > 1:
      raise UserError(f'{places[0]} and {places[1]} both exist; remove one of them')
    if places:
      folders[key] = places[0] if key == 'hr' else places[0] / 'X4'
  for key in ('hr', 'lr_blur') if folders else ():
    if key not in folders:
      name = f'{part}_{_FOLDERS[key]}'
      raise UserError(f'no {name} in {root} or {root / part}; unpack {name}.zip there')
  return folders


def _find_frames(folders: Mapping[str, epath.Path], step: int) -> list[Frame]:
  clips = {key: _clips(folder) for key, folder in folders.items()}
  for clip in sorted(set().union(*clips.values())):
    if missing := [folders[key] / clip for key in folders if clip not in clips[key]]:
      raise UserError(f'{missing[0]} does not exist; unpack it, or remove that clip everywhere')
  find = functools.partial(_clip_frames, folders=folders, step=step)
  with ThreadPoolExecutor(_AT_ONCE) as pool:
    frames = [frame for of_clip in pool.map(find, sorted(clips['hr'])) for frame in of_clip]
  if not frames:
    raise UserError(f'no clip in {folders["hr"]} has {step} frames; unpack REDS again')
  return frames


def _clips(folder: epath.Path) -> set[str]:
  if not folder.is_dir():
    raise UserError(f'{folder} does not exist; unpack REDS again')
  clips = {path.name for path in layouts.subfolders(folder)}
  if not clips:
    raise UserError(f'{folder} holds no clip; unpack REDS again')
  return clips


def _clip_frames(clip: str, folders: Mapping[str, epath.Path], step: int) -> list[Frame]:
  names = {key: _numbered(folder / clip) for key, folder in folders.items()}
  last = max(name for found in names.values() for name in found)
  expected = []
  while not expected or expected[-1] != last:
    expected.append(f'{len(expected):08d}')
    for key, found in names.items():
      if expected[-1] not in found:
        path = folders[key] / clip / f'{expected[-1]}.png'
        raise UserError(f'{path} is missing; unpack it, or remove clip {clip} everywhere')
  return [
    _frame(clip, {key: found[name] for key, found in names.items()})
    for name in expected[step - 1 :: step]
  ]


def _numbered(folder: epath.Path) -> dict[str, epath.Path]:
  """Return the frames of a clip by their names without extension."""
  paths = layouts.images(folder, ('.png',))
  for path in paths:
    if not _FRAME.fullmatch(path.stem):
      raise UserError(f'{path} is not a frame such as 00000000.png; remove it')
  if not paths:
    raise UserError(
      f'{folder} holds no frame (a PNG file); unpack REDS again, or remove that clip everywhere'
    )
  return {path.stem: path for path in paths}


def _frame(clip: str, paths: Mapping[str, epath.Path]) -> Frame:
  sizes = {key: frame_files.png_size(path, 'REDS') for key, path in paths.items()}
  height, width = sizes['hr']
  for key in paths.keys() - {'hr'}:
    if [degradation.SCALE * side for side in sizes[key]] != [height, width]:
      raise UserError(
        f'{paths[key]} is {sizes[key][0]}x{sizes[key][1]}, not a quarter of {paths["hr"]}, which '
        f'is {height}x{width} (height x width); unpack both again'
      )
  name = f'{clip}_{paths["hr"].stem}'
  return Frame(name, paths['hr'], paths['lr_blur'], paths.get('lr'), (height, width))


def read_frame(frame: Frame) -> degradation.Degraded:
  """Read the files of a frame unchanged, after decoding them to detect damage.

  Returns:
    One example. `hr`, `lr_blur` and `lr` are the content of the PNG files. A computed `lr` is uint8
    `[h, w, 3]`.

  Raises:
    UserError: if a file is damaged.
  """
  hr, pixels = frame_files.read_png(frame.hr, 'REDS')
  lr_blur, _ = frame_files.read_png(frame.lr_blur, 'REDS')
  if frame.lr:
    lr, _ = frame_files.read_png(frame.lr, 'REDS')
  else:
    lr = imresize(pixels, 1 / degradation.SCALE, degradation.BORDER)
  example = {'name': frame.name, 'lr_blur': lr_blur, 'lr': lr, 'hr': hr}
  return degradation.Degraded([example], windows_seen=0)
