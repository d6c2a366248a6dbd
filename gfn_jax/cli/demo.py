"""Serve a page, on this computer only, that restores photos.

gfn-demo                        # pip install 'gfn_jax[demo]'
"""

import concurrent.futures
import contextlib
import dataclasses
import html
import math
import os
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.errors import UserError, install_extra
from gfn_jax.images import animations, folders, preview, reading, writing
from gfn_jax.images.reading import Photo
from gfn_jax.restoration.article import embed, embed_jpeg, render_article, resource, slider
from gfn_jax.restoration.dtypes import describe, faster_dtype
from gfn_jax.restoration.queue import Queue, Stopped, Work
from gfn_jax.restoration.restorer import OUTPUTS, Restorer
from gfn_jax.system import compilation_cache
from gfn_jax.system.console import print_message
from gfn_jax.system.files import printable
from gfn_jax.weights.pretrained import load_pretrained

if TYPE_CHECKING:
  import gradio

HOST = '127.0.0.1'
"""Address of the page. No other computer can open it."""

SAME_SIZE = 16
"""Photos that keep their size may have this many times `--max_pixels`: as many as a result."""

MOST_PIXELS = 200_000_000
"""Pixels of the largest photo that is read, to bound the memory."""

MAX_UPLOAD_BYTES = 400_000_000
"""Limit of an upload, in bytes."""

KEEP_SECONDS = 3600
"""Age at which uploads and results are removed. All are removed when the command ends."""

POLL_SECONDS = 0.4
"""Time between two looks at a running restoration."""

SHOWN_SIDE, SHOWN_SIDES = 2048, 1024
"""Longest side of the page's pictures of one photo, and of several. Downloads are not reduced."""

SHOWN_CHARACTERS = 30_000_000
"""Size of a page's pictures after which further photos are only in the download."""

SAMPLE = os.path.join(os.path.dirname(__file__), 'sample.png')
"""Chelsea, a photograph by Stéfan van der Walt (CC0, from scikit-image), with synthetic blur."""

INTRODUCTION = """
# Sharper photos

For photos that are blurred by motion. They stay on this computer.
"""

FRAMES = """
Seven moments of the time in which the shutter was open, estimated from the blur, as an animation.
A blur does not show the direction of time, so the animation runs forth and back.
"""

# The accent and the quiet text are darker than Gradio's, whose contrast is below 4.5:1.
STYLE = """
.gradio-container { --color-accent: #1d4ed8; --accent: var(--color-accent); --quiet: #59636e; }
.dark .gradio-container, .dark.gradio-container { --color-accent: #82b6ff; --quiet: #98a2ad; }
article:first-child { margin-top: 0; }
article h2 { margin: 0; font-size: 1.125rem; overflow-wrap: anywhere; }
article p, .state { margin: 0; overflow-wrap: anywhere; }
.state.alert { margin-bottom: .5rem; padding: .5rem .75rem; border-left: 4px solid #d32f2f; }
.state progress {
  display: block; width: 100%; height: .5rem; margin-bottom: .375rem; appearance: none;
  border: 0; border-radius: 4px; overflow: hidden; background: var(--border-color-primary);
}
.state progress::-webkit-progress-bar { background: var(--border-color-primary); }
.state progress::-webkit-progress-value { background: var(--accent); }
.state progress::-moz-progress-bar { background: var(--accent); }
"""


def main(argv: Sequence[str] | None = None) -> None:
  """Run the command `gfn-demo`: serve the page until Ctrl-C."""
  parser = ArgumentParser('gfn-demo', __doc__)
  add = parser.add_argument
  add('--weights', default='gfn', help='a .safetensors file or a name; default: %(default)s')
  add('--port', type=int, default=7860, metavar='N', help='port of the page; default: %(default)s')
  add(
    '--max_pixels',
    type=int,
    default=2_000_000,
    metavar='N',
    help=f'reduce or crop larger photos; photos that keep their size may be {SAME_SIZE} times as '
    'large; default: %(default)s',
  )
  with exit_on_user_error(), tempfile.TemporaryDirectory(prefix='gfn_demo_') as folder:
    args = parser.parse_args(argv)
    compilation_cache.enable()
    os.environ['GRADIO_TEMP_DIR'] = folder
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # to clean up
    with contextlib.closing(Queue()) as queue:
      _import_gradio()  # which is missing more often than the weights
      page = build_page(load_restorers(args.weights), queue, args.max_pixels)
      launch(page, args.port)
      print(f'the page is at {page.local_url} (Ctrl-C to stop)', flush=True)
      try:
        while page.is_running:
          time.sleep(0.1)
      finally:
        page.close(verbose=False)


def load_restorers(weights: str) -> dict[str, Restorer]:
  """Return restorers by their outputs: those that the network has, and frames, by BMDSRNet if not.

  Raises:
    UserError: if the weights cannot be read.
  """
  model, variables = load_pretrained(weights)
  faster = faster_dtype(weights)
  restorers = {}
  for output in OUTPUTS:
    with contextlib.suppress(UserError):  # the network has no such output
      restorers[output] = Restorer(model, variables, output=output, dtype_8bit=faster)
  print_message(describe(next(iter(restorers.values()))))
  if 'frames' not in restorers:
    restorers['frames'] = Restorer.from_pretrained(
      'bmdsrnet', output='frames', dtype_8bit=faster_dtype('bmdsrnet')
    )
  return restorers


def build_page(restorers: Mapping[str, Restorer], queue: Queue, max_pixels: int) -> 'gradio.Blocks':
  """Return the page: tabs for one photo, for several, and for what moved during the exposure.

  Args:
    restorers: the networks by their outputs, as `load_restorers` returns them.
    queue: restores the photos, one at a time.
    max_pixels: largest number of pixels of a photo; for photos that keep their size, `SAME_SIZE`
      times as many.

  Raises:
    UserError: if Gradio is missing, or `max_pixels` is not positive.
  """
  if max_pixels < 1:
    raise UserError(f'max_pixels {max_pixels}: pass 1 or more')
  gr = _import_gradio()
  desk = _Desk(restorers, queue, max_pixels)
  with gr.Blocks(
    title='gfn-demo', analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)
  ) as page:
    gr.Markdown(INTRODUCTION)
    with gr.Tab('Photo'):
      _add_controls(gr, desk, ('hr', 'lr'))
    with gr.Tab('Several photos'):
      _add_controls(gr, desk, ('hr', 'lr'), several=True)
    with gr.Tab('Frames'):
      gr.Markdown(FRAMES)
      _add_controls(gr, desk, ('frames',))
  return page


def launch(page: 'gradio.Blocks', port: int) -> None:
  """Start serving a page from `build_page`, at `page.local_url`.

  Raises:
    UserError: if the port cannot be used.
  """
  gr = _import_gradio()
  # Gradio sends a request to its own server, which must not go through a proxy.
  proxies = os.environ.get('no_proxy') or os.environ.get('NO_PROXY')
  os.environ['no_proxy'] = f'{proxies},{HOST}' if proxies else HOST
  theme = gr.themes.Default(
    primary_hue='blue',
    font=('system-ui', 'sans-serif'),
    font_mono=('ui-monospace', 'monospace'),
  ).set(  # white text needs a darker blue than Gradio's
    button_primary_background_fill='*primary_700',
    button_primary_background_fill_dark='*primary_700',
    button_primary_background_fill_hover='*primary_800',
    button_primary_background_fill_hover_dark='*primary_800',
  )
  try:
    page.launch(
      server_name=HOST,
      server_port=port,
      prevent_thread_lock=True,
      share=False,
      quiet=True,
      ssr_mode=False,
      run_history=False,
      enable_monitoring=False,
      footer_links=[],
      max_file_size=MAX_UPLOAD_BYTES,
      allowed_paths=[SAMPLE],
      theme=theme,
      head=f'<style>{resource("article.css")}{STYLE}</style><script>{resource("article.js")}</script>',
    )
  except (OSError, OverflowError) as error:
    raise UserError(f'cannot use port {port}; pass another one with --port') from error


def _import_gradio() -> ModuleType:
  try:
    import gradio
  except ImportError as error:
    raise UserError(f'the demo needs Gradio: {install_extra("demo")}') from error
  return gradio


class _End(NamedTuple):
  """Results as the page shows them.

  Attributes:
    state: HTML of what was done.
    articles: HTML of the photos.
    file: path of the download; '' for none.
  """

  state: str = ''
  articles: str = ''
  file: str = ''


def _add_controls(
  gr: ModuleType, desk: '_Desk', outputs: Sequence[str], several: bool = False
) -> None:
  """Add an upload, choices, buttons and the place of the result to a tab."""
  sizes = [(desk.size(output), output) for output in outputs if output in desk.restorers]
  limit = f'Photos above {_megapixels(desk.limit(sizes[0][1]))}'
  if len(sizes) > 1:
    limit += f', or {_megapixels(desk.limit("lr"))} if the size is kept'
  # A File, because Gradio decodes an Image before its size is checked.
  upload = gr.File(
    label='Photos' if several else 'Photo',
    file_count='multiple' if several else 'single',
    height=140,
  )
  with gr.Row():
    size = gr.Radio(
      sizes,
      value=sizes[0][1],
      label='Size of the result',
      min_width=280,
      visible=len(sizes) > 1,
    )
    crop = gr.Radio(
      [('Reduce to fit', False), ('Cut out the middle', True)],
      value=False,
      label=limit,
      min_width=280,
    )
  with gr.Row():
    start = gr.Button('Restore', variant='primary')
    sample = gr.Button('Take the sample photo', visible=not several)
    stop = gr.Button('Stop', visible=False)
  state, view = (gr.HTML(apply_default_css=False) for _ in range(2))
  download = gr.DownloadButton(variant='primary', visible=False)

  def show(end: _End, running: bool = False) -> tuple[Any, ...]:
    kind = os.path.splitext(end.file)[1][1:].upper()
    return (
      end.state,
      end.articles,
      gr.DownloadButton(f'Download as {kind}', value=end.file or None, visible=bool(end.file)),
      gr.Button(interactive=not running),
      gr.Button(visible=running),
    )

  def restore(upload: str | list[str] | None, output: str, crop: bool) -> Iterator[tuple[Any, ...]]:
    yield show(_End(), running=True)  # clears what an earlier photo left
    paths = [upload] if isinstance(upload, str) else upload or []
    folder = tempfile.mkdtemp(dir=view.GRADIO_CACHE)
    try:
      with contextlib.closing(desk.restore(paths, output, crop, folder)) as steps:
        for step in steps:
          yield show(step) if isinstance(step, _End) else (step, *[gr.skip()] * 4)
    except Exception:  # the page must not stay as if it was at work
      traceback.print_exc()
      yield show(_End(_alert(['the program failed; its terminal has the reason'])))

  results = [state, view, download, start, stop]
  options: dict[str, Any] = {'show_progress': 'hidden', 'api_visibility': 'private'}
  run = start.click(restore, [upload, size, crop], results, concurrency_limit=None, **options)
  options['queue'] = False
  stop.click(lambda: show(_End(_paragraph('Stopped.'))), None, results, cancels=run, **options)
  sample.click(lambda: SAMPLE, None, upload, **options)


class _Restored(NamedTuple):
  """A restored photo: its file, the HTML of its slider, and a line about it."""

  file: str
  article: str
  facts: str


@dataclasses.dataclass(frozen=True)
class _Desk:
  """Restores uploads in a queue that all users share.

  Attributes:
    restorers: see `build_page`.
    queue: see `build_page`.
    max_pixels: see `build_page`.
  """

  restorers: Mapping[str, Restorer]
  queue: Queue
  max_pixels: int

  def size(self, output: str) -> str:
    """Return the name of a result's size."""
    if output == 'hr':
      return f'{self.restorers[output].scale} times larger'
    return 'Same size (sharpen only)'

  def limit(self, output: str) -> int:
    """Return the largest number of pixels of a photo."""
    return self.max_pixels * (SAME_SIZE if output == 'lr' else 1)

  def restore(
    self, paths: Sequence[str], output: str, crop: bool, folder: str
  ) -> Generator[str | _End, None, None]:
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
    yield _end(done, failures, folder)

  def _read(self, path: str, output: str, crop: bool) -> tuple[Photo, str]:
    """Return a photo within the limit, and a sentence if it was reduced or cropped."""
    width, height = reading.size_of(path, max_pixels=None)
    if width * height > MOST_PIXELS:
      raise UserError(
        f'{printable(path)}: {width} × {height} pixels are more than {_megapixels(MOST_PIXELS)}; '
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


def _end(done: Sequence[_Restored], failures: Sequence[str], folder: str) -> _End:
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
  state = (_alert(failures) if failures else '') + ''.join(map(_paragraph, facts))
  return _End(state, ''.join(articles), file)


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


def _megapixels(pixels: int) -> str:
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


def _paragraph(text: str) -> str:
  return f'<p class="state" role="status">{html.escape(text)}</p>'


def _alert(lines: Sequence[str]) -> str:
  text = '<br>'.join(map(html.escape, lines))
  return f'<p class="state alert" role="alert">{text}</p>'


if __name__ == '__main__':
  main()
