"""Restoration of photos that are uploaded to the page of `gfn-demo`; its states are HTML."""

import concurrent.futures
import dataclasses
import html
import math
import os
import time
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.images import animations, folders, preview, reading, writing
from gfn_jax.images.reading import Photo
from gfn_jax.restoration.article import embed, embed_jpeg, render_article, slider
from gfn_jax.restoration.queue import Queue, Stopped, Work
from gfn_jax.restoration.restorer import KNOWN_BLUR, Restorer
from gfn_jax.system.files import printable

LONG_BLUR = 'long_blur'
"""Key of the restorer of photos whose blur is longer than the network knows."""

SAME_SIZE = 16
"""Photos that keep their size may have this many times `--max_pixels`: as many as a result."""

MOST_PIXELS = 200_000_000
"""Pixels of the largest photo that is read, to bound the memory."""

POLL_SECONDS = 0.4
"""Time between two looks at a running restoration."""

SHOWN_SIDE, SHOWN_SIDES = 2048, 1024
"""Longest side of the page's pictures of one photo, and of several. Downloads are not reduced."""

SHOWN_CHARACTERS = 30_000_000
"""Size of a page's pictures after which further photos are only in the download."""


class Results(NamedTuple):
  """Results as the page shows them.

  Attributes:
    state: HTML of what was done.
    articles: HTML of the photos.
    file: path of the download; '' for none.
  """

  state: str = ''
  articles: str = ''
  file: str = ''


class _Restored(NamedTuple):
  """A restored photo: its file, the HTML of its slider, and a line about it."""

  file: str
  article: str
  facts: str


@dataclasses.dataclass(frozen=True)
class UploadRestorer:
  """Restores uploads in a queue that all users share.

  Attributes:
    restorers: see `demo.build_page`.
    queue: see `demo.build_page`.
    max_pixels: see `demo.build_page`.
  """

  restorers: Mapping[str, Restorer]
  queue: Queue
  max_pixels: int

  def size(self, output: str) -> str:
    """Return the name of a result's size."""
    if output == 'hr':
      return f'{self.restorers[output].scale} times larger'
    if output == LONG_BLUR:
      return f'Same size, for blur of more than {KNOWN_BLUR} pixels'
    return 'Same size (sharpen only)'

  def limit(self, output: str) -> int:
    """Return the largest number of pixels of a photo."""
    return self.max_pixels * (SAME_SIZE if output in ('lr', LONG_BLUR) else 1)

  def restore(
    self, paths: Sequence[str], output: str, crop: bool, folder: str
  ) -> Generator[str | Results, None, None]:
    """Restore photos one after the other. Those that fail are named at the end.

    Args:
      paths: the photos.
      output: a key of `restorers`.
      crop: True to cut out the middle of a photo above the limit, False to reduce it.
      folder: empty folder for the results.

    Yields:
      HTML of the present state, and at last the results.
    """
    done: list[_Restored] = []
    failures = [] if paths else ['choose a photo first']
    for i, path in enumerate(paths):
      name = printable(os.path.basename(path))
      label = f'{i + 1} of {len(paths)}, {name}' if len(paths) > 1 else name
      side = SHOWN_SIDES if len(paths) > 1 else SHOWN_SIDE
      try:
        yield _progress(f'{label}: reading')
        photo, note = self._read(path, output, crop)
        start = time.perf_counter()
        restored = yield from self._compute(photo.pixels, output, label, paths[i + 1 :])
        yield _progress(f'{label}: writing')
        file, article = _write(folder, name, photo, restored, side)
        seconds = time.perf_counter() - start
        done.append(_Restored(file, article, _facts(name, photo, restored, seconds) + note))
      except (Stopped, concurrent.futures.CancelledError):
        return
      except (UserError, OSError, MemoryError) as error:
        failures.append(_reason(error, path, name))
    yield _collect(done, failures, folder)

  def _read(self, path: str, output: str, crop: bool) -> tuple[Photo, str]:
    """Return a photo within the limit, and a sentence if it was reduced or cropped."""
    width, height = reading.size_of(path, max_pixels=None)
    if width * height > MOST_PIXELS:
      raise UserError(
        f'{printable(path)}: {width} × {height} pixels are more than {megapixels(MOST_PIXELS)}; '
        'reduce it first'
      )
    photo = reading.read_photo(path, max_pixels=None)
    factor = math.sqrt(width * height / self.limit(output))
    if factor <= 1:
      return photo, ''
    w, h = (max(1, int(side / factor)) for side in (width, height))
    if crop:
      top, left = (height - h) // 2, (width - w) // 2
      pixels = photo.pixels[top : top + h, left : left + w]
      note = f' These are the middle {w} × {h} of its {width} × {height} pixels.'
    else:
      pixels = preview.shrink(photo.pixels, (w, h))
      note = f' It was reduced first, by a factor of {factor:.2f}, from {width} × {height} pixels.'
    return dataclasses.replace(photo, pixels=pixels), note

  def _compute(
    self, pixels: np.ndarray, output: str, label: str, later: Sequence[str]
  ) -> Generator[str, None, np.ndarray]:
    """Yield HTML of the state until an image is restored, and return the result."""
    restorer = self.restorers[output]
    others = [_count_pixels(path, self.limit(output)) for path in later]
    work = self.queue.submit(restorer, pixels)
    try:
      while not work.wait(POLL_SECONDS):
        before = self.queue.before(work)
        if work.elapsed() is None and before:
          yield _progress(f'{label}: {_waiting(before)}')
          continue
        left = work.left()
        text = f'{label}: {_working(work, left)}'
        estimates = [self.queue.estimate(restorer, count) or 0 for count in others]
        if left and others:
          text += f'; {_duration(left + sum(estimates))} for all'
        yield _progress(text, work.fraction())
      return work.future.result()
    finally:
      work.stop()


def _write(
  folder: str, name: str, photo: Photo, restored: np.ndarray, side: int
) -> tuple[str, str]:
  """Write a result, and return its path and the HTML of its slider."""
  frames = restored.ndim == 4
  extension = '.png'
  if frames:  # GIF has no partial transparency
    extension = '.webp' if restored.shape[-1] in (2, 4) else '.gif'
  stem = os.path.join(folder, folders.stem(name) + '_restored')
  path = next(p for p in _numbered(stem, extension) if not os.path.exists(p))
  if frames:
    animations.write_animation(path, restored, photo.metadata)
    return path, _animated_article(folder, name, photo.pixels, restored, min(side, SHOWN_SIDES))
  writing.write_photo(path, dataclasses.replace(photo, pixels=restored))
  before = 'Input' if restored.shape == photo.pixels.shape else 'Bicubic'
  arrays = {before: photo.pixels, 'Restored': restored}
  return path, render_article(name, arrays, max_side=side)


def _numbered(stem: str, extension: str) -> Iterator[str]:
  """Yield paths for results of one name, without end."""
  yield stem + extension
  number = 1
  while number := number + 1:
    yield f'{stem}_{number}{extension}'


def _animated_article(
  folder: str, name: str, pixels: np.ndarray, frames: np.ndarray, side: int
) -> str:
  """Return the HTML of a slider between a photo and its frames."""
  height, width = pixels.shape[:2]
  size = preview.fit((width, height), side)
  pictures = [preview.resize(preview.to_picture(image), size) for image in (pixels, *frames)]
  path = os.path.join(folder, 'shown.webp')
  animations.write_animation(path, np.stack([np.asarray(picture) for picture in pictures[1:]]))
  with open(path, 'rb') as file:
    animation = embed(file.read(), size, 'image/webp')
  os.remove(path)
  text = slider({'Photo': embed_jpeg(pictures[0]), 'Frames': animation}, name)
  return f'<article>{text}</article>'


def _collect(done: Sequence[_Restored], failures: Sequence[str], folder: str) -> Results:
  """Return the results of photos; several become one ZIP file."""
  articles: list[str] = []
  for one in done:
    if sum(map(len, articles)) < SHOWN_CHARACTERS:
      articles.append(one.article)
  facts = [one.facts for one in done]
  if len(articles) < len(done):
    facts.append(f'The last {len(done) - len(articles)} are only in the download.')
  file = done[0].file if done else ''
  if len(done) > 1:
    file = os.path.join(folder, 'restored.zip')
    with zipfile.ZipFile(file, 'w') as archive:  # images are compressed already
      for one in done:
        archive.write(one.file, os.path.basename(one.file))
  state = (alert(failures) if failures else '') + ''.join(map(paragraph, facts))
  return Results(state, ''.join(articles), file)


def _reason(error: UserError | OSError | MemoryError, path: str, name: str) -> str:
  """Return what is wrong, with the name of a photo instead of its path."""
  if isinstance(error, UserError):
    return str(error).replace(printable(path), name)
  if isinstance(error, MemoryError):
    return f'{name}: out of memory'
  return f'{name}: {error.strerror or error}'


def _count_pixels(path: str, limit: int) -> int:
  """Return the pixels of a photo after it is reduced; 0 if it cannot be read."""
  try:
    return min(limit, math.prod(reading.size_of(path, max_pixels=None)))
  except (UserError, OSError):
    return 0


def _waiting(before: Sequence[Work]) -> str:
  seconds = [work.left() for work in before]
  text = f'waiting for {len(before)} other photo{"s" if len(before) > 1 else ""}'
  known = [second for second in seconds if second is not None]
  return text if len(known) < len(seconds) else f'{text}, {_duration(sum(known))}'


def _working(work: Work, left: float | None) -> str:
  if left is None:
    return 'measuring the speed of this computer'
  tiles = f', {work.done} of {work.total} tiles are done' if work.total > 1 else ''
  if left:
    return f'{_duration(left)} left{tiles}'
  # Before the first tile is done, the network may be compiled for its size.
  return f'it takes longer than estimated, {work.elapsed() or 0:.0f} s so far{tiles}'


def _duration(seconds: float) -> str:
  if seconds < 10:
    return f'about {max(1, round(seconds))} s'
  if seconds < 120:
    return f'about {5 * round(seconds / 5)} s'
  return f'about {round(seconds / 60)} minutes'


def megapixels(pixels: int) -> str:
  """Return a number of pixels in words."""
  return f'{pixels / 1e6:.3g} megapixels'


def _facts(name: str, photo: Photo, restored: np.ndarray, seconds: float) -> str:
  sizes = [f'{w} × {h}' for h, w in (photo.pixels.shape[:2], restored.shape[-3:-1])]
  count = f'{len(restored)} frames of ' if restored.ndim == 4 else ''
  return f'{name}: {sizes[0]} → {count}{sizes[1]} pixels in {seconds:.1f} seconds.'


def _progress(text: str, fraction: float | None = None) -> str:
  """Return the HTML of a text, with a bar above it if the part that is done is known."""
  bar = ''
  if fraction is not None:
    bar = f'<progress aria-label="Progress" value="{fraction:.3f}"></progress>'
  return f'<p class="state">{bar}{html.escape(text)}</p>'


def paragraph(text: str) -> str:
  """Return the HTML of a sentence that screen readers announce."""
  return f'<p class="state" role="status">{html.escape(text)}</p>'


def alert(lines: Sequence[str]) -> str:
  """Return the HTML of errors, a line each."""
  text = '<br>'.join(map(html.escape, lines))
  return f'<p class="state alert" role="alert">{text}</p>'
