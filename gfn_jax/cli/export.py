"""Export trained weights to StableHLO, ONNX, PyTorch or a folder for model hubs.

gfn-export gfn gfn.stablehlo
gfn-export gfn gfn.onnx     # needs a separate environment: make onnx
gfn-export gfn gfn.pth      # tensors and model card for PyTorch; gfn-import reads it back
gfn-export gfn gfn --format=hub  # model.safetensors, config.json and README.md

Each file is read back and compared with JAX before it is put in place. docs/export.md shows how to
use the files.
"""

from collections.abc import Sequence

import jax

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.interop.export import FORMATS, export_weights
from gfn_jax.interop.hub_folder import check_new_hub_folder
from gfn_jax.system.files import check_new_file


def make_parser() -> ArgumentParser:
  """Return the command's parser."""
  parser = ArgumentParser('gfn-export', __doc__)
  parser.add_argument('weights', metavar='WEIGHTS', help='a .safetensors file, folder or name: gfn')
  parser.add_argument('out', metavar='OUT', help='file to write; its extension sets the format')
  parser.add_argument(
    '--format',
    choices=FORMATS,
    help='format of a file with another extension; hub: OUT is a folder for a model hub',
  )
  parser.add_argument('--overwrite', action='store_true', help='replace OUT if it exists')
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Parse the options and export the weights.

  Args:
    argv: the command's arguments; None uses `sys.argv`.

  Raises:
    UserError: for invalid options, and as `export_weights`.
  """
  args = make_parser().parse_args(argv)
  check = check_new_hub_folder if args.format == 'hub' else check_new_file
  check(args.out, args.overwrite)
  jax.config.update('jax_platforms', 'cpu')  # before JAX initialises a GPU that is not needed
  export_weights(args.weights, args.out, args.format)


def run() -> None:
  """Run the command `gfn-export`."""
  with exit_on_user_error():
    main()


if __name__ == '__main__':
  run()
