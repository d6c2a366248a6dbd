"""The interface of data sets, and the choice of one by a config."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

import jax
import numpy as np

from gfn_jax.data.examples import Example
from gfn_jax.data.photos import PhotoDataset
from gfn_jax.errors import UserError, install_extra


class Dataset(Protocol):
  """A training and a test split.

  Attributes:
    path: the folder, for messages.
    scale: factor between the sizes of `lr_blur` and `hr`.
    has_frames: True if examples have `frames`.
    metadata: everything that the examples depend on, except the location of the files. A run can
      only be continued with equal metadata.
    files: sizes of the files of the examples, by group and name, to say which of them have changed
      when the metadata differ; empty if unknown.
  """

  path: str
  scale: int
  has_frames: bool
  metadata: dict[str, Any]
  files: dict[str, dict[str, Any]]

  def num_examples(self, split: str) -> int:
    """Return the number of examples of 'train' or 'test'."""

  def steps_per_pass(self, batch_size: int) -> int:
    """Return the number of steps that use every training example about once."""

  def check_crop_size(self, crop_size: int) -> None:
    """Raise a UserError if training examples cannot be cropped to `crop_size` LR pixels."""

  def train_batches(
    self,
    batch_size: int,
    seed: int,
    *,
    crop_size: int,
    start_step: int,
    process_index: int,
    process_count: int,
  ) -> Iterator[dict[str, np.ndarray]]:
    """Yield endless batches for `prepare`, which depend on seed and step only.

    Args:
      batch_size: examples in a batch, over all processes.
      seed: seed of order and augmentation.
      crop_size: side of a crop in LR pixels; 0 for whole examples.
      start_step: number of batches to skip.
      process_index: number of this process, from 0.
      process_count: number of processes; each gets its share of every batch.
    """

  def prepare(self, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Return the examples of a batch, on the device: `lr_blur`, `lr`, `hr` and maybe `frames`.

    If the result has `has_hr`, `[B]` bool, examples where it is False have no `hr`.
    """

  def images(self, split: str = 'test', limit: int = 0) -> Iterator[Example]:
    """Yield whole images of a split, the same ones every time; `limit` 0 yields all of them."""


class CleanDataset:
  """Dataset whose input is sharp: `lr` takes the place of `lr_blur`.

  It trains super-resolution without blur, the half of a cascade whose networks are trained apart.
  It has no `lr`.

  Attributes:
    path: see `Dataset`.
    scale: see `Dataset`.
    has_frames: False.
    metadata: that of the data set with blur, and `clean`.
    files: see `Dataset`.
  """

  has_frames = False

  def __init__(self, dataset: Dataset):
    self._dataset = dataset
    self.path, self.scale = dataset.path, dataset.scale
    self.metadata, self.files = {**dataset.metadata, 'clean': True}, dataset.files
    self.num_examples = dataset.num_examples
    self.steps_per_pass = dataset.steps_per_pass
    self.check_crop_size = dataset.check_crop_size
    self.train_batches = dataset.train_batches

  def prepare(self, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Return the examples of a batch, on the device: `lr_blur`, which is sharp, and `hr`."""
    return self._clean(self._dataset.prepare(batch))

  def images(self, split: str = 'test', limit: int = 0) -> Iterator[Example]:
    """Yield whole images of a split, as `Dataset.images`."""
    for example in self._dataset.images(split, limit):
      yield cast(Example, self._clean(example))

  def _clean(self, example: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: example[key] for key in ('name', 'hr', 'has_hr') if key in example}
    return kept | {'lr_blur': example['lr']}


def open_dataset(config: Mapping[str, Any]) -> Dataset:
  """Return the data set of a config's section `data`.

  Args:
    config: arguments of `PhotoDataset`, including `photos`, or of `TFRecordDataset`; and `clean`,
      True for a `CleanDataset` of it. TensorFlow is imported for TFRecords only.

  Raises:
    UserError: if there is no such data set, or TensorFlow is missing.
  """
  options = dict(config)
  if options.pop('clean', False):
    return CleanDataset(open_dataset(options))
  if 'photos' in options:
    return PhotoDataset(**options)
  if not options['data_dir']:
    raise UserError(
      'no dataset: pass --config.data.data_dir=DIR, built by gfn-prepare (docs/datasets.md)'
    )
  try:
    from gfn_jax.data.tfrecords import TFRecordDataset
  except ImportError as error:
    raise UserError(f'TFRecords need {error.name}: {install_extra("train")}') from error
  return TFRecordDataset(**options)
