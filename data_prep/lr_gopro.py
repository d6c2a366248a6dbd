"""Build LR-GOPRO, the data set of GFN, as TFRecords.

  gfn-prepare lr_gopro --manual_dir=GOPRO_Large --data_dir=tfds

docs/datasets.md describes the download of GOPRO_Large, and the content and size of the result.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epath

from gfn_jax.cli.runner import run_command
from gfn_jax.data import layouts
from gfn_jax.data_prep import tfds_build
from gfn_jax.errors import UserError
from gfn_jax.system.files import is_remote

# TensorFlow is imported only on use, because worker processes import this module too.

SOURCES = ('frames', 'hdf5')
SCALES = (4, 1)
WINDOWS = ('gfn', 'full_size')


def build(
  manual_dir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  blur_folder: str = 'blur_gamma',
  float_lr: bool = False,
  source: str = 'frames',
  scale: int = 4,
  windows: str = 'gfn',
  workers: int = 1,
  beam_runner: str | None = None,
  beam_options: Sequence[str] = (),
  overwrite: bool = False,
) -> Path | epath.Path:
  """Build the data set, unless it exists already.

  The records and their order do not depend on the number of workers or on Beam. A failed or
  interrupted build leaves no files, and does not change an existing data set.

  Args:
    manual_dir: the GOPRO_Large folder with `train` and `test` (a missing split is logged), or the
      folder of the authors' `*.h5` parts. GOPRO_Large may be at `gs://...`.
    data_dir: parent folder of all data sets. This one is written to `lr_gopro/<config>/<version>`.
      May be `gs://...`.
    blur_folder: 'blur_gamma' (as GFN) or 'blur' (as most later deblurring work).
    float_lr: keep the training LR images unquantised, as the authors do, instead of 8-bit.
    source: 'frames', or 'hdf5' for the authors' generated parts (train only).
    scale: factor by which LR images are reduced, 4; or 1 for blurred frames at full size, on which
      deblurring networks are trained.
    windows: 'gfn' for GFN's training windows; 'full_size' for all of the frames at full size alone,
      75,708 from GOPRO_Large, as Shoyan et al.
    workers: number of processes; 0 or 1 uses only the current one. With more, a calling script must
      guard its top level with `if __name__ == '__main__':`.
    beam_runner: name of the Apache Beam runner to use instead of `workers`. All its workers must
      have access to both folders.
    beam_options: Beam options for that runner, such as '--direct_num_workers=4'.
    overwrite: rebuild an existing data set, and replace it when the build has succeeded.

  Returns:
    Folder of the data set, for `tfds.builder_from_directory`; an `epath.Path` for `gs://...`.

  Raises:
    UserError: for an invalid option, a missing, damaged or unexpected file (the message names it),
      or a data_dir that cannot be written.
  """
  _check_options(source, blur_folder, manual_dir, float_lr, scale, windows)
  from gfn_jax.data_prep import lr_gopro_builder

  return tfds_build.build(
    lr_gopro_builder.LrGopro,
    manual_dir,
    data_dir,
    config=lr_gopro_builder.config_name(source, blur_folder, float_lr, scale, windows),
    workers=workers,
    beam_runner=beam_runner,
    beam_options=beam_options,
    overwrite=overwrite,
  )


summarise = tfds_build.summarise


def _check_options(
  source: str,
  blur_folder: str,
  manual_dir: str | os.PathLike,
  float_lr: bool,
  scale: int,
  windows: str,
) -> None:
  if source not in SOURCES:
    raise UserError(f'source must be one of {", ".join(SOURCES)}, not {source!r}')
  if blur_folder not in layouts.BLUR_FOLDERS:
    folders = ', '.join(layouts.BLUR_FOLDERS)
    raise UserError(f'blur_folder must be one of {folders}, not {blur_folder!r}')
  if source == 'hdf5' and blur_folder != 'blur_gamma':
    raise UserError("the authors' HDF5 parts hold blur_gamma; omit --blur_folder")
  if scale not in SCALES:
    raise UserError(f'scale must be one of {", ".join(map(str, SCALES))}, not {scale}')
  if windows not in WINDOWS:
    raise UserError(f'windows must be one of {", ".join(WINDOWS)}, not {windows!r}')
  if windows != 'gfn' and (source == 'hdf5' or float_lr or scale == 1):
    raise UserError(f'windows={windows}: omit --source, --float_lr and --scale')
  if scale == 1 and (source == 'hdf5' or float_lr):
    raise UserError('frames at full size are 8-bit PNG files: omit --source and --float_lr')
  if source == 'hdf5' and is_remote(manual_dir):
    raise UserError(f'cannot read HDF5 files from {manual_dir}; copy them to a local folder')


def define_flags() -> None:
  """Define the command's flags."""
  tfds_build.define_flags('folder of GOPRO_Large, or of the *.h5 parts')
  flags.adopt_module_key_flags(tfds_build)
  flags.DEFINE_enum(
    'blur_folder', 'blur_gamma', layouts.BLUR_FOLDERS, 'of GFN, or of most later work'
  )
  flags.DEFINE_bool('float_lr', False, 'keep the training LR images unquantised, as float32')
  flags.DEFINE_integer('scale', 4, 'reduction factor of the LR images: 4, or 1 for full size')
  flags.DEFINE_enum(
    'windows', 'gfn', WINDOWS, "GFN's training windows, or those at full size alone"
  )
  flags.DEFINE_enum('source', 'frames', SOURCES, "frames, or the GFN authors' HDF5 parts")


def main(argv: list[str]) -> None:
  """Build the data set that the flags describe, and print a summary."""
  tfds_build.run(argv, build, 'blur_folder', 'float_lr', 'source', 'scale', 'windows')


if __name__ == '__main__':
  define_flags()
  run_command(main)
