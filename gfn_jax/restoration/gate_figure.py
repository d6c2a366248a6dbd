"""Figure of the features of GFN's two branches for a photo, and of its gate's score map.

Like the paper's Figure 3. Features are shown as the mean of their absolute values over the
channels, the gate as its mean. White is a gate of 1, which fuses like a network without a gate.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.images.preview import to_picture
from gfn_jax.images.reading import read_photo, size_of
from gfn_jax.models.base import RestorationModel
from gfn_jax.models.gfn import STRIDE, fusion_features
from gfn_jax.ops.pixels import from_float, to_float
from gfn_jax.restoration.figures import Box, check_box, check_figure, write_figure
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system.files import printable

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

MAX_PIXELS = 1_000_000
"""Largest number of pixels of a photo, or of the part that is used."""

_PAGE, _DPI = 7.0, 300  # width of the figure in inches, pixels per inch
_TITLE, _BAR, _GAP = 0.2, 0.28, 0.1  # inches above, below and between panels
_MAX_ASPECT = 1.5  # largest height of a panel, relative to its width


@dataclasses.dataclass(frozen=True)
class Panel:
  """A picture of the figure.

  Attributes:
    title: text above the picture.
    values: `[h, w, 3]` uint8 for an image, or `[h, w]` float32 for a map.
    centre: value of a map that is shown in white; None for a map without negative values.
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
  """Draw the figure of a photo.

  Args:
    photo: an image file that `gfn-restore` reads. Grey is converted to RGB, transparent pixels to
      white, 16 bits to 8.
    path: the PNG to write; its folder is made if needed.
    weights: weights of a GFN: a file or a name, as for `load_pretrained`.
    crop: the part of the photo that the network sees; None for the whole photo.
    channel: a channel to draw, with its sign; None for the mean over all channels.

  Raises:
    UserError: if the photo or the weights cannot be read, the photo would be overwritten, is too
      large or too small, the network is not a GFN, or the part or channel does not exist.
    OSError: if the figure cannot be written.
  """
  check_figure(path, photo)
  image = read_image(photo, crop)
  write_figure(draw_panels(make_panels(Restorer.from_pretrained(weights), image, channel)), path)


def read_image(photo: str | os.PathLike, crop: Box | None = None) -> np.ndarray:
  """Return a photo, or a part of it, as `[h, w, 3]` uint8, white where it is transparent.

  Raises:
    UserError: if the photo cannot be read, or the part does not exist, or is too large or small.
  """
  width, height = size_of(photo, max_pixels=None)
  x, y, w, h = box = crop or (0, 0, width, height)
  check_box(box, photo, width, height)
  if w * h > MAX_PIXELS:
    raise UserError(
      f'{printable(photo)}: {w}x{h} exceeds {MAX_PIXELS:,} pixels; choose a smaller part with '
      '--crop X,Y,WIDTH,HEIGHT'
    )
  if min(w, h) < STRIDE:
    raise UserError(
      f'{printable(photo)}: {w}x{h} is too small; a side needs at least {STRIDE} pixels'
    )
  pixels = read_photo(photo, max_pixels=None).pixels
  return np.asarray(to_picture(pixels[y : y + h, x : x + w]))


def make_panels(restorer: Restorer, image: np.ndarray, channel: int | None = None) -> list[Panel]:
  """Return the figure's panels, column by column; a network without a gate has two fewer.

  Args:
    restorer: a restorer with a GFN.
    image: `[h, w, 3]` uint8; cropped to multiples of 4.
    channel: a channel to show, unchanged. None for the mean over the channels: of the gate itself,
      and of the absolute values of the features.

  Raises:
    UserError: if the network is not a GFN, or has no such channel.
  """
  model = restorer.model
  h, w = (
    side // stride * stride for side, stride in zip(image.shape[:2], model.stride, strict=True)
  )
  image = image[:h, :w]
  maps = jax.device_get(_maps(model, channel, restorer.variables, image))

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
def _maps(
  model: RestorationModel, channel: int | None, variables: Mapping[str, Any], image: jax.Array
) -> dict[str, jax.Array]:
  """Return maps `[h, w]` float32 and `lr` `[h, w, 3]` uint8; sides are multiples of 4."""
  output, features = fusion_features(model, variables, to_float(image)[None])
  count = features['f_sr'].shape[-1]
  if channel is not None and not 0 <= channel < count:
    raise UserError(f'channel {channel}: pass a number from 0 to {count - 1}')
  lr = cast(jax.Array, output.lr)  # every GFN has it
  maps = {'lr': from_float(lr[0], jnp.uint8)}
  for name, y in features.items():
    y = y[0].astype(jnp.float32)  # [h, w, F]
    if channel is not None:
      maps[name] = y[..., channel]
    else:
      maps[name] = jnp.mean(y if name == 'gate' else jnp.abs(y), axis=-1)
  return maps


def draw_panels(panels: Sequence[Panel]) -> 'Figure':
  """Return a figure as wide as a page: panels of one size, two in each column.

  The colours of a map extend to the 99th percentile of its values, or of their distance to the
  centre. The bar below a map shows the numbers.

  Args:
    panels: panels from `make_panels`, all with the aspect ratio of the first.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  columns = -(-len(panels) // 2)
  width = (_PAGE + _GAP) / columns - _GAP
  h, w = panels[0].values.shape[:2]
  height = min(h / w, _MAX_ASPECT) * width
  row = _TITLE + height + _BAR
  figure = Figure((_PAGE, 2 * row), dpi=_DPI)
  FigureCanvasAgg(figure)

  def add_axes(x: float, y: float, w: float, h: float) -> 'Axes':
    """Add axes at a place in inches, measured from the upper left corner."""
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
  """Return the values of a map at the two ends of its colours."""
  if panel.centre is None:
    return 0.0, float(np.percentile(panel.values, 99)) or 1.0
  spread = float(np.percentile(np.abs(panel.values - panel.centre), 99)) or 1.0
  return panel.centre - spread, panel.centre + spread
