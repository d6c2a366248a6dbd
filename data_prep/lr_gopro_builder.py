"""TFDS builder of LR-GOPRO, the data set of GFN (Zhang et al., BMVC 2018)."""

import dataclasses
import functools

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from gfn_jax.data import layouts
from gfn_jax.data_prep import degradation, gopro_tree, hdf5_parts, pair_builder

_CITATION = """
@inproceedings{Zhang2018GFN,
  title = {Gated Fusion Network for Joint Image Deblurring and Super-Resolution},
  author = {Zhang, Xinyi and Dong, Hang and Hu, Zhe and Lai, Wei-Sheng and Wang, Fei
    and Yang, Ming-Hsuan},
  booktitle = {British Machine Vision Conference (BMVC)},
  year = {2018}
}
"""


@dataclasses.dataclass(kw_only=True)  # TFDS's own base class is not frozen
class LrGoproConfig(tfds.core.BuilderConfig):
  """Variant of LR-GOPRO.

  Attributes:
    source: 'frames' (a GOPRO_Large folder) or 'hdf5' (the authors' generated parts).
    blur_folder: 'blur_gamma' (as GFN) or 'blur' (as most later deblurring work).
    float_lr: True for unquantised float32 training LR images, as the authors use. Otherwise they
      are rounded to 8 bits, as the LR images of the test split.
    scale: 4, or 1 for blurred frames at full size, on which deblurring networks are trained.
    windows: 'gfn' (frames at three sizes, without flat windows) or 'full_size' (frames at full size
      alone, all windows, as Shoyan et al.).
  """

  source: str = 'frames'
  blur_folder: str = 'blur_gamma'
  float_lr: bool = False
  scale: int = degradation.SCALE
  windows: str = 'gfn'


def config_name(source: str, blur_folder: str, float_lr: bool, scale: int, windows: str) -> str:
  """Return the name of a config and of its folder, such as 'hdf5_blur_gamma_float_lr'."""
  first = 'hdf5' if source == 'hdf5' else '' if scale == degradation.SCALE else f'x{scale}'
  last = windows if windows != 'gfn' else ''
  parts = (first, blur_folder, 'float_lr' if float_lr else '', last)
  return '_'.join(part for part in parts if part)


def _configs() -> list[LrGoproConfig]:
  x4 = degradation.SCALE
  options = [
    *(('frames', folder, False, x4, 'gfn') for folder in layouts.BLUR_FOLDERS),
    *(('frames', folder, True, x4, 'gfn') for folder in layouts.BLUR_FOLDERS),
    *(('hdf5', 'blur_gamma', float_lr, x4, 'gfn') for float_lr in (False, True)),
    *(('frames', folder, False, 1, 'gfn') for folder in layouts.BLUR_FOLDERS),
    *(('frames', folder, False, x4, 'full_size') for folder in layouts.BLUR_FOLDERS),
  ]
  return [
    LrGoproConfig(
      name=config_name(source, blur_folder, float_lr, scale, windows),
      description=(
        f'x{scale} from {source}, {blur_folder}, LR {"float32" if float_lr else "uint8"}, '
        f'windows of {windows}'
      ),
      source=source,
      blur_folder=blur_folder,
      float_lr=float_lr,
      scale=scale,
      windows=windows,
    )
    for source, blur_folder, float_lr, scale, windows in options
  ]


class LrGopro(pair_builder.PairBuilder):
  """LR-GOPRO x4: blurry LR image, sharp LR image, sharp HR image.

  The features of both splits are `lr_blur` and `lr` `[h, w, 3]`, uint8, or float32 in about [0, 1]
  with a `float_lr` config; `hr` `[4h, 4w, 3]` uint8; and `name`. `train` holds windows with
  h = w = 64, and `test` whole frames. With an `x1` config all images have the size of `hr`. The
  metadata describe the source (see docs/datasets.md).

  Call `gfn_jax.data_prep.lr_gopro.build` to build it without leaving partial results.
  """

  VERSION = tfds.core.Version('1.0.1')
  RELEASE_NOTES = {
    '1.0.0': 'First release: images as PNG files.',
    '1.0.1': 'The same values, read faster: hr compressed with zlib, 8-bit LR images raw.',
  }
  BUILDER_CONFIGS = _configs()
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Put GOPRO_Large (https://seungjunnah.github.io/Datasets/gopro) into manual_dir: '
    'train/ and test/, or for the hdf5 configs the *.h5 parts.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    config = self.builder_config
    # PNG would take 3/4 of the space but 1.7 times the reading time, and raw images 1.6 times the
    # space (benchmarks/input_pipeline.py). Compressing the small LR images would save little.
    lr_image = _image(np.float32 if config.float_lr else np.uint8, tfds.features.Encoding.BYTES)
    return tfds.core.DatasetInfo(
      builder=self,
      description='LR-GOPRO x4: joint deblurring and super-resolution of GOPRO_Large.',
      homepage='https://seungjunnah.github.io/Datasets/gopro',
      citation=_CITATION + gopro_tree.CITATION,
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
        scale=config.scale,
        patch_size=degradation.PATCH_SIZE,
        stride=degradation.STRIDE,
        frame_scales=list(degradation.WINDOWS[config.windows][0]),
        min_gradient=degradation.WINDOWS[config.windows][1],
        border=degradation.BORDER,
        counts={},
      ),
    )

  def _find_inputs(self, folder: epath.Path) -> dict[str, pair_builder.Inputs]:
    config = self.builder_config
    if config.source == 'hdf5':
      slices = hdf5_parts.find_slices(folder)
      degrade = functools.partial(hdf5_parts.read_slice, float_lr=config.float_lr)
      parts = len({piece.path for piece in slices})
      return {'train': pair_builder.Inputs(slices, degrade, {'parts': parts})}
    options = dict(float_lr=config.float_lr, scale=config.scale)
    degrade = {
      'train': functools.partial(degradation.degrade_train_pair, windows=config.windows, **options),
      'test': functools.partial(degradation.degrade_test_pair, **options),
    }
    return {
      split: pair_builder.Inputs(pairs, degrade[split], {'frame_pairs': len(pairs)})
      for split, pairs in gopro_tree.find_splits(folder, config.blur_folder).items()
    }

  @staticmethod
  def none_kept(folder: epath.Path) -> str:
    """Return the error message for a `folder` whose frames give no example."""
    size = degradation.PATCH_SIZE
    return (
      f'{folder / "train"} gives no training window: all frames are smaller than {size}x{size} or '
      'flat; check that they are photographs of 720x1280'
    )

  def _windows(self, split: str, seen: int, kept: int) -> dict[str, int]:
    windows = {'windows_seen': seen, 'windows_dropped': seen - kept, 'windows_kept': kept}
    return windows if split == 'train' else {}


def _image(dtype: type, encoding: tfds.features.Encoding) -> tfds.features.Tensor:
  return tfds.features.Tensor(shape=(None, None, 3), dtype=dtype, encoding=encoding)
