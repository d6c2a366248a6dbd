"""Build a data set, or fetch the photographs of the released weights.

gfn-prepare lr_gopro --manual_dir=GOPRO_Large --data_dir=tfds
gfn-prepare motion_blurred_lr --manual_dir=GOPRO_Large_all --data_dir=tfds
gfn-prepare reds --manual_dir=REDS --data_dir=tfds
gfn-prepare lr_koehler --manual_dir=KOEHLER --data_dir=tfds
gfn-prepare open_photos --output_dir=photos_open

`gfn-prepare NAME --help` lists the flags of a data set.
docs/datasets.md describes the downloads. TFRecords, the result of the first three, require
`pip install 'gfn_jax[train]'`.
"""

import importlib
import sys
from collections.abc import Sequence

from gfn_jax.cli.runner import exit_on_user_error, run_command
from gfn_jax.errors import UsageError

DATASETS = {
  'lr_gopro': 'LR-GOPRO, the data set of GFN',
  'motion_blurred_lr': 'Motion-Blurred LR, the data set of BMDSRNet',
  'reds': 'REDS, the data set of CNLRN, and its test set DVD100',
  'lr_koehler': 'LR-Koehler, a test set of GFN with several sharp frames for each image',
  'open_photos': 'openly licensed photographs, the data set of the released weights',
}
"""Modules of `gfn_jax.data_prep` that are commands, with descriptions."""


def main(argv: Sequence[str] | None = None) -> None:
  """Run the command of a data set.

  Args:
    argv: name of the data set, followed by flags of its command; None uses `sys.argv`.

  Raises:
    UsageError: for a missing or unknown name.
  """
  name, *options = (sys.argv[1:] if argv is None else argv) or ['']
  if name in ('-h', '--help'):
    _print_help()
    return
  if name not in DATASETS:
    problem = f'unknown data set {name!r}' if name else 'the name of the data set is missing'
    raise UsageError(f'{problem}; choose from {", ".join(DATASETS)}')
  command = importlib.import_module(f'gfn_jax.data_prep.{name}')
  command.define_flags()
  sys.argv = [f'gfn-prepare {name}', *options]  # absl reads the flags from here
  run_command(command.main)


def _print_help() -> None:
  width = max(map(len, DATASETS))
  lines = [f'  {name:{width}}  {description}' for name, description in DATASETS.items()]
  print(__doc__, 'data sets:', *lines, sep='\n')


def run() -> None:
  """Run the command `gfn-prepare`."""
  with exit_on_user_error():
    main()


if __name__ == '__main__':
  run()
