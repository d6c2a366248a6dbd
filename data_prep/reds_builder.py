"""TFDS builders of REDS and DVD100, the data sets of CNLRN (Bai et al., CVPRW 2021)."""

from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from gfn_jax.data_prep import degradation, dvd100, pair_builder, reds_tree

_CNLRN = """
@inproceedings{Bai2021CNLRN,
  title = {Learning A Cascaded Non-Local Residual Network for Super-resolving Blurry Images},
  author = {Bai, Haoran and Cheng, Songsheng and Tang, Jinhui and Pan, Jinshan},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops},
  year = {2021}
}
"""
_REDS = """
@inproceedings{Nah2019REDS,
  title = {{NTIRE} 2019 Challenge on Video Deblurring and Super-Resolution: Dataset and Study},
  author = {Nah, Seungjun and Baik, Sungyong and Hong, Seokil and Moon, Gyeongsik and Son, Sanghyun
    and Timofte, Radu and Lee, Kyoung Mu},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops},
  year = {2019}
}
"""
_DVD = """
@inproceedings{Su2017DVD,
  title = {Deep Video Deblurring for Hand-held Cameras},
  author = {Su, Shuochen and Delbracio, Mauricio and Wang, Jue and Sapiro, Guillermo and
    Heidrich, Wolfgang and Wang, Oliver},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2017}
}
"""


class Reds(pair_builder.PairBuilder):
  """REDS x4: blurry LR frame, sharp LR frame, sharp HR frame, copied from its files.

  The features of both splits are 8-bit PNG images `lr_blur` and `lr` `[h, w, 3]`, and `hr`
  `[4h, 4w, 3]`; and `name`. `test` is Val300. The metadata describe the source (see
  docs/datasets.md).
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First release.'}
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Unpack train_sharp, train_blur_bicubic and train_sharp_bicubic of REDS '
    '(https://seungjunnah.github.io/Datasets/reds.html), and the same of val, into manual_dir.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='REDS x4: joint deblurring and super-resolution, with Val300 as the test split.',
      homepage='https://seungjunnah.github.io/Datasets/reds.html',
      citation=_REDS + _CNLRN,
      features=_features(),
      metadata=_metadata(source='REDS', blur_folder='blur_bicubic'),
    )

  def _find_inputs(self, folder: epath.Path) -> dict[str, pair_builder.Inputs]:
    splits = reds_tree.find_splits(folder)
    metadata = self.info.metadata
    if 'train' in splits:
      metadata['smallest_side'] = min(min(frame.size) for frame in splits['train'])
    metadata['lr_source'] = {
      split: 'files' if frames[0].lr else 'imresize' for split, frames in splits.items()
    }
    return {
      split: pair_builder.Inputs(
        frames,
        reds_tree.read_frame,
        {'clips': len({frame.hr.parent for frame in frames}), 'frames': len(frames)},
      )
      for split, frames in splits.items()
    }


class Dvd100(pair_builder.PairBuilder):
  """DVD100 x4: ten frames of each of the ten test clips of DVD, with reduced copies.

  The features are the same as in `Reds`. The only split is `test`.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First release.'}
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Give the folder quantitative_datasets of DeepVideoDeblurring_Dataset '
    '(https://www.cs.ubc.ca/labs/imager/tr/2017/DeepVideoDeblurring) as manual_dir.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='DVD100 x4: a test set for joint deblurring and super-resolution.',
      homepage='https://www.cs.ubc.ca/labs/imager/tr/2017/DeepVideoDeblurring',
      citation=_DVD + _CNLRN,
      features=_features(),
      metadata=_metadata(
        source='DVD',
        blur_folder='input',
        lr_source={'test': 'imresize'},
        cropped_to_multiple_of=degradation.SCALE,
      ),
    )

  def _find_inputs(self, folder: epath.Path) -> dict[str, pair_builder.Inputs]:
    pairs = dvd100.find_frames(folder)
    facts = {'clips': len(dvd100.CLIPS), 'frames': len(pairs)}
    return {'test': pair_builder.Inputs(pairs, dvd100.degrade_pair, facts)}


def _features() -> tfds.features.FeaturesDict:
  image = tfds.features.Image(shape=(None, None, 3), encoding_format='png')
  return tfds.features.FeaturesDict(
    {'lr_blur': image, 'lr': image, 'hr': image, 'name': tfds.features.Text()}
  )


def _metadata(**facts: Any) -> tfds.core.MetadataDict:
  """Return the metadata of records with whole frames (`patch_size` None)."""
  return tfds.core.MetadataDict(
    lr_quantisation='uint8',
    scale=degradation.SCALE,
    patch_size=None,
    smallest_side=None,
    border=degradation.BORDER,
    counts={},
    **facts,
  )
