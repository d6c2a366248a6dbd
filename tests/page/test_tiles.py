"""Tests of the pure functions of the browser page, which run in Node.js."""

import base64
import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

from gfn_jax.restoration import restorer, tiling
from tests.browser import skip

PAGE = pathlib.Path(__file__).parents[2] / 'page'

SIZES = (4, 32, 36, 384, 388, 512, 672, 676, 1000, 1284, 4032)


@pytest.fixture(scope='module', autouse=True)
def node():
  if shutil.which('node') is None:
    skip('node is missing')


def run(module, expression):
  """Return the value of a JavaScript expression that uses a module as `m`."""
  source = base64.b64encode((PAGE / module).read_bytes()).decode()
  script = f'import * as m from "data:text/javascript;base64,{source}";'
  script += f'console.log(JSON.stringify({expression}));'
  command = ['node', '--input-type=module', '--eval', script]
  result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
  return json.loads(result.stdout)


def test_windows_are_those_of_python():
  plans = run('tiles.js', f'{list(SIZES)}.map((size) => m.planAxis(size, 384))')
  for size, got in zip(SIZES, plans, strict=True):
    _, windows = tiling.plan_windows((size, 4), 384, restorer.OVERLAP, (4, 4))
    expected = [
      {
        'start': window.seen[0].start,
        'stop': window.seen[0].stop,
        'from': window.kept[0].start,
        'to': window.kept[0].stop,
      }
      for window in windows
    ]
    assert got == expected, size


def test_pixels_beyond_the_image_are_reflected():
  rgba = np.arange(4 * 3 * 5, dtype=np.uint8).reshape(3, 5, 4)
  got = run('tiles.js', f'[...m.toFloat({rgba.ravel().tolist()}, 5, 3, 8, 4)]')
  expected = np.pad(rgba[..., :3], ((0, 1), (0, 3), (0, 0)), mode='reflect') / np.float32(255)
  np.testing.assert_array_equal(np.float32(got).reshape(4, 8, 3), expected)
  for size in (1, 2, 3):  # narrower than the padding
    got = run('tiles.js', f'[0, 1, 2, 3].map((i) => m.reflect(i, {size}))')
    assert got == np.pad(np.arange(size), (0, 4 - size), mode='reflect').tolist()


def test_outputs_are_clipped_and_rounded_half_up():
  values = np.float32([-0.1, 0, 0.5 / 255, 1.49 / 255, 2.5 / 255, 0.5, 0.999, 1, 1.2])
  image = np.tile(values, 4).reshape(3, 4, 3)
  part = '{x: 1, y: 1, width: 3, height: 2}'
  got = run('tiles.js', f'[...m.fromFloat(new Float32Array({image.ravel().tolist()}), 4, {part})]')
  expected = np.floor(np.clip(image[1:3, 1:4], 0, 1) * 255.0 + 0.5)
  expected = np.concatenate([expected, np.full((2, 3, 1), 255)], axis=-1)
  np.testing.assert_array_equal(np.reshape(got, (2, 3, 4)), expected)


def test_the_detail_is_where_pictures_differ_most():
  a, b = np.zeros((2, 6, 9, 4), np.uint8)
  b[..., 3] = 255  # alpha does not count
  b[3:5, 6:8, 1] = 9
  b[0, 0] = 20
  got = run('tiles.js', f'm.mostDifferent({a.ravel().tolist()}, {b.ravel().tolist()}, 9, 6, 2, 2)')
  assert got == [0, 0]
  b[0, 0] = 0
  got = run('tiles.js', f'm.mostDifferent({a.ravel().tolist()}, {b.ravel().tolist()}, 9, 6, 2, 2)')
  assert got == [6, 3]


@pytest.mark.parametrize(
  ('size', 'output', 'text'),
  [
    ((4032, 3024), 'lr', ''),
    ((1600, 1250), 'hr', ''),
    ((4032, 3024), 'hr', '2 megapixels and 4096 pixels a side); choose the same size.'),
    ((4032, 3024), 'long', ''),
    ((4100, 3100), 'long', 'reduce it to at most 12.5 megapixels and 10240 pixels a side.'),
    ((4100, 10), 'hr', 'choose the same size.'),
    ((8000, 6000), 'lr', 'reduce it to at most 32 megapixels and 16384 pixels a side.'),
  ],
)
def test_limits(size, output, text):
  width, height = size
  got = run('limits.js', f'm.checkSize({{width: {width}, height: {height}}}, "{output}")')
  assert got.endswith(text) and bool(got) == bool(text)


def test_remaining_time():
  calls = '[[0, 4, 0], [1, 4, 2], [1, 9, 6], [1, 3, 20], [1, 3, 30], [3, 5, 300], [4, 4, 9]]'
  assert run('limits.js', f'{calls}.map((args) => m.remaining(...args))') == [
    '',
    ', about 10 seconds left',
    ', about 50 seconds left',
    ', about 40 seconds left',
    ', about 1 minute left',
    ', about 4 minutes left',
    '',
  ]
