"""Real pairs of blurred and sharp photos for the benchmarks."""

import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from gfn_jax.images import folders
from gfn_jax.ops.imresize import imresize


def load_pairs(path: str, blur_name: str, scale: int = 4) -> tuple[int, Iterator[dict[str, Any]]]:
  """Load pairs as LR-GOPRO's test images are made: the blurred photo is reduced, in 8 bits.

  Args:
    path: a folder with sibling folders `sharp` and `blur_name` at any depth.
    blur_name: name of the folders of blurred photos.
    scale: reduction factor of the LR image; photos are cropped to multiples of it.

  Returns:
    The number of pairs, and an iterator over them. Each has `scene` (name of its folder), `name`,
    and, as uint8, `lr_blur` `[h, w, 3]` and `hr` `[s * h, s * w, 3]`.
  """
  pairs = folders.sharp_and_blurred(path, blur_name)
  return len(pairs), map(functools.partial(_load, scale), pairs)


def _load(scale: int, pair: tuple[str, str, str]) -> dict[str, Any]:
  name, *paths = pair
  scene = os.path.basename(os.path.dirname(os.path.dirname(paths[0])))
  hr, blur = (_crop(folders.read_rgb(path), scale) for path in paths)
  return {'scene': scene, 'name': name, 'lr_blur': imresize(blur, 1 / scale), 'hr': hr}


def _crop(photo: np.ndarray, scale: int) -> np.ndarray:
  height, width = (side - side % scale for side in photo.shape[:2])
  return photo[:height, :width]
