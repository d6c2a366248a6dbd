"""Tests of the browser page in Chromium: `make page`, then `make test-full`."""

import contextlib
import functools
import http.server
import os
import pathlib
import shutil
import threading
import time

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageFilter, ImageOps

from gfn_jax import Restorer
from tests.browser import console, contrast, open_browser, requests, resize, skip

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / 'build' / 'page'
TILE = 384  # of worker.js

pytestmark = pytest.mark.full


@pytest.fixture(scope='module', autouse=True)
def built_page():
  if not PAGE.exists():
    skip('the page is not built: make page')


class Handler(http.server.SimpleHTTPRequestHandler):
  """A plain static server, as `python -m http.server`, that prints nothing."""

  def log_message(self, *args):
    pass


@contextlib.contextmanager
def serve(folder):
  """Yield the URL of a server, and a function that stops it."""
  server = http.server.ThreadingHTTPServer(
    ('127.0.0.1', 0), functools.partial(Handler, directory=folder)
  )
  thread = threading.Thread(target=server.serve_forever)
  thread.start()

  def stop():
    server.shutdown()
    server.server_close()
    thread.join()

  try:
    yield f'http://127.0.0.1:{server.server_port}/', stop
  finally:
    stop()


@pytest.fixture
def browser(tmp_path):
  with open_browser() as driver:
    folder = {'behavior': 'allow', 'downloadPath': str(tmp_path)}
    driver.execute_cdp_cmd('Browser.setDownloadBehavior', folder)
    resize(driver, 1280, 900)
    yield driver


@pytest.fixture
def page(browser):
  """The page without its service worker: on one thread, as a plain server alone gives it."""
  with serve(PAGE) as (url, _):
    browser.execute_cdp_cmd('Network.enable', {})
    browser.execute_cdp_cmd('Network.setBypassServiceWorker', {'bypass': True})
    browser.get(url)
    wait(browser, lambda: text(browser, 'state').startswith('Ready'))
    assert text(browser, 'state').startswith('Ready, computes on 1 thread.')
    yield browser
    messages = [line for line in console(browser) if 'No available adapters' not in line]
    assert messages == []
    assert all(request.startswith(url) for request in requests(browser))


def wait(driver, condition, seconds=300):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, text(driver, 'alert') or text(driver, 'left')
    time.sleep(0.1)


def text(driver, name):
  """Return the text of an element, '' while the page is loaded again."""
  return driver.execute_script(
    'return document.getElementById(arguments[0])?.innerText ?? ""', name
  )


def find(driver, selector):
  return driver.find_element('css selector', selector)


def choose(driver, path):
  find(driver, '#file').send_keys(str(path))
  wait(driver, lambda: path.name in text(driver, 'chosen') or text(driver, 'alert'))


def restore(driver, path, output='lr'):
  choose(driver, path)
  find(driver, f'[value={output}]').click()
  find(driver, '#start').click()
  wait(driver, lambda: text(driver, 'state') == 'Done.')


def download(driver, path, kind='png'):
  """Return the pixels of the restored photo as the page's file has them."""
  target = path.with_name(f'{path.stem}_sharp.{kind}')
  button = find(driver, f'[data-type="image/{kind.replace("jpg", "jpeg")}"]')
  # Pages scroll smoothly, but Selenium clicks at once.
  driver.execute_script('arguments[0].scrollIntoView({behavior: "instant"})', button)
  button.click()
  wait(driver, target.exists)
  with Image.open(target) as image:
    return np.asarray(image.convert('RGB'))


def save(path, pixels, **options):
  Image.fromarray(pixels).save(path, **options)
  return path


def difference(a, b):
  assert a.shape == b.shape
  return np.abs(a.astype(int) - b)


@functools.cache
def python(output, tile=TILE):
  return Restorer.from_pretrained('gfn', output=output, tile=tile, dtype='float32')


@pytest.fixture(scope='module')
def coffee():
  return skimage.data.coffee()[:398, :597]  # sides that are no multiples of 4, in 2 x 2 tiles


def test_same_size_equals_python_across_seams(page, coffee, tmp_path):
  path = save(tmp_path / 'coffee.png', coffee)
  restore(page, path)
  assert not find(page, '#running').is_displayed()
  got = download(page, path)
  assert difference(got, python('lr')(coffee)).max() <= 1
  assert difference(got, python('lr', None)(coffee)).max() <= 1
  assert difference(got, coffee).max() > 20
  jpeg = download(page, path, 'jpg')
  assert difference(jpeg, got).mean() < 3


def test_long_blur_equals_python_but_for_the_resizing(page, coffee, tmp_path):
  photo = np.asarray(Image.fromarray(coffee).filter(ImageFilter.BoxBlur(9)))
  restore(page, save(tmp_path / 'blurred.png', photo), 'long')
  got = download(page, tmp_path / 'blurred.png')
  expected = Restorer.from_pretrained('gfn', blur=25, dtype='float32')(photo)
  assert difference(got, expected).mean() < 1
  assert difference(expected, python('lr')(photo)).mean() > 2
  assert find(page, 'article header p').text == '597 × 398'


def test_four_times_larger_equals_python(page, coffee, tmp_path):
  photo = coffee[100:190, :398]  # two tiles
  path = save(tmp_path / 'detail.png', photo)
  restore(page, path, 'hr')
  got = download(page, path)
  assert got.shape == (360, 1592, 3)
  assert difference(got, python('hr')(photo)).max() <= 1
  assert difference(got, python('hr', None)(photo)).max() <= 1
  assert find(page, 'article header p').text == '398 × 90 → 1592 × 360'
  left, right = page.find_elements('css selector', '.stage')[1].find_elements(
    'css selector', 'span'
  )
  assert (left.text, right.text) == ('Enlarged', 'Restored')
  assert find(page, '.where').text.startswith('Detail at full size, where enlarged and restored')


def test_photos_are_turned_upright_and_shown_on_white(page, coffee, tmp_path):
  exif = Image.Exif()
  exif[274] = 6
  path = save(tmp_path / 'turned.jpg', coffee[100:164, 200:296], quality=95, exif=exif)
  restore(page, path)
  with Image.open(path) as image:
    upright = np.asarray(ImageOps.exif_transpose(image))
  got = download(page, path)
  assert got.shape == (96, 64, 3)
  assert difference(got, python('lr')(upright)).max() <= 8  # decoders of JPEG differ

  transparent = np.dstack([coffee[:32, :32], np.zeros((32, 32), np.uint8)])
  path = save(tmp_path / 'transparent.png', transparent)
  restore(page, path)
  white = np.full((32, 32, 3), 255, np.uint8)
  assert difference(download(page, path), python('lr')(white)).max() <= 1


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_look(scheme, page, tmp_path):
  wide = np.tile(skimage.data.coffee()[:40], (1, 3, 1))  # more than the column: with a detail
  path = save(tmp_path / f'{"long_name" * 9}.png', wide[:, :1400])
  restore(page, path)
  ground = {'light': 'rgba(255, 255, 255, 1)', 'dark': 'rgba(21, 24, 27, 1)'}[scheme]
  for width in (1280, 390):
    resize(page, width, 900, scheme)
    assert page.execute_script('return document.documentElement.scrollWidth') <= width
    assert len(page.find_elements('css selector', '.stage')) == 2
    assert find(page, 'body').value_of_css_property('background-color') == ground
    for selector in ('.drop b', '.drop span', 'footer p', 'article header p'):
      assert contrast(find(page, selector), ground) > 4.5, selector
    for button in page.find_elements('css selector', '.buttons button.primary'):
      assert contrast(button) > 4.5
      assert button.size['height'] >= 44


def test_keyboard_and_labels(page):
  from selenium.webdriver import ActionChains, Keys

  def press(*keys):
    ActionChains(page).send_keys(*keys).perform()
    return page.switch_to.active_element

  assert press(Keys.TAB).accessible_name.startswith('Choose a photo')
  assert find(page, '.drop').value_of_css_property('outline-style') == 'solid'
  assert press(Keys.TAB).accessible_name == 'Same size (sharpen only)'
  assert find(page, 'fieldset').accessible_name == 'Size of the result'
  assert press(Keys.ARROW_DOWN).accessible_name == 'Same size, for blur of more than 10 pixels'
  assert press(Keys.ARROW_DOWN).accessible_name == '4 times larger'
  press(Keys.ARROW_UP, Keys.ARROW_UP)
  assert press(Keys.TAB).text == 'Take the sample photo'  # Restore is disabled yet
  press(Keys.ENTER)
  wait(page, lambda: 'sample.png: 224 × 150' in text(page, 'chosen'))
  ActionChains(page).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
  assert page.switch_to.active_element.text == 'Restore'
  assert press(Keys.ENTER).text == 'Stop'
  wait(page, lambda: text(page, 'state') == 'Done.')
  assert page.switch_to.active_element.text == 'Restore'
  press(Keys.TAB)
  slider = press(Keys.TAB)
  assert slider.accessible_name == 'Divider of sample.png'
  assert slider.get_attribute('aria-valuetext') == '50% Input, 50% Restored'
  press(*[Keys.ARROW_LEFT] * 5)
  assert slider.get_attribute('aria-valuetext') == '45% Input, 55% Restored'
  assert press(Keys.TAB).text == 'Download as PNG'
  assert find(page, '#state').get_attribute('role') == 'status'
  assert find(page, '#progress').get_attribute('aria-label') == 'Progress'


def test_stop_and_restore_again(page, coffee, tmp_path):
  choose(page, save(tmp_path / 'coffee.png', coffee))
  find(page, '#start').click()
  wait(page, lambda: text(page, 'left').startswith('1 of 4 tiles, about '))
  find(page, '#stop').click()
  assert text(page, 'state') == 'Stopped.'
  assert not find(page, '#running').is_displayed()
  path = save(tmp_path / 'small.png', coffee[:32, :36])
  restore(page, path)
  assert difference(download(page, path), python('lr')(coffee[:32, :36])).max() <= 1


def test_drop_and_paste(page, coffee, tmp_path):
  for event, field in (('drop', 'dataTransfer'), ('paste', 'clipboardData')):
    page.execute_script(
      """
      const data = new DataTransfer();
      const canvas = document.createElement('canvas');
      canvas.width = 20;
      canvas.height = 10;
      const [event, field] = arguments;
      canvas.toBlob((blob) => {
        data.items.add(new File([blob], `${event}.png`, {type: 'image/png'}));
        const happening = new Event(event, {bubbles: true, cancelable: true});
        happening[field] = data;
        document.body.dispatchEvent(happening);
      });
      """,
      event,
      field,
    )
    wait(page, lambda event=event: text(page, 'chosen').startswith(event))
    assert text(page, 'chosen') == f'{event}.png: 20 × 10'
    assert find(page, '#start').is_enabled()


def test_mistakes_are_one_line(page, tmp_path):
  path = tmp_path / 'notes.png'
  path.write_text('no image')
  choose(page, path)
  assert text(page, 'alert') == 'notes.png: this is not an image that the browser can read.'
  assert not find(page, '#start').is_enabled()

  choose(page, save(tmp_path / 'large.png', np.zeros((1500, 1400, 3), np.uint8)))
  find(page, '[value=hr]').click()
  find(page, '#start').click()
  assert text(page, 'alert') == (
    'large.png: 1400 × 1500 is too large to enlarge (at most 2 megapixels and 4096 pixels a side); '
    'choose the same size.'
  )

  noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
  path = save(tmp_path / 'damaged.png', noise)
  path.write_bytes(path.read_bytes()[:1000])  # its size can be read
  choose(page, path)
  find(page, '[value=lr]').click()
  find(page, '#start').click()
  wait(page, lambda: text(page, 'alert') != '')
  assert text(page, 'alert') == 'The photo could not be decoded: it is damaged or too large.'


def test_missing_network_is_one_line_until_it_is_there(browser, coffee, tmp_path):
  folder = tmp_path / 'page'
  shutil.copytree(PAGE, folder)
  (folder / 'gfn_lr.onnx').unlink()
  with serve(folder) as (url, _):
    browser.get(url)
    wait(browser, lambda: text(browser, 'alert') != '')
    assert text(browser, 'alert') == (
      'The network could not be loaded. Check the connection and try again.'
    )
    shutil.copyfile(PAGE / 'gfn_lr.onnx', folder / 'gfn_lr.onnx')
    restore(browser, save(tmp_path / 'small.png', coffee[:32, :36]))
    assert text(browser, 'alert') == ''


def test_offline_after_the_first_load(browser, coffee, tmp_path):
  threads = min(4, os.cpu_count() or 1)
  ready = f'Ready, computes on {threads} thread{"s" * (threads > 1)}. Works offline.'
  with serve(PAGE) as (url, stop):
    browser.get(url)
    wait(browser, lambda: text(browser, 'state') == ready)
    assert [line for line in console(browser) if 'No available adapters' not in line] == []
    stop()
    browser.get(url)
    wait(browser, lambda: text(browser, 'state') == ready)
    find(browser, '#sample').click()
    wait(browser, lambda: text(browser, 'chosen') == 'sample.png: 224 × 150')
    for output, shape in (('lr', (32, 36, 3)), ('hr', (128, 144, 3))):
      path = save(tmp_path / f'{output}.png', coffee[:32, :36])
      restore(browser, path, output)
      got = download(browser, path)
      assert got.shape == shape
      assert difference(got, python(output)(coffee[:32, :36])).max() <= 1
