"""One HTML file that shows restored images beside what they were made from, with their scores.

    with open_report('report.html', 'GFN on my photos', weights='gfn') as report:
      for name, photo in photos:
        report.add(name, photo, restorer(photo))

The file holds its pictures and loads nothing: it can be opened from disk, moved and sent.
"""

import base64
import contextlib
import dataclasses
import hashlib
import html
import importlib.resources
import io
import os
import re
import shutil
import statistics
import string
import tempfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO, TextIO

import numpy as np
from PIL import Image
from scipy import ndimage

from gfn_jax.errors import UserError
from gfn_jax.ops import metrics
from gfn_jax.system.files import printable, write_aside

MAX_SIDE = 2048
"""Pictures with a longer side are stored reduced."""

COLUMN = 1280
"""Width of the page's column: pictures with a longer side have a detail beside them."""

DETAIL = (640, 480)
"""Width and height of the detail."""

MAX_BYTES = 100_000_000
"""Images that come when the page has this size are in its table only: browsers open 100 MB fast."""

DIGITS = {'psnr': 2, 'ssim': 4, 'lpips': 4}
"""The metrics, in their order, and the digits behind the point that are shown of them."""

_SSIM_IN_WORDS = {
  'ssim3d': 'SSIM is what MATLAB gives for an RGB array, which it takes for a grey volume',
  'ssim2d_valid': 'SSIM is the mean over the channels and the windows that lie within the image',
}


@contextlib.contextmanager
def open_report(
  path: str | os.PathLike, title: str, *, weights: str, protocol: str | None = None
) -> Iterator['Report']:
  """Gives a report to add images to, and writes its page at the end if all went well.

  The pictures wait in a file beside the page, not in memory.

  Args:
    path: of the page; its folder is made if needed.
    title: the page's heading.
    weights: what made the restored images, in words.
    protocol: of the scores, a key of `metrics.PROTOCOLS`; None for images without a target.

  Raises:
    UserError: if `path` is a folder.
    OSError: if the page cannot be written.
  """
  if os.path.isdir(path):
    raise UserError(f'{printable(path)} is a folder; pass a file such as report.html')
  folder = os.path.dirname(path) or '.'
  os.makedirs(folder, exist_ok=True)
  with tempfile.TemporaryFile('w+', dir=folder, encoding='utf-8', newline='\n') as articles:
    report = Report(articles, title, weights, protocol)
    yield report
    with (
      write_aside(path) as temporary,
      open(temporary, 'w', encoding='utf-8', newline='\n') as page,
    ):
      report.write(page)


@dataclasses.dataclass(frozen=True)
class _Row:
  """An image in the table; `anchor` leads to its pictures, if the page has them."""

  name: str
  width: int
  height: int
  scores: Mapping[str, float] | None
  anchor: str | None


class Report:
  """Images of one page; made by `open_report`."""

  def __init__(self, articles: TextIO, title: str, weights: str, protocol: str | None):
    self._articles = articles
    self._title = title
    self._weights = weights
    self._protocol = metrics.PROTOCOLS[protocol] if protocol else None
    self._rows: list[_Row] = []
    self._before = 'Bicubic'
    self._scale = 4

  def add(
    self,
    name: str,
    lr_blur: np.ndarray,
    restored: np.ndarray,
    target: np.ndarray | None = None,
    scores: Mapping[str, float] | None = None,
  ) -> None:
    """Adds an image: a slider between bicubic and restored, and a row of the table.

    Images are `[h, w]` or `[h, w, C]`, with C from 1 (grey) to 4 (RGB and alpha), and uint8, uint16
    or float in [0, 1]. They are shown with 8 bits, on white where they are transparent.

    Args:
      name: what the page calls it.
      lr_blur: the input. If it is as large as `restored`, it is shown itself, not enlarged.
      restored: the output.
      target: the true image, of the size of `restored`; if the report has a protocol.
      scores: `psnr`, `ssim`, `bicubic_psnr` and `bicubic_ssim`, if the report has a protocol; and
        `lpips` and `bicubic_lpips`, for all images or none.

    Raises:
      ValueError: if target and scores do not fit the report, or the images each other.
      TypeError: for an array of another type.
    """
    if (target is None, scores is None) != (self._protocol is None,) * 2:
      raise ValueError('a target and scores belong to a report with a protocol, and only there')
    if scores is not None and self._rows and scores.keys() != self._rows[0].scores.keys():
      raise ValueError(f'{name}: {sorted(scores)} are not the scores of the other images')
    if target is not None and target.shape[:2] != restored.shape[:2]:
      raise ValueError(f'{name}: target {target.shape} and restored {restored.shape}')
    if lr_blur.shape[:2] == restored.shape[:2]:
      self._before = 'Input'
    self._scale = restored.shape[0] // lr_blur.shape[0]
    number, anchor = len(self._rows) + 1, None
    h, w = restored.shape[:2]
    if self._articles.tell() < MAX_BYTES:
      anchor = f'image-{number}'
      pictures = {self._before: lr_blur, 'Restored': restored}
      if target is not None:
        pictures['Target'] = target
      # At once: an image that fails leaves no half of it.
      self._articles.write(self._article(anchor, name, pictures, scores))
    self._rows.append(_Row(name, w, h, scores, anchor))

  def write(self, page: TextIO) -> None:
    """Writes the page."""
    size = self._articles.tell()
    template = importlib.resources.files('gfn_jax').joinpath('report.html').read_text('utf-8')
    top, bottom = template.split('<!-- articles -->')
    values = {
      'style_hash': _sha256(template, 'style'),
      'script_hash': _sha256(template, 'script'),
      'title': _escape(self._title),
      'facts': self._facts(size),
      'summary': self._summary(),
      'table': self._table(),
      'chooser': self._chooser(),
    }
    page.write(string.Template(top).substitute(values))
    self._articles.seek(0)
    shutil.copyfileobj(self._articles, page)
    page.write(bottom)

  def _article(
    self,
    anchor: str,
    name: str,
    arrays: Mapping[str, np.ndarray],
    scores: Mapping[str, float] | None,
  ) -> str:
    pictures = {label: to_picture(array) for label, array in arrays.items()}
    full_size = pictures['Restored'].size
    shown_size = fit(full_size, MAX_SIDE)
    shown = {label: resize(picture, shown_size) for label, picture in pictures.items()}
    facts = f'{_size(pictures[self._before].size)} → {_size(full_size)}'
    if self._before == 'Input':
      facts = _size(full_size)
    if shown_size != full_size:
      facts += f', shown as {_size(shown_size)}'
    text = f'<article id="{anchor}">\n<header><h2>{_escape(name)}</h2><p>{facts}</p></header>\n'
    if scores is not None:
      text += f'<p class="scores">{_scores_in_words(scores, self._before)}</p>\n'
    text += _stage(shown, name)
    if max(full_size) > COLUMN:
      box = _detail_box(shown[self._before], shown['Restored'], full_size)
      size = box[2] - box[0], box[3] - box[1]
      detail = {}
      for label, picture in pictures.items():
        ratio = picture.width / full_size[0]
        detail[label] = resize(picture, size, [ratio * side for side in box])
      text += _stage(detail, f'detail of {name}') + (
        f'<p class="where">Detail at full size, where {self._before.lower()} and restored differ '
        f'most: {_size(size)} pixels, {box[0]} from the left and {box[1]} from the top</p>\n'
      )
    return text + '</article>\n'

  def _facts(self, size: int) -> str:
    count = len(self._rows)
    facts = [_count(count), f'weights {_escape(self._weights)}']
    facts.append(f'pictures of {size / 1e6:.1f} MB in this file')
    left_out = sum(row.anchor is None for row in self._rows)
    if left_out:
      facts.append(f'the last {_count(left_out)} in the table only, to keep it small')
    return ' · '.join(facts)

  def _summary(self) -> str:
    if self._protocol is None or not self._rows:
      return ''
    border = self._protocol.border(self._scale)
    cut = f'{border} pixels are cut on each side' if border else 'no border is cut'
    words = f'{cut}; PSNR is taken over all pixels and channels; '
    words += _SSIM_IN_WORDS[self._protocol.ssim]
    if 'lpips' in self._rows[0].scores:
      words += '; LPIPS (AlexNet, version 0.1) is taken over the whole image, and less is better'
    return (
      f'<p class="scores">Mean: {_scores_in_words(self._means(), self._before)}</p>\n'
      f'<p class="note">Protocol {self._protocol.name}, 8-bit RGB: {words}.</p>'
    )

  def _means(self) -> dict[str, float]:
    scores = [row.scores for row in self._rows]
    return {key: statistics.fmean(row[key] for row in scores) for key in scores[0]}

  def _table(self) -> str:
    headers = ['Image']
    if self._protocol is not None:
      for metric in _metrics(self._rows[0].scores) if self._rows else ('psnr', 'ssim'):
        change = 'change' if metric == 'lpips' else 'gain'  # less is better
        kinds = (self._before.lower(), 'restored', change)
        headers += [f'{metric.upper()} {kind}' for kind in kinds]
    headers.append('Size')
    head = ''.join(f'<th scope="col"><button>{header}</button></th>' for header in headers)
    rows = ''.join(f'<tr>{self._cells(row)}</tr>\n' for row in self._rows)
    foot = ''
    if self._protocol is not None and self._rows:
      foot = f'<tr><th scope="row">Mean</th>{_score_cells(self._means())}<td></td></tr>'
    return (
      f'<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n'
      f'<tfoot>{foot}</tfoot>\n</table>'
    )

  def _cells(self, row: _Row) -> str:
    name = _escape(row.name)
    if row.anchor is not None:
      name = f'<a href="#{row.anchor}">{name}</a>'
    scores = '' if row.scores is None else _score_cells(row.scores)
    size = _size((row.width, row.height))
    return (
      f'<th scope="row">{name}</th>{scores}<td data-value="{row.width * row.height}">{size}</td>'
    )

  def _chooser(self) -> str:
    """Which two of three pictures are compared."""
    if self._protocol is None:
      return ''
    selects = ''
    for side, chosen in (('Left', self._before), ('Right', 'Restored')):
      options = ''.join(
        f'<option{" selected" if label == chosen else ""}>{label}</option>'
        for label in (self._before, 'Restored', 'Target')
      )
      selects += f'<label>{side} <select name="{side.lower()}" autocomplete="off">{options}'
      selects += '</select></label> '
    return f'<div class="chooser">{selects}<a href="#table">Table</a></div>'


def to_picture(pixels: np.ndarray) -> Image.Image:
  """An image as a page shows it: 8-bit RGB, on white where it is transparent.

  Args:
    pixels: `[h, w]` or `[h, w, C]`, C from 1 to 4, uint8, uint16 or float in [0, 1].

  Raises:
    TypeError: for an array of another type.
  """
  if pixels.dtype == np.uint16:
    pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
  pixels = metrics.to_uint8(pixels)
  if pixels.shape[2:] == (1,):
    pixels = pixels[..., 0]
  picture = Image.fromarray(pixels)
  if picture.mode in ('LA', 'RGBA'):
    white = Image.new('RGBA', picture.size, 'white')
    picture = Image.alpha_composite(white, picture.convert('RGBA'))
  return picture.convert('RGB')


def fit(size: tuple[int, int], max_side: int) -> tuple[int, int]:
  """A width and height, reduced if needed so that the longer one is `max_side`."""
  factor = min(1.0, max_side / max(size))
  return max(1, round(factor * size[0])), max(1, round(factor * size[1]))


def resize(
  picture: Image.Image, size: tuple[int, int], box: list[float] | None = None
) -> Image.Image:
  """A picture, or a box `(left, top, right, bottom)` of it, at another size.

  With Pillow's bicubic. MATLAB's, which the scores are of, differs by a few of 255 at hard edges,
  and is much slower here.
  """
  return picture.resize(size, Image.Resampling.BICUBIC, box=box)


def _detail_box(
  before: Image.Image, restored: Image.Image, full_size: tuple[int, int]
) -> tuple[int, int, int, int]:
  """The window of the full-size image in which the two shown pictures differ most."""
  difference = np.abs(np.subtract(before.convert('L'), restored.convert('L'), dtype=np.float32))
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


def _stage(pictures: Mapping[str, Image.Image], name: str) -> str:
  """The slider: the first picture on the left, the second on the right, others hidden."""
  layers = ''
  for label, side in zip(pictures, ('left', 'right', 'off'), strict=False):
    picture = pictures[label]
    layers += (
      f'<div class="{side}" data-label="{label}"><img alt="{label}: {_escape(name)}" '
      f'width="{picture.width}" height="{picture.height}" loading="lazy" decoding="async" '
      f'src="{_data_uri(picture)}"><span>{label}</span></div>\n'
    )
  return (
    f'<div class="stage">\n{layers}<i aria-hidden="true"></i><input type="range" min="0" '
    f'max="100" step="any" value="50" autocomplete="off" '
    f'aria-label="Divider of {_escape(name)}"></div>\n'
  )


def save_jpeg(picture: Image.Image, file: str | os.PathLike | BinaryIO) -> None:
  """Writes a picture as a page shows it: small, and without loss that is seen."""
  picture.save(file, 'JPEG', quality=92, subsampling='4:4:4')


def _data_uri(picture: Image.Image) -> str:
  buffer = io.BytesIO()
  save_jpeg(picture, buffer)
  return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def _sha256(template: str, tag: str) -> str:
  """What a Content-Security-Policy allows: the hash of the one element of a kind."""
  [content] = re.findall(f'<{tag}>(.*?)</{tag}>', template, re.DOTALL)
  return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _escape(text: str) -> str:
  return html.escape(printable(text))


def _count(number: int) -> str:
  return f'{number} image' if number == 1 else f'{number} images'


def _size(size: tuple[int, int]) -> str:
  return f'{size[0]} × {size[1]}'


def _change(scores: Mapping[str, float], key: str) -> float:
  after, before = scores[key], scores[f'bicubic_{key}']
  return 0.0 if after == before else after - before  # both may be infinite


def _number(value: float, digits: int, sign: str = '') -> str:
  text = f'{value:{sign}.{digits}f}'
  return text.replace('-', '−').replace('inf', '∞')


def _metrics(scores: Mapping[str, float]) -> list[str]:
  return [key for key in DIGITS if key in scores]


def _scores_in_words(scores: Mapping[str, float], before: str) -> str:
  words = []
  for key in _metrics(scores):
    digits = DIGITS[key]
    unit = ' dB' if key == 'psnr' else ''
    words.append(
      f'{key.upper()} <b>{_number(scores[key], digits)}</b>{unit}, '
      f'{before.lower()} {_number(scores[f"bicubic_{key}"], digits)}{unit} '
      f'({_number(_change(scores, key), digits, "+")})'
    )
  return '; '.join(words)


def _score_cells(scores: Mapping[str, float]) -> str:
  cells = ''
  for key in _metrics(scores):
    change = _change(scores, key)
    for value, sign in ((scores[f'bicubic_{key}'], ''), (scores[key], ''), (change, '+')):
      exact = str(value).replace('inf', 'Infinity')
      cells += f'<td data-value="{exact}">{_number(value, DIGITS[key], sign)}</td>'
  return cells
