"""tf.data pipelines over the TFRecords that the builders in `data_prep/` write.

Order and augmentation are pure functions of (seed, pass, example): a run that starts at step n
sees the batches that an uninterrupted run sees there, on any number of processes.
"""

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from gfn_jax.errors import UserError
from gfn_jax.models.gfn import SCALE

tf.config.set_visible_devices([], 'GPU')  # TensorFlow would take all the memory that JAX needs

IMAGES = ('lr_blur', 'lr', 'hr')

_OPEN_FILES = 16  # shards read in turns


class TFRecordDataset:
  """A dataset as one of the builders wrote it: records with `lr_blur`, `lr`, `hr` and `name`.

  Attributes:
    path: the dataset's folder.
    metadata: how it was made: blur folder, quantisation, counts.

  Args:
    path: the folder that holds `dataset_info.json`, or one that has exactly one such folder
      somewhere below it.

  Raises:
    UserError: if there is no such dataset.
  """

  def __init__(self, path: str | os.PathLike):
    self.path = _find_dataset(os.fspath(path))
    self._info = tfds.builder_from_directory(self.path).info
    if missing := [key for key in IMAGES if key not in self._info.features]:
      raise UserError(f'the dataset in {self.path} has no {missing[0]!r}; build it with data_prep')
    self.metadata = dict(self._info.metadata or {})

  def num_examples(self, split: str) -> int:
    """How many records a split has; 0 if there is no such split."""
    return self._info.splits[split].num_examples if split in self._info.splits else 0

  def steps_per_pass(self, batch_size: int) -> int:
    """How many full batches the train split has.

    Raises:
      UserError: if it has less than one.
    """
    count = self.num_examples('train')
    if count < batch_size:
      raise UserError(f'{self.path} has {count} train patches, less than a batch of {batch_size}')
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
    shuffle_buffer: int = 2048,
  ) -> Iterator[dict[str, np.ndarray]]:
    """Endless shuffled and augmented batches of the train split.

    Each pass takes every record once, less those that do not fill a batch; another pass leaves out
    others. All images of an example are turned and mirrored alike, uniformly over the eight
    symmetries of the square (GFN's augmentation).

    Args:
      batch_size: examples in a global batch, over all processes.
      seed: of the order and the augmentation.
      crop_size: side of a random crop, in LR pixels, the same for all images of an example; 0 takes
        whole patches.
      start_step: how many batches to pass over; none of their images is decoded.
      process_index: this process's number.
      process_count: number of processes; each gets every `process_count`-th example.
      shuffle_buffer: encoded records held for shuffling, beside the shuffling of files.

    Yields:
      `lr_blur` and `lr` `[B / process_count, h, w, 3]` and `hr` `[B / process_count, 4h, 4w, 3]`,
      as stored: uint8, or float32 in [0, 1].

    Raises:
      UserError: if the split has less than one batch, a crop does not fit, or a file is damaged.
    """
    steps_per_pass = self.steps_per_pass(batch_size)
    if SCALE * crop_size > self.metadata.get('patch_size', SCALE * crop_size):
      raise UserError(
        f'crop_size {crop_size} is more than the patches of {self.path} have: '
        f'{self.metadata["patch_size"] // SCALE}'
      )
    first_pass, skipped_steps = divmod(start_step, steps_per_pass)

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
      records = self._shuffled_records(tf.stack([np.int64(seed), number]), shuffle_buffer)
      return records.take(steps_per_pass * batch_size)

    dataset = tf.data.Dataset.range(first_pass, np.iinfo(np.int64).max).flat_map(one_pass)
    dataset = dataset.skip(skipped_steps * batch_size).shard(process_count, process_index)
    decode = functools.partial(self._decode_and_augment, crop_size)
    dataset = dataset.map(decode, tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size // process_count, drop_remainder=True)
    yield from self._iterate(dataset.prefetch(tf.data.AUTOTUNE))

  def prepare(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """On the device: nothing is left to do."""
    return batch

  def images(self, split: str = 'test', limit: int = 0) -> Iterator[dict[str, np.ndarray | str]]:
    """The images of a split in stored order: `name` and `lr_blur`, `lr`, `hr` as stored.

    Args:
      split: the split's name.
      limit: how many; 0 for all.

    Yields:
      A dict for each image.

    Raises:
      UserError: if there is no such split, or a file is damaged.
    """
    if not self.num_examples(split):
      raise UserError(f'the dataset in {self.path} has no {split} images')
    dataset = tf.data.TFRecordDataset(self._files(split)).take(limit or -1)
    dataset = dataset.map(self._info.features.deserialize_example)
    for example in self._iterate(dataset.prefetch(1)):
      yield example | {'name': example['name'].decode()}

  def _files(self, split: str) -> list[str]:
    return [os.fspath(path) for path in self._info.splits[split].filepaths]

  def _iterate(self, dataset: tf.data.Dataset) -> Iterator[dict[str, np.ndarray]]:
    try:
      yield from dataset.as_numpy_iterator()
    except (tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.InvalidArgumentError) as e:
      reason = e.message.splitlines()[0]
      raise UserError(f'{self.path} is damaged, build it again: {reason}') from e

  def _shuffled_records(self, seed: tf.Tensor, shuffle_buffer: int) -> tf.data.Dataset:
    """(augmentation seed, record) of every train record, in the order of `seed`, int64 [2]."""
    files = tf.constant(self._files('train'))
    lengths = self._info.splits['train'].shard_lengths
    offsets = tf.constant(np.cumsum([0, *lengths[:-1]]), tf.int64)

    def read(shard: tf.Tensor) -> tf.data.Dataset:
      return tf.data.TFRecordDataset(files[shard]).enumerate(offsets[shard])

    shards = tf.random.experimental.stateless_shuffle(tf.range(len(lengths)), seed)
    records = tf.data.Dataset.from_tensor_slices(shards)
    records = records.interleave(read, cycle_length=_OPEN_FILES)
    shuffle_seed = tf.random.stateless_uniform([], seed, maxval=2**62, dtype=tf.int64)
    records = records.shuffle(shuffle_buffer, shuffle_seed, reshuffle_each_iteration=False)
    return records.map(
      lambda index, record: (tf.random.experimental.stateless_fold_in(seed, index), record)
    )

  def _decode_and_augment(
    self, crop_size: int, seed: tf.Tensor, record: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    example = self._info.features.deserialize_example(record)
    images = {key: example[key] for key in IMAGES}
    if crop_size:
      images = random_crop(images, crop_size, tf.random.experimental.stateless_fold_in(seed, 0))
    symmetry = tf.random.stateless_uniform([], seed, maxval=8, dtype=tf.int32)
    return {key: apply_symmetry(image, symmetry) for key, image in images.items()}


def random_crop(images: dict[str, tf.Tensor], size: int, seed: tf.Tensor) -> dict[str, tf.Tensor]:
  """Crops all images of an example alike.

  Args:
    images: `lr_blur` and `lr` `[h, w, C]`, `hr` `[4h, 4w, C]`.
    size: side of the crop in LR pixels, at most h and w.
    seed: integer `[2]`.

  Returns:
    `lr_blur` and `lr` `[size, size, C]`, `hr` `[4 size, 4 size, C]`.
  """
  corners = tf.shape(images['lr_blur'])[:2] - size + 1  # how many there are along each axis
  y, x = tf.unstack(tf.random.stateless_uniform([2], seed, maxval=2**30, dtype=tf.int32) % corners)

  def crop(image: tf.Tensor, scale: int) -> tf.Tensor:
    return tf.image.crop_to_bounding_box(image, scale * y, scale * x, scale * size, scale * size)

  return {key: crop(image, SCALE if key == 'hr' else 1) for key, image in images.items()}


def apply_symmetry(image: tf.Tensor, symmetry: tf.Tensor | int) -> tf.Tensor:
  """One of the eight symmetries of the square: mirrored if `symmetry >= 4`, then turned.

  Args:
    image: `[n, n, C]`.
    symmetry: 0 to 7; `symmetry % 4` quarter turns counter-clockwise.
  """
  image = tf.cond(symmetry >= 4, lambda: image[:, ::-1], lambda: image)
  return tf.image.rot90(image, symmetry % 4)


def _find_dataset(path: str) -> str:
  found = [folder for folder, _, files in os.walk(path) if 'dataset_info.json' in files]
  if len(found) == 1:
    return found[0]
  if found:
    raise UserError(f'{path} holds several datasets; name one: {", ".join(sorted(found)[:5])}')
  raise UserError(
    f'no dataset in {path!r}: build one with `python -m data_prep.lr_gopro '
    '--manual_dir=GOPRO_Large --data_dir=DIR` and pass --config.data_dir=DIR'
  )
