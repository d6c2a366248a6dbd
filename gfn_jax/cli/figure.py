r"""Compare methods on a part of an image, in a figure as in the papers.

gfn-figure --input=blurred.png --target=sharp.png --weights=gfn --output=figure.png
gfn-figure --input=blurred.png --weights=GFN=gfn --weights=mine.safetensors \
  --crop=120,60,80,45 --output=figure.png

The figure shows the input with the part marked, then this part of bicubic interpolation, of each
network's image and of the target. The scores are those of the whole images.
"""

from collections.abc import Sequence

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.cli.visualize import crop
from gfn_jax.ops.protocols import PROTOCOLS
from gfn_jax.restoration import crop_figure
from gfn_jax.system import compilation_cache
from gfn_jax.system.files import is_file


def weights(text: str) -> tuple[str, str]:
  """Return title and weights of `--weights`: 'TITLE=FILE', or ('', FILE) without a title."""
  title, equals, file = text.partition('=')
  return (title, file) if equals and not is_file(text) else ('', text)


def make_parser() -> ArgumentParser:
  """Return the command's options."""
  parser = ArgumentParser('gfn-figure', __doc__)
  add = parser.add_argument
  add('--input', required=True, metavar='IMAGE', help='the blurred image')
  add('--output', required=True, metavar='OUT.png', help='the figure')
  add(
    '--weights',
    required=True,
    action='append',
    type=weights,
    metavar='[TITLE=]FILE',
    help='a .safetensors file or a name, such as gfn; may be repeated',
  )
  add('--target', metavar='IMAGE', help='the sharp image, as large as the results; for the scores')
  add(
    '--crop',
    type=crop,
    metavar='X,Y,WIDTH,HEIGHT',
    help='the part of the input to show, in pixels; default: its centre',
  )
  add(
    '--protocol',
    default='gfn',
    choices=sorted(PROTOCOLS),
    help='protocol of the scores; default: %(default)s',
  )
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Draw the figure that the arguments ask for."""
  args = make_parser().parse_args(argv)
  crop_figure.draw(
    args.input,
    args.output,
    args.weights,
    target=args.target,
    crop=args.crop,
    protocol=args.protocol,
  )


def run() -> None:
  """Run the command `gfn-figure`."""
  compilation_cache.enable()
  with exit_on_user_error():
    main()


if __name__ == '__main__':
  run()
