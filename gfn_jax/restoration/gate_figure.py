"""Draws what the two branches of GFN respond to in a photo, and what its gate makes of that.

python -m gfn_jax.restoration.gate_figure photo.jpg gate.png
python -m gfn_jax.restoration.gate_figure photo.jpg gate.png --crop 600,200,320,240
python -m gfn_jax.restoration.gate_figure photo.jpg gate.png --channel 5

As Figure 3 of the paper. Of features, the mean of the absolute values over the channels is shown;
of the gate, the mean, with white for 1: fused as without a gate. A photo of up to a megapixel goes
through the network whole; take the part of a larger one that you want to see with --crop.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gfn_jax.errors import ArgumentParser, UserError, exit_on_user_error
from gfn_jax.images.reading import read_photo, size_of
from gfn_jax.models.gfn import GFN
from gfn_jax.restoration.report import to_picture
from gfn_jax.restoration.restorer import Restorer, from_float, to_float
from gfn_jax.system.files import printable, write_aside

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

MAX_PIXELS = 1_000_000
"""Of a photo, or of the part that is taken."""

_PAGE, _DPI = 7.0, 300  # the figure's width in inches, pixels an inch
_TITLE, _BAR, _GAP = 0.2, 0.28, 0.1  # inches above, below and between panels
_MOST_UPRIGHT = 1.5  # largest height of a panel, in its width

Box = tuple[int, int, int, int]
"""A part of a photo: its left and upper edge, its width and height, in pixels."""


@dataclasses.dataclass(frozen=True)
class Panel:
  """A picture of the figure.

  Attributes:
    title: above it.
    values: `[h, w, 3]` uint8, an image; or `[h, w]` float32, a map.
    centre: of a map, the value that is white; None for a map without negative values.
  """

  title: str
  values: np.ndarray
  centre: float | None = None


def draw(
  photo: str | os.PathLike,
  path: str | os.PathLike,
  *,
  weights: str | os.PathLike = 'gfn',
  crop: Box | None = None,
  channel: int | None = None,
) -> None:
  """Draws the figure of a photo.

  Args:
    photo: a file that `gfn-restore` takes. Grey becomes RGB, what is transparent white, 16 bits 8.
    path: of the PNG to write; its folder is made if needed.
    weights: of a GFN: a file or a name, as for `load_pretrained`.
    crop: the part of the photo that the network sees; None for all of it.
    channel: the one to draw, with its sign; None for the mean over all.

  Raises:
    UserError: if something cannot be read, the photo would be overwritten, the network is no GFN,
      the photo is too large or too small, or there is no such part or channel.
    OSError: if the figure cannot be written.
  """
  if not os.fspath(path).lower().endswith('.png'):
    raise UserError(f'{printable(path)}: the figure is a PNG; choose a name that ends in .png')
  image = read_image(photo, crop)
  if os.path.exists(path) and os.path.samefile(photo, path):
    raise UserError(f'{printable(photo)} would be overwritten; choose another output')
  figure = draw_panels(make_panels(Restorer.from_pretrained(weights), image, channel))
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  with write_aside(path) as temporary:
    figure.savefig(temporary, format='png')


def read_image(photo: str | os.PathLike, crop: Box | None = None) -> np.ndarray:
  """A photo, or a part of it, as `[h, w, 3]` uint8, white where it is transparent.

  Raises:
    UserError: if it cannot be read, there is no such part, or that is too large or too small.
  """
  width, height = size_of(photo, max_pixels=None)
  x, y, w, h = crop or (0, 0, width, height)
  if not (0 <= x < x + w <= width and 0 <= y < y + h <= height):
    raise UserError(
      f'{printable(photo)} is {width}x{height}: it has no part {w}x{h} at {x},{y}; --crop is '
      'X,Y,WIDTH,HEIGHT'
    )
  if w * h > MAX_PIXELS:
    raise UserError(
      f'{printable(photo)}: {w}x{h} is more than {MAX_PIXELS:,} pixels; take a part with '
      '--crop X,Y,WIDTH,HEIGHT, or make it smaller'
    )
  if min(w, h) < GFN.stride:
    raise UserError(f'{printable(photo)}: {w}x{h} is too small; {GFN.stride} pixels are the least')
  pixels = read_photo(photo, max_pixels=None).pixels
  return np.asarray(to_picture(pixels[y : y + h, x : x + w]))


def make_panels(restorer: Restorer, image: np.ndarray, channel: int | None = None) -> list[Panel]:
  """What the figure shows, column by column; without a gate, its two panels are left out.

  Args:
    restorer: with a GFN.
    image: `[h, w, 3]` uint8; cut to multiples of 4.
    channel: the one to show, as it is; None for the mean over the channels: of the gate itself, and
      of the absolute values of the features.

  Raises:
    UserError: if the network is no GFN, or has no such channel.
  """
  model = restorer.model
  if not isinstance(model, GFN):
    raise UserError(f'{type(model).__name__} has no gate to draw; pass weights of a GFN')
  if channel is not None and not 0 <= channel < model.features:
    raise UserError(f'channel {channel}: pass a number from 0 to {model.features - 1}')
  h, w = (side // model.stride * model.stride for side in image.shape[:2])
  image = image[:h, :w]
  maps = jax.device_get(_maps(model, channel, restorer.params, image))

  def panel(title: str, name: str) -> Panel:
    if channel is None:
      return Panel(title, maps[name], 1.0 if name == 'gate' else None)
    return Panel(f'{title}  [{channel}]', maps[name], 1.0 if name == 'gate' else 0.0)

  panels = [
    Panel('input', image),
    Panel('deblurred', maps['lr']),
    panel('deblurring branch  $f_{deblur}$', 'f_deblur'),
    panel('SR branch  $f_{sr}$', 'f_sr'),
  ]
  fused = '$f_{deblur} + f_{sr}$'
  if 'gate' in maps:
    fused = r'$g \cdot f_{deblur} + f_{sr}$'
    panels.append(panel('gate  $g$', 'gate'))
    panels.append(panel(r'gated  $g \cdot f_{deblur}$', 'gated'))
  return [*panels, panel(f'fused  {fused}', 'f_fusion'), Panel('restored', restorer(image))]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _maps(model: GFN, channel: int | None, params: Any, image: jax.Array) -> dict[str, np.ndarray]:
  """Maps `[h, w]` float32, and `lr` `[h, w, 3]` uint8, for an image with no need of padding."""
  names = ('deblur', 'sr_feature', 'gate')
  output, state = model.apply(
    {'params': params},
    to_float(image)[None],
    capture_intermediates=lambda module, method: module.name in names and method == '__call__',
  )
  calls = {name: calls['__call__'] for name, calls in state['intermediates'].items()}
  [(f_deblur, _)], [f_sr] = calls['deblur'], calls['sr_feature']
  features = {'f_deblur': f_deblur, 'f_sr': f_sr, 'f_fusion': f_sr + f_deblur}
  if 'gate' in calls:
    gate = sum(calls['gate'])  # a recursive one adds f_deblur several times
    features |= {'gate': gate, 'gated': gate * f_deblur, 'f_fusion': f_sr + gate * f_deblur}
  maps = {'lr': from_float(output.lr[0], jnp.uint8)}
  for name, y in features.items():
    y = y[0].astype(jnp.float32)  # [h, w, F]
    if channel is not None:
      maps[name] = y[..., channel]
    else:
      maps[name] = jnp.mean(y if name == 'gate' else jnp.abs(y), axis=-1)
  return maps


def draw_panels(panels: Sequence[Panel]) -> 'Figure':
  """A figure as wide as a page: panels of one size, two in each column.

  The colours of a map go up to the 99th percentile of its values, or of their distance to the
  centre; the bar under it has the numbers.

  Args:
    panels: as of `make_panels`, all of the proportions of the first.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  columns = -(-len(panels) // 2)
  width = (_PAGE + _GAP) / columns - _GAP
  h, w = panels[0].values.shape[:2]
  height = min(h / w, _MOST_UPRIGHT) * width
  row = _TITLE + height + _BAR
  figure = Figure((_PAGE, 2 * row), dpi=_DPI)
  FigureCanvasAgg(figure)

  def add_axes(x: float, y: float, w: float, h: float) -> 'Axes':
    """Axes of a place in inches, from the upper left corner."""
    return figure.add_axes((x / _PAGE, 1 - (y + h) / (2 * row), w / _PAGE, h / (2 * row)))

  for number, panel in enumerate(panels):
    x, y = number // 2 * (width + _GAP), number % 2 * row + _TITLE
    picture = add_axes(x, y, width, height)
    picture.set_title(panel.title, fontsize=7, pad=3)
    picture.set_axis_off()
    below = y + height + 0.04
    if panel.values.ndim == 3:
      picture.imshow(panel.values)
      text = add_axes(x, below, width, _BAR - 0.04)
      text.set_axis_off()
      size = '{1} × {0} pixels'.format(*panel.values.shape)
      text.text(0.5, 0.9, size, ha='center', va='top', fontsize=6)
    else:
      lowest, highest = colour_range(panel)
      colours = 'viridis' if panel.centre is None else 'RdBu_r'
      shown = picture.imshow(panel.values, cmap=colours, vmin=lowest, vmax=highest)
      bar = add_axes(x + 0.1, below, width - 0.2, 0.07)
      figure.colorbar(shown, bar, orientation='horizontal').outline.set_linewidth(0.5)
      bar.tick_params(labelsize=6, length=2, pad=1.5)
  return figure


def colour_range(panel: Panel) -> tuple[float, float]:
  """The values of a map at the two ends of its colours."""
  if panel.centre is None:
    return 0.0, float(np.percentile(panel.values, 99)) or 1.0
  spread = float(np.percentile(np.abs(panel.values - panel.centre), 99)) or 1.0
  return panel.centre - spread, panel.centre + spread


def crop(text: str) -> Box:
  """What `--crop` takes: four numbers."""
  x, y, width, height = map(int, text.split(','))
  return x, y, width, height


def make_parser() -> ArgumentParser:
  """The command's options."""
  parser = ArgumentParser('python -m gfn_jax.restoration.gate_figure', __doc__)
  add = parser.add_argument
  add('photo', metavar='PHOTO', help='an image')
  add('path', metavar='OUT.png', help='the figure')
  add('--weights', default='gfn', help='a .safetensors file or a name; default: %(default)s')
  add('--crop', type=crop, metavar='X,Y,WIDTH,HEIGHT', help='the part of the photo to take')
  add('--channel', type=int, metavar='N', help='draw this channel alone, with its sign')
  return parser


def main(argv: Sequence[str] | None = None) -> None:
  """Options to a call."""
  draw(**vars(make_parser().parse_args(argv)))


if __name__ == '__main__':
  with exit_on_user_error():
    main()
