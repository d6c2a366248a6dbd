"""Decoded photographs by number, at several sizes, kept in memory up to a limit."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.images import folders
from gfn_jax.system.console import print_message, print_warning
from gfn_jax.system.files import printable

_THREADS = min(8, os.cpu_count() or 1)
_NAMED = 5


def read_sizes(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
  """Return `(width, height)` of the photographs whose header can be read, by path.

  A line on stderr names the others.

  Raises:
    UserError: if no header can be read.
  """
  sizes, errors = {}, []
  with ThreadPoolExecutor(_THREADS) as pool:
    for path, result in zip(paths := list(paths), pool.map(_size_or_error, paths), strict=True):
      if isinstance(result, UserError):
        errors.append(result)
      else:
        sizes[path] = result
  if errors and not sizes:
    raise errors[0]
  if errors:
    more = f'; and {len(errors) - _NAMED} more' if len(errors) > _NAMED else ''
    print_message(f'left out: {"; ".join(map(str, errors[:_NAMED]))}{more}')
  return sizes


def _size_or_error(path: str) -> tuple[int, int] | UserError:
  try:
    return folders.image_size(path)
  except UserError as error:
    return error


class PhotoCache:
  """Decoded and reduced photographs; those beyond the memory limit are decoded at each use.

  Attributes:
    paths: paths of the files.
    sizes: `(width, height)` of each file, before any reduction.
    digest: SHA-256 of the files' names and sizes.

  Args:
    sizes: `(width, height)` of each file by its path, as `read_sizes` returns them.
    memory: memory limit for decoded photographs, GiB.
    scales: factors in (0, 1] by which photographs are reduced, in descending order.
  """

  def __init__(
    self, sizes: Mapping[str, tuple[int, int]], memory: float, scales: Sequence[float] = (1.0,)
  ):
    self.paths, self.sizes, self._scales = list(sizes), list(sizes.values()), scales
    self._errors: dict[int, UserError] = {}
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
    try:
      photo = self._decode(i)
    except UserError:
      return []
    return [_reduce(photo, scale) for scale in self._scales]

  def _decode(self, i: int) -> np.ndarray:
    """Decode a file, unless it has failed before; name it on stderr the first time."""
    if i in self._errors:
      raise self._errors[i]
    try:
      return folders.read_rgb(self.paths[i])
    except UserError as error:
      if self._errors.setdefault(i, error) is error:
        print_warning(f'left out: {error}')
      raise

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, i: int) -> np.ndarray:
    """Return photograph `i` at its largest size, `[H, W, 3]` uint8.

    Raises:
      UserError: if the file cannot be decoded. The first time, a line on stderr says so.
    """
    return self._level(i, 0)

  def draw_level(self, i: int, share: float, side: int) -> np.ndarray:
    """Return photograph `i` at one of the sizes that are at least `side`.

    Args:
      i: number of the photograph.
      share: number in [0, 1) that chooses among these sizes.
      side: minimum of height and width, pixels.

    Raises:
      UserError: as for the photograph at its largest size.
    """
    fitting = sum(int(scale * min(self.sizes[i])) >= side for scale in self._scales)
    return self._level(i, int(share * fitting))

  def _level(self, i: int, n: int) -> np.ndarray:
    if i < len(self._levels) and self._levels[i]:
      return self._levels[i][n]
    return _reduce(self._decode(i), self._scales[n])

  def fitting(self, used: Sequence[int], side: int) -> list[int]:
    """Return the photographs that are at least as large as a crop; name the others on stderr.

    Args:
      used: numbers of the photographs to choose from.
      side: side of a crop, pixels.

    Raises:
      UserError: if none is large enough. The message names up to five.
    """
    large = [i for i in used if int(self._scales[0] * min(self.sizes[i])) >= side]
    if len(large) == len(used):
      return large
    small = [printable(self.paths[i]) for i in sorted(set(used) - set(large))]
    names = ', '.join(small[:_NAMED]) + (', ...' if len(small) > _NAMED else '')
    if not large:
      raise UserError(
        f'all {len(small)} photos are smaller than a crop of {side}x{side} pixels: {names}; lower '
        '--config.training.crop_size'
      )
    print_message(
      f'left out: {len(small)} of {len(used)} photos are smaller than a crop of {side}x{side} '
      f'pixels: {names}'
    )
    return large


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
