"""One image before and after restoration, as HTML with a slider between the two.

Reports and the page of `gfn-demo` are made of such articles. They need the style of `article.css`
and the script of `article.js`.
"""

import base64
import functools
import hashlib
import importlib.resources
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from gfn_jax.images.preview import fit, resize, save_jpeg, to_picture
from gfn_jax.system.files import printable

MAX_SIDE = 2048
"""Longest side of a stored picture. Larger ones are reduced."""

COLUMN = 1280
"""Width of the page's column. Pictures with a longer side are followed by a detail."""

DETAIL = (640, 480)
"""Width and height of the detail."""


class Embedded(NamedTuple):
  """Picture as part of a page.

  Attributes:
    width: its width in pixels.
    height: its height in pixels.
    uri: its content, as a URI of the scheme `data`.
  """

  width: int
  height: int
  uri: str


def embed(content: bytes, size: tuple[int, int], kind: str = 'image/jpeg') -> Embedded:
  """Return the picture of a file's content, with its width and height and its media type."""
  return Embedded(*size, f'data:{kind};base64,{base64.b64encode(content).decode()}')


def embed_jpeg(picture: Image.Image) -> Embedded:
  """Return a picture as a JPEG without visible loss."""
  buffer = io.BytesIO()
  save_jpeg(picture, buffer)
  return embed(buffer.getvalue(), picture.size)


def template(name: str) -> Any:
  """Return a template of this folder."""
  return _environment().get_template(name)


def resource(name: str) -> str:
  """Return the text of a file of this folder, such as 'article.css'."""
  return importlib.resources.files('gfn_jax.restoration').joinpath(name).read_text('utf-8')


def slider(pictures: Mapping[str, Embedded], name: str) -> str:
  """Return the HTML of a slider between two pictures of one shape.

  Args:
    pictures: the picture on the left and the one on the right, by their labels.
    name: name of the image.
  """
  return template('macros.html').module.stage(pictures, printable(name))


def render_article(
  name: str,
  arrays: Mapping[str, np.ndarray],
  *,
  anchor: str = '',
  metrics: Sequence[Any] = (),
  max_side: int = MAX_SIDE,
) -> str:
  """Return the HTML of an image: its sizes, its scores, a slider, and a detail if it is large.

  Args:
    name: name of the image.
    arrays: images by their labels: before restoration, restored and, if known, the true image. Each
      is `[h, w]` or `[h, w, C]`, C from 1 to 4, uint8, uint16 or float in [0, 1].
    anchor: id of the article; '' for none.
    metrics: scores of the image, see `report.html`.
    max_side: longest side of a picture.
  """
  before, restored, *_ = arrays
  pictures = {label: to_picture(array) for label, array in arrays.items()}
  full_size = pictures[restored].size
  shown_size = fit(full_size, max_side)
  shown = {label: resize(picture, shown_size) for label, picture in pictures.items()}
  box, detail = None, {}
  if max(full_size) > COLUMN:
    box = _detail_box(shown[before], shown[restored], full_size)
    left, top, right, bottom = box
    for label, picture in pictures.items():
      ratio = picture.width / full_size[0]
      part = ratio * left, ratio * top, ratio * right, ratio * bottom
      detail[label] = resize(picture, (right - left, bottom - top), part)
  return template('article.html').render(
    anchor=anchor,
    name=printable(name),
    before=before,
    metrics=metrics,
    sizes=[pictures[before].size, full_size, shown_size],
    pictures={label: embed_jpeg(picture) for label, picture in shown.items()},
    detail={label: embed_jpeg(picture) for label, picture in detail.items()},
    box=box,
  )


@functools.cache
def _environment() -> Any:
  import jinja2  # late: only pages need it

  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('gfn_jax.restoration', '.'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters['sha256'] = _sha256
  return environment


def _sha256(text: str) -> str:
  return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _detail_box(
  before: Image.Image, restored: Image.Image, full_size: tuple[int, int]
) -> tuple[int, int, int, int]:
  """Return the box of the full-size image in which the two shown pictures differ most.

  Args:
    before: the picture before restoration.
    restored: the restored picture, of the same size.
    full_size: width and height of the image.

  Returns:
    Left, top, right and bottom edge, in pixels.
  """
  grey_before, grey_restored = (np.asarray(image.convert('L')) for image in (before, restored))
  difference = np.abs(np.subtract(grey_before, grey_restored, dtype=np.float32))
  ratio = restored.width / full_size[0]
  width, height = (min(side, full) for side, full in zip(DETAIL, full_size, strict=True))
  window = max(1, round(ratio * height)), max(1, round(ratio * width))
  means = ndimage.uniform_filter(difference, window, mode='constant')
  # Only windows that lie within the picture; a window of n is centred on its element n // 2.
  inside = tuple(
    slice(n // 2, n // 2 + size - n + 1) for n, size in zip(window, means.shape, strict=True)
  )
  y, x = np.unravel_index(means[inside].argmax(), means[inside].shape)
  left = min(round(x / ratio), full_size[0] - width)
  top = min(round(y / ratio), full_size[1] - height)
  return left, top, left + width, top + height
