"""Real pairs of a sharp and a blurred photograph of a scene, for training and testing."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gfn_jax.data import layouts
from gfn_jax.data.photo_cache import PhotoCache, read_sizes
from gfn_jax.errors import UserError
from gfn_jax.ops.imresize import imresize
from gfn_jax.system.files import printable


class RealPairs:
  """Pairs from one folder, reduced by MATLAB's bicubic to the size of LR images.

  Attributes:
    reduce: factor between the sides of the files and of the LR images.
    digest: SHA-256 of the files' names and sizes.
    files: width and height of each pair, by its path below the folder.

  A pair with a damaged header is left out. One that cannot be decoded, or has transparent pixels,
  gives way to the next one. Lines on stderr name them.

  Args:
    path: folder in any layout of `gfn_jax.data.layouts`, such as GOPRO_Large's.
    blur: name of the blurred folders, such as 'blur_gamma'.
    reduce: 4 for files at the size of x4 HR images, 1 for files that are LR images already.
    memory: memory limit for decoded photographs, GiB.

  Raises:
    UserError: if there are no such folders, a file has no partner, or a pair differs in size.
  """

  def __init__(self, path: str | os.PathLike, blur: str, reduce: int, memory: float = 4.0):
    if not isinstance(reduce, int) or reduce < 1:
      raise UserError(f'{os.fspath(path)}: reduce must be an integer of at least 1, not {reduce!r}')
    found = layouts.find_pairs(path, blur)
    pairs = [(pair.name, os.fspath(pair.sharp), os.fspath(pair.blur)) for pair in found]
    self._scenes = {os.fspath(pair.sharp): pair.scene for pair in found}
    sizes = read_sizes(image for _, *images in pairs for image in images)
    pairs = [pair for pair in pairs if pair[1] in sizes and pair[2] in sizes]
    for name, sharp, blurred in pairs:
      if sizes[sharp] != sizes[blurred]:
        raise UserError(f'{printable(sharp)} ({name}): sharp and blurred image differ in size')
    if not pairs:
      raise UserError(f'no pair of {printable(path)} can be read')
    self.reduce, self._path = reduce, path
    self._names = [name for name, *_ in pairs]
    self._sharp = PhotoCache({sharp: sizes[sharp] for _, sharp, _ in pairs}, memory / 2)
    self._blur = PhotoCache({blurred: sizes[blurred] for *_, blurred in pairs}, memory / 2)
    self._fitting: dict[int, list[int]] = {}  # by crop size
    self.digest = self._sharp.digest
    self.files = {
      os.path.relpath(sharp, path).replace(os.sep, '/'): [*sizes[sharp]] for _, sharp, _ in pairs
    }

  def __len__(self) -> int:
    return len(self._sharp)

  def large_enough(self, crop_size: int) -> list[int]:
    """Return the pairs that are no smaller than a crop of LR pixels; name the others once.

    Raises:
      UserError: if there is none.
    """
    if crop_size not in self._fitting:
      self._fitting[crop_size] = self._sharp.fitting(range(len(self)), self.reduce * crop_size)
    return self._fitting[crop_size]

  def crop(self, share: float, corner: Sequence[float], crop_size: int) -> dict[str, np.ndarray]:
    """Return a crop of a pair as an example.

    Args:
      share: number in [0, 1) that chooses among the pairs that are large enough.
      corner: vertical and horizontal position of the crop, each in [0, 1).
      crop_size: side of the crop, LR pixels.

    Returns:
      `lr_blur` and `lr` `[h, w, 3]` and `sharp` `[reduce * h, reduce * w, 3]`, uint8.

    Raises:
      UserError: if no pair can be decoded.
    """
    sharp, blur = self._draw(self.large_enough(crop_size), share)
    side = self.reduce * crop_size
    top, left = (
      int(share * (length - side + 1))
      for share, length in zip(corner, sharp.shape[:2], strict=True)
    )
    inside = slice(top, top + side), slice(left, left + side)
    return self._example(sharp[inside], blur[inside])

  def _draw(self, pairs: Sequence[int], share: float) -> tuple[np.ndarray, np.ndarray]:
    for i in np.roll(pairs, -int(share * len(pairs))):
      with contextlib.suppress(UserError):  # which the cache prints
        return self._sharp[i], self._blur[i]
    raise UserError(f'no pair of {printable(self._path)} can be decoded')

  def images(self) -> Iterator[dict[str, Any]]:
    """Yield whole pairs as examples with `name` and `scene`, cropped to multiples of `reduce`.

    Pairs that cannot be decoded are left out.
    """
    for i, name in enumerate(self._names):
      try:
        sharp, blur = self._sharp[i], self._blur[i]
      except UserError:  # which the cache prints
        continue
      height, width = (n - n % self.reduce for n in sharp.shape[:2])
      example = self._example(sharp[:height, :width], blur[:height, :width])
      yield {'name': name, 'scene': self._scenes[self._sharp.paths[i]], **example}

  def _example(self, sharp: np.ndarray, blur: np.ndarray) -> dict[str, np.ndarray]:
    if self.reduce == 1:
      return {'lr_blur': blur, 'lr': sharp, 'sharp': sharp}
    lr_blur, lr = (imresize(image, 1 / self.reduce) for image in (blur, sharp))
    return {'lr_blur': lr_blur, 'lr': lr, 'sharp': sharp}


class RealSources:
  """Several folders of real pairs, each with its share of the examples.

  Attributes:
    share: share of real pairs in a batch.
    always_hr: True if every pair has an HR image.
    facts: options and `digest` of each source, by its name.
    files: `RealPairs.files` of each source, by 'real_pairs.' and its name.

  Args:
    sources: for each name, `path`, `blur`, `reduce`, and `share`, the source's share of a batch. A
      source with an empty path or a share of 0 is ignored.
    scale: factor between HR and LR images. Pairs with another `reduce` have no HR image, and train
      the deblurred image only.
    memory: memory limit for decoded photographs, GiB.

  Raises:
    UserError: as `RealPairs`, or if a share is negative or their sum exceeds 1.
  """

  def __init__(self, sources: Mapping[str, Mapping[str, Any]], scale: int, memory: float):
    used = {
      name: dict(source)
      for name, source in sorted(sources.items())
      if source['path'] and source['share']
    }
    for name, source in used.items():
      if unknown := sorted(set(source) - {'path', 'blur', 'reduce', 'share'}):
        raise UserError(
          f'real_pairs.{name} has no option {unknown[0]!r}; choose from path, blur, reduce, share'
        )
    shares = [source['share'] for source in used.values()]
    self.share = float(sum(shares))
    if any(share < 0 for share in shares) or self.share > 1:
      raise UserError(
        f'the shares of real_pairs must be 0 or more, with a sum of at most 1, not {shares}'
      )
    self._scale = scale
    self._pairs = [
      RealPairs(source['path'], source['blur'], source['reduce'], memory / max(1, len(used)))
      for source in used.values()
    ]
    self._ends = np.cumsum(shares) / max(self.share, 1e-9)
    self.always_hr = all(pairs.reduce == scale for pairs in self._pairs)
    self.facts = {
      name: {key: value for key, value in source.items() if key != 'path'}
      | {'digest': pairs.digest}
      for (name, source), pairs in zip(used.items(), self._pairs, strict=True)
    }

    self.files = {
      f'real_pairs.{name}': pairs.files for name, pairs in zip(used, self._pairs, strict=True)
    }

  def check_crop_size(self, crop_size: int) -> None:
    """Raise a UserError if all pairs of a source are smaller than a crop of LR pixels."""
    for pairs in self._pairs:
      pairs.large_enough(crop_size)

  def examples(self, draws: np.ndarray, crop_size: int) -> dict[str, np.ndarray]:
    """Return a batch of crops.

    Args:
      draws: `[B, 4]` uniform random numbers in [0, 1): source, pair, and corner of the crop.
      crop_size: side of a crop, LR pixels.

    Returns:
      `lr_blur` and `lr` `[B, h, w, 3]` and `hr` `[B, s * h, s * w, 3]`, uint8, and `has_hr` `[B]`
      bool; `hr` is black where `has_hr` is False.
    """
    side = self._scale * crop_size
    lr_blur, lr = np.empty((2, len(draws), crop_size, crop_size, 3), np.uint8)
    hr = np.zeros((len(draws), side, side, 3), np.uint8)
    has_hr = np.zeros(len(draws), bool)
    for n, (which, where, *corner) in enumerate(draws):
      pairs = self._pairs[int(np.searchsorted(self._ends, which, side='right'))]
      example = pairs.crop(where, corner, crop_size)
      lr_blur[n], lr[n] = example['lr_blur'], example['lr']
      if pairs.reduce == self._scale:
        hr[n], has_hr[n] = example['sharp'], True
    return {'lr_blur': lr_blur, 'lr': lr, 'hr': hr, 'has_hr': has_hr}
