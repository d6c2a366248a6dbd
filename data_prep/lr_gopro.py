"""Builds LR-GOPRO, GFN's data set, as TFRecords.

  python -m data_prep.lr_gopro --manual_dir=GOPRO_Large --data_dir=tfds

docs/datasets.md tells where to get GOPRO_Large, what is built, and how large it is.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epath

from data_prep import building, gopro_tree
from gfn_jax.errors import UserError, run_command
from gfn_jax.system.files import is_remote

# TensorFlow is imported only where it is used: worker processes import this module too.

SOURCES = ('frames', 'hdf5')


def build(
  manual_dir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  blur_folder: str = 'blur_gamma',
  float_lr: bool = False,
  source: str = 'frames',
  workers: int = 1,
  beam_runner: str | None = None,
  beam_options: Sequence[str] = (),
  overwrite: bool = False,
) -> Path | epath.Path:
  """Builds the data set, unless it is there already.

  The records and their order do not depend on the number of workers, nor on Beam. A build that
  fails or is interrupted leaves nothing behind, and does not touch an existing data set.

  Args:
    manual_dir: the GOPRO_Large folder (`train` and `test`; a missing one is left out with a
      warning), or the folder of the authors' `*.h5` parts. May be `gs://...`, but for the parts.
    data_dir: where data sets are kept; this one goes to `lr_gopro/<config>/<version>` in it. May be
      `gs://...`.
    blur_folder: 'blur_gamma' (GFN's) or 'blur' (most later deblurring work).
    float_lr: keep the training LR images unquantised, as the authors do, instead of 8-bit.
    source: 'frames', or 'hdf5' for the authors' generated parts (train only).
    workers: processes to use; 0 or 1 means this one alone. With more, a script that calls this
      must guard its own top level with `if __name__ == '__main__':`.
    beam_runner: name of the Apache Beam runner to build with, instead of `workers`; all its workers
      must reach both folders.
    beam_options: Beam's own flags for that runner, such as '--direct_num_workers=4'.
    overwrite: build anew where the data set exists, and replace it when that has succeeded.

  Returns:
    The data set's folder, for `tfds.builder_from_directory`; an `epath.Path` for `gs://...`.

  Raises:
    UserError: for a wrong option, a file that is missing, damaged or not as expected (the message
      names it), or a data_dir that cannot be written.
  """
  _check_options(source, blur_folder, manual_dir)
  from data_prep import lr_gopro_builder

  return building.build(
    lr_gopro_builder.LrGopro,
    manual_dir,
    data_dir,
    config=lr_gopro_builder.config_name(source, blur_folder, float_lr),
    workers=workers,
    beam_runner=beam_runner,
    beam_options=beam_options,
    overwrite=overwrite,
  )


summarise = building.summarise


def _check_options(source: str, blur_folder: str, manual_dir: str | os.PathLike) -> None:
  if source not in SOURCES:
    raise UserError(f'source must be one of {", ".join(SOURCES)}, not {source!r}')
  if blur_folder not in gopro_tree.BLUR_FOLDERS:
    folders = ', '.join(gopro_tree.BLUR_FOLDERS)
    raise UserError(f'blur_folder must be one of {folders}, not {blur_folder!r}')
  if source == 'hdf5' and blur_folder != 'blur_gamma':
    raise UserError("the authors' HDF5 parts hold blur_gamma; leave --blur_folder away")
  if source == 'hdf5' and is_remote(manual_dir):
    raise UserError(f'HDF5 files cannot be read from {manual_dir}; copy them to a local folder')


def define_flags() -> None:
  """Defines the command's flags; not on import, as this module is also a library."""
  building.define_flags('folder of GOPRO_Large, or of the *.h5 parts')
  flags.adopt_module_key_flags(building)
  flags.DEFINE_enum(
    'blur_folder', 'blur_gamma', gopro_tree.BLUR_FOLDERS, "GFN's, or that of most later work"
  )
  flags.DEFINE_bool('float_lr', False, 'keep the training LR images unquantised, as float32')
  flags.DEFINE_enum('source', 'frames', SOURCES, "frames, or the GFN authors' HDF5 parts")


def main(argv: list[str]) -> None:
  """Builds what the flags say and prints a summary."""
  building.run(argv, build, 'blur_folder', 'float_lr', 'source')


if __name__ == '__main__':
  define_flags()
  run_command(main)
