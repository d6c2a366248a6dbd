"""The demo in a process of its own, as users run it, and in a browser."""

import io
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import UserError
from gfn_jax.cli import demo
from gfn_jax.ops.scores import bicubic
from tests.browser import open_browser, requests
from tests.ports import free_port

SECONDS = 60
MAX_PIXELS = 40_000


class FakeRestorer:
  """Enlarges a photo, in a way that is simple to check, while there is no file `wait`."""

  scale = 4

  def __init__(self, folder):
    self.folder = pathlib.Path(folder)

  def __call__(self, image, progress=None):
    with open(self.folder / 'calls', 'a') as file:
      file.write('start ')
    progress(1, 2)
    while (self.folder / 'wait').exists():
      time.sleep(0.02)
    progress(2, 2)
    with open(self.folder / 'calls', 'a') as file:
      file.write('end ')
    return enlarge(image)


def enlarge(image):
  return image.repeat(4, axis=0).repeat(4, axis=1)


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

  def end(self):
    """Stops it as a system does; returns what it printed."""
    self.process.send_signal(signal.SIGTERM)
    return self.process.communicate(timeout=SECONDS)


@pytest.fixture(scope='module')
def browser():
  with open_browser() as driver:
    yield driver


@pytest.fixture(scope='module')
def server(browser, tmp_path_factory):
  pytest.importorskip('gradio')
  server = Server(tmp_path_factory.mktemp('demo'), free_port())
  line = server.process.stdout.readline()
  assert line == f'the page is at {server.url} (Ctrl-C to stop)\n', server.end()
  yield server
  server.end()


def wait(browser, condition):
  from selenium.webdriver.support.ui import WebDriverWait

  return WebDriverWait(browser, SECONDS, poll_frequency=0.05).until(condition)


def find(browser, selector):
  return wait(browser, lambda _: browser.find_elements('css selector', selector))


def wait_for_text(browser, text):
  wait(browser, lambda _: text in browser.find_element('tag name', 'body').text)


def upload(browser, server, path):
  browser.get(server.url)
  find(browser, 'input[type=file]')[0].send_keys(str(path))


def write_image(path, image):
  Image.fromarray(image).save(path)
  return path


def read_image(url):
  opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
  with opener.open(url) as response:
    return np.asarray(Image.open(io.BytesIO(response.read())))


def test_a_photo(browser, server, tmp_path):
  behaviour = {'behavior': 'allow', 'downloadPath': str(tmp_path)}
  browser.execute_cdp_cmd('Browser.setDownloadBehavior', behaviour)
  requests(browser)
  photo = skimage.data.astronaut()[:120, :160]
  upload(browser, server, write_image(tmp_path / 'my photo.png', photo))
  wait_for_text(browser, 'my photo.png: 160 × 120 → 640 × 480 pixels in 0.')
  urls = [image.get_attribute('src') for image in find(browser, '[data-testid^=imageslider]')]
  before, after = (read_image(url) for url in urls)
  assert before.shape == after.shape == (480, 640, 3)
  assert np.abs(before - bicubic(photo).astype(int)).mean() < 3
  assert np.abs(after - enlarge(photo).astype(int)).mean() < 3
  assert all(url.startswith(server.url) for url in requests(browser))

  [button] = [button for button in find(browser, 'button') if 'Download' in button.text]
  wait(browser, lambda _: button.is_enabled())
  button.click()
  [result] = wait(browser, lambda _: list(tmp_path.glob('*_restored.png')))
  assert result.name == 'my photo_restored.png'
  np.testing.assert_array_equal(np.asarray(Image.open(result)), enlarge(photo))
  wait_for_text(browser, 'Drop File Here')  # ready for the next one


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('text.png', b'no picture', 'cannot read text.png'),
    ('large.png', np.zeros((201, 200, 3), np.uint8), 'cannot read large.png: 200x201 exceeds'),
  ],
)
def test_what_cannot_be_restored(browser, server, tmp_path, name, content, message):
  path = tmp_path / name
  if isinstance(content, bytes):
    path.write_bytes(content)
  else:
    write_image(path, content)
  upload(browser, server, path)
  [toast] = find(browser, '[data-testid=toast-body]')
  text = wait(browser, lambda _: toast.text)
  assert re.search(f'^{message}', text, re.MULTILINE), text
  wait_for_text(browser, 'Drop File Here')


def test_a_second_photo_waits_for_the_first(browser, server, tmp_path):
  first = write_image(tmp_path / 'first.png', skimage.data.astronaut()[:50, :60])
  second = write_image(tmp_path / 'second.png', skimage.data.coffee()[:40, :30])
  calls = server.folder / 'calls'
  calls.write_text('')
  (server.folder / 'wait').touch()
  upload(browser, server, first)
  wait_for_text(browser, '1/2 tiles')
  tab = browser.current_window_handle
  browser.switch_to.new_window('tab')
  upload(browser, server, second)
  wait_for_text(browser, 'queue: 1/1')
  assert calls.read_text() == 'start '
  (server.folder / 'wait').unlink()
  wait_for_text(browser, 'second.png: 30 × 40 → 120 × 160')
  browser.close()
  browser.switch_to.window(tab)
  wait_for_text(browser, 'first.png: 60 × 50 → 240 × 200')
  assert calls.read_text() == 'start end start end '


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
        demo.launch(Page(), port, MAX_PIXELS)


def test_the_end_leaves_nothing_behind(browser, server, tmp_path):
  upload(browser, server, write_image(tmp_path / 'last.png', skimage.data.astronaut()[:40, :30]))
  wait_for_text(browser, 'last.png: 30 × 40 → 120 × 160')
  [folder] = server.folder.glob('gfn_demo_*')
  assert list(folder.rglob('last_restored.png'))
  _, errors = server.end()
  assert server.process.returncode == 0
  assert errors == ''
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
  monkeypatch.setitem(sys.modules, 'gradio', None)
  monkeypatch.setenv('GRADIO_TEMP_DIR', '')  # main sets it
  with pytest.raises(SystemExit) as end:
    demo.main(arguments)
  printed = capsys.readouterr().err if end.value.code == 2 else str(end.value)
  assert printed.startswith(f'error: {message}')
  assert (end.value.code == 2) == (arguments == ['--port=x'])


if __name__ == '__main__':
  demo.Restorer.from_pretrained = lambda weights: FakeRestorer(os.environ['TMPDIR'])
  demo.main()
