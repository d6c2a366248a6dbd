"""Builds Motion-Blurred LR, the data set of BMDSRNet, as TFRecords.

  python -m data_prep.motion_blurred_lr --manual_dir=GOPRO_Large_all --data_dir=tfds

docs/datasets.md tells where to get GOPRO_Large_all, what is built, and how large it is.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epath

from data_prep import building
from gfn_jax.errors import UserError, run_command
from gfn_jax.models.bmdsrnet import SCALES, SHARP_FRAMES

# TensorFlow is imported only where it is used: worker processes import this module too.


def build(
  manual_dir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  scale: int = 4,
  stride: int = SHARP_FRAMES,
  gamma: float | None = None,
  patch_size: int = 128,
  test_sequences: Sequence[str] = (),
  workers: int = 1,
  beam_runner: str | None = None,
  beam_options: Sequence[str] = (),
  overwrite: bool = False,
) -> Path | epath.Path:
  """Builds the data set, unless it is there already.

  Args:
    manual_dir: GOPRO_Large_all (`train` and `test`; a missing one is left out with a warning), or
      another folder with a folder of consecutive frames for each sequence. May be `gs://...`.
    data_dir: where data sets are kept; this one goes to `motion_blurred_lr/<config>/<version>` in
      it. May be `gs://...`.
    scale: how much smaller the LR images are: 2, 3 or 4.
    stride: frames from the beginning of one window of seven to that of the next.
    gamma: average the frames in linear light, of which they are the `1 / gamma`-th power; None
      averages the values as they are stored.
    patch_size: side of the training patches, LR pixels; 0 stores whole frames.
    test_sequences: the folders that are the test split, where there is neither `train` nor `test`.
    workers: as of `data_prep.lr_gopro.build`, and so are the other arguments.
    beam_runner: name of an Apache Beam runner.
    beam_options: Beam's own flags for that runner.
    overwrite: replace an existing data set when the new one is complete.

  Returns:
    The data set's folder, for `tfds.builder_from_directory`; an `epath.Path` for `gs://...`.

  Raises:
    UserError: for a wrong option, a file that is missing, damaged or not as expected (the message
      names it), or a data_dir that cannot be written.
  """
  _check_options(scale, stride, gamma, patch_size)
  from data_prep import motion_blurred_lr_builder

  return building.build(
    motion_blurred_lr_builder.MotionBlurredLr,
    manual_dir,
    data_dir,
    config=motion_blurred_lr_builder.MotionBlurredLrConfig(
      scale=scale,
      stride=stride,
      gamma=gamma,
      patch_size=patch_size,
      test_sequences=tuple(test_sequences),
    ),
    workers=workers,
    beam_runner=beam_runner,
    beam_options=beam_options,
    overwrite=overwrite,
  )


def _check_options(scale: int, stride: int, gamma: float | None, patch_size: int) -> None:
  if scale not in SCALES:
    raise UserError(f'scale must be one of {SCALES}, not {scale}')
  if stride < 1:
    raise UserError(f'stride must be 1 or more, not {stride}')
  if gamma is not None and not 0 < gamma < math.inf:
    raise UserError(f'gamma must be positive, not {gamma}')
  if patch_size < 0:
    raise UserError(f'patch_size must be 0, for whole frames, or more, not {patch_size}')


def define_flags() -> None:
  """Defines the command's flags; not on import, as this module is also a library."""
  building.define_flags('GOPRO_Large_all, or another folder of folders of consecutive frames')
  flags.adopt_module_key_flags(building)
  flags.DEFINE_integer('scale', 4, 'how much smaller the LR images are: 2, 3 or 4')
  flags.DEFINE_integer('stride', SHARP_FRAMES, 'frames from one window of seven to the next')
  flags.DEFINE_float('gamma', None, 'average in linear light, of this gamma, not as stored')
  flags.DEFINE_integer('patch_size', 128, 'side of training patches, LR pixels; 0: whole frames')
  flags.DEFINE_list('test_sequences', [], 'folders for testing, where there is no train or test')


def main(argv: list[str]) -> None:
  """Builds what the flags say and prints a summary."""
  building.run(argv, build, 'scale', 'stride', 'gamma', 'patch_size', 'test_sequences')


if __name__ == '__main__':
  define_flags()
  run_command(main)
