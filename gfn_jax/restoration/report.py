"""One HTML file that shows images before and after restoration, with their scores.

    with open_report('report.html', 'GFN on my photos', weights='gfn') as report:
      for name, photo in photos:
        report.add(name, photo, restorer(photo))

The file contains its pictures and loads nothing: it can be opened from disk, moved and sent.
"""

import contextlib
import dataclasses
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from typing import TextIO

import jax
import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.ops.protocols import PROTOCOLS
from gfn_jax.ops.scores import DIGITS
from gfn_jax.restoration.article import render_article, template
from gfn_jax.system.files import check_local, printable, write_aside

MAX_BYTES = 100_000_000
"""Size of a page after which images are only listed in its table: browsers open 100 MB quickly."""


def check_page(page: str | os.PathLike | None) -> None:
  """Raise if a report cannot be written to a path; None is always accepted.

  Raises:
    UserError: in a run of several processes, or for a bucket.
  """
  if page is None:
    return
  if jax.process_count() > 1:
    raise UserError('a report needs the images of all processes; use one process for it')
  check_local(page, 'a report')


@contextlib.contextmanager
def open_report(
  path: str | os.PathLike, title: str, *, weights: str, protocol: str | None = None
) -> Iterator['Report']:
  """Provide a report to add images to, and write its page at the end unless an error is raised.

  Until then the pictures are in a temporary file in the page's folder, not in memory.

  Args:
    path: the page; its folder is made if needed.
    title: heading of the page.
    weights: name of the network's weights.
    protocol: protocol of the scores, a key of `PROTOCOLS`; None for images without a target.

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
class _Metric:
  """A metric of an image before and after restoration.

  Attributes:
    key: a key of `DIGITS`.
    before: the value of bicubic interpolation, or of the input.
    restored: the value of the restored image.
  """

  key: str
  before: float
  restored: float

  @property
  def unit(self) -> str:
    return ' dB' if self.key == 'psnr' else ''

  @property
  def change(self) -> float:
    if self.restored == self.before:
      return 0.0  # both may be infinite
    return self.restored - self.before

  def text(self, value: float, sign: str = '') -> str:
    text = f'{value:{sign}.{DIGITS[self.key]}f}'
    return text.replace('-', '−').replace('inf', '∞')


@dataclasses.dataclass(frozen=True)
class _Row:
  """An image in the table; `anchor` is the id of its article, None if it is only listed."""

  name: str
  width: int
  height: int
  metrics: list[_Metric]
  anchor: str | None


class Report:
  """Images of one page. Use `open_report`."""

  def __init__(self, articles: TextIO, title: str, weights: str, protocol: str | None):
    self._articles = articles
    self._title = printable(title)
    self._weights = printable(weights)
    self._protocol = PROTOCOLS[protocol] if protocol else None
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
    """Add an image: a slider between bicubic and restored, and a row of the table.

    Images are `[h, w]` or `[h, w, C]`, with C from 1 (grey) to 4 (RGB and alpha), and uint8, uint16
    or float in [0, 1]. They are shown with 8 bits, on white where they are transparent.

    Args:
      name: name of the image on the page.
      lr_blur: the input. If it is as large as `restored`, the page compares with it, not bicubic.
      restored: the output.
      target: the true image, as large as `restored`, if the report has a protocol.
      scores: `psnr`, `ssim`, `bicubic_psnr` and `bicubic_ssim`, if the report has a protocol; and
        `lpips` and `bicubic_lpips`, for all images or none.

    Raises:
      ValueError: if target and scores do not fit the report, or the images each other.
      TypeError: for an array of another type.
    """
    if (target is None, scores is None) != (self._protocol is None,) * 2:
      raise ValueError('a target and scores belong to a report with a protocol, and only there')
    scores = scores or {}
    metrics = [
      _Metric(key, scores[f'bicubic_{key}'], scores[key]) for key in DIGITS if key in scores
    ]
    if self._rows and [m.key for m in metrics] != [m.key for m in self._rows[0].metrics]:
      raise ValueError(f'{name}: {sorted(scores)} are not the scores of the other images')
    if target is not None and target.shape[:2] != restored.shape[:2]:
      raise ValueError(f'{name}: target {target.shape} and restored {restored.shape}')
    if lr_blur.shape[:2] == restored.shape[:2]:
      self._before = 'Input'
    self._scale = restored.shape[0] // lr_blur.shape[0]
    anchor = None
    h, w = restored.shape[:2]
    if self._articles.tell() < MAX_BYTES:
      anchor = f'image-{len(self._rows) + 1}'
      pictures = {self._before: lr_blur, 'Restored': restored}
      if target is not None:
        pictures['Target'] = target
      # Written in one piece: an image that fails leaves nothing.
      self._articles.write(render_article(name, pictures, anchor=anchor, metrics=metrics))
    self._rows.append(_Row(printable(name), w, h, metrics, anchor))

  def write(self, page: TextIO) -> None:
    """Write the page."""
    means = [_mean(column) for column in zip(*(row.metrics for row in self._rows), strict=True)]
    size = self._articles.tell()
    self._articles.seek(0)
    text = template('report.html').generate(
      title=self._title,
      weights=self._weights,
      protocol=self._protocol,
      scale=self._scale,
      before=self._before,
      rows=self._rows,
      means=means,
      megabytes=size / 1e6,
      articles=iter(lambda: self._articles.read(1 << 20), ''),
    )
    page.writelines(text)


def _mean(metrics: tuple[_Metric, ...]) -> _Metric:
  before = statistics.fmean(metric.before for metric in metrics)
  return _Metric(metrics[0].key, before, statistics.fmean(metric.restored for metric in metrics))
