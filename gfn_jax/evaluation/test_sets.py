"""Images to evaluate on: folders, or the test split of a dataset."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gfn_jax.data import layouts
from gfn_jax.data.datasets import open_dataset
from gfn_jax.errors import UserError, first_line
from gfn_jax.images import folders
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.scores import Reference
from gfn_jax.system import parallel
from gfn_jax.system.console import print_message
from gfn_jax.system.files import exists, holds_file, is_folder, printable, read_file, split_paths

CONFIG_FORMAT = 2
"""Version of the format of `config.json`: 2 has sections."""

DATA_FILES = 'data_files.json'
"""Names and sizes of the files of a run's data set (`Dataset.files`), in the run's folder."""


@dataclasses.dataclass(frozen=True)
class TestSet:
  """Images to evaluate on.

  Attributes:
    images: dicts with `name`, `lr_blur` `[h, w, 3]` and `hr` `[s * h, s * w, 3]`, uint8 or float
      in [0, 1]; or with `references`, an iterator of `Reference`s, in the place of `hr`. They can
      be iterated over once. Of several processes, each has its share.
    count: number of images in all processes.
    facts: source of the images, for `summary.json` and the tables.
  """

  images: Iterable[Mapping[str, Any]]
  count: int
  facts: Mapping[str, Any]


def open_test_set(path: str, scale: int, blur_name: str) -> TestSet:
  """Return the test images at a path, whose facts name no folder of this machine.

  Args:
    path: a dataset that `data_prep` built, which may be in a bucket; a folder in GOPRO_Large's
      layout, for `pairs_test_set`; or `LR:HR`, two folders for `folder_test_set`.
    scale: factor between LR and HR images, for GOPRO_Large's layout.
    blur_name: name of the folders of blurred photos, for GOPRO_Large's layout.

  Raises:
    UserError: if there are no such images.
  """
  if folders_of_pair := split_paths(path):
    lr, hr = folders_of_pair
    test_set = folder_test_set(lr, hr)
    facts = {'name': f'{_short(lr)} and {_short(hr)}', **test_set.facts}
    del facts['input_dir'], facts['target_dir']
    return dataclasses.replace(test_set, facts=facts)
  if not is_folder(path):
    raise UserError(
      f'no such folder: {printable(path)}; pass a dataset of gfn-prepare, a folder in the layout '
      'of GOPRO_Large, or LR:HR, two folders'
    )
  if holds_file(path, 'dataset_info.json'):
    test_set = dataset_test_set({'data': {'data_dir': path}})
    if not test_set.count:
      raise UserError(f'{printable(path)} has no test split')
    facts = dict(test_set.facts)
    name = _short(facts.pop('dataset'), parts=3)
    return dataclasses.replace(test_set, facts={'name': name, **facts})
  return pairs_test_set(path, blur_name, scale)


def pairs_test_set(path: str | os.PathLike, blur_name: str, scale: int = 4) -> TestSet:
  """Return pairs in GOPRO_Large's layout, as LR-GOPRO's test images are made.

  The blurred photo is reduced by MATLAB's bicubic, in 8 bits. Each image also has `scene`, the name
  of its folder.

  Args:
    path: a folder in any layout of `gfn_jax.data.layouts`.
    blur_name: name of the folders of blurred photos.
    scale: reduction factor of the LR image; photos are cropped to multiples of it.

  Raises:
    UserError: if there are no such folders, a file has no counterpart, or the folder also holds
      training images.
  """
  if all(os.path.isdir(os.path.join(path, split)) for split in ('train', 'test')):
    test = printable(os.path.join(path, 'test'))
    raise UserError(f'{printable(path)} holds training images, too; pass {test}')
  pairs = layouts.find_pairs(path, blur_name)
  images = map(functools.partial(_reduced, scale), parallel.share(pairs))
  files = _digest((pair.name, os.fspath(pair.sharp), os.fspath(pair.blur)) for pair in pairs)
  facts = {'name': f'{_short(path)} ({blur_name})', 'scale': scale, 'files': files}
  return TestSet(images, len(pairs), facts)


def folder_test_set(
  input_dir: str | os.PathLike, target_dir: str | os.PathLike, limit: int = 0
) -> TestSet:
  """Return the test images of two folders, paired by name: the first `limit`, or all.

  Their sizes are checked before any image is read. A sharp image that is not a multiple of the
  scale is cropped at the bottom and the right, as benchmarks do, and a line on stderr says so.

  Args:
    input_dir: folder of the blurred images.
    target_dir: folder of the sharp images. If it holds folders in their place, such as
      gfn-prepare lr_koehler writes, the images in each are the `references` of a blurred image.
    limit: number of images, or 0.

  Raises:
    UserError: if files have no partner, a folder of references holds no image, a header cannot be
      read, or the sizes of a pair do not fit those of the first one. The message names them.
  """
  facts = {'input_dir': os.path.abspath(input_dir), 'target_dir': os.path.abspath(target_dir)}
  if folders.holds_only_folders(target_dir):
    return _reference_test_set(folders.pair_folders(input_dir, target_dir)[: limit or None], facts)
  pairs = folders.pair_images(input_dir, target_dir)[: limit or None]
  scale = _common_scale(pairs)
  images = map(functools.partial(_read_pair, scale), parallel.share(pairs))
  return TestSet(images, len(pairs), facts | {'files': _digest(pairs)})


def _common_scale(pairs: Sequence[tuple[str, str, str]]) -> int:
  """Return how many times larger the targets are, and print how many of them are cropped.

  Raises:
    UserError: naming the first pair whose sizes do not fit this scale.
  """
  scale, cropped = 0, 0
  for name, *paths in pairs:
    (width, height), target = map(folders.image_size, paths)
    scale = scale or max(1, target[0] // width)
    if (target[0] // scale, target[1] // scale) != (width, height):
      raise UserError(
        f'{printable(name)}: expected a target of {scale * width}x{scale * height} for the input '
        f'of {width}x{height}, found {target[0]}x{target[1]} ({printable(paths[1])})'
      )
    cropped += target != (scale * width, scale * height)
  if cropped:
    print_message(
      f'{cropped} of {len(pairs)} sharp images are cropped at the bottom and the right, to '
      f'multiples of {scale}'
    )
  return scale


def _read_pair(scale: int, pair: tuple[str, str, str]) -> dict[str, Any]:
  name, lr_blur, hr = pair
  hr_pixels = _crop(folders.read_rgb(hr), scale)
  return {'name': name, 'lr_blur': folders.read_rgb(lr_blur), 'hr': hr_pixels}


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
  files = _digest([(name, path, *frames[folder]) for name, path, folder in pairs])
  return TestSet(images, len(pairs), {**facts, **rule, 'files': files})


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
  """Return the config of a run, from its `config.json`, with the names of its test photos.

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
  return config | {'data': with_test_photos(config['data'], read_data_files(workdir))}


def read_data_files(workdir: str | os.PathLike) -> dict[str, Any] | None:
  """Return the recorded `Dataset.files` of a run; None if there are none.

  Raises:
    UserError: if the record cannot be read.
  """
  path = os.path.join(workdir, DATA_FILES)
  if not exists(path):
    return None
  try:
    files = json.loads(read_file(path))
    return {split: dict(sizes) for split, sizes in files.items()}
  except (OSError, ValueError, TypeError, AttributeError) as error:
    raise UserError(f'cannot read {printable(path)}: {first_line(error)}; remove it') from error


def with_test_photos(data: Mapping[str, Any], files: Mapping[str, Any] | None) -> dict[str, Any]:
  """Return a config's `data` with the test photos of a run, which stay the same as files change."""
  if files and files.get('test') and 'photos' in data and not data.get('photo_list'):
    return {**data, 'test_photos': sorted(files['test'])}
  return dict(data)


def _reduced(scale: int, pair: layouts.ImagePair) -> dict[str, Any]:
  hr, blur = (_crop(folders.read_rgb(path), scale) for path in (pair.sharp, pair.blur))
  lr_blur = imresize(blur, 1 / scale)
  return {'scene': pair.scene, 'name': pair.name, 'lr_blur': lr_blur, 'hr': hr}


def _crop(photo: np.ndarray, scale: int) -> np.ndarray:
  height, width = (side - side % scale for side in photo.shape[:2])
  return photo[:height, :width]


def _digest(files: Iterable[tuple[str, ...]]) -> str:
  """Return the SHA-256 of names and of the sizes in bytes of the files that follow each."""
  facts = [(name, *map(os.path.getsize, paths)) for name, *paths in files]
  return hashlib.sha256(repr(facts).encode()).hexdigest()


def _short(path: str | os.PathLike, parts: int = 2) -> str:
  """Return the last parts of a path, which do not depend on the machine."""
  return '/'.join(os.path.normpath(path).split(os.sep)[-parts:])
