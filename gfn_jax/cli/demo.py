"""Serve a page, on this computer only, that restores photos.

gfn-demo                        # pip install 'gfn_jax[demo]'
"""

import html
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.errors import UserError
from gfn_jax.images import folders, preview, reading, writing
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system import compilation_cache
from gfn_jax.system.files import printable

if TYPE_CHECKING:
  import gradio

HOST = '127.0.0.1'
"""Address of the page. No other computer can open it."""

PREVIEW_SIDE = 4096
"""Longest side of the slider's images. The download is never reduced."""

KEEP_SECONDS = 3600
"""Age at which uploads and results are removed. All are removed when the command ends."""

MAX_UPLOAD_BYTES = 100_000_000
"""Smallest limit of an upload, in bytes. Images with too many pixels are refused when read."""

INTRODUCTION = """
# Sharper and 4 times larger

For photos that are blurred by motion, of up to {max_pixels:,} pixels. They stay on this computer.
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
    help='refuse larger photos; default: %(default)s',
  )
  with exit_on_user_error(), tempfile.TemporaryDirectory(prefix='gfn_demo_') as folder:
    args = parser.parse_args(argv)
    compilation_cache.enable()
    os.environ['GRADIO_TEMP_DIR'] = folder
    page = build_page(Restorer.from_pretrained(args.weights), args.max_pixels)
    launch(page, args.port, args.max_pixels)
    print(f'the page is at {page.local_url} (Ctrl-C to stop)', flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to clean up
    page.block_thread()


def build_page(restorer: Restorer, max_pixels: int) -> 'gradio.Blocks':
  """Return the page: an upload, a slider that compares before and after, and a download.

  Args:
    restorer: restores the photos, one at a time.
    max_pixels: largest number of pixels of a photo.

  Raises:
    UserError: if Gradio is missing, or `max_pixels` is not positive.
  """
  if max_pixels < 1:
    raise UserError(f'max_pixels {max_pixels}: pass 1 or more')
  gr = _import_gradio()

  def restore(
    path: str,
    progress: Any = gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
  ) -> tuple[tuple[str, str], str, Any]:
    start = time.perf_counter()
    progress(0, desc='Restoring')
    try:
      photo = reading.read_photo(path, max_pixels)
      restored = restorer(
        photo.pixels,
        progress=lambda done, total: progress((done, total), desc='Restoring', unit='tiles'),
      )
      progress(1, desc='Writing')
      folder = tempfile.mkdtemp(dir=slider.GRADIO_CACHE)
      target = os.path.join(folder, folders.stem(path) + '_restored.png')
      writing.write_photo(target, reading.Photo(restored, photo.metadata))
    except UserError as error:
      message = str(error).replace(printable(path), printable(os.path.basename(path)))
      raise gr.Error(_escape(message), duration=None, print_exception=False) from None
    previews = _write_previews(folder, photo.pixels, restored)
    facts = _facts(path, photo.pixels, restored, time.perf_counter() - start)
    return previews, facts, gr.DownloadButton(value=target, interactive=True)

  with gr.Blocks(
    title='gfn-demo', analytics_enabled=False, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)
  ) as page:
    gr.Markdown(INTRODUCTION.format(max_pixels=max_pixels))
    # A File, because Gradio decodes an Image before its size is checked.
    upload = gr.File(label='Photo', file_types=list(writing.EXTENSIONS), height=140)
    slider = gr.ImageSlider(
      label='Left: bicubic, right: restored',
      interactive=False,
      max_height=560,
      buttons=['fullscreen'],
    )
    with gr.Row(equal_height=True):
      with gr.Column(scale=3):
        facts = gr.HTML()
      download = gr.DownloadButton(
        'Download as PNG', variant='primary', interactive=False, min_width=240
      )
    restored = upload.upload(
      restore,
      upload,
      [slider, facts, download],
      show_progress_on=slider,
      concurrency_limit=1,
      trigger_mode='always_last',
      api_visibility='private',
    )
    # Clears the upload for the next photo. (`then` is not called after a failure.)
    for event in (restored.success, restored.failure):
      event(lambda: None, None, upload, queue=False, api_visibility='private')
  return page


def launch(page: 'gradio.Blocks', port: int, max_pixels: int) -> None:
  """Start serving a page from `build_page`, at `page.local_url`.

  Raises:
    UserError: if the port cannot be used.
  """
  gr = _import_gradio()
  # Gradio sends a request to its own server, which must not go through a proxy.
  proxies = os.environ.get('no_proxy') or os.environ.get('NO_PROXY')
  os.environ['no_proxy'] = f'{proxies},{HOST}' if proxies else HOST
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
      max_file_size=max(MAX_UPLOAD_BYTES, 16 * max_pixels),  # twice the bytes of 16-bit RGBA
      theme=gr.themes.Default(
        primary_hue='blue',
        font=('system-ui', 'sans-serif'),
        font_mono=('ui-monospace', 'monospace'),
      ),
    )
  except (OSError, OverflowError) as error:
    raise UserError(f'cannot use port {port}; pass another one with --port') from error


def _import_gradio() -> ModuleType:
  try:
    import gradio
  except ImportError as error:
    raise UserError("the demo needs Gradio: pip install 'gfn_jax[demo]'") from error
  return gradio


def _write_previews(folder: str, lr_blur: np.ndarray, restored: np.ndarray) -> tuple[str, str]:
  """Write the two images of the slider, as JPEG of a bounded size."""
  h, w = restored.shape[:2]
  size = preview.fit((w, h), PREVIEW_SIDE)
  paths = os.path.join(folder, 'bicubic.jpg'), os.path.join(folder, 'restored.jpg')
  for path, pixels in zip(paths, (lr_blur, restored), strict=True):
    preview.save_jpeg(preview.resize(preview.to_picture(pixels), size), path)
  return paths


def _escape(text: str) -> str:
  return html.escape(printable(text))


def _facts(path: str, lr_blur: np.ndarray, restored: np.ndarray, seconds: float) -> str:
  name = _escape(os.path.basename(path))
  sizes = ' → '.join(f'{image.shape[1]} × {image.shape[0]}' for image in (lr_blur, restored))
  reduced = '; the slider shows it reduced' if max(restored.shape) > PREVIEW_SIDE else ''
  return f'{name}: {sizes} pixels in {seconds:.1f} seconds{reduced}'


if __name__ == '__main__':
  main()
