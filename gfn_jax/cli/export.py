"""Export trained weights to StableHLO, ONNX, darktable, PyTorch or a folder for model hubs.

gfn-export gfn gfn.stablehlo
gfn-export gfn gfn.onnx                  # this and the next two need the extra onnx
gfn-export gfn gfn.onnx --layout=nchw    # one input and one output, of any size, for image tools
gfn-export gfn upscale-gfn.dtmodel       # for darktable's neural restore; --output=lr to deblur
gfn-export gfn gfn.pth                   # tensors and model card; gfn-import reads it back
gfn-export gfn gfn --format=hub          # model.safetensors, config.json and README.md

Each file is read back and compared with JAX before it is put in place. docs/export.md shows how to
use the files.
"""

from collections.abc import Sequence

import jax

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.interop.darktable import TASKS
from gfn_jax.interop.export import FORMATS, export_weights
from gfn_jax.interop.hub_folder import check_new_hub_folder
from gfn_jax.interop.onnx_file import LAYOUTS
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
  parser.add_argument(
    '--output',
    choices=tuple(TASKS),
    help='the only output of an ONNX file: 4x or at the input size',
  )
  parser.add_argument(
    '--layout', choices=LAYOUTS, default='nhwc', help='of an ONNX file; nchw has one output'
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
  export_weights(args.weights, args.out, args.format, output=args.output, layout=args.layout)


def run() -> None:
  """Run the command `gfn-export`."""
  with exit_on_user_error():
    main()


if __name__ == '__main__':
  run()
