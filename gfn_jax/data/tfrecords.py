"""Input pipelines (tf.data) for the TFRecords that the builders in `data_prep/` write.

Order and augmentation are pure functions of (seed, pass, example): a run that starts at step n
gets the same batches as an uninterrupted run, on any number of processes.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import jax
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from gfn_jax.data.examples import Example
from gfn_jax.errors import UserError
from gfn_jax.ops.sizes import SHARP_FRAMES
from gfn_jax.ops.symmetries import apply_traced_symmetry
from gfn_jax.system.files import printable, special_files

tf.config.set_visible_devices([], 'GPU')  # TensorFlow would reserve the memory that JAX needs

IMAGES = ('lr_blur', 'lr', 'hr')

_DEFAULT_SCALE = 4  # of the first data sets, whose metadata lack it
_OPEN_FILES = 16  # shards read in turns
_HEADER, _FRAMING = 12, 16  # bytes of a TFRecord before its content, and in total besides it
_READ_ERRORS = (tf.errors.OpError, UnicodeDecodeError)  # messages may hold undecodable content
_SHUFFLE_BYTES = 2**29
_REBUILD = 'copy the dataset again, or build it with --overwrite (docs/datasets.md)'


class TFRecordDataset:
  """Dataset of a builder in `data_prep/`: records with `lr_blur`, `lr`, `hr` and `name`.

  Attributes:
    path: folder of the dataset.
    scale: factor between HR and LR images.
    has_frames: True if examples have `frames`, the seven sharp LR frames of the blur.
    metadata: facts about the dataset: blur folder, quantisation, counts. `patch_size` is the side
      of the train split's `hr`, or None if that split holds whole frames.
    files: empty; `metadata` has the counts.

  Args:
    data_dir: folder with `dataset_info.json`, or with exactly one such folder at any depth; local,
      or in Google Cloud Storage (`gs://...`).
    shuffle_buffer: number of encoded records in the shuffle buffer, reduced if they would take more
      than half a gigabyte. Files are shuffled, too.

  Raises:
    UserError: if there is no such dataset, or a file is missing or has the wrong size.
  """

  def __init__(self, data_dir: str | os.PathLike, shuffle_buffer: int = 2048):
    try:
      self.path = _find_dataset(data_dir)
      _check_entries(self.path)
      self._info = _read_info(self.path)
      for split in self._info.splits:
        self._check_files(split)
    except (OSError, tf.errors.OpError) as error:
      raise UserError(f'cannot read {printable(data_dir)}: {_reason(error)}') from error
    self._shuffle_buffer = shuffle_buffer
    self.metadata = dict(self._info.metadata) | {'shuffle_buffer': shuffle_buffer}
    self.files: dict[str, dict[str, Any]] = {}
    self.scale: int = self.metadata.get('scale', _DEFAULT_SCALE)
    self.has_frames = 'frames' in self._info.features
    self._images = (*IMAGES, 'frames') if self.has_frames else IMAGES
    self._check_shapes()

  def _check_shapes(self) -> None:
    """Raise if the shapes that the features declare contradict the size of patches."""
    side = self.metadata['patch_size']
    for key in self._images:
      shape = self._info.features[key].shape[-3:]
      size = side if key == 'hr' else side and side // self.scale
      pairs = zip(shape, (size, size, 3), strict=False)  # a damaged shape may be shorter
      if any(wanted and declared not in (None, wanted) for declared, wanted in pairs):
        declared = f'{key} is declared as {shape}, with patches of {side}'
        raise UserError(f'{printable(self.path)} is damaged ({declared}); {_REBUILD}')

  def num_examples(self, split: str) -> int:
    """Return the number of records of a split; 0 if there is no such split."""
    return self._info.splits[split].num_examples if split in self._info.splits else 0

  def steps_per_pass(self, batch_size: int) -> int:
    """Return the number of full batches of the train split.

    Raises:
      UserError: if there is less than one.
    """
    count = self.num_examples('train')
    if count < batch_size:
      raise UserError(
        f'{printable(self.path)} has {count} train {self._train_images()}, less than a batch of '
        f'{batch_size}'
      )
    return count // batch_size

  def train_batches(
    self,
    batch_size: int,
    seed: int,
    *,
    crop_size: int = 0,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
  ) -> Iterator[dict[str, np.ndarray]]:
    """Yield endless shuffled batches of the train split, for `prepare`.

    Each pass uses every record once, except a random remainder that does not fill a batch.

    Args:
      batch_size: examples in a global batch, over all processes.
      seed: seed of the order and the augmentation.
      crop_size: side of a random crop, in LR pixels, the same for all images of an example; 0 for
        whole patches. Whole frames must be cropped.
      start_step: number of batches to skip, without decoding their images.
      process_index: number of this process, from 0.
      process_count: number of processes; each gets every `process_count`-th example.

    Yields:
      `lr_blur` and `lr` `[B / process_count, h, w, 3]`, `hr` `[B / process_count, s * h, s * w, 3]`
      and maybe `frames` `[B / process_count, 7, h, w, 3]`, as stored: uint8, or float32 in [0, 1];
      and `symmetry` `[B / process_count]` int32, 0 to 7.

    Raises:
      UserError: if the split has less than one batch, a crop does not fit or is missing, or a file
        is damaged.
    """
    steps_per_pass = self.steps_per_pass(batch_size)
    self.check_crop_size(crop_size)
    first_pass, skipped_steps = divmod(start_step, steps_per_pass)

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
      records = self._shuffled_records(tf.stack([np.int64(seed), number]), self._shuffle_buffer)
      return records.take(steps_per_pass * batch_size)

    def decode(seed: tf.Tensor, index: tf.Tensor, record: tf.Tensor) -> dict[str, tf.Tensor]:
      seed = tf.random.experimental.stateless_fold_in(seed, index)
      images = self._decode('train', record)
      images = {key: images[key] for key in self._images}
      if crop_size:
        crop_seed = tf.random.experimental.stateless_fold_in(seed, 0)
        images = random_crop(images, crop_size, crop_seed, self.scale)
      return images | {'symmetry': tf.random.stateless_uniform([], seed, maxval=8, dtype=tf.int32)}

    records = tf.data.Dataset.range(first_pass, np.iinfo(np.int64).max).flat_map(one_pass)
    records = records.skip(skipped_steps * batch_size).shard(process_count, process_index)
    share = batch_size // process_count
    batches = records.map(decode, tf.data.AUTOTUNE, deterministic=True)
    batches = batches.batch(share, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    records = records.map(lambda seed, index, record: (index, record))
    yield from self._iterate('train', batches, records, share)

  def _train_images(self) -> str:
    return 'patches' if self.metadata['patch_size'] else 'frames'

  def check_crop_size(self, crop_size: int) -> None:
    """Raise if crops do not fit.

    Args:
      crop_size: side of a crop, in LR pixels; 0 for whole patches.

    Raises:
      UserError: if a crop is larger than the images, or 0 although they are whole frames.
    """
    side = (self.metadata['patch_size'] or self.metadata['smallest_side']) // self.scale
    if crop_size > side:
      raise UserError(
        f'crop_size {crop_size} is larger than the {self._train_images()} of '
        f'{printable(self.path)}; set --config.training.crop_size to at most {side}'
      )
    if not (crop_size or self.metadata['patch_size']):
      raise UserError(
        f'{printable(self.path)} holds whole frames: set --config.training.crop_size to at most '
        f'{side} LR pixels'
      )

  def prepare(self, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Apply GFN's augmentation to a batch of `train_batches`, on the device.

    Returns:
      `lr_blur`, `lr`, `hr` and maybe `frames`. All images of an example are turned and mirrored
      alike, uniformly over the eight symmetries of the square.
    """
    turn = jax.vmap(apply_traced_symmetry)
    images = {key: turn(batch[key], batch['symmetry']) for key in IMAGES}
    if 'frames' in batch:
      images['frames'] = jax.vmap(turn, (1, None), 1)(batch['frames'], batch['symmetry'])
    return images

  def images(self, split: str = 'test', limit: int = 0) -> Iterator[Example]:
    """Yield the images of a split in stored order.

    Args:
      split: name of the split.
      limit: number of images; 0 for all.

    Yields:
      A dict for each image: `name`, and `lr_blur`, `lr`, `hr` and maybe `frames` as stored.

    Raises:
      UserError: if there is no such split, or a file is damaged.
    """
    if not self.num_examples(split):
      raise UserError(f'the dataset in {printable(self.path)} has no {split} images')
    records = self._records(split, tf.range(len(self._files(split))), open_files=1)
    records = records.take(limit or -1)
    images = records.map(lambda index, record: self._decode(split, record)).prefetch(1)
    for index, example in enumerate(self._iterate(split, images, records, 1)):
      if misfit := _misfit(example, self.scale):
        raise UserError(f'{self._place(split, index)} is damaged ({misfit}); {_REBUILD}')
      yield cast(Example, example | {'name': example['name'].decode()})

  def _files(self, split: str) -> list[str]:
    return [os.fspath(path) for path in self._info.splits[split].filepaths]

  def _records(self, split: str, shards: tf.Tensor, open_files: int) -> tf.data.Dataset:
    """Return pairs (index in the split, record), from `open_files` of the shards in turns."""
    files = tf.constant(self._files(split))
    lengths = self._info.splits[split].shard_lengths
    counts = tf.constant(lengths, tf.int64)
    offsets = tf.constant(np.cumsum([0, *lengths[:-1]]), tf.int64)

    def read(shard: tf.Tensor) -> tf.data.Dataset:
      records = tf.data.TFRecordDataset(files[shard])
      records = records.apply(tf.data.experimental.assert_cardinality(counts[shard]))
      return records.enumerate(offsets[shard])

    return tf.data.Dataset.from_tensor_slices(shards).interleave(
      read, open_files, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )

  def _shuffled_records(self, seed: tf.Tensor, shuffle_buffer: int) -> tf.data.Dataset:
    """Return the train records as (seed, index, record), in the order of `seed`, int64 `[2]`."""
    info = self._info.splits['train']
    most = _SHUFFLE_BYTES * info.num_examples // max(info.num_bytes, 1)
    shuffle_buffer = max(1, min(shuffle_buffer, most))
    shards = tf.range(len(self._files('train')))
    shards = tf.random.experimental.stateless_shuffle(shards, seed)
    records = self._records('train', shards, _OPEN_FILES)
    shuffle_seed = tf.random.stateless_uniform([], seed, maxval=2**62, dtype=tf.int64)
    records = records.shuffle(shuffle_buffer, shuffle_seed, reshuffle_each_iteration=False)
    return records.map(lambda index, record: (seed, index, record))

  def _decode(self, split: str, record: tf.Tensor) -> dict[str, tf.Tensor]:
    decoders = {'frames': _FramesDecoder()} if self.has_frames else None
    example = self._info.features.deserialize_example(record, decoders=decoders)
    side = self.metadata['patch_size']
    if split == 'train' and side:
      small = side // self.scale
      for key in self._images:
        shape = [side, side, 3] if key == 'hr' else [*example[key].shape[:-3], small, small, 3]
        example[key] = tf.ensure_shape(example[key], shape)
    elif split == 'train':
      size = tf.shape(example['hr'])[:2]
      tf.debugging.assert_greater_equal(size, self.metadata['smallest_side'], 'hr is too small')
      for key in self._images:
        if key != 'hr':
          message = f'hr is not {self.scale} times as large as {key}'
          tf.debugging.assert_equal(self.scale * tf.shape(example[key])[-3:-1], size, message)
    return example

  def _iterate(
    self, split: str, batches: tf.data.Dataset, records: tf.data.Dataset, size: int
  ) -> Iterator[dict[str, Any]]:
    """Yield batches; if one cannot be read, raise with the damaged file and record.

    Args:
      split: name of the split.
      batches: batches to yield.
      records: (index in the split, record) of each example of `batches`, in the same order.
      size: examples in a batch.
    """
    count = 0
    try:
      for batch in batches.as_numpy_iterator():
        yield batch
        count += 1
    except _READ_ERRORS as error:
      suspects = records.skip(count * size).take(size)
      damage = self._damaged_file(split, _reason(error)) or self._damaged_record(split, suspects)
      damage = damage or f'cannot read {printable(self.path)}: {_reason(error)}'
      raise UserError(damage) from error

  def _check_files(self, split: str) -> None:
    """Raise if the sizes of a split's files contradict the metadata; the files are not read."""

    def size(path: str) -> int:
      try:
        return epath.Path(path).stat().length
      except FileNotFoundError as error:
        raise UserError(f'{printable(path)} is missing; {_REBUILD}') from error

    with ThreadPoolExecutor(_OPEN_FILES) as pool:  # each is a request, in a bucket
      found = sum(pool.map(size, self._files(split)))
    info = self._info.splits[split]
    if found != (expected := int(info.num_bytes) + _FRAMING * info.num_examples):
      sizes = (
        f'the {split} files in {printable(self.path)} are damaged (expected {expected:,} bytes, '
        f'found {found:,})'
      )
      raise UserError(self._damaged_file(split) or f'{sizes}; {_REBUILD}')

  def _damaged_file(self, split: str, reason: str = '') -> str | None:
    """Find a file that is missing, is truncated, or has a wrong number of records.

    Only the records' lengths are read.

    Args:
      split: name of the split.
      reason: TensorFlow's error message. It may name the byte at which a damaged record or its
        content begins.

    Returns:
      A message for the user, or None if no such file is found.
    """
    at = re.search(r'record at (\d+)', reason)
    suspects = (int(at[1]), int(at[1]) - _HEADER) if at else ()
    for path, count in zip(self._files(split), self._info.splits[split].shard_lengths, strict=True):
      try:
        starts, whole = _record_starts(path)
      except FileNotFoundError:
        return f'{printable(path)} is missing; {_REBUILD}'
      except (OSError, tf.errors.OpError) as error:
        return f'cannot read {printable(path)}: {_reason(error)}'
      for start in set(suspects).intersection(starts):
        if not _readable(path, number := starts.index(start)):
          return f'{printable(path)}: record {number} is damaged ({reason}); {_REBUILD}'
      if not whole and len(starts) <= count:
        return f'{printable(path)}: record {len(starts) - 1} is cut short or damaged; {_REBUILD}'
      if len(starts) != count:
        return f'{printable(path)} has {len(starts)} records, not {count}; {_REBUILD}'
    return None

  def _damaged_record(self, split: str, suspects: tf.data.Dataset) -> str | None:
    """Find a record that cannot be decoded among (index in the split, record).

    Returns:
      A message for the user, or None if all can be decoded.
    """
    with contextlib.suppress(*_READ_ERRORS):  # errors of reading have another message
      for index, record in suspects:
        try:
          self._decode(split, record)
        except _READ_ERRORS as error:
          return f'{self._place(split, int(index))} is damaged ({_reason(error)}); {_REBUILD}'
    return None

  def _place(self, split: str, index: int) -> str:
    """Return the file and the number of a record, from its index in the split."""
    ends = np.cumsum(self._info.splits[split].shard_lengths)
    shard = int(np.searchsorted(ends, index, side='right'))
    number = index - (ends[shard - 1] if shard else 0)
    return f'{printable(self._files(split)[shard])}: record {number}'


class _FramesDecoder(tfds.decode.Decoder):
  """Decoder of `frames`, without the warnings that TFDS's own decoder causes."""

  def decode_example(self, serialized_example: tf.Tensor) -> tf.Tensor:
    return self.feature.decode_example(serialized_example)

  def decode_batch_example(self, serialized_example: tf.Tensor) -> tf.Tensor:
    return tf.stack([self.decode_example(image) for image in tf.unstack(serialized_example)])


def random_crop(
  images: dict[str, tf.Tensor], size: int, seed: tf.Tensor, scale: int
) -> dict[str, tf.Tensor]:
  """Crop all images of an example at the same place.

  Args:
    images: `lr_blur` and `lr` `[h, w, C]`, `hr` `[scale * h, scale * w, C]`, and maybe `frames`
      `[7, h, w, C]`.
    size: side of the crop in LR pixels, at most h and w.
    seed: integer `[2]`.
    scale: factor between `hr` and the LR images.

  Returns:
    The images, cropped to `size` by `size` LR pixels.
  """
  corners = tf.shape(images['lr_blur'])[:2] - size + 1  # number of positions along each axis
  y, x = tf.unstack(tf.random.stateless_uniform([2], seed, maxval=2**30, dtype=tf.int32) % corners)

  def crop(image: tf.Tensor, scale: int) -> tf.Tensor:
    return tf.image.crop_to_bounding_box(image, scale * y, scale * x, scale * size, scale * size)

  return {key: crop(image, scale if key == 'hr' else 1) for key, image in images.items()}


def _misfit(example: Mapping[str, np.ndarray], scale: int) -> str | None:
  """Return how the sizes of an example's images contradict each other, or None if they fit."""
  height, width = example['lr_blur'].shape[:2]
  for key, factor in (('lr', 1), ('hr', scale), ('frames', 1)):
    if key not in example:
      continue
    if (found := example[key].shape[-3:-1]) != (factor * height, factor * width):
      return f'{key} is {found[0]}x{found[1]}, lr_blur {height}x{width}'
  return None


def _find_dataset(path: str | os.PathLike) -> str:
  root = epath.Path(path)
  found = [os.fspath(p) for p, _, files in root.walk() if 'dataset_info.json' in files]
  if len(found) == 1:
    return found[0]
  if found:
    names = ', '.join(printable(name) for name in sorted(found)[:5])
    raise UserError(f'{printable(path)} holds several datasets; choose from {names}')
  raise UserError(
    f'no dataset in {printable(path)!r}: build one with `gfn-prepare lr_gopro`, '
    '`gfn-prepare reds` or `gfn-prepare motion_blurred_lr` (docs/datasets.md) and pass '
    '--config.data.data_dir=DIR'
  )


def _check_entries(path: str) -> None:
  for entry in special_files(path):  # reading a pipe or a device may not end
    raise UserError(f'{printable(entry)} is neither a file nor a folder; {_REBUILD}')


def _read_info(path: str) -> tfds.core.DatasetInfo:
  try:
    info = tfds.builder_from_directory(path).info
    metadata = dict(info.metadata or {})
    for split in info.splits.values():
      list(split.filepaths)  # raises now if the template is damaged
  except (OSError, tf.errors.OpError):
    raise
  except Exception as error:  # TFDS raises many types, undocumented, for damaged files
    raise UserError(f'{printable(path)} is not a complete dataset; {_REBUILD}') from error
  if missing := [key for key in IMAGES if key not in info.features]:
    raise UserError(
      f'the dataset in {printable(path)} has no {missing[0]!r}; build it with gfn-prepare'
    )
  if 'patch_size' not in metadata or not (metadata['patch_size'] or 'smallest_side' in metadata):
    raise UserError(f'the metadata of {printable(path)} lack patch_size; build it with gfn-prepare')
  scale = metadata.get('scale', _DEFAULT_SCALE)
  if not (isinstance(scale, int) and scale > 0):
    raise UserError(f'{printable(path)} has an invalid scale, {scale!r}; build it with gfn-prepare')
  if 'frames' in info.features and info.features['frames'].shape != (SHARP_FRAMES, None, None, 3):
    raise UserError(
      f"'frames' of {printable(path)} are not {SHARP_FRAMES} images; build it with gfn-prepare"
    )
  return info


def _record_starts(path: str) -> tuple[list[int], bool]:
  """Return the start of each record of a TFRecord file, and True if the last one is complete."""
  size = epath.Path(path).stat().length
  starts, position = [], 0
  with epath.Path(path).open('rb') as file:
    while position < size:
      starts.append(position)
      file.seek(position)
      length = int.from_bytes(file.read(8), 'little')
      position += _FRAMING + length
  return starts, position == size


def _readable(path: str, number: int) -> bool:
  try:
    return len(list(tf.data.TFRecordDataset(path).skip(number).take(1))) == 1
  except tf.errors.OpError:
    return False


def _reason(error: Exception) -> str:
  """Return TensorFlow's error message without the names of its nodes and operations."""
  message = str(getattr(error, 'message', error))
  if isinstance(error, UnicodeDecodeError):
    message = error.object.decode('ascii', 'replace')
  message = printable(message.strip().partition('\n')[0])
  return re.sub(r'\{\{.*?\}\} ?| ?\[Op:.*| name: *$', '', message).strip()
