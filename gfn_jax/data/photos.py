"""Training examples from a folder of sharp photos, cropped on the host and blurred on the device.

Every batch is a function of (seed, step): a run that starts at step n gets the same batches as an
uninterrupted run, on any number of processes. TensorFlow is not needed.
"""

import contextlib
import functools
import itertools
import os
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from gfn_jax.data.blur_options import MotionBlur, select_world
from gfn_jax.data.examples import Example
from gfn_jax.data.map_examples import map_examples
from gfn_jax.data.motion_blur import synthesize
from gfn_jax.data.photo_cache import PhotoCache, cut_window, read_sizes
from gfn_jax.data.photo_list import check_listed, read_photo_list
from gfn_jax.data.real_pairs import RealSources
from gfn_jax.errors import UserError
from gfn_jax.images import folders
from gfn_jax.ops.sizes import SCALES, SHARP_FRAMES
from gfn_jax.ops.symmetries import apply_traced_symmetry
from gfn_jax.system.files import printable
from gfn_jax.system.package_files import find_file

TEST_SIZE = 64  # side of a held-out example, LR pixels

_ORDER, _BATCH, _TEST = range(3)  # streams of random numbers
_AHEAD = 3  # batches that are made in advance
_MOST_HELD_OUT = 20  # unless a config sets another number


class PhotoDataset:
  """Sharp photos, some of them held out for testing, and optional pairs with real blur.

  Photos are decoded and reduced once and kept in memory up to a limit. Those beyond the limit are
  decoded at each use. A photo that cannot be used is named on stderr. One with a damaged header is
  left out, and one that cannot be decoded, or has transparent pixels, gives way to the next photo
  of the pass. So the batches do not depend on when such a photo is found.

  Attributes:
    path: folder of the photos.
    scale: factor between HR and LR images.
    has_frames: True if examples have `frames`.
    metadata: the options of the examples, and a digest of the photos' names and sizes.
    files: see `Dataset`.

  Args:
    photos: folder of photos, searched at any depth.
    motion_blur: options of `MotionBlur` and `share` of each world (kind of blur), by its name. A
      world is drawn in proportion to its share. Test images use the first world by name.
    held_out: number of photos for testing only, spread evenly over the sorted names; -1 for a
      fifth of them, at most 20.
    test_photos: paths of the photos for testing, below the folder, in the place of `held_out`.
      Those that do not exist are ignored.
    photo_list: CSV file for `read_photo_list` that names the photos and the held-out ones; '' for
      any photos.
    margin: pixels around a crop that motion can bring into view.
    photo_scales: factors by which photos are reduced, drawn for each crop from those that leave
      room for it; (1.0,) for the original pixels.
    memory: memory limit for decoded photos, GiB; real pairs take as much again.
    real_pairs: sources for `RealSources`, by name.
    scale: factor between HR and LR images: 2, 3 or 4; or 1 to deblur photos at their size.
    frames: True for seven sharp frames of each exposure. Real pairs have no frames.

  Raises:
    UserError: for invalid options, a folder that is missing or has no usable photo, or photos that
      differ from the list.
  """

  def __init__(
    self,
    photos: str | os.PathLike,
    *,
    motion_blur: Mapping[str, Mapping[str, Any]],
    held_out: int = 0,
    test_photos: Collection[str] = (),
    photo_list: str | os.PathLike = '',
    margin: int = 32,
    photo_scales: Sequence[float] = (1.0, 0.7, 0.5),
    memory: float = 4.0,
    real_pairs: Mapping[str, Mapping[str, Any]] = types.MappingProxyType({}),
    scale: int = 4,
    frames: bool = False,
  ):
    if not photos:
      raise UserError('no photos: pass --config.data.photos=DIR, a folder of sharp photographs')
    self.path, self.scale, self.has_frames = os.fspath(photos), scale, frames
    self._margin = margin
    self._worlds, self._world_shares = _make_worlds(motion_blur)
    scales = sorted(photo_scales, reverse=True)
    if not scales or not 0 < scales[-1] <= scales[0] <= 1:
      raise UserError(f'photo_scales must be factors above 0 and at most 1, not {photo_scales}')
    if scale not in (1, *SCALES):
      raise UserError(f'unknown scale {scale}; choose from 1, {", ".join(map(str, SCALES))}')
    if frames and self._worlds[0].frames < SHARP_FRAMES:
      raise UserError(
        f'frames=True needs motion_blur.*.frames of at least {SHARP_FRAMES}, not '
        f'{self._worlds[0].frames}'
      )
    self._real = RealSources(real_pairs, scale, memory)
    if frames and self._real.share:
      raise UserError('real_pairs have no sharp frames: remove them, or set frames to False')
    paths = folders.list_images(photos, recursive=True)
    if photo_list:
      train, test = check_listed(paths, photos, read_photo_list(find_file(photo_list)))
      sizes = {path: folders.image_size(path) for path in (*train, *test)}
    else:
      sizes = read_sizes(paths)
      known = {os.path.join(self.path, *name.split('/')) for name in test_photos}
      test = [path for path in sizes if path in known] or self._hold_out(list(sizes), held_out)
      train = [path for path in sizes if path not in set(test)]
    self._photos = PhotoCache({path: sizes[path] for path in (*train, *test)}, memory, scales)
    self._fitting: dict[int, list[int]] = {}  # by crop size
    self._train = list(range(len(train)))
    self._test = list(range(len(train), len(train) + len(test)))
    self.files = {
      'train': self._sizes_by_name(self._train),
      'test': self._sizes_by_name(self._test),
      **self._real.files,
    }
    self.metadata = {
      'photos': self._photos.digest,
      'train_photos': len(train),
      'held_out': len(test),
      'real_pairs': self._real.facts,
      'motion_blur': {name: dict(world) for name, world in motion_blur.items()},
      'margin': margin,
      'photo_scales': list(photo_scales),
      'scale': scale,
      'frames': frames,
    }

  def _hold_out(self, paths: Sequence[str], count: int) -> list[str]:
    """Return photos for testing, spread evenly; the next one for each that cannot be decoded."""
    if count == -1:
      count = min(_MOST_HELD_OUT, max(len(paths) // 5, len(paths) > 1))
    if not 0 <= count < len(paths):
      raise UserError(
        f'held_out is {count}, but {self.path} has {len(paths)} photos; set '
        '--config.data.held_out to a smaller number, or to -1 for a fifth of them'
      )
    test: list[str] = []
    for n in np.linspace(0, len(paths) - 1, count).round().astype(int):
      candidates = (path for path in (*paths[n:], *paths[:n]) if path not in test)
      if path := next(filter(_is_usable, candidates), None):
        test.append(path)
    return sorted(test)

  def _sizes_by_name(self, numbers: Sequence[int]) -> dict[str, list[int]]:
    """Return width and height of photos, by their path below the folder."""
    return {
      os.path.relpath(self._photos.paths[i], self.path).replace(os.sep, '/'): [
        *self._photos.sizes[i]
      ]
      for i in numbers
    }

  def num_examples(self, split: str) -> int:
    """Return the number of photos of a split, 'train' or 'test'."""
    return len({'train': self._train, 'test': self._test}[split])

  def steps_per_pass(self, batch_size: int) -> int:
    """Return the number of steps that use every photo about once."""
    return max(1, round(len(self._train) / batch_size))

  def check_crop_size(self, crop_size: int) -> None:
    """Raise if crops do not fit.

    Args:
      crop_size: side of a crop, in LR pixels.

    Raises:
      UserError: if all photos, or all pairs of a source, are smaller than a crop. If only some are,
        a line on stderr says that they are left out.
    """
    self._large_enough(crop_size)
    self._real.check_crop_size(crop_size)

  def _large_enough(self, crop_size: int) -> list[int]:
    """Return the training photos that are no smaller than a crop; name the others once."""
    if crop_size not in self._fitting:
      self._fitting[crop_size] = self._photos.fitting(self._train, self.scale * crop_size)
    return self._fitting[crop_size]

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
    """Yield endless batches for `prepare`, made in threads while the device works.

    Args:
      batch_size: examples in a global batch, over all processes.
      seed: seed of all random choices.
      crop_size: side of a crop, in LR pixels.
      start_step: number of batches to skip, without reading their photos.
      process_index: number of this process, from 0.
      process_count: number of processes; each gets every `process_count`-th example.

    Yields:
      For S synthetic examples: `photo` `[S, P, P, 3]` uint8 with P = scale * crop_size + 2 margin,
      `key` `[S, 2]` uint32, `world` `[S]` and `symmetry` `[S]` int32. For R real examples: the
      arrays of `RealSources.examples`, with 'real_' before their names, and `real_symmetry` `[R]`
      int32. The share of the real pairs determines R.

    Raises:
      UserError: as `check_crop_size`; if no photo can be decoded, the shares of the real pairs are
        too small for the batch, or the examples of either kind cannot be divided equally among the
        processes.
    """
    self.check_crop_size(crop_size)
    real = round(self._real.share * batch_size)
    if self._real.share and not real:
      raise UserError(
        f'real_pairs have a share of {self._real.share:g}, which gives none of {batch_size} '
        'examples; raise batch_size or their shares'
      )
    if any(count % process_count for count in (real, batch_size - real)):
      raise UserError(
        f'{real} of the {batch_size} examples of a batch are real pairs, which {process_count} '
        'processes cannot share equally; change batch_size or the shares of real_pairs'
      )
    mine = slice(process_index, None, process_count)
    make = functools.partial(self._batch, batch_size - real, real, seed, crop_size, mine)
    steps = itertools.count(start_step)
    with ThreadPoolExecutor(_AHEAD) as pool:
      waiting = [pool.submit(make, next(steps)) for _ in range(_AHEAD)]
      while True:
        batch = waiting.pop(0).result()
        waiting.append(pool.submit(make, next(steps)))
        yield batch

  def prepare(self, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Make the examples of a batch of `train_batches`, on the device.

    Returns:
      `lr_blur` and `lr` `[B, h, w, 3]`, `hr` `[B, s * h, s * w, 3]` and maybe `frames`
      `[B, 7, h, w, 3]`, uint8; and `has_hr` `[B]` bool if some of the real pairs have no `hr`.
    """
    parts = []
    if 'photo' in batch:
      synthesized = {key: batch[key] for key in ('photo', 'key', 'world', 'symmetry')}
      parts.append(map_examples(self._synthesize, synthesized))
    if 'real_lr' in batch:
      parts.append(
        {
          key: jax.vmap(apply_traced_symmetry)(batch[f'real_{key}'], batch['real_symmetry'])
          for key in ('lr_blur', 'lr', 'hr')
        }
      )
    examples = {
      key: jnp.concatenate([part[key] for part in parts]) for key in parts[0] if key in parts[-1]
    }
    if not self._real.always_hr:
      has_hr = jnp.ones(len(examples['lr']) - len(batch['real_has_hr']), bool)
      examples['has_hr'] = jnp.concatenate([has_hr, batch['real_has_hr']])
    return examples

  def _synthesize(self, example: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Make one example from `photo` `[P, P, 3]`, `key` `[2]`, `world` and `symmetry`."""
    photo = apply_traced_symmetry(example['photo'], example['symmetry'])
    key = jax.random.wrap_key_data(example['key'], impl='threefry2x32')
    world = select_world(self._worlds, example['world'])
    return synthesize(key, photo, world, self._margin, scale=self.scale, frames=self.has_frames)

  def images(self, split: str = 'test', limit: int = 0) -> Iterator[Example]:
    """Yield the centres of photos, with synthetic blur of the first world, the same every time.

    Photos that cannot be decoded are left out.

    Args:
      split: 'test' for the held-out photos, 'train' for the others.
      limit: number of photos, spread over the split; 0 for all.

    Yields:
      `name`, `lr_blur` and `lr` `[64, 64, 3]`, `hr` and `hr_blur` `[64 s, 64 s, 3]`, and maybe
      `frames` `[7, 64, 64, 3]`, uint8.

    Raises:
      UserError: if no photo is held out.
    """
    photos = {'train': self._train, 'test': self._test}[split]
    if not photos:
      raise UserError(
        f'no photo of {self.path} is held out for testing; set --config.data.held_out'
      )
    side = self.scale * TEST_SIZE + 2 * self._margin
    make = jax.jit(self._synthesize)
    limit = min(limit or len(photos), len(photos))
    for n in np.linspace(0, len(photos) - 1, limit).round().astype(int):
      try:
        photo = self._photos[photos[n]]
      except UserError:  # which the cache prints
        continue
      top, left = ((length - side) // 2 for length in photo.shape[:2])
      key = np.random.default_rng((_TEST, n)).integers(2**32, size=2, dtype=np.uint32)
      window = cut_window(photo, top, left, side)
      example = make({'photo': window, 'key': key, 'world': 0, 'symmetry': 0})
      name = folders.stem(self._photos.paths[photos[n]])
      images = {key: np.asarray(image) for key, image in example.items()}
      yield cast(Example, {'name': name, **images})

  def _batch(
    self, synthetic: int, real: int, seed: int, crop_size: int, mine: slice, step: int
  ) -> dict[str, np.ndarray]:
    """Return the share `mine`, of one process, of the batch of a step."""
    rng = np.random.default_rng((seed, _BATCH, step))
    batch: dict[str, np.ndarray] = {}
    if synthetic:
      batch |= {
        'key': rng.integers(2**32, size=(synthetic, 2), dtype=np.uint32)[mine],
        'symmetry': rng.integers(8, size=synthetic, dtype=np.int32)[mine],
        'world': self._draw_worlds(rng, synthetic)[mine],
      }
      shares = rng.random((synthetic, 3))[mine]  # size, and position of the crop
      numbers = range(step * synthetic, (step + 1) * synthetic)[mine]
      side, photos = self.scale * crop_size, self._large_enough(crop_size)
      windows = [
        self._cut(self._draw(photos, seed, number, level, side), corner, side)
        for number, (level, *corner) in zip(numbers, shares, strict=True)
      ]
      batch['photo'] = np.stack(windows)
    if real:
      batch['real_symmetry'] = rng.integers(8, size=real, dtype=np.int32)[mine]
      examples = self._real.examples(rng.random((real, 4))[mine], crop_size)
      batch |= {f'real_{key}': values for key, values in examples.items()}
    return batch

  def _draw_worlds(self, rng: np.random.Generator, count: int) -> np.ndarray:
    ends = np.cumsum(self._world_shares) / sum(self._world_shares)
    return np.searchsorted(ends, rng.random(count), side='right').astype(np.int32)

  def _draw(
    self, photos: Sequence[int], seed: int, number: int, level: float, side: int
  ) -> np.ndarray:
    """Return the photo of an example, or the next one of the pass that can be decoded.

    Each pass uses every photo once, in a new order.
    """
    one_pass, position = divmod(number, len(photos))
    for i in np.roll(_order(seed, one_pass, len(photos)), -position):
      with contextlib.suppress(UserError):  # which the cache prints
        return self._photos.draw_level(photos[i], level, side)
    raise UserError(f'no training photo of {printable(self.path)} can be decoded')

  def _cut(self, photo: np.ndarray, corner: Sequence[float], side: int) -> np.ndarray:
    """Cut a window with its margins, which may lie outside the photo."""
    top, left = (
      int(share * (length - side + 1)) - self._margin
      for share, length in zip(corner, photo.shape[:2], strict=True)
    )
    return cut_window(photo, top, left, side + 2 * self._margin)


def _make_worlds(
  motion_blur: Mapping[str, Mapping[str, Any]],
) -> tuple[list[MotionBlur], list[float]]:
  """Return the options of the worlds, sorted by name, and their shares."""
  worlds, shares = [], []
  for name, options in sorted(motion_blur.items()):
    if not hasattr(options, 'keys'):
      raise UserError(f'motion_blur.{name} must be the options of a world, not {options!r}')
    options = dict(options)
    shares.append(options.pop('share', 1.0))
    try:
      worlds.append(MotionBlur(**options))
    except (TypeError, ValueError) as error:
      raise UserError(f'motion_blur.{name}: {error}') from error
  if not worlds or min(shares) < 0 or sum(shares) <= 0:
    raise UserError(
      f'motion_blur needs a world with a share above 0 and no negative one, not {shares}'
    )
  if len({(world.frames, world.regions) for world in worlds}) > 1:
    raise UserError('frames and regions must be the same in all worlds of motion_blur')
  return worlds, shares


def _is_usable(path: str) -> bool:
  try:
    folders.read_rgb(path)
  except UserError:
    return False
  return True


@functools.lru_cache(maxsize=4)
def _order(seed: int, one_pass: int, count: int) -> np.ndarray:
  return np.random.default_rng((seed, _ORDER, one_pass)).permutation(count)
