"""Turns a PyTorch checkpoint into weights of this library. PyTorch need not be installed.

python -m gfn_jax.interop.import_torch GFN_epoch_55.pkl gfn_authors.safetensors --model gfn
gfn-restore photo.jpg sharp.png --weights gfn_authors.safetensors

Nothing in the file is run, wherever it comes from.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from gfn_jax.errors import ArgumentParser, UserError, exit_on_user_error
from gfn_jax.interop.convert import convert, infer_options
from gfn_jax.interop.torch_checkpoint import HOLDERS, load_torch_checkpoint
from gfn_jax.interop.torch_names import VERSIONS
from gfn_jax.system.files import file_sha256, printable
from gfn_jax.weights.pretrained import check_new_weights, param_count, save_weights


def import_torch(
  source: str | os.PathLike,
  target: str | os.PathLike,
  model_name: str,
  key: str | None = None,
  options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Writes the weights of a PyTorch checkpoint as ours, with a card that names the file.

  Args:
    source: of `load_torch_checkpoint`.
    target: ends in .safetensors; is replaced.
    model_name: a key of `gfn_jax.interop.torch_names.VERSIONS`.
    key: as for `load_torch_checkpoint`.
    options: as for `convert`.

  Returns:
    The network: its name and options, and `parameters`, their number.

  Raises:
    UserError: as `load_torch_checkpoint`, `convert` and `save_weights`.
  """
  state = load_torch_checkpoint(source, key)
  try:
    options = infer_options(model_name, state, **(options or {}))
    params = convert(model_name, state, **options)
  except UserError as error:
    raise UserError(f'{printable(source)}: {error}') from error
  origin = {'file': os.path.basename(os.fspath(source)), 'sha256': file_sha256(source)}
  model_config = {'name': model_name, **options}
  save_weights(target, params, model_config, {'imported_from': origin})
  return model_config | {'parameters': param_count(params)}


def option(text: str) -> tuple[str, Any]:
  """What `--option` takes: NAME=VALUE, a value of JSON or a plain word."""
  name, equals, value = text.partition('=')
  if not equals or not name.isidentifier() or name == 'name':
    raise ValueError(text)
  try:
    return name, json.loads(value)
  except (ValueError, RecursionError):
    return name, value


def make_parser() -> ArgumentParser:
  """The command's options."""
  parser = ArgumentParser('python -m gfn_jax.interop.import_torch', __doc__)
  add = parser.add_argument
  add('source', metavar='IN', help='a file that torch.save wrote: .pth, .pt, .pkl, .ckpt')
  add('target', metavar='OUT.safetensors', help='the weights; their card is written beside them')
  add('--model', required=True, choices=sorted(VERSIONS), help='the network')
  add(
    '--option',
    action='append',
    default=[],
    type=option,
    metavar='NAME=VALUE',
    help='an option of the network, such as gate_recursions=3; those that follow from the weights, '
    'such as features, need not be given',
  )
  add(
    '--key',
    help=f'the entry of the file to take; default: the first with weights of {", ".join(HOLDERS)}',
  )
  add('--overwrite', action='store_true', help='replace OUT if it exists')
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Options to a call."""
  args = make_parser().parse_args(argv)
  check_new_weights(args.target, args.overwrite)
  network = import_torch(args.source, args.target, args.model, args.key, dict(args.option))
  parameters, name = network.pop('parameters'), network.pop('name')
  settings = ', '.join(f'{key}={value}' for key, value in network.items())
  print(f'{parameters:,} parameters of {name} ({settings}) are in {printable(args.target)}')


if __name__ == '__main__':
  with exit_on_user_error():
    main()
