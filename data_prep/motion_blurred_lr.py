"""Build Motion-Blurred LR, the data set of BMDSRNet, as TFRecords.

  gfn-prepare motion_blurred_lr --manual_dir=GOPRO_Large_all --data_dir=tfds

docs/datasets.md describes the download of GOPRO_Large_all, and the content and size of the result.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epath

from gfn_jax.cli.runner import run_command
from gfn_jax.data_prep import tfds_build
from gfn_jax.errors import UserError
from gfn_jax.ops.sizes import SCALES, SHARP_FRAMES

# TensorFlow is imported only on use, because worker processes import this module too.


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
  """Build the data set, unless it exists already.

  Args:
    manual_dir: GOPRO_Large_all with `train` and `test` (a missing split is logged), or another
      folder with a folder of consecutive frames per sequence. May be `gs://...`.
    data_dir: parent folder of all data sets. This one is written to
      `motion_blurred_lr/<config>/<version>`. May be `gs://...`.
    scale: reduction factor of the LR images: 2, 3 or 4.
    stride: number of frames from the start of one window of seven to the start of the next.
    gamma: gamma of the frames, which are averaged in linear light; None averages the stored values.
    patch_size: side of the training patches in LR pixels; 0 stores whole frames.
    test_sequences: folders of the test split, if there is neither `train` nor `test`.
    workers: number of processes, as for `gfn_jax.data_prep.lr_gopro.build`.
    beam_runner: name of the Apache Beam runner to use instead of `workers`.
    beam_options: Beam options for that runner.
    overwrite: replace an existing data set when the new one is complete.

  Returns:
    Folder of the data set, for `tfds.builder_from_directory`; an `epath.Path` for `gs://...`.

  Raises:
    UserError: for an invalid option, a missing, damaged or unexpected file (the message names it),
      or a data_dir that cannot be written.
  """
  _check_options(scale, stride, gamma, patch_size)
  from gfn_jax.data_prep import motion_blurred_lr_builder

  return tfds_build.build(
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
    raise UserError(f'patch_size must be 0 (whole frames) or more, not {patch_size}')


def define_flags() -> None:
  """Define the command's flags."""
  tfds_build.define_flags('GOPRO_Large_all, or another folder of folders of consecutive frames')
  flags.adopt_module_key_flags(tfds_build)
  flags.DEFINE_integer('scale', 4, 'reduction factor of the LR images: 2, 3 or 4')
  flags.DEFINE_integer('stride', SHARP_FRAMES, 'frames from one window of seven to the next')
  flags.DEFINE_float('gamma', None, 'gamma of the frames, to average in linear light')
  flags.DEFINE_integer('patch_size', 128, 'side of training patches in LR pixels; 0: whole frames')
  flags.DEFINE_list('test_sequences', [], 'folders for testing, if there is no train or test')


def main(argv: list[str]) -> None:
  """Build the data set that the flags describe, and print a summary."""
  tfds_build.run(argv, build, 'scale', 'stride', 'gamma', 'patch_size', 'test_sequences')


if __name__ == '__main__':
  define_flags()
  run_command(main)
