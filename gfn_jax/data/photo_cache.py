"""Decoded photographs by number, at several sizes, kept in memory up to a limit."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.images import folders
from gfn_jax.system.console import print_message

_THREADS = min(8, os.cpu_count() or 1)


class PhotoCache:
  """Decoded and reduced photographs; those beyond the memory limit are decoded at each use.

  Attributes:
    paths: paths of the files.
    sizes: `(width, height)` of each file, before any reduction.
    digest: SHA-256 of the files' names and sizes.

  Args:
    paths: paths of the files.
    memory: memory limit for decoded photographs, GiB.
    scales: factors in (0, 1] by which photographs are reduced, in descending order.
  """

  def __init__(self, paths: Sequence[str], memory: float, scales: Sequence[float] = (1.0,)):
    self.paths, self._scales = list(paths), scales
    self.sizes = [folders.image_size(path) for path in self.paths]
    needed = np.array([3 * width * height for width, height in self.sizes])
    kept = int(np.sum(np.cumsum(needed * np.square(scales).sum()) <= memory * 2**30))
    with ThreadPoolExecutor(_THREADS) as pool:
      bar = tqdm(pool.map(self._read, range(kept)), 'reading photos', kept, leave=False)
      self._levels = list(bar)
    if kept < len(self.paths):
      print_message(
        f'{kept} of {len(self.paths)} photos fit into {memory} GiB; the others are decoded at each '
        'use'
      )
    facts = [
      (os.path.basename(path), *size) for path, size in zip(self.paths, self.sizes, strict=True)
    ]
    self.digest = hashlib.sha256(repr(facts).encode()).hexdigest()

  def _read(self, i: int) -> list[np.ndarray]:
    photo = folders.read_rgb(self.paths[i])
    return [_reduce(photo, scale) for scale in self._scales]

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, i: int) -> np.ndarray:
    """Return photograph `i` at its largest size, `[H, W, 3]` uint8."""
    return self._level(i, 0)

  def draw_level(self, i: int, share: float, side: int) -> np.ndarray:
    """Return photograph `i` at one of the sizes that are at least `side`.

    Args:
      i: number of the photograph.
      share: number in [0, 1) that chooses among these sizes.
      side: minimum of height and width, pixels.
    """
    fitting = sum(int(scale * min(self.sizes[i])) >= side for scale in self._scales)
    return self._level(i, int(share * fitting))

  def _level(self, i: int, n: int) -> np.ndarray:
    if i < len(self._levels):
      return self._levels[i][n]
    return _reduce(folders.read_rgb(self.paths[i]), self._scales[n])

  def check_sizes(self, used: Sequence[int], side: int) -> None:
    """Raise if a photograph is smaller than a crop, at its largest size.

    Args:
      used: numbers of the photographs to check.
      side: side of a crop, pixels.

    Raises:
      UserError: naming up to three such photographs.
    """
    small = [self.paths[i] for i in used if int(self._scales[0] * min(self.sizes[i])) < side]
    if small:
      names = ', '.join(small[:3]) + (', ...' if len(small) > 3 else '')
      raise UserError(
        f'{len(small)} photos are smaller than a crop of {side}x{side} pixels: {names}; remove '
        'them, or lower --config.training.crop_size'
      )


def cut_window(photo: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
  """Return the window `[side, side, 3]` at `top`, `left`, mirrored beyond the photo's edges."""
  height, width, _ = photo.shape
  pad = [(max(0, -top), max(0, top + side - height)), (max(0, -left), max(0, left + side - width))]
  top, left = max(0, top), max(0, left)
  inside = photo[top : top + side - pad[0][0], left : left + side - pad[1][0]]
  return np.pad(inside, (*pad, (0, 0)), mode='symmetric')


def _reduce(photo: np.ndarray, scale: float) -> np.ndarray:
  if scale == 1:
    return photo
  height, width = (max(1, int(scale * length)) for length in photo.shape[:2])
  return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))
