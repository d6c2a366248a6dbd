"""TFDS builder of Motion-Blurred LR, the data set of BMDSRNet (Niu et al., TIP 2021)."""

import dataclasses
import functools
import hashlib

import tensorflow_datasets as tfds
from etils import epath

from gfn_jax.data_prep import degradation, frame_tree, frame_windows, gopro_tree, pair_builder
from gfn_jax.ops.sizes import SHARP_FRAMES

_CITATION = """
@article{Niu2021BMDSRNet,
  title = {Blind Motion Deblurring Super-Resolution: When Dynamic Spatio-Temporal Learning Meets
    Static Image Understanding},
  author = {Niu, Wenjia and Zhang, Kaihao and Luo, Wenhan and Zhong, Yiran},
  journal = {IEEE Transactions on Image Processing},
  year = {2021}
}
"""


@dataclasses.dataclass(kw_only=True)  # TFDS's own base class is not frozen
class MotionBlurredLrConfig(tfds.core.BuilderConfig):
  """Variant of Motion-Blurred LR.

  Attributes:
    name: name of the config and of its folder, such as 'x4' or 'x3_gamma2.2_stride1'.
    scale: reduction factor of the LR images: 2, 3 or 4.
    stride: number of frames from the start of one window to the start of the next.
    gamma: gamma of the frames, which are averaged in linear light; None averages the stored values.
    patch_size: side of the training patches in LR pixels; 0 stores whole frames.
    test_sequences: names of the test sequences, if there is neither `train` nor `test`.
  """

  name: str = dataclasses.field(init=False)
  scale: int = 4
  stride: int = SHARP_FRAMES
  gamma: float | None = None
  patch_size: int = 128
  test_sequences: tuple[str, ...] = ()

  def __post_init__(self):
    self.test_sequences = tuple(sorted(set(self.test_sequences)))
    self.name = '_'.join([f'x{self.scale}', *self._changes()])

  def _changes(self) -> list[str]:
    """Return the parts of the name for options that differ from their defaults."""
    changes = []
    if self.gamma is not None:
      changes.append(f'gamma{float(self.gamma)}')
    if self.stride != SHARP_FRAMES:
      changes.append(f'stride{self.stride}')
    if self.patch_size != 128:
      changes.append(f'patch{self.patch_size}')
    if self.test_sequences:  # a digest, because the names may be long
      digest = hashlib.sha256('/'.join(self.test_sequences).encode()).hexdigest()
      changes.append(f'test-{digest[:8]}')
    return changes


class MotionBlurredLr(pair_builder.PairBuilder):
  """Motion-Blurred LR: blurry LR image, its seven sharp LR frames, sharp HR image.

  The features of both splits are 8-bit PNG images `lr_blur` and `lr` `[h, w, 3]`, `frames`
  `[7, h, w, 3]`, and `hr` `[scale * h, scale * w, 3]`; and `name`. `lr` and `hr` show frame 4 of 7.
  `test` holds whole frames. The metadata describe how the data were made (see docs/datasets.md).
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First release.'}
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Put GOPRO_Large_all (https://seungjunnah.github.io/Datasets/gopro) into manual_dir: '
    'train/<sequence>/*.png and test/<sequence>/*.png; or folders of frames of your own.'
  )

  def _create_builder_config(self, builder_config, version=None):
    """Return the config. TFDS's version warns of configs that are not listed in advance."""
    del version
    return builder_config or MotionBlurredLrConfig()

  def _info(self) -> tfds.core.DatasetInfo:
    config = self.builder_config
    image = tfds.features.Image(shape=(None, None, 3), encoding_format='png')
    return tfds.core.DatasetInfo(
      builder=self,
      description='Motion-Blurred LR: blurry LR image, its sharp LR frames, sharp HR image.',
      homepage='https://seungjunnah.github.io/Datasets/gopro',
      citation=_CITATION + gopro_tree.CITATION,
      features=tfds.features.FeaturesDict(
        {
          'lr_blur': image,
          'lr': image,
          'hr': image,
          'frames': tfds.features.Sequence(image, length=SHARP_FRAMES),
          'name': tfds.features.Text(),
        }
      ),
      metadata=tfds.core.MetadataDict(
        source='frames',
        gamma=config.gamma,
        stride=config.stride,
        lr_quantisation='uint8',
        scale=config.scale,
        patch_size=config.scale * config.patch_size or None,
        smallest_side=None,
        cropped_to_multiple_of=frame_windows.MULTIPLE,
        border=degradation.BORDER,
        test_sequences=list(config.test_sequences),
        counts={},
      ),
    )

  def _find_inputs(self, folder: epath.Path) -> dict[str, pair_builder.Inputs]:
    config = self.builder_config
    splits = frame_tree.find_splits(folder, config.test_sequences)
    inputs = {}
    for split, sequences in splits.items():
      patch_size = config.patch_size if split == 'train' else 0
      sides = [frame_windows.smallest_side(s, config.scale * patch_size) for s in sequences]
      if split == 'train':
        self.info.metadata['smallest_side'] = min(sides)
      windows = [w for s in sequences for w in frame_tree.windows(s, config.stride)]
      degrade = functools.partial(
        frame_windows.degrade_window,
        scale=config.scale,
        gamma=config.gamma,
        patch_size=patch_size,
      )
      facts = {'sequences': len(sequences), 'windows': len(windows)}
      inputs[split] = pair_builder.Inputs(windows, degrade, facts)
    return inputs
