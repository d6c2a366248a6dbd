"""The demo in a process of its own, as users run it, and in a browser."""

import contextlib
import io
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import types
import urllib.request
import zipfile

import jax
import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import UserError
from gfn_jax.cli import demo, uploads
from gfn_jax.data.blur_options import MotionBlur
from gfn_jax.data.motion_blur import synthesize
from gfn_jax.ops.scores import bicubic
from gfn_jax.restoration.queue import Queue
from tests.browser import contrast, open_browser, pixels, requests, resize
from tests.ports import free_port

SECONDS = 60
MAX_PIXELS = 40_000


class FakeRestorer:
  """Restores a photo in a way that is simple to check, while there is no file `wait`.

  A pixel takes `pace` seconds, as it says itself.
  """

  def __init__(self, output, folder=None, pace=0.0):
    self.output, self.scale = output, 4 if output == 'hr' else 1
    self.folder, self.pace = folder and pathlib.Path(folder), pace

  def time_forward(self, image):
    return self.pace * image.shape[0] * image.shape[1]

  def __call__(self, image, progress=None):
    self._log('start ')
    progress(1, 2)
    while self.folder and (self.folder / 'wait').exists():
      time.sleep(0.02)
    progress(1, 2)  # raises if the work was stopped
    self._log('end ')
    if self.output == 'frames':
      return np.stack([np.roll(image, i, axis=1) for i in range(7)])
    return enlarge(image) if self.output == 'hr' else image[::-1]

  def _log(self, text):
    if self.folder:
      with open(self.folder / 'calls', 'a') as file:
        file.write(text)


def enlarge(image):
  return image.repeat(4, axis=0).repeat(4, axis=1)


def fakes(folder=None, pace=0.0):
  return {output: FakeRestorer(output, folder, pace) for output in ('hr', 'lr', 'frames')}


class Server:
  """The command in another process."""

  def __init__(self, folder, port):
    self.folder, self.port = folder, port
    self.url = f'http://127.0.0.1:{port}/'
    # The proxy is not there, and a public address must not be asked for.
    changes = {'http_proxy': 'http://127.0.0.1:9', 'no_proxy': '', 'GRADIO_SHARE': 'True'}
    self.process = subprocess.Popen(
      [sys.executable, '-m', 'tests.cli.test_demo', f'--port={port}', f'--max_pixels={MAX_PIXELS}'],
      env=os.environ | changes | {'XLA_FLAGS': '', 'TMPDIR': str(folder)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    line = self.process.stdout.readline()
    assert line == f'the page is at {self.url} (Ctrl-C to stop)\n', self.end(signal.SIGTERM)

  def end(self, number):
    """Send a signal; return what was printed on stderr."""
    self.process.send_signal(number)
    return self.process.communicate(timeout=SECONDS)[1]


@pytest.fixture(scope='module')
def browser():
  with open_browser() as driver:
    yield driver


@pytest.fixture(scope='module')
def server(browser, tmp_path_factory):
  pytest.importorskip('gradio')
  server = Server(tmp_path_factory.mktemp('demo'), free_port())
  yield server
  server.end(signal.SIGTERM)


@pytest.fixture
def page(browser, server):
  resize(browser, 1280, 900)
  browser.get(server.url)
  return browser


@pytest.fixture
def restorer():
  with contextlib.closing(Queue()) as queue:
    yield uploads.UploadRestorer(fakes(), queue, MAX_PIXELS)


def wait(browser, condition):
  from selenium.common.exceptions import StaleElementReferenceException
  from selenium.webdriver.support.ui import WebDriverWait

  options = {'poll_frequency': 0.05, 'ignored_exceptions': [StaleElementReferenceException]}
  return WebDriverWait(browser, SECONDS, **options).until(condition)


def shown(browser, selector, text=''):
  """Wait for the first visible element with a text."""

  def find(_):
    elements = browser.find_elements('css selector', selector)
    return [e for e in elements if e.is_displayed() and text in e.text]

  return wait(browser, find)[0]


def wait_for(browser, text):
  wait(browser, lambda _: text in shown(browser, 'body').text)


def upload(browser, *paths, tab=0):
  """Upload files in a tab, and restore them."""
  wait(browser, lambda _: browser.find_elements('css selector', '[role=tab]'))[tab].click()
  shown(browser, 'button', 'Restore')
  panel = shown(browser, '[role=tabpanel]')
  [field] = wait(browser, lambda _: panel.find_elements('css selector', 'input[type=file]'))
  field.send_keys('\n'.join(map(str, paths)))
  wait_for(browser, f'{paths[-1].stem}\n{paths[-1].suffix}')  # as Gradio shows a name
  restore(browser)


def restore(browser):
  shown(browser, 'button', 'Restore').click()


def write_image(path, image):
  Image.fromarray(image).save(path)
  return path


def read_image(url):
  opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
  with opener.open(url) as response:
    return np.asarray(Image.open(io.BytesIO(response.read())))


def run(restorer, tmp_path, paths, output='hr', crop=False):
  """Return the end of a restoration, without a page."""
  folder = tmp_path / 'results'
  folder.mkdir()
  *_, end = restorer.restore([str(path) for path in paths], output, crop, str(folder))
  return end


def test_a_photo(page, server, tmp_path):
  behaviour = {'behavior': 'allow', 'downloadPath': str(tmp_path)}
  page.execute_cdp_cmd('Browser.setDownloadBehavior', behaviour)
  requests(page)
  photo = skimage.data.astronaut()[:120, :160]
  upload(page, write_image(tmp_path / 'my photo.png', photo))
  wait_for(page, 'my photo.png: 160 × 120 → 640 × 480 pixels in ')
  images = page.find_elements('css selector', '.stage img')
  assert [one.get_attribute('alt') for one in images] == [
    'Bicubic: my photo.png',
    'Restored: my photo.png',
  ]
  before, after = (read_image(one.get_attribute('src')) for one in images)
  assert before.shape == after.shape == (480, 640, 3)
  assert np.abs(before - bicubic(photo).astype(int)).mean() < 3
  assert np.abs(after - enlarge(photo).astype(int)).mean() < 3
  assert 'common.' not in page.page_source  # Gradio's keys of texts
  assert all(url.startswith(server.url) for url in requests(page))

  button = shown(page, 'a, button', 'Download as PNG')
  button.click()
  [result] = wait(page, lambda _: list(tmp_path.glob('*_restored.png')))
  assert result.name == 'my photo_restored.png'
  np.testing.assert_array_equal(np.asarray(Image.open(result)), enlarge(photo))


def test_the_slider_follows_the_keyboard(page, tmp_path):
  from selenium.webdriver import Keys

  upload(page, write_image(tmp_path / 'grey.png', np.full((60, 80, 3), 200, np.uint8)))
  stage = shown(page, '.stage')
  slider = stage.find_element('tag name', 'input')
  assert slider.aria_role == 'slider'
  assert slider.accessible_name == 'Divider of grey.png'
  assert slider.get_attribute('aria-valuetext') == '50% Bicubic, 50% Restored'
  for _ in range(10):
    slider.send_keys(Keys.ARROW_RIGHT)
  assert slider.get_attribute('aria-valuetext') == '60% Bicubic, 40% Restored'
  assert stage.value_of_css_property('outline-style') == 'solid'
  row = pixels(stage)[200]
  np.testing.assert_array_equal(row[192], [255, 255, 255])  # the line, at 60% of 320
  np.testing.assert_allclose(row[100], [200, 200, 200], atol=2)


@pytest.mark.parametrize(
  ('width', 'scheme'),
  [
    (390, 'dark'),
    pytest.param(390, 'light', marks=pytest.mark.full),
    pytest.param(1280, 'dark', marks=pytest.mark.full),
    pytest.param(1280, 'light', marks=pytest.mark.full),
  ],
)
def test_what_is_seen_is_readable(page, tmp_path, width, scheme):
  resize(page, width, 800, scheme)
  page.refresh()
  upload(page, write_image(tmp_path / 'grey.png', np.full((30, 90, 3), 200, np.uint8)))
  assert contrast(shown(page, 'a, button', 'Download as PNG')) >= 4.5
  assert page.execute_script('return document.documentElement.scrollWidth') == width
  ground = shown(page, 'body').value_of_css_property('background-color')
  assert contrast(shown(page, 'article header p'), ground) >= 4.5
  assert contrast(shown(page, '[role=tab][aria-selected=true]'), ground) >= 4.5
  top = shown(page, '.stage img').rect['y']
  for label in page.find_elements('css selector', '.stage span'):
    if width == 390:
      assert label.rect['y'] + label.rect['height'] <= top
      assert contrast(label, ground) >= 4.5
    else:
      assert label.value_of_css_property('color') == 'rgba(255, 255, 255, 1)'


def test_an_error_leaves_nothing_of_the_photo_before(page, tmp_path):
  upload(page, write_image(tmp_path / 'first.png', np.zeros((20, 30, 3), np.uint8)))
  shown(page, 'a, button', 'Download')
  (tmp_path / 'text.png').write_bytes(b'no picture')
  for _ in range(2):  # errors do not pile up
    page.find_element('css selector', '[aria-label=Clear]').click()
    upload(page, tmp_path / 'text.png')
    wait_for(page, 'cannot read text.png: unsupported')
  text = shown(page, 'body').text
  assert text.count('cannot read') == 1
  assert 'first.png' not in text
  assert 'Download' not in text
  assert not page.find_elements('css selector', '.stage, [data-testid=toast-body]')


def test_without_a_photo(page):
  restore(page)
  assert shown(page, '[role=alert]').text == 'choose a photo first'


def test_the_sample(page):
  shown(page, 'button', 'sample').click()
  wait_for(page, 'sample\n.png')
  restore(page)
  wait_for(page, 'sample.png: 224 × 150 → 896 × 600 pixels')
  assert [heading.text for heading in page.find_elements('css selector', 'article h2')] == [
    'sample.png'
  ]


def test_several_photos(page, tmp_path):
  paths = [write_image(tmp_path / f'{n}.png', np.full((9, 9, 3), 99, np.uint8)) for n in 'abc']
  upload(page, *paths, tab=1)
  shown(page, 'a, button', 'Download as ZIP')
  headings = page.find_elements('css selector', 'article h2')
  assert [heading.text for heading in headings] == ['a.png', 'b.png', 'c.png']


def test_frames(page, tmp_path):
  upload(page, write_image(tmp_path / 'a.png', skimage.data.astronaut()[:40, :50]), tab=2)
  shown(page, 'a, button', 'Download as GIF')
  images = page.find_elements('css selector', '.stage img')
  assert [one.get_attribute('alt') for one in images] == ['Photo: a.png', 'Frames: a.png']
  animation = images[1].get_attribute('src')
  assert animation.startswith('data:image/webp;base64,')
  assert images[1].size == images[0].size == {'width': 50, 'height': 40}


@pytest.mark.full
def test_a_second_photo_waits_for_the_first(page, server, tmp_path):
  first = write_image(tmp_path / 'first.png', np.zeros((100, 200, 3), np.uint8))
  second = write_image(tmp_path / 'second.png', skimage.data.coffee()[:40, :30])
  calls = server.folder / 'calls'
  calls.write_text('')
  (server.folder / 'wait').touch()
  upload(page, first)
  wait_for(page, 'first.png: about 50 s left, 1 of 2 tiles are done')  # half of 20,000 × 5 ms
  assert float(shown(page, 'progress').get_attribute('value')) < 0.2
  tab = page.current_window_handle
  page.switch_to.new_window('tab')
  page.get(server.url)
  upload(page, second)
  wait_for(page, 'second.png: waiting for 1 other photo, about 4')
  assert calls.read_text() == 'start '
  (server.folder / 'wait').unlink()
  wait_for(page, 'second.png: 30 × 40 → 120 × 160')
  page.close()
  page.switch_to.window(tab)
  wait_for(page, 'first.png: 200 × 100 → 800 × 400')
  assert calls.read_text() == 'start end start end '


@pytest.mark.full
@pytest.mark.parametrize('way', ['button', 'closed tab'])
def test_a_photo_that_nobody_waits_for_is_stopped(page, server, tmp_path, way):
  photo = write_image(tmp_path / 'photo.png', np.zeros((50, 60, 3), np.uint8))
  calls = server.folder / 'calls'
  calls.write_text('')
  (server.folder / 'wait').touch()
  tab = page.current_window_handle
  page.switch_to.new_window('tab')
  page.get(server.url)
  upload(page, photo)
  wait_for(page, '1 of 2 tiles')
  if way == 'button':
    shown(page, 'button', 'Stop').click()
    wait_for(page, 'Stopped.')
  time.sleep(1)  # the page has told the server
  page.close()
  page.switch_to.window(tab)
  time.sleep(2)  # the server has noticed
  (server.folder / 'wait').unlink()
  upload(page, write_image(tmp_path / 'next.png', np.zeros((5, 6, 3), np.uint8)))
  wait_for(page, 'next.png: 6 × 5 → 24 × 20')
  assert calls.read_text() == 'start start end '


@pytest.mark.parametrize(
  ('crop', 'note', 'expected'),
  [
    (False, 'It was reduced first, by a factor of 2.00, from 400 × 400 pixels.', 'all'),
    (True, 'These are the middle 200 × 200 of its 400 × 400 pixels.', 'middle'),
  ],
)
def test_a_large_photo_is_reduced_or_cropped(restorer, tmp_path, crop, note, expected):
  photo = skimage.data.astronaut()[:400, :400]
  path = write_image(tmp_path / 'large.png', photo)
  end = run(restorer, tmp_path, [path], crop=crop)
  assert 'large.png: 200 × 200 → 800 × 800 pixels in' in end.state
  assert note in end.state
  result = np.asarray(Image.open(end.file))[::4, ::4]
  if expected == 'middle':
    np.testing.assert_array_equal(result, photo[100:300, 100:300])
  else:
    means = photo.reshape(200, 2, 200, 2, 3).mean(axis=(1, 3))
    assert np.abs(result - means).mean() < 1.5


def test_a_photo_that_keeps_its_size_may_be_larger(restorer, tmp_path):
  photo = np.zeros((500, 600, 3), np.uint8)
  photo[:250] = 255
  end = run(restorer, tmp_path, [write_image(tmp_path / 'a.png', photo)], 'lr')
  assert 'a.png: 600 × 500 → 600 × 500 pixels' in end.state
  assert 'reduced' not in end.state
  np.testing.assert_array_equal(np.asarray(Image.open(end.file)), photo[::-1])
  assert 'alt="Input: a.png"' in end.articles


def test_a_photo_that_is_too_large_to_read(restorer, tmp_path, monkeypatch):
  monkeypatch.setattr(uploads, 'MOST_PIXELS', 90_000)
  path = write_image(tmp_path / 'huge.png', np.zeros((301, 300), np.uint8))
  end = run(restorer, tmp_path, [path])
  assert 'huge.png: 300 × 301 pixels are more than 0.09 megapixels; reduce it first' in end.state
  assert str(tmp_path) not in end.state
  assert (end.articles, end.file) == ('', '')


def test_of_several_photos_the_others_are_restored(restorer, tmp_path, monkeypatch):
  folders = [tmp_path / name for name in 'ab']
  for i, folder in enumerate(folders):
    folder.mkdir()
    write_image(folder / 'same.png', np.full((8, 8, 3), 10 + i, np.uint8))
  (tmp_path / '<b>.png').write_bytes(b'')
  paths = [folders[0] / 'same.png', tmp_path / '<b>.png', folders[1] / 'same.png']
  end = run(restorer, tmp_path, paths)
  assert (
    '<p class="state alert" role="alert">cannot read &lt;b&gt;.png: empty file</p>' in end.state
  )
  assert end.articles.count('<article>') == 2
  with zipfile.ZipFile(end.file) as archive:
    assert archive.namelist() == ['same_restored.png', 'same_restored_2.png']
    for i, name in enumerate(archive.namelist()):
      assert np.asarray(Image.open(archive.open(name))).flat[0] == 10 + i


def test_a_full_disk_is_named(restorer, tmp_path, monkeypatch):
  def fail(path, photo):
    raise OSError(28, 'No space left on device', path)

  monkeypatch.setattr(uploads.writing, 'write_photo', fail)
  end = run(restorer, tmp_path, [write_image(tmp_path / 'a.png', np.zeros((8, 8, 3), np.uint8))])
  assert 'a.png: No space left on device' in end.state
  assert end.file == ''


def test_a_page_shows_no_more_photos_than_a_browser_opens(restorer, tmp_path, monkeypatch):
  monkeypatch.setattr(uploads, 'SHOWN_CHARACTERS', 1)
  photo = np.zeros((8, 8, 3), np.uint8)
  end = run(restorer, tmp_path, [write_image(tmp_path / f'{name}.png', photo) for name in 'abc'])
  assert end.articles.count('<article>') == 1
  assert 'The last 2 are only in the download.' in end.state
  assert len(zipfile.ZipFile(end.file).namelist()) == 3


@pytest.mark.parametrize(('channels', 'extension'), [(3, '.gif'), (4, '.webp')])
def test_frames_become_an_animation(restorer, tmp_path, channels, extension):
  photo = np.full((20, 30, channels), 200, np.uint8)
  end = run(restorer, tmp_path, [write_image(tmp_path / 'a.png', photo)], 'frames')
  assert end.file.endswith(f'a_restored{extension}')
  with Image.open(end.file) as animation:
    assert animation.size == (30, 20)
    assert animation.n_frames in (1, 12)  # equal frames may be merged
  assert 'a.png: 30 × 20 → 7 frames of 30 × 20 pixels' in end.state


def test_the_sample_is_the_photograph_that_it_says(tmp_path):
  blur = MotionBlur(translation=(6.0, 6.0), region_translation=(10.0, 10.0))
  photo = skimage.data.chelsea()[:, :448]
  example = synthesize(jax.random.key(0), photo, blur, scale=2)
  with Image.open(demo.SAMPLE) as sample:
    difference = np.asarray(sample).astype(int) - np.asarray(example['lr_blur'])
  assert np.abs(difference).max() <= 2
  assert os.path.getsize(demo.SAMPLE) < 60_000


def test_the_restorers_of_weights():
  restorers = demo.load_restorers('gfn')
  kinds = {key: (one.output, one.scale, type(one.model).__name__) for key, one in restorers.items()}
  assert kinds == {
    'hr': ('hr', 4, 'GFN'),
    'lr': ('lr', 1, 'GFN'),
    'long_blur': ('lr', 1, 'GFN'),
    'frames': ('frames', 1, 'BMDSRNet'),
  }
  assert {key: one.blur for key, one in restorers.items() if one.blur} == {'long_blur': 25}


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_no_other_computer_reaches_the_page(server):
  port = f'{server.port:04X}'
  tables = [pathlib.Path('/proc/net/tcp'), pathlib.Path('/proc/net/tcp6')]
  lines = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
  listening = [line[1] for line in lines if line[3] == '0A' and line[1].endswith(f':{port}')]
  assert listening == [f'0100007F:{port}']


@pytest.mark.filterwarnings('ignore:unclosed.*socket:ResourceWarning')  # Gradio's
def test_a_port_that_cannot_be_used(monkeypatch):
  monkeypatch.setenv('no_proxy', '')  # launch adds to it
  http_server = pytest.importorskip('gradio.http_server')

  class Page:
    def launch(self, server_name, server_port, **options):
      http_server.start_server(None, server_name, server_port)

  with socket.create_server(('127.0.0.1', 0)) as listener:
    for port in (listener.getsockname()[1], 70000):
      with pytest.raises(UserError, match=f'cannot use port {port}; pass another one'):
        demo.launch(Page(), port)


@pytest.mark.parametrize(
  ('number', 'status', 'message'),
  [
    (signal.SIGINT, 130, 'interrupted\n'),
    pytest.param(signal.SIGTERM, 143, '', marks=pytest.mark.full),
  ],
)
def test_the_end_leaves_nothing_behind(browser, tmp_path, number, status, message):
  pytest.importorskip('gradio')
  (tmp_path / 'wait').touch()
  server = Server(tmp_path, free_port())
  browser.get(server.url)
  upload(browser, write_image(tmp_path / 'last.png', skimage.data.astronaut()[:40, :30]))
  wait_for(browser, '1 of 2 tiles')  # a restoration runs
  [folder] = tmp_path.glob('gfn_demo_*')
  server.process.send_signal(number)
  time.sleep(0.5)
  (tmp_path / 'wait').unlink()
  _, errors = server.process.communicate(timeout=SECONDS)
  assert (server.process.returncode, errors) == (status, message)
  assert (tmp_path / 'calls').read_text() == 'start '
  assert not folder.exists()


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--port=x'], "argument --port: invalid int value: 'x' (--help lists the options)"),
    (['--weights=none'], "no released weights are named 'none'"),
    (['--max_pixels=0'], 'max_pixels 0: pass 1 or more'),
    ([], "the demo needs Gradio: pip install 'gfn_jax[demo]'"),
  ],
)
def test_a_mistake_ends_in_one_line(monkeypatch, capsys, arguments, message):
  # In the place of Gradio, which is slow to import.
  monkeypatch.setitem(sys.modules, 'gradio', types.ModuleType('gradio') if arguments else None)
  monkeypatch.setenv('GRADIO_TEMP_DIR', '')  # main sets it
  with pytest.raises(SystemExit) as end:
    demo.main(arguments)
  printed = capsys.readouterr().err if end.value.code == 2 else str(end.value)
  assert printed.startswith(f'error: {message}')
  assert (end.value.code == 2) == (arguments == ['--port=x'])


if __name__ == '__main__':
  demo.load_restorers = lambda weights: fakes(os.environ['TMPDIR'], pace=0.005)
  demo.main()
