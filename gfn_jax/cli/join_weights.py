"""Join the weights of two networks to those of a cascade: deblurring first, or last.

gfn-join-weights mprnet.safetensors srresnet.safetensors cascade.safetensors
gfn-restore photo.jpg sharp.png --weights cascade.safetensors
gfn-join-weights dmphn.safetensors bicubic cascade.safetensors

One of the two networks enlarges and the other only deblurs. To train them together, start a run
from the file: `--config.run.init_from=cascade.safetensors`.
"""

from collections.abc import Sequence

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.system.files import printable
from gfn_jax.weights.join import join_weights
from gfn_jax.weights.pretrained import check_new_weights


def make_parser() -> ArgumentParser:
  """Return the command's options."""
  parser = ArgumentParser('gfn-join-weights', __doc__)
  add = parser.add_argument
  add('first', metavar='FIRST', help="weights of the network that sees the input, or 'bicubic'")
  add(
    'second',
    metavar='SECOND',
    help="weights of the network that sees the first one's image, or 'bicubic'",
  )
  add('target', metavar='OUT.safetensors', help='the weights; their card is written beside them')
  add('--quantize', action='store_true', help='round the image between them to 8 bits, as a file')
  add('--overwrite', action='store_true', help='replace OUT if it exists')
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Join the weights that the arguments name."""
  args = make_parser().parse_args(argv)
  check_new_weights(args.target, args.overwrite)
  count = join_weights(args.first, args.second, args.target, args.quantize)
  print(f'{count:,} parameters of a cascade are in {printable(args.target)}')


def run() -> None:
  """Run the command `gfn-join-weights`."""
  with exit_on_user_error():
    main()


if __name__ == '__main__':
  run()
