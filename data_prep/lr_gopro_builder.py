"""The TFDS builder of LR-GOPRO, the data set of GFN (Zhang et al., BMVC 2018)."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from etils import epath

from data_prep import degradation, gopro_tree, hdf5_parts, workers
from gfn_jax.errors import UserError

_CITATION = """
@inproceedings{Zhang2018GFN,
  title = {Gated Fusion Network for Joint Image Deblurring and Super-Resolution},
  author = {Zhang, Xinyi and Dong, Hang and Hu, Zhe and Lai, Wei-Sheng and Wang, Fei
    and Yang, Ming-Hsuan},
  booktitle = {British Machine Vision Conference (BMVC)},
  year = {2018}
}
@inproceedings{Nah2017,
  title = {Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring},
  author = {Nah, Seungjun and Kim, Tae Hyun and Lee, Kyoung Mu},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2017}
}
"""


@dataclasses.dataclass(kw_only=True)  # TFDS's own base class is not frozen
class LrGoproConfig(tfds.core.BuilderConfig):
  """What distinguishes two data sets called LR-GOPRO.

  Attributes:
    source: 'frames' (a GOPRO_Large folder) or 'hdf5' (the authors' generated parts).
    blur_folder: 'blur_gamma' (GFN's) or 'blur' (most later deblurring work).
    float_lr: the training LR images are float32 and unquantised, as the authors' are; otherwise
      they are rounded to 8 bit, as all LR images are at test time.
  """

  source: str = 'frames'
  blur_folder: str = 'blur_gamma'
  float_lr: bool = False


def config_name(source: str, blur_folder: str, float_lr: bool) -> str:
  """The config's name, which is also its folder: e.g. 'blur_gamma', 'hdf5_blur_gamma_float_lr'."""
  parts = ('hdf5' if source == 'hdf5' else '', blur_folder, 'float_lr' if float_lr else '')
  return '_'.join(part for part in parts if part)


def _configs() -> list[LrGoproConfig]:
  inputs = [('frames', 'blur_gamma'), ('frames', 'blur'), ('hdf5', 'blur_gamma')]
  return [
    LrGoproConfig(
      name=config_name(source, blur_folder, float_lr),
      description=f'from {source}, {blur_folder}, LR {"float32" if float_lr else "uint8"}',
      source=source,
      blur_folder=blur_folder,
      float_lr=float_lr,
    )
    for source, blur_folder in inputs
    for float_lr in (False, True)
  ]


class LrGopro(tfds.core.GeneratorBasedBuilder):
  """LR-GOPRO x4: blurry LR image, sharp LR image, sharp HR image.

  Features, both splits: `lr_blur` and `lr` `[h, w, 3]`, uint8, or float32 in about [0, 1] with a
  `float_lr` config; `hr` `[4h, 4w, 3]` uint8; `name`. In `train`, h = w = 64; `test` holds whole
  frames. The metadata says what the data were made from (see docs/datasets.md).

  `data_prep.lr_gopro.build` wraps it for users: it leaves nothing half-built behind.
  """

  VERSION = tfds.core.Version('1.0.1')
  RELEASE_NOTES = {
    '1.0.0': 'First release: images as PNG files.',
    '1.0.1': 'The same values, read faster: hr compressed with zlib, 8-bit LR images raw.',
  }
  BUILDER_CONFIGS = _configs()
  url_infos = {}  # nothing is downloaded; TFDS's own look-up needs a package it does not require
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Put GOPRO_Large (https://seungjunnah.github.io/Datasets/gopro) into manual_dir: '
    'train/ and test/, or for the hdf5 configs the *.h5 parts.'
  )

  def __init__(self, *, num_workers: int = 1, beam_scratch: epath.Path | None = None, **kwargs):
    """Makes the builder.

    Args:
      num_workers: processes that cut and shrink the images; 0 or 1 means this process alone.
      beam_scratch: an existing folder for Apache Beam's workers; gives a build with Beam, as the
        `DownloadConfig` says, instead of `num_workers`.
      **kwargs: for `tfds.core.DatasetBuilder`.
    """
    super().__init__(**kwargs)
    self._num_workers = num_workers
    self._beam_scratch = beam_scratch
    self._inputs: dict[str, tuple[dict[str, int], Sequence[Any]]] = {}  # counts and jobs per split

  def _info(self) -> tfds.core.DatasetInfo:
    config = self.builder_config
    # By benchmarks/input_pipeline.py: PNG files take 3/4 of this space, and 1.7 times the time to
    # read; raw ones 1.6 times the space. LR images are small: compressing them would save little.
    lr_image = _image(np.float32 if config.float_lr else np.uint8, tfds.features.Encoding.BYTES)
    return tfds.core.DatasetInfo(
      builder=self,
      description='LR-GOPRO x4: joint deblurring and super-resolution of GOPRO_Large.',
      homepage='https://seungjunnah.github.io/Datasets/gopro',
      citation=_CITATION,
      features=tfds.features.FeaturesDict(
        {
          'lr_blur': lr_image,
          'lr': lr_image,
          'hr': _image(np.uint8, tfds.features.Encoding.ZLIB),
          'name': tfds.features.Text(),
        }
      ),
      metadata=tfds.core.MetadataDict(
        source=config.source,
        blur_folder=config.blur_folder,
        lr_quantisation='float32' if config.float_lr else 'uint8',
        scale=degradation.SCALE,
        patch_size=degradation.PATCH_SIZE,
        stride=degradation.STRIDE,
        frame_scales=list(degradation.FRAME_SCALES),
        min_gradient=degradation.MIN_GRADIENT,
        border=degradation.BORDER,
        counts={},
      ),
    )

  def _split_generators(self, dl_manager):
    folder = epath.Path(dl_manager.manual_dir)
    config = self.builder_config
    if config.source == 'hdf5':
      slices = hdf5_parts.find_slices(folder)
      parts = len({piece.path for piece in slices})
      self._inputs = {'train': ({'parts': parts}, slices)}
      degrade = {'train': hdf5_parts.read_slice}
    else:
      splits = gopro_tree.find_splits(folder, config.blur_folder)  # all, before any is built
      self._inputs = {key: ({'frame_pairs': len(pairs)}, pairs) for key, pairs in splits.items()}
      degrade = {'train': degradation.degrade_train_pair, 'test': degradation.degrade_test_pair}
    return {
      split: self._generate_examples(
        split, jobs, functools.partial(degrade[split], float_lr=config.float_lr)
      )
      for split, (_, jobs) in self._inputs.items()
    }

  def _generate_examples(
    self, split: str, jobs: Sequence[Any], degrade: Callable[[Any], degradation.Degraded]
  ):
    """(name, example) of a split: an iterator, or a Beam transform."""
    if not self._beam_scratch:
      return self._iterate_examples(split, jobs, degrade)
    from data_prep import beam_pipeline

    return beam_pipeline.examples(split, jobs, degrade, self._beam_scratch)

  def _iterate_examples(
    self, split: str, jobs: Sequence[Any], degrade: Callable[[Any], degradation.Degraded]
  ) -> Iterator[tuple[str, degradation.Example]]:
    seen = kept = 0
    results = workers.map_in_order(degrade, jobs, self._num_workers)
    for result in tqdm.tqdm(results, desc=split, total=len(jobs), unit=' inputs', mininterval=1):
      seen += result.windows_seen
      kept += len(result.examples)
      yield from ((example['name'], example) for example in result.examples)
    if not kept:
      raise UserError(no_windows(jobs[0].sharp.parents[2]))
    self._set_counts(split, seen, kept)
    tqdm.tqdm.write(f'{split}: {kept} examples; shuffling and writing them', file=sys.stderr)

  def _process_pipeline_result(self, pipeline_result) -> None:
    """TFDS calls this when Beam has finished."""
    from data_prep import beam_pipeline

    beam_pipeline.raise_errors(self._beam_scratch)
    for split in self._inputs:
      self._set_counts(split, *beam_pipeline.read_counts(split, self._beam_scratch))

  def _set_counts(self, split: str, seen: int, kept: int) -> None:
    inputs, _ = self._inputs[split]
    windows = {'windows_seen': seen, 'windows_dropped': seen - kept, 'windows_kept': kept}
    self.info.metadata['counts'][split] = inputs | (windows if split == 'train' else {})


def no_windows(folder: epath.Path) -> str:
  """What to tell the user if the frames in `folder` give no example."""
  size = degradation.PATCH_SIZE
  return (
    f'{folder} gives no training window: all frames are smaller than {size}x{size} or flat; check '
    'that they are photographs of 720x1280'
  )


def _image(dtype: type, encoding: tfds.features.Encoding) -> tfds.features.Tensor:
  return tfds.features.Tensor(shape=(None, None, 3), dtype=dtype, encoding=encoding)
