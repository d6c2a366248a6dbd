"""Builds the data sets of CNLRN as TFRecords: REDS, and the test set DVD100.

  python -m data_prep.reds --manual_dir=REDS --data_dir=tfds
  python -m data_prep.reds --dataset=dvd100 --manual_dir=quantitative_datasets --data_dir=tfds

docs/datasets.md tells where to get them, what is built, and how large it is.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epath

from data_prep import building
from gfn_jax.errors import UserError, run_command

# TensorFlow is imported only where it is used: worker processes import this module too.

DATASETS = ('reds', 'dvd100')


def build(
  manual_dir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  dataset: str = 'reds',
  workers: int = 1,
  beam_runner: str | None = None,
  beam_options: Sequence[str] = (),
  overwrite: bool = False,
) -> Path | epath.Path:
  """Builds the data set, unless it is there already.

  Args:
    manual_dir: the folder in which REDS's archives were unpacked (`train` and `val`; a missing one
      is left out with a warning), or `quantitative_datasets` of DVD. May be `gs://...`.
    data_dir: where data sets are kept; this one goes to `<dataset>/<version>` in it. May be
      `gs://...`.
    dataset: 'reds', or 'dvd100' for the frames of DVD that CNLRN is tested on.
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
  if dataset not in DATASETS:
    raise UserError(f'dataset must be one of {", ".join(DATASETS)}, not {dataset!r}')
  from data_prep import reds_builder

  return building.build(
    {'reds': reds_builder.Reds, 'dvd100': reds_builder.Dvd100}[dataset],
    manual_dir,
    data_dir,
    workers=workers,
    beam_runner=beam_runner,
    beam_options=beam_options,
    overwrite=overwrite,
  )


def define_flags() -> None:
  """Defines the command's flags; not on import, as this module is also a library."""
  building.define_flags('folder of REDS, or quantitative_datasets of DVD')
  flags.adopt_module_key_flags(building)
  flags.DEFINE_enum('dataset', 'reds', DATASETS, 'REDS, or DVD100, a test set')


def main(argv: list[str]) -> None:
  """Builds what the flags say and prints a summary."""
  building.run(argv, build, 'dataset')


if __name__ == '__main__':
  define_flags()
  run_command(main)
