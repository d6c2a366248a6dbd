"""Discovery, checks and reduction of the images of Koehler et al. (ECCV 2012)."""

import dataclasses
import itertools
import os
import re

from absl import logging
from etils import epath

from gfn_jax.data import layouts
from gfn_jax.data_prep import degradation, frame_files
from gfn_jax.errors import UserError
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.pixels import to_uint8

SCENES = range(1, 5)
TRAJECTORIES = range(1, 13)
FRAMES = range(197, 201)  # numbers of reference frames of one image in the archives

_ARCHIVES = 'the archives of Koehler et al.'
_BLURRED = re.compile(r'Blurry(\d+)_(\d+)\.png', re.IGNORECASE)
_REFERENCE = re.compile(r'GroundTruth(\d+)_(\d+)_(\d+)\.png', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Shot:
  """Blurred image, with sharp frames of the same scene along the same camera trajectory.

  Attributes:
    name: `Blurry<scene>_<trajectory>`, as in the archives.
    blurred: path of the blurred image.
    references: paths of the reference frames by number, in ascending order.
  """

  name: str
  blurred: epath.Path
  references: dict[int, epath.Path]


def find_shots(root: epath.Path) -> list[Shot]:
  """List the 48 blurred images with their reference frames, and check them without decoding.

  Files are found by name, at any depth. Other and hidden files are ignored. If an image has another
  number of frames than the archives hold, a warning is logged.

  Args:
    root: folder with `Blurry1_1.png` to `Blurry4_12.png`, and for each of them its frames, as
      `GroundTruth1_1_1.png`. Numbers of frames may have gaps: the archives lack a frame.

  Returns:
    The shots, in the order of scenes and trajectories.

  Raises:
    UserError: if an image or all its frames are missing, or a file has the numbers of another one,
      unknown numbers, or the wrong type or size. The message names it.
  """
  blurred = _find_files(root, _BLURRED)
  references: dict[tuple[int, ...], dict[int, epath.Path]] = {}
  for (scene, trajectory, frame), path in sorted(_find_files(root, _REFERENCE).items()):
    references.setdefault((scene, trajectory), {})[frame] = path
  shots = []
  for scene, trajectory in itertools.product(SCENES, TRAJECTORIES):
    name = f'Blurry{scene}_{trajectory}'
    if (scene, trajectory) not in blurred:
      raise UserError(f'{root} holds no {name}.png; unpack BlurryImages.zip there')
    if (scene, trajectory) not in references:
      raise UserError(
        f'{root} holds no reference frame of {name}.png, such as GroundTruth{scene}_{trajectory}'
        f'_1.png; unpack GroundTruth_pngs_Image{scene}.zip there'
      )
    shots.append(Shot(name, blurred[scene, trajectory], references[scene, trajectory]))
  _check_sizes(shots)
  _check_counts(shots)
  return shots


def _find_files(root: epath.Path, pattern: re.Pattern) -> dict[tuple[int, ...], epath.Path]:
  """Return the files whose names match a pattern, by the numbers in their names."""
  found: dict[tuple[int, ...], epath.Path] = {}
  for folder, subfolders, names in os.walk(root):
    subfolders[:] = sorted(name for name in subfolders if not layouts.is_ignored(name))
    for name in sorted(names):
      if not (match := pattern.fullmatch(name)):
        continue
      path, numbers = epath.Path(folder) / name, tuple(map(int, match.groups()))
      if numbers[0] not in SCENES or numbers[1] not in TRAJECTORIES:
        raise UserError(
          f'{path}: the scenes are {SCENES[0]} to {SCENES[-1]}, and the trajectories '
          f'{TRAJECTORIES[0]} to {TRAJECTORIES[-1]}; remove it'
        )
      if numbers in found:
        raise UserError(f'{found[numbers]} and {path} have the same numbers; remove one of them')
      found[numbers] = path
  return found


def _check_sizes(shots: list[Shot]) -> None:
  for shot in shots:
    height, width = size = frame_files.png_size(shot.blurred, _ARCHIVES)
    if height % degradation.SCALE or width % degradation.SCALE:
      raise UserError(
        f'{shot.blurred} is {height}x{width} (height x width), which {degradation.SCALE} does not '
        f'divide; unpack {_ARCHIVES} again'
      )
    for path in shot.references.values():
      if (other := frame_files.png_size(path, _ARCHIVES)) != size:
        raise UserError(
          f'{path} is {other[0]}x{other[1]} but {shot.blurred} is {height}x{width} (height x '
          f'width); unpack {_ARCHIVES} again'
        )


def _check_counts(shots: list[Shot]) -> None:
  """Log a warning for shots whose number of reference frames is not that of the archives."""
  others = [shot for shot in shots if len(shot.references) not in FRAMES]
  if others:
    logging.warning(
      '%d of %d images do not have the %d to %d reference frames of the archives: %s.png has %d',
      *(len(others), len(shots), FRAMES[0], FRAMES[-1]),
      *(others[0].name, len(others[0].references)),
    )


def reduce_shot(shot: Shot) -> bytes:
  """Reduce a blurred image to a quarter, and decode its reference frames to detect damage.

  The reduction is that of the test images of LR-GOPRO: without rounding between the two axes.

  Returns:
    The LR image, an 8-bit PNG file.

  Raises:
    UserError: if a file is damaged.
  """
  _, blurred = frame_files.read_png(shot.blurred, _ARCHIVES)
  for path in shot.references.values():
    frame_files.read_png(path, _ARCHIVES)
  lr_blur = imresize(blurred / 255.0, 1 / degradation.SCALE, degradation.BORDER)
  return frame_files.encode_png(to_uint8(lr_blur))
