"""Images to evaluate on: two folders, or the test split of a config's dataset."""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gfn_jax.data.datasets import open_dataset
from gfn_jax.errors import UserError
from gfn_jax.images import folders
from gfn_jax.ops.scores import Reference
from gfn_jax.system import parallel
from gfn_jax.system.files import read_file

CONFIG_FORMAT = 2
"""Version of the format of `config.json`: 2 has sections."""


@dataclasses.dataclass(frozen=True)
class TestSet:
  """Images to evaluate on.

  Attributes:
    images: dicts with `name`, `lr_blur` `[h, w, 3]` and `hr` `[s * h, s * w, 3]`, uint8 or float
      in [0, 1]; or with `references`, an iterator of `Reference`s, in the place of `hr`. They can
      be iterated over once. Of several processes, each has its share.
    count: number of images in all processes.
    facts: source of the images, for `summary.json`.
  """

  images: Iterable[Mapping[str, Any]]
  count: int
  facts: Mapping[str, Any]


def folder_test_set(
  input_dir: str | os.PathLike, target_dir: str | os.PathLike, limit: int = 0
) -> TestSet:
  """Return the test images of two folders, paired by name: the first `limit`, or all.

  Args:
    input_dir: folder of the blurred images.
    target_dir: folder of the sharp images. If it holds folders in their place, such as
      data_prep.lr_koehler writes, the images in each are the `references` of a blurred image.
    limit: number of images, or 0.

  Raises:
    UserError: if files have no partner, or a folder of references holds no image. The message
      names them.
  """
  facts = {'input_dir': os.path.abspath(input_dir), 'target_dir': os.path.abspath(target_dir)}
  if folders.holds_only_folders(target_dir):
    return _reference_test_set(folders.pair_folders(input_dir, target_dir)[: limit or None], facts)
  pairs = folders.pair_images(input_dir, target_dir)[: limit or None]
  images = (
    {'name': name, 'lr_blur': folders.read_rgb(input_path), 'hr': folders.read_rgb(target_path)}
    for name, input_path, target_path in parallel.share(pairs)
  )
  return TestSet(images, len(pairs), facts)


def _reference_test_set(pairs: Sequence[tuple[str, str, str]], facts: Mapping[str, Any]) -> TestSet:
  """Return the test images of (name, input path, folder of references)."""
  frames = {folder: folders.list_images(folder) for _, _, folder in pairs}
  images = (
    {
      'name': name,
      'lr_blur': folders.read_rgb(path),
      'references': _read_references(frames[folder]),
    }
    for name, path, folder in parallel.share(pairs)
  )
  rule = {'references': sum(map(len, frames.values())), 'best_reference': 'highest PSNR'}
  return TestSet(images, len(pairs), {**facts, **rule})


def _read_references(paths: Iterable[str]) -> Iterator[Reference]:
  for path in paths:
    yield Reference(folders.stem(path), folders.read_rgb(path))


def dataset_test_set(config: Mapping[str, Any], limit: int = 0) -> TestSet:
  """Return the test split of a config's dataset: `limit` of its images, or all.

  Raises:
    UserError: if the dataset or the split does not exist, or TensorFlow is missing.
  """
  dataset = open_dataset(config['data'])
  count = dataset.num_examples('test')
  facts = {'dataset': dataset.path, **dataset.metadata}
  return TestSet(parallel.share(dataset.images('test', limit)), min(limit or count, count), facts)


def run_config(workdir: str | os.PathLike) -> dict[str, Any]:
  """Return the config of a run, from its `config.json`.

  Args:
    workdir: the run's folder; may be in a bucket, `gs://...`.

  Raises:
    UserError: if the folder holds no run, or a run of another version of gfn_jax.
  """
  try:
    config = json.loads(read_file(os.path.join(workdir, 'config.json')))
    found = config.pop('format_version', None)
  except (OSError, ValueError, AttributeError) as error:
    raise UserError(f'{os.fspath(workdir)} is not the folder of a run: {error}') from error
  if found != CONFIG_FORMAT:
    raise UserError(
      f'{os.fspath(workdir)} is the folder of a run of another version of gfn_jax; start a run in '
      'another folder, from its weights: --config.run.init_from=OLD/weights.safetensors'
    )
  return config
