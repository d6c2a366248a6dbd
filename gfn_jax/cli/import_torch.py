"""Convert a checkpoint of PyTorch or TensorFlow 1 to weights of this library.

gfn-import GFN_epoch_55.pkl gfn_authors.safetensors --model gfn
gfn-restore photo.jpg sharp.png --weights gfn_authors.safetensors
gfn-import deblur.model-523000 srn.safetensors --model srn
gfn-import gfn.pth gfn.safetensors     # a file of gfn-export names its network

PyTorch need not be installed. TensorFlow must be, for its own checkpoints. Nothing in the file is
executed, so a checkpoint from any source can be converted.
"""

import json
from collections.abc import Sequence
from typing import Any

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.interop.import_torch import import_torch
from gfn_jax.interop.torch_names import VERSIONS
from gfn_jax.system.files import printable
from gfn_jax.weights.pretrained import check_new_weights


def option(text: str) -> tuple[str, Any]:
  """Parse NAME=VALUE of `--option`, where the value is JSON or a plain word.

  Raises:
    ValueError: if the text has another form.
  """
  name, equals, value = text.partition('=')
  if not equals or not name.isidentifier() or name == 'name':
    raise ValueError(text)
  try:
    return name, json.loads(value)
  except (ValueError, RecursionError):
    return name, value


def make_parser() -> ArgumentParser:
  """Return the command's parser."""
  parser = ArgumentParser('gfn-import', __doc__)
  add = parser.add_argument
  add(
    'source',
    metavar='IN',
    help='a file of PyTorch: .pth, .pt, .pkl, .ckpt or .safetensors; for dmphn the folder of its '
    'files; or a TensorFlow 1 checkpoint',
  )
  add('target', metavar='OUT.safetensors', help='the weights; their card is written beside them')
  add(
    '--model',
    choices=sorted(VERSIONS),
    help='the network; not needed for a file of gfn-export, which names it',
  )
  add(
    '--option',
    action='append',
    default=[],
    type=option,
    metavar='NAME=VALUE',
    help='an option of the network, such as gate_recursions=3; options that follow from the '
    'weights, such as features, may be omitted',
  )
  add(
    '--key',
    help='entry of a PyTorch file to convert, or the first part of its names; default: averaged '
    'weights if there are any',
  )
  add('--overwrite', action='store_true', help='replace OUT if it exists')
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Parse the options, convert the checkpoint and print a summary.

  Args:
    argv: the command's arguments; None uses `sys.argv`.

  Raises:
    UserError: for invalid options, and as `import_torch`.
  """
  args = make_parser().parse_args(argv)
  check_new_weights(args.target, args.overwrite)
  network = import_torch(args.source, args.target, args.model, args.key, dict(args.option))
  parameters, name = network.pop('parameters'), network.pop('name')
  settings = ', '.join(f'{key}={value}' for key, value in network.items())
  print(f'wrote {printable(args.target)}: {parameters:,} parameters of {name} ({settings})')


def run() -> None:
  """Run the command `gfn-import`."""
  with exit_on_user_error():
    main()


if __name__ == '__main__':
  run()
