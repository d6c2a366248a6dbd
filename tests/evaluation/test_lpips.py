import math

import numpy as np
import pytest
import safetensors.numpy
import skimage.data
from numpy.lib.stride_tricks import sliding_window_view

from gfn_jax import UserError
from gfn_jax.evaluation.lpips import LPIPS
from gfn_jax.interop import save_torch_checkpoint
from tests import random_lpips
from tests.random_lpips import CONVS
from tests.slow_conv import conv


def images(height, width):
  """Two uint8 photographs."""
  return skimage.data.astronaut()[:height, 200 : 200 + width], skimage.data.coffee()[
    100 : 100 + height, 100 : 100 + width
  ]


@pytest.fixture(scope='module')
def lpips():
  return LPIPS(random_lpips.together())


def write(path, state):
  if path.suffix == '.pth':
    save_torch_checkpoint(path, state)
  else:
    safetensors.numpy.save_file(state, path)
  return path


def pool(x):
  return sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(-2, -1))


def features(image, state):
  """AlexNet's, each pixel's of length 1, in float64."""
  shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
  x = ((2 * image - 1 - shift) / scale).transpose(2, 0, 1)
  for k, (index, (_, stride, padding)) in enumerate(CONVS.items()):
    kernel, bias = (state[f'features.{index}.{kind}'] for kind in ('weight', 'bias'))
    x = np.maximum(conv(pool(x) if k in (1, 2) else x, kernel, bias, stride, padding), 0)
    yield x / (np.sqrt((x**2).sum(axis=0)) + 1e-10)


def slow_lpips(a, b):
  state = {
    key: value.astype(np.float64)
    for key, value in (random_lpips.alexnet() | random_lpips.linear()).items()
  }
  total = 0
  for k, (u, v) in enumerate(zip(features(a, state), features(b, state), strict=True)):
    total += (state[f'lin{k}.model.1.weight'][0] * (u - v) ** 2).sum(axis=0).mean()
  return total


@pytest.mark.parametrize(('height', 'width'), [(31, 31), (72, 45)])
def test_it_is_the_formula(lpips, height, width):
  a, b = images(height, width)
  expected = slow_lpips(a / 255, b / 255)
  assert expected > 0.1
  assert lpips(a, b) == pytest.approx(expected, rel=1e-5)
  floats = (a / 255).astype(np.float32), b / 255
  assert lpips(*floats) == pytest.approx(expected, rel=1e-5)


def test_a_case_with_a_closed_form():
  """The first layer sees red and a constant, the others nothing."""
  state = {key: np.zeros_like(value) for key, value in random_lpips.together().items()}
  state['net.slice1.0.weight'][0, 0, 5, 5] = 1
  state['net.slice1.0.bias'][1] = 1
  for name in ('lin0', 'lins.0'):
    state[f'{name}.model.1.weight'][0, 0] = 3
  a, b = np.zeros((2, 31, 40, 3))
  a[..., 0], b[..., 0] = 0.6, 0.8
  b[..., 1:] = 0.5
  red = [(2 * value - 1 + 0.030) / 0.458 for value in (0.6, 0.8)]
  u, v = (value / math.hypot(value, 1) for value in red)
  assert LPIPS(state)(a, b) == pytest.approx(3 * (u - v) ** 2, rel=1e-5)


def test_equal_images_and_the_order_of_two(lpips):
  a, b = images(72, 45)
  assert lpips(a, a.copy()) == 0
  assert lpips(a, b) == lpips(b, a) > 0


@pytest.mark.parametrize('extension', ['pth', 'safetensors'])
def test_the_files_that_people_have(lpips, tmp_path, extension):
  a, b = images(31, 31)
  alexnet = write(tmp_path / f'alexnet.{extension}', random_lpips.alexnet())
  linear = write(tmp_path / f'linear.{extension}', random_lpips.linear())
  together = write(tmp_path / f'together.{extension}', random_lpips.together())
  for paths in ([alexnet, linear], [linear, alexnet], [together], [together, linear]):
    assert LPIPS.from_files(paths)(a, b) == lpips(a, b)


def changed(**changes):
  state = random_lpips.alexnet() | random_lpips.linear() | changes
  return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
  ('state', 'message'),
  [
    (
      {},
      r'^these are not weights for LPIPS with AlexNet: 15 missing \(.*\); pass the files of ',
    ),
    (random_lpips.alexnet(), r'LPIPS with AlexNet: 5 missing \(lin0.model.1.weight, .*, \.\.\.\)'),
    (changed(**{'features.8.bias': None}), r'AlexNet: 1 missing \(features.8.bias\); pass'),
    (changed(**{'conv_first.weight': np.zeros(3)}), r'1 unexpected \(conv_first.weight\)'),
    (changed(**{'a\nb': np.zeros(3)}), r'1 unexpected \(a\\nb\)'),
    (
      changed(**{'features.0.weight': np.zeros((64, 3, 3, 3))}),
      r'1 of the wrong shape \(features.0.weight \[64, 3, 3, 3\], expected \[64, 3, 11, 11\]\)',
    ),
    (changed(**{'features.0.bias': np.full(64, np.nan)}), r'1 not finite \(features.0.bias\)'),
    (changed(**{'features.0.bias': np.full(64, 1e300)}), r'1 not finite \(features.0.bias\)'),
    (
      changed(**{'lins.0.model.1.weight': np.zeros((1, 64, 1, 1))}),
      'lins.0.model.1.weight is given twice, with different values',
    ),
  ],
)
def test_tensors_that_are_not_its_own(state, message):
  with pytest.raises(UserError, match=message):
    LPIPS(state)


def test_files_that_are_not_its_own(tmp_path):
  with pytest.raises(UserError, match='LPIPS with AlexNet: 15 missing'):
    LPIPS.from_files([])
  other = write(tmp_path / 'other.safetensors', {'x': np.zeros(3)})
  with pytest.raises(UserError, match=r'other.safetensors: .* AlexNet: 1 unexpected \(x\)'):
    LPIPS.from_files([other])
  linear = write(tmp_path / 'linear.safetensors', random_lpips.linear())
  ones = {key: np.ones_like(value) for key, value in random_lpips.linear().items()}
  contradiction = write(tmp_path / 'ones.safetensors', ones)
  with pytest.raises(UserError, match='ones.safetensors: lin0.* is given twice, with different'):
    LPIPS.from_files([linear, contradiction])
  (tmp_path / 'damaged.safetensors').write_bytes(b'12345678')
  for name in ('missing', 'damaged'):
    with pytest.raises(UserError, match=f'cannot read .*{name}.safetensors as safetensors'):
      LPIPS.from_files([tmp_path / f'{name}.safetensors'])


@pytest.mark.parametrize(
  ('a', 'b', 'error', 'message'),
  [
    (np.zeros((31, 40, 3)), np.zeros((40, 31, 3)), ValueError, 'images of the same size, not'),
    (*np.zeros((2, 31, 30, 3)), ValueError, r'at least 31 pixels a side, not \(31, 30, 3\)'),
    (*np.zeros((2, 40, 40)), ValueError, r'\[H, W, 3\] images, not \(40, 40\)'),
    (*np.zeros((2, 40, 40, 4)), ValueError, r'\[H, W, 3\] images, not'),
    (*np.full((2, 40, 40, 3), -0.5), ValueError, r'in \[0, 1\], not from -0.5 to -0.5'),
    (*np.full((2, 40, 40, 3), np.nan), ValueError, r'in \[0, 1\], not from nan'),
    (*np.zeros((2, 40, 40, 3), np.int16), TypeError, 'uint8, uint16 or float'),
  ],
)
def test_images_that_cannot_be_compared(lpips, a, b, error, message):
  with pytest.raises(error, match=message):
    lpips(a, b)
