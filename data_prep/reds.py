"""Build the data sets of CNLRN as TFRecords: REDS, and the test set DVD100.

  gfn-prepare reds --manual_dir=REDS --data_dir=tfds
  gfn-prepare reds --dataset=dvd100 --manual_dir=quantitative_datasets --data_dir=tfds

docs/datasets.md describes the downloads, and the content and size of the results.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epath

from gfn_jax.cli.runner import run_command
from gfn_jax.data_prep import tfds_build
from gfn_jax.errors import UserError

# TensorFlow is imported only on use, because worker processes import this module too.

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
  """Build a data set, unless it exists already.

  Args:
    manual_dir: folder of the unpacked REDS archives, `train` and `val` (a missing split is logged),
      or `quantitative_datasets` of DVD. May be `gs://...`.
    data_dir: parent folder of all data sets. This one is written to `<dataset>/<version>`. May be
      `gs://...`.
    dataset: 'reds', or 'dvd100' for the DVD frames that CNLRN is tested on.
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
  if dataset not in DATASETS:
    raise UserError(f'dataset must be one of {", ".join(DATASETS)}, not {dataset!r}')
  from gfn_jax.data_prep import reds_builder

  return tfds_build.build(
    {'reds': reds_builder.Reds, 'dvd100': reds_builder.Dvd100}[dataset],
    manual_dir,
    data_dir,
    workers=workers,
    beam_runner=beam_runner,
    beam_options=beam_options,
    overwrite=overwrite,
  )


def define_flags() -> None:
  """Define the command's flags."""
  tfds_build.define_flags('folder of REDS, or quantitative_datasets of DVD')
  flags.adopt_module_key_flags(tfds_build)
  flags.DEFINE_enum('dataset', 'reds', DATASETS, 'REDS, or DVD100, a test set')


def main(argv: list[str]) -> None:
  """Build the data set that the flags describe, and print a summary."""
  tfds_build.run(argv, build, 'dataset')


if __name__ == '__main__':
  define_flags()
  run_command(main)
