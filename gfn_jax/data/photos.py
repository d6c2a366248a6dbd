"""Training examples from a folder of sharp photos: crops here, blur on the device. No TensorFlow.

Every batch is a function of (seed, step): a run that starts at step n sees the batches that an
uninterrupted run sees there, on any number of processes.
"""

import functools
import hashlib
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from tqdm import tqdm

from gfn_jax.data import folders
from gfn_jax.data.motion_blur import MotionBlur, degrade, synthesize
from gfn_jax.errors import UserError
from gfn_jax.models.bmdsrnet import SCALES, SHARP_FRAMES

TEST_SIZE = 64  # side of a held-out example, LR pixels

_ORDER, _BATCH, _TEST = range(3)  # streams of random numbers
_THREADS = min(8, os.cpu_count() or 1)
_AHEAD = 3  # batches that are made while the device works


class PhotoDataset:
  """Sharp photos, some of them held out for testing, and pairs of real blur if there are any.

  Photos are decoded and reduced once and stay in memory, as many of them as fit; the rest are
  decoded whenever they are drawn.

  Attributes:
    path: the photos' folder.
    scale: how much smaller the LR images are.
    has_frames: whether examples have `frames`.
    metadata: how examples are made, and a digest of the photos' names and sizes.

  Args:
    path: a folder of photos, searched with all folders below it.
    motion_blur: options of `MotionBlur`.
    held_out: how many photos, spread evenly over their sorted names, are only for testing.
    margin: pixels around a crop, into which the motion looks.
    photo_scales: factors by which photos are reduced, one drawn for each crop, as far as a photo's
      size allows; (1.0,) takes their pixels as they are.
    memory: for decoded photos, GiB; as much again for real pairs.
    real_pairs: a folder that has, at any depth, folders `sharp` and, beside them, `real_blur` with
      files of the same names, as GOPRO_Large has; '' for none.
    real_blur: the name of the blurred folders: 'blur_gamma' or 'blur' in GOPRO_Large.
    real_fraction: how many of the examples are crops of real pairs, if there are any.
    scale: how much smaller the LR images are: 2, 3 or 4.
    frames: whether examples have seven sharp frames of the exposure; real pairs have none.

  Raises:
    UserError: for options that are not ones, or a folder that is missing or has no usable photo.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    *,
    motion_blur: Mapping[str, Any],
    held_out: int = 0,
    margin: int = 32,
    photo_scales: Sequence[float] = (1.0, 0.7, 0.5),
    memory: float = 4.0,
    real_pairs: str | os.PathLike = '',
    real_blur: str = 'blur_gamma',
    real_fraction: float = 0.2,
    scale: int = 4,
    frames: bool = False,
  ):
    if not path:
      raise UserError('no photos: pass --config.photos=DIR, a folder of sharp photographs')
    self.path, self.scale, self.has_frames = os.fspath(path), scale, frames
    self._margin = margin
    try:
      self._motion_blur = MotionBlur(**motion_blur)
    except (TypeError, ValueError) as error:
      raise UserError(f'motion_blur: {error}') from error
    scales = sorted(photo_scales, reverse=True)
    if not scales or scales[0] != 1 or scales[-1] <= 0:
      raise UserError(f'photo_scales must be 1 and maybe factors below it, not {photo_scales}')
    if not 0 <= real_fraction <= 1:
      raise UserError(f'real_fraction must be in [0, 1], not {real_fraction}')
    if scale not in SCALES:
      raise UserError(f'scale must be one of {SCALES}, not {scale}')
    if frames and self._motion_blur.frames < SHARP_FRAMES:
      raise UserError(
        f'frames needs motion_blur.frames to be {SHARP_FRAMES} or more, not '
        f'{self._motion_blur.frames}'
      )
    if frames and real_pairs:
      raise UserError('real_pairs have no sharp frames: leave them out, or set frames to False')
    self._real_fraction = real_fraction
    paths = folders.list_images(path, recursive=True)
    if not 0 <= held_out < (count := len(paths)):
      raise UserError(
        f'held_out is {held_out}, but {self.path} has {count} photos; '
        'set --config.held_out below that'
      )
    self._photos = _Photos(paths, memory, scales)
    self._pairs = _RealPairs(real_pairs, real_blur, memory) if real_pairs else None
    test = np.linspace(0, count - 1, held_out).round().astype(int)
    self._test = [int(i) for i in test]
    self._train = [i for i in range(count) if i not in set(self._test)]
    self.metadata = {
      'photos': self._photos.digest,
      'train_photos': len(self._train),
      'held_out': held_out,
      'real_pairs': self._pairs.digest if self._pairs else None,
    }

  def num_examples(self, split: str) -> int:
    """How many photos a split has: 'train' or 'test'."""
    return len({'train': self._train, 'test': self._test}[split])

  def steps_per_pass(self, batch_size: int) -> int:
    """How many steps see every photo about once."""
    return max(1, round(len(self._train) / batch_size))

  def check_crop_size(self, crop_size: int) -> None:
    """Checks that crops fit.

    Args:
      crop_size: side of a crop, in LR pixels.

    Raises:
      UserError: if a photo, or one of the real pairs, is smaller than a crop.
    """
    self._photos.check_sizes(self._train, self.scale * crop_size)
    if self._pairs:
      self._pairs.check_sizes(self.scale * crop_size)

  def train_batches(
    self,
    batch_size: int,
    seed: int,
    *,
    crop_size: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
  ) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches for `prepare`, made in threads while the device works.

    Args:
      batch_size: examples in a global batch, over all processes.
      seed: of everything that is random.
      crop_size: side of a crop, in LR pixels.
      start_step: how many batches to pass over; nothing is read for them.
      process_index: this process's number.
      process_count: number of processes; each gets every `process_count`-th example.

    Yields:
      `photo` `[B, P, P, 3]` uint8 with P = scale * crop_size + 2 margin, `symmetry` `[B]` int32,
      `key` `[B, 2]` uint32, and with real pairs `blur` `[B, P, P, 3]` uint8 and `is_real` `[B]`
      bool.

    Raises:
      UserError: if a photo, or one of the real pairs, is smaller than a crop.
    """
    self.check_crop_size(crop_size)
    side = self.scale * crop_size
    mine = slice(process_index, None, process_count)
    make = functools.partial(self._batch, batch_size, seed, side, mine)
    steps = itertools.count(start_step)
    with ThreadPoolExecutor(_AHEAD) as pool:
      waiting = [pool.submit(make, next(steps)) for _ in range(_AHEAD)]
      while True:
        batch = waiting.pop(0).result()
        waiting.append(pool.submit(make, next(steps)))
        yield batch

  def prepare(self, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """On the device: a batch of `train_batches` to what `prepare` gives."""
    return prepare(batch, self._motion_blur, self._margin, self.scale, self.has_frames)

  def images(self, split: str = 'test', limit: int = 0) -> Iterator[dict[str, Any]]:
    """The held-out photos: their middles, each with the same synthetic blur every time.

    Args:
      split: only 'test'.
      limit: how many, spread over all of them; 0 for all.

    Yields:
      `name`, `lr_blur` and `lr` `[64, 64, 3]`, `hr` and `hr_blur` `[64 s, 64 s, 3]`, and maybe
      `frames` `[7, 64, 64, 3]`, uint8.

    Raises:
      UserError: if no photo is held out.
    """
    if split != 'test' or not self._test:
      raise UserError(f'no photo of {self.path} is held out for testing; see config.held_out')
    side = self.scale * TEST_SIZE + 2 * self._margin
    options = self._motion_blur, self._margin, self.scale, self.has_frames
    make = jax.jit(functools.partial(_prepare, *options))
    limit = min(limit or len(self._test), len(self._test))
    for n in np.linspace(0, len(self._test) - 1, limit).round().astype(int):
      photo = self._photos[self._test[n]]
      top, left = ((length - side) // 2 for length in photo.shape[:2])
      key = np.random.default_rng((_TEST, n)).integers(2**32, size=2, dtype=np.uint32)
      example = make({'photo': _window(photo, top, left, side), 'key': key, 'symmetry': 0})
      name = folders.stem(self._photos.paths[self._test[n]])
      yield {'name': name, **{key: np.asarray(image) for key, image in example.items()}}

  def _batch(
    self, batch_size: int, seed: int, side: int, mine: slice, step: int
  ) -> dict[str, np.ndarray]:
    """One process's share, `mine`, of the batch of a step; `side` is that of a crop."""
    rng = np.random.default_rng((seed, _BATCH, step))
    draws = {
      'key': rng.integers(2**32, size=(batch_size, 2), dtype=np.uint32),
      'symmetry': rng.integers(8, size=batch_size, dtype=np.int32),
      'is_real': rng.random(batch_size) < self._real_fraction,
    }
    shares = rng.random((batch_size, 4))[mine]  # where to look
    batch = {key: values[mine] for key, values in draws.items()}
    count, window = len(shares), side + 2 * self._margin
    batch['photo'] = np.empty((count, window, window, 3), np.uint8)
    if self._pairs:
      batch['blur'] = np.zeros_like(batch['photo'])
    else:
      del batch['is_real']
    numbers = range(step * batch_size, (step + 1) * batch_size)[mine]
    for i, (number, (where, level, *corner)) in enumerate(zip(numbers, shares, strict=True)):
      if self._pairs and batch['is_real'][i]:
        images = self._pairs[int(where * len(self._pairs))]
        self._cut(images, corner, side, (batch['photo'][i], batch['blur'][i]))
      else:
        photo = self._photos.level(self._photo(seed, number), level, side)
        self._cut((photo,), corner, side, (batch['photo'][i],))
    return batch

  def _photo(self, seed: int, number: int) -> int:
    """Every photo once in each pass, in another order."""
    one_pass, position = divmod(number, len(self._train))
    return self._train[_order(seed, one_pass, len(self._train))[position]]

  def _cut(self, images, corner: Sequence[float], side: int, windows) -> None:
    """Cuts the same window from each image; its middle lies in the image, its margins need not."""
    top, left = (
      int(share * (length - side + 1)) - self._margin
      for share, length in zip(corner, images[0].shape, strict=False)
    )
    for image, window in zip(images, windows, strict=True):
      window[:] = _window(image, top, left, len(window))


def prepare(
  batch: Mapping[str, jax.Array],
  motion_blur: MotionBlur,
  margin: int,
  scale: int = 4,
  frames: bool = False,
) -> dict[str, jax.Array]:
  """Makes examples on the device.

  Args:
    batch: of `PhotoDataset.train_batches`.
    motion_blur: what blur to make.
    margin: pixels of the windows around the examples.
    scale: how much smaller the LR images are.
    frames: whether to make sharp frames; not of real pairs.

  Returns:
    `lr_blur` and `lr` `[B, h, w, 3]`, `hr` and `hr_blur` `[B, s * h, s * w, 3]`, and maybe `frames`
    `[B, 7, h, w, 3]`, uint8.
  """
  return jax.vmap(functools.partial(_prepare, motion_blur, margin, scale, frames))(dict(batch))


def _prepare(
  motion_blur: MotionBlur, margin: int, scale: int, frames: bool, example: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
  photo = apply_symmetry(example['photo'], example['symmetry'])
  key = jax.random.wrap_key_data(example['key'], impl='threefry2x32')
  synthetic = synthesize(key, photo, motion_blur, margin, scale=scale, frames=frames)
  if 'is_real' not in example:
    return synthetic
  middle = slice(margin, -margin or None)
  blur = apply_symmetry(example['blur'], example['symmetry'])
  real = degrade(photo[middle, middle], blur[middle, middle], scale)
  return {key: jnp.where(example['is_real'], real[key], synthetic[key]) for key in real}


def apply_symmetry(image: jax.Array, symmetry: jax.Array) -> jax.Array:
  """One of the eight symmetries of the square, for `[n, n, C]`: bits mirror and transpose it."""
  image = jnp.where(symmetry & 1, image[:, ::-1], image)
  image = jnp.where(symmetry & 2, image[::-1], image)
  return jnp.where(symmetry & 4, image.swapaxes(0, 1), image)


class _Photos:
  """Images by number, at several sizes, in memory as far as it goes."""

  def __init__(self, paths: list[str], memory: float, scales: Sequence[float] = (1.0,)):
    self.paths, self._scales = paths, scales
    self.sizes = [folders.image_size(path) for path in paths]
    needed = np.array([3 * width * height for width, height in self.sizes])
    kept = int(np.sum(np.cumsum(needed * np.square(scales).sum()) <= memory * 2**30))
    with ThreadPoolExecutor(_THREADS) as pool:
      bar = tqdm(pool.map(self._read, range(kept)), 'reading photos', kept, leave=False)
      self._levels = list(bar)
    if kept < len(paths):
      tqdm.write(
        f'{kept} of {len(paths)} photos fit into {memory} GiB; the rest are decoded when drawn',
        file=sys.stderr,
      )
    facts = [(os.path.basename(path), *size) for path, size in zip(paths, self.sizes, strict=True)]
    self.digest = hashlib.sha256(repr(facts).encode()).hexdigest()

  def _read(self, i: int) -> list[np.ndarray]:
    photo = folders.read_rgb(self.paths[i])
    return [photo, *(_reduce(photo, scale) for scale in self._scales[1:])]

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, i: int) -> np.ndarray:
    return self._levels[i][0] if i < len(self._levels) else folders.read_rgb(self.paths[i])

  def level(self, i: int, share: float, side: int) -> np.ndarray:
    """Photo i at a size drawn by `share`, in [0, 1), from those that are no smaller than `side`."""
    fitting = sum(int(scale * min(self.sizes[i])) >= side for scale in self._scales)
    n = int(share * fitting)
    return self._levels[i][n] if i < len(self._levels) else _reduce(self[i], self._scales[n])

  def check_sizes(self, used: Sequence[int], side: int) -> None:
    """Refuses photos that are smaller than a crop."""
    small = [self.paths[i] for i in used if min(self.sizes[i]) < side]
    if small:
      names = ', '.join(small[:3]) + (', ...' if len(small) > 3 else '')
      raise UserError(
        f'{len(small)} photos are smaller than a crop of {side}x{side} pixels: {names}; take them '
        'out, or lower --config.crop_size'
      )


class _RealPairs:
  """Sharp and blurred photos of the same scene."""

  def __init__(self, path: str | os.PathLike, blur_name: str, memory: float):
    pairs = folders.sharp_and_blurred(path, blur_name)
    self._sharp = _Photos([sharp for _, sharp, _ in pairs], memory / 2)
    self._blur = _Photos([blur for _, _, blur in pairs], memory / 2)
    for i, (name, *_) in enumerate(pairs):
      if self._sharp.sizes[i] != self._blur.sizes[i]:
        raise UserError(f'{name}: its sharp and its blurred image differ in size')
    self.digest = self._sharp.digest

  def check_sizes(self, side: int) -> None:
    self._sharp.check_sizes(range(len(self._sharp)), side)

  def __len__(self) -> int:
    return len(self._sharp)

  def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
    return self._sharp[i], self._blur[i]


@functools.lru_cache(maxsize=4)
def _order(seed: int, one_pass: int, count: int) -> np.ndarray:
  return np.random.default_rng((seed, _ORDER, one_pass)).permutation(count)


def _reduce(photo: np.ndarray, scale: float) -> np.ndarray:
  if scale == 1:
    return photo
  height, width = (max(1, int(scale * length)) for length in photo.shape[:2])
  return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))


def _window(photo: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
  """`[side, side, 3]` from `top`, `left`; beyond its edges the photo is mirrored."""
  height, width, _ = photo.shape
  pad = [(max(0, -top), max(0, top + side - height)), (max(0, -left), max(0, left + side - width))]
  top, left = max(0, top), max(0, left)
  inside = photo[top : top + side - pad[0][0], left : left + side - pad[1][0]]
  return np.pad(inside, (*pad, (0, 0)), mode='symmetric')
