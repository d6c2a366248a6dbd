"""Real pairs of blurred and sharp photos, for the tables of this folder."""

import os
from collections.abc import Iterator
from typing import Any

from gfn_jax.data import folders
from gfn_jax.imresize import imresize


def load_pairs(path: str, blur_name: str) -> tuple[int, Iterator[dict[str, Any]]]:
  """Pairs as LR-GOPRO's test images are made: the blurred photo reduced to 1/4, 8-bit.

  Args:
    path: a folder with, at any depth, `sharp` and `blur_name` side by side.
    blur_name: of the folders of blurred photos.

  Returns:
    Their number, and for each its `scene` (the folder's name), `name`, `lr_blur` `[h, w, 3]` and
    `hr` `[4h, 4w, 3]`, uint8.
  """
  pairs = folders.sharp_and_blurred(path, blur_name)
  return len(pairs), map(_load, pairs)


def _load(pair: tuple[str, str, str]) -> dict[str, Any]:
  name, sharp, blur = pair
  scene = os.path.basename(os.path.dirname(os.path.dirname(sharp)))
  lr_blur, hr = imresize(folders.read_rgb(blur), 0.25), folders.read_rgb(sharp)
  return {'scene': scene, 'name': name, 'lr_blur': lr_blur, 'hr': hr}
