"""Draw what the two branches of GFN respond to in a photo, and its gate's score map.

gfn-visualize photo.jpg gate.png
gfn-visualize photo.jpg gate.png --crop 600,200,320,240   # left, top, width, height
gfn-visualize photo.jpg gate.png --channel 5

As Figure 3 of the GFN paper. A photo of up to a megapixel goes through the network whole; choose a
part of a larger one with --crop.
"""

from collections.abc import Sequence

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.restoration import gate_figure
from gfn_jax.restoration.figures import Box


def crop(text: str) -> Box:
  """Return the four numbers that `--crop` takes."""
  x, y, width, height = map(int, text.split(','))
  return x, y, width, height


def make_parser() -> ArgumentParser:
  """Return the command's options."""
  parser = ArgumentParser('gfn-visualize', __doc__)
  add = parser.add_argument
  add('photo', metavar='PHOTO', help='an image')
  add('path', metavar='OUT.png', help='the figure')
  add('--weights', default='gfn', help='a .safetensors file or a name; default: %(default)s')
  add('--crop', type=crop, metavar='X,Y,WIDTH,HEIGHT', help='the part of the photo to take')
  add('--channel', type=int, metavar='N', help='draw this channel alone, with its sign')
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Draw the figure that the arguments ask for."""
  gate_figure.draw(**vars(make_parser().parse_args(argv)))


def run() -> None:
  """Run the command `gfn-visualize`."""
  with exit_on_user_error():
    main()


if __name__ == '__main__':
  run()
