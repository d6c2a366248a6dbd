"""Headless Chromium for tests of pages, from Debian's `chromium` and `chromium-driver`."""

import contextlib
import io
import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

ARGUMENTS = (
  '--headless=new',
  '--no-sandbox',  # required for root in containers
  '--disable-dev-shm-usage',
  '--disable-gpu',
  '--force-color-profile=srgb',
)


def skip(reason):
  """Skip a test, or fail it where the environment demands that pages are tested."""
  if os.environ.get('GFN_JAX_REQUIRE_BROWSER') == '1':
    pytest.fail(reason)
  pytest.skip(reason)


@contextlib.contextmanager
def open_browser():
  """Yield a selenium driver; without one, skip the test unless the environment forbids it."""
  programs = [shutil.which('chromium'), shutil.which('chromedriver')]
  try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
  except ImportError:
    programs = [None]
  if None in programs:
    skip('selenium, chromium or chromedriver is missing')
  options = webdriver.ChromeOptions()
  options.binary_location = programs[0]
  for argument in ARGUMENTS:
    options.add_argument(argument)
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
  # Keep Selenium from downloading drivers and sending statistics.
  environment = os.environ | {'SE_OFFLINE': 'true', 'SE_AVOID_STATS': 'true'}
  driver = webdriver.Chrome(options, Service(programs[1], env=environment))
  try:
    yield driver
  finally:
    driver.quit()


def resize(driver, width, height, scheme='light'):
  """Set the size of the page in CSS pixels, and its colour scheme."""
  size = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': width < 500}
  driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
  features = [{'name': 'prefers-color-scheme', 'value': scheme}]
  driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})


def pixels(element):
  """Return a screenshot of an element as `[h, w, 3]` uint8."""
  return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert('RGB'))


def requests(driver):
  """Return the URLs that pages requested since the last call, without data: and blob:."""
  messages = [json.loads(entry['message'])['message'] for entry in driver.get_log('performance')]
  urls = [
    message['params']['request']['url']
    for message in messages
    if message['method'] == 'Network.requestWillBeSent'
  ]
  return [url for url in urls if not url.startswith(('data:', 'blob:'))]


def console(driver):
  """Return the warnings and errors that pages logged since the last call."""
  entries = driver.get_log('browser')
  return [entry['message'] for entry in entries if entry['level'] in ('WARNING', 'SEVERE')]


def contrast(element, ground=None):
  """Return the contrast of an element's text, as WCAG 2.2 defines it.

  Args:
    element: the element.
    ground: background, as CSS; None is the element's own.
  """
  ground = ground or element.value_of_css_property('background-color')
  lights = sorted(_luminance(text) for text in (element.value_of_css_property('color'), ground))
  return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(css):
  """Return the relative luminance of an opaque `rgb(...)` or `rgba(...)`."""
  values = np.array([float(value) for value in re.findall(r'[\d.]+', css)])
  assert css.startswith('rgb') and np.all(values[3:] == 1), css
  colour = values[:3] / 255
  linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
  return linear @ [0.2126, 0.7152, 0.0722]
