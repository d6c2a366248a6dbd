"""Figure that compares methods on a part of an image, like Figures 5 and 6 of the GFN paper.

On the left is the input with the part marked. On the right are that part of each method's image
and of the target, enlarged by a whole factor, with the scores of the whole images.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gfn_jax.errors import UserError
from gfn_jax.images.folders import read_rgb, stem
from gfn_jax.images.preview import resize
from gfn_jax.ops.scores import bicubic, score
from gfn_jax.restoration.figures import Box, check_box, check_figure, write_figure
from gfn_jax.restoration.restorer import Restorer

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_PAGE = 7.0  # width in inches of the figure on a page, to which texts are fitted
_WIDTH = 2100  # approximate width in pixels
_CAPTION, _GAP, _NOTE = 0.27, 0.05, 0.15  # inches below a picture, between them, and for the note
_LINES = (0.11, 0.22)  # inches from a picture to the baselines of its two lines of text
_LARGEST = 160  # side of the default part, LR pixels


@dataclasses.dataclass(frozen=True)
class Panel:
  """An image of the figure.

  Attributes:
    title: name of the method.
    image: the whole image, `[s * h, s * w, 3]` uint8 for an input of `[h, w, 3]`.
    scores: `psnr` and `ssim`; None without a target, and for the target.
  """

  title: str
  image: np.ndarray
  scores: Mapping[str, float] | None = None


def draw(
  source: str | os.PathLike,
  path: str | os.PathLike,
  weights: Sequence[tuple[str, str | os.PathLike]],
  *,
  target: str | os.PathLike | None = None,
  crop: Box | None = None,
  protocol: str = 'gfn',
) -> None:
  """Draw the figure of an image.

  Args:
    source: the input, a blurred image that is read as RGB.
    path: the PNG to write; its folder is made if needed.
    weights: title and weights of each method, a file or a name as for `load_pretrained`. For an
      empty title, the name of the file, or of the run's folder.
    target: the sharp image. Without it there are no scores.
    crop: the part of the input that is shown; None for its centre.
    protocol: protocol of the scores, a key of `PROTOCOLS`.

  Raises:
    UserError: if a file cannot be read or would be overwritten, the part does not exist, the
      networks enlarge by different factors, or the target has another size.
    OSError: if the figure cannot be written.
  """
  check_figure(path, source, *([] if target is None else [target]))
  lr_blur = read_rgb(source)
  height, width = lr_blur.shape[:2]
  box = _centre(width, height) if crop is None else crop
  check_box(box, source, width, height)
  sharp = None if target is None else read_rgb(target)
  restorers = [(title or _title(file), Restorer.from_pretrained(file)) for title, file in weights]
  panels = make_panels(stem(os.fspath(source)), lr_blur, restorers, sharp, protocol)
  note = f'PSNR (dB) / SSIM of the whole image, protocol {protocol}' if target else ''
  write_figure(draw_panels(lr_blur, panels, box, note), path)


def _centre(width: int, height: int) -> Box:
  """Return the centre of an image: a quarter of each side, within limits."""
  w, h = (max(1, min(side // 4, _LARGEST)) for side in (width, height))
  return (width - w) // 2, (height - h) // 2, w, h


def _title(weights: str | os.PathLike) -> str:
  """Return the name of weights, or of the folder of the run that wrote them."""
  name = stem(os.fspath(weights))
  folder = os.path.basename(os.path.dirname(os.path.abspath(weights)))
  return folder if name == 'weights' else name


def make_panels(
  name: str,
  lr_blur: np.ndarray,
  restorers: Sequence[tuple[str, Restorer]],
  target: np.ndarray | None,
  protocol: str,
) -> list[Panel]:
  """Return the images of bicubic interpolation, of the networks, and the target.

  Args:
    name: name of the image, for error messages.
    lr_blur: the input, `[h, w, 3]` uint8.
    restorers: title and network of each method; at least one.
    target: the sharp image, or None.
    protocol: protocol of the scores.

  Raises:
    UserError: if the networks enlarge by different factors, or the target has another size.
  """
  scales = sorted({restorer.scale for _, restorer in restorers})
  if len(scales) > 1:
    raise UserError(f'the networks enlarge by {scales[0]} and {scales[-1]}; choose equal ones')
  [scale] = scales
  baseline = Panel('bicubic', bicubic(lr_blur, scale)) if scale > 1 else Panel('input', lr_blur)
  panels = [baseline]
  for title, restorer in restorers:
    restored = restorer(lr_blur)
    scores = None
    if target is not None:
      scores = score(name, lr_blur, restored, target, protocol)
      before = {key: scores[f'bicubic_{key}'] for key in ('psnr', 'ssim')}
      panels[0] = dataclasses.replace(baseline, scores=before)
    panels.append(Panel(title, restored, scores))
  return panels if target is None else [*panels, Panel('target', target)]


def draw_panels(lr_blur: np.ndarray, panels: Sequence[Panel], box: Box, note: str = '') -> 'Figure':
  """Return the figure: the input, then the panels in one row, or in two if there are over three.

  Args:
    lr_blur: the input, `[h, w, 3]` uint8.
    panels: panels from `make_panels`.
    box: the part of the input that is shown.
    note: a line below all.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  from matplotlib.patches import Rectangle
  from matplotlib.transforms import IdentityTransform

  scale = len(panels[0].image) // len(lr_blur)
  x, y, w, h = box
  rows = 1 if len(panels) <= 3 else 2
  columns = -(-len(panels) // rows)
  aspect = lr_blur.shape[1] / lr_blur.shape[0]
  unit = scale * (rows * h * aspect + columns * w)  # approximate width without enlargement
  zoom = max(1, round(_WIDTH / unit))
  dpi = round(zoom * unit / _PAGE)
  caption, gap = round(_CAPTION * dpi), round(_GAP * dpi)
  panel_width, panel_height = zoom * scale * w, zoom * scale * h
  input_height = rows * panel_height + (rows - 1) * (caption + gap)
  input_width = round(input_height * aspect)
  width = input_width + columns * (gap + panel_width)
  height = input_height + caption + (round(_NOTE * dpi) if note else 0)
  # A little more than whole pixels, which matplotlib rounds down.
  figure = Figure(((width + 0.1) / dpi, (height + 0.1) / dpi), dpi=dpi)
  FigureCanvasAgg(figure)

  def add(image: np.ndarray, left: int, top: int, *lines: str) -> None:
    bottom = height - top - len(image)
    figure.figimage(image, left, bottom)
    for number, line in enumerate(lines):
      x, y = left + image.shape[1] / 2, bottom - (_LINES[number] * dpi)
      figure.text(x / width, y / height, line, fontsize=7, ha='center', va='baseline')

  shown = resize(Image.fromarray(lr_blur), (input_width, input_height))
  add(np.asarray(shown), 0, 0, 'input', '{1} × {0} pixels'.format(*lr_blur.shape))
  factor = input_height / len(lr_blur)
  corner = factor * x, height - factor * (y + h)
  mark = Rectangle(corner, factor * w, factor * h, edgecolor='red', fill=False, linewidth=1)
  mark.set_transform(IdentityTransform())  # pixels of the figure
  figure.add_artist(mark)
  for number, panel in enumerate(panels):
    row, column = divmod(number, columns)
    part = panel.image[scale * y : scale * (y + h), scale * x : scale * (x + w)]
    scores = panel.scores
    text = f'{scores["psnr"]:.2f} / {scores["ssim"]:.4f}' if scores else ''
    left = input_width + gap + column * (panel_width + gap)
    top = row * (panel_height + caption + gap)
    add(part.repeat(zoom, axis=0).repeat(zoom, axis=1), left, top, panel.title, text)
  figure.text(0.5, 0.02 * dpi / height, note, fontsize=6, ha='center', va='bottom')
  return figure
