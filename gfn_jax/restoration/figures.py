"""Files of figures, and parts of images to draw."""

import os
from typing import TYPE_CHECKING

from gfn_jax.errors import UserError
from gfn_jax.system.files import is_same_file, make_folder, printable, write_aside

if TYPE_CHECKING:
  from matplotlib.figure import Figure

Box = tuple[int, int, int, int]
"""Part of an image: left and upper edge, width and height, in pixels."""


def check_figure(path: str | os.PathLike, *sources: str | os.PathLike) -> None:
  """Raise, before long work, if a figure cannot be written to a path.

  Args:
    path: the figure.
    *sources: files that it may not replace.

  Raises:
    UserError: if the name does not end in .png, or it is the path of a source.
  """
  if not os.fspath(path).lower().endswith('.png'):
    raise UserError(f'{printable(path)}: the figure is a PNG; choose a name that ends in .png')
  for source in sources:
    if is_same_file(path, source):
      raise UserError(f'{printable(source)} would be overwritten; choose another output')


def check_box(box: Box, image: str | os.PathLike, width: int, height: int) -> None:
  """Raise if a part is not within an image of a size.

  Raises:
    UserError: naming the image.
  """
  x, y, w, h = box
  if not (0 <= x < x + w <= width and 0 <= y < y + h <= height):
    raise UserError(
      f'{printable(image)} is {width}x{height}: the part {w}x{h} at {x},{y} is not within it; '
      '--crop is X,Y,WIDTH,HEIGHT'
    )


def write_figure(figure: 'Figure', path: str | os.PathLike) -> None:
  """Write a figure as PNG, atomically; its folder is made if needed."""
  make_folder(os.path.dirname(path) or '.')
  with write_aside(path) as temporary:
    figure.savefig(temporary, format='png')
