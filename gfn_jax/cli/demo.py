"""Serve a page, on this computer only, that restores photos.

gfn-demo                        # pip install 'gfn_jax[demo]'
"""

import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.cli.uploads import (
  LONG_BLUR,
  SAME_SIZE,
  Results,
  UploadRestorer,
  alert,
  megapixels,
  paragraph,
)
from gfn_jax.errors import UserError, install_extra
from gfn_jax.restoration.article import resource
from gfn_jax.restoration.dtypes import describe, faster_dtype
from gfn_jax.restoration.predictor import OUTPUTS
from gfn_jax.restoration.queue import Queue
from gfn_jax.restoration.restorer import KNOWN_BLUR, Restorer
from gfn_jax.system import compilation_cache
from gfn_jax.system.console import print_message
from gfn_jax.weights.pretrained import load_pretrained

if TYPE_CHECKING:
  import gradio

HOST = '127.0.0.1'
"""Address of the page. No other computer can open it."""

MAX_UPLOAD_BYTES = 400_000_000
"""Limit of an upload, in bytes."""

KEEP_SECONDS = 3600
"""Age at which uploads and results are removed. All are removed when the command ends."""

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
  """Return restorers by their outputs, with one for long blur; frames are BMDSRNet's if need be.

  Raises:
    UserError: if the weights cannot be read.
  """
  model, variables = load_pretrained(weights)
  faster = faster_dtype(weights)
  restorers = {}
  for output in OUTPUTS:
    with contextlib.suppress(UserError):  # the network has no such output
      restorers[output] = Restorer(model, variables, output=output, dtype_8bit=faster)
  if 'hr' in restorers:
    restorers[LONG_BLUR] = Restorer(model, variables, blur=2.5 * KNOWN_BLUR, dtype_8bit=faster)
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
  uploads = UploadRestorer(restorers, queue, max_pixels)
  with gr.Blocks(
    title='gfn-demo', analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)
  ) as page:
    gr.Markdown(INTRODUCTION)
    with gr.Tab('Photo'):
      _add_controls(gr, uploads, ('hr', 'lr', LONG_BLUR))
    with gr.Tab('Several photos'):
      _add_controls(gr, uploads, ('hr', 'lr', LONG_BLUR), several=True)
    with gr.Tab('Frames'):
      gr.Markdown(FRAMES)
      _add_controls(gr, uploads, ('frames',))
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


def _add_controls(
  gr: ModuleType, uploads: UploadRestorer, outputs: Sequence[str], several: bool = False
) -> None:
  """Add an upload, choices, buttons and the place of the result to a tab."""
  sizes = [(uploads.size(output), output) for output in outputs if output in uploads.restorers]
  limit = f'Photos above {megapixels(uploads.limit(sizes[0][1]))}'
  if len(sizes) > 1:
    limit += f', or {megapixels(uploads.limit("lr"))} if the size is kept'
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

  def show(end: Results, running: bool = False) -> tuple[Any, ...]:
    kind = os.path.splitext(end.file)[1][1:].upper()
    return (
      end.state,
      end.articles,
      gr.DownloadButton(f'Download as {kind}', value=end.file or None, visible=bool(end.file)),
      gr.Button(interactive=not running),
      gr.Button(visible=running),
    )

  def restore(upload: str | list[str] | None, output: str, crop: bool) -> Iterator[tuple[Any, ...]]:
    yield show(Results(), running=True)  # clears what an earlier photo left
    paths = [upload] if isinstance(upload, str) else upload or []
    folder = tempfile.mkdtemp(dir=view.GRADIO_CACHE)
    try:
      with contextlib.closing(uploads.restore(paths, output, crop, folder)) as steps:
        for step in steps:
          yield show(step) if isinstance(step, Results) else (step, *[gr.skip()] * 4)
    except Exception:  # the page must not stay as if it was at work
      traceback.print_exc()
      yield show(Results(alert(['the program failed; its terminal has the reason'])))

  results = [state, view, download, start, stop]
  options: dict[str, Any] = {'show_progress': 'hidden', 'api_visibility': 'private'}
  run = start.click(restore, [upload, size, crop], results, concurrency_limit=None, **options)
  options['queue'] = False
  stop.click(lambda: show(Results(paragraph('Stopped.'))), None, results, cancels=run, **options)
  sample.click(lambda: SAMPLE, None, upload, **options)


if __name__ == '__main__':
  main()
