"""Joins the weights of two networks to those of a cascade: deblurring first, or last.

python -m gfn_jax.weights.join mprnet.safetensors srresnet.safetensors cascade.safetensors
gfn-restore photo.jpg sharp.png --weights cascade.safetensors

One of the two networks enlarges and the other only deblurs. Trained further, they are trained
together: `--config.init_from=cascade.safetensors`.
"""

import os
from collections.abc import Sequence

from gfn_jax.errors import ArgumentParser, exit_on_user_error
from gfn_jax.models import as_variables, create_model, param_count
from gfn_jax.models.variables import from_variables
from gfn_jax.system.files import file_sha256, printable
from gfn_jax.weights.pretrained import (
  check_new_weights,
  load_model_config,
  load_pretrained,
  save_weights,
  weights_path,
)


def join_weights(
  first: str | os.PathLike,
  second: str | os.PathLike,
  target: str | os.PathLike,
  quantize: bool = False,
) -> int:
  """Writes the weights of a cascade, with a card that names the two files.

  Args:
    first: weights of the network that sees the input, a file or a name.
    second: weights of the network that sees the first one's image.
    target: ends in .safetensors; is replaced.
    quantize: whether that image is rounded to 8 bits.

  Returns:
    The number of parameters.

  Raises:
    UserError: if weights cannot be read, or the networks make no cascade.
  """
  paths = {'first': weights_path(first), 'second': weights_path(second)}
  loaded = {part: as_variables(load_pretrained(path)[1]) for part, path in paths.items()}
  collections = {
    name: {part: variables[name] for part, variables in loaded.items() if variables[name]}
    for name in ('params', 'batch_stats')
  }
  networks = {part: load_model_config(path) for part, path in paths.items()}
  model_config = {'name': 'cascade', **networks, 'quantize': quantize}
  create_model(**model_config)
  origin = {
    part: {'file': os.path.basename(path), 'sha256': file_sha256(path)}
    for part, path in paths.items()
  }
  params = from_variables(collections)
  save_weights(target, params, model_config, {'joined_from': origin})
  return param_count(params)


def make_parser() -> ArgumentParser:
  """The command's options."""
  parser = ArgumentParser('python -m gfn_jax.weights.join', __doc__)
  add = parser.add_argument
  add('first', metavar='FIRST', help='weights of the network that sees the input')
  add('second', metavar='SECOND', help="weights of the network that sees the first one's image")
  add('target', metavar='OUT.safetensors', help='the weights; their card is written beside them')
  add('--quantize', action='store_true', help='round the image between them to 8 bits, as a file')
  add('--overwrite', action='store_true', help='replace OUT if it exists')
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Options to a call."""
  args = make_parser().parse_args(argv)
  check_new_weights(args.target, args.overwrite)
  count = join_weights(args.first, args.second, args.target, args.quantize)
  print(f'{count:,} parameters of a cascade are in {printable(args.target)}')


if __name__ == '__main__':
  with exit_on_user_error():
    main()
