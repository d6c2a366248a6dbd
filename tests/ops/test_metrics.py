import pathlib

import numpy as np
import pytest
from skimage import data
from skimage import metrics as oracle

from gfn_jax.ops import metrics
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.protocols import PROTOCOLS

FIXTURE = pathlib.Path(__file__).parents[1] / 'fixtures' / 'ssim.npz'
BORDERS = {'gfn': 6, 'cnlrn': 4, 'mprnet': 0}


def photographs():
  """Sharp images and blurred copies, uint8."""
  for image in (data.astronaut()[:200, 100:260], data.coffee()[60:205, 101:310]):
    height, width = image.shape[:2]
    small = imresize(image, (height // 3, width // 3))
    yield image, imresize(small, (height, width))


@pytest.fixture(scope='module')
def fixture():
  with np.load(FIXTURE) as file:
    images = {key: (file[key] * 255).round().astype(np.uint8) for key in 'ab'}
    return images | {key: float(file[key]) for key in file.files if key not in 'ab'}


@pytest.mark.parametrize('name', ['psnr', 'ssim3d', 'ssim2d_valid'])
def test_fixture(fixture, name):
  value = getattr(metrics, name)(fixture['a'], fixture['b'])
  assert value == pytest.approx(fixture[name], rel=1e-12, abs=0)


def test_ssim2d_valid_is_scikit_images():
  for a, b in photographs():
    expected = oracle.structural_similarity(
      a,
      b,
      gaussian_weights=True,
      sigma=1.5,
      use_sample_covariance=False,
      channel_axis=-1,
      data_range=255,
    )
    assert metrics.ssim2d_valid(a, b) == pytest.approx(expected, rel=1e-12)


def test_ssim3d_is_a_volumes_whose_channels_are_repeated():
  for a, b in photographs():
    # Replicate padding on all three axes; the middle three of the 13 channels are the image's.
    pad = ((5, 5), (5, 5), (5, 5))
    _, full = oracle.structural_similarity(
      np.pad(a, pad, mode='edge'),
      np.pad(b, pad, mode='edge'),
      gaussian_weights=True,
      sigma=1.5,
      use_sample_covariance=False,
      data_range=255,
      full=True,
    )
    expected = full[5:-5, 5:-5, 5:-5].mean()
    assert metrics.ssim3d(a, b) == pytest.approx(expected, rel=1e-12)
    assert metrics.ssim3d(a, b) > metrics.ssim2d_valid(a, b) + 0.05  # not comparable


def test_psnr_is_scikit_images():
  for a, b in photographs():
    expected = oracle.peak_signal_noise_ratio(a, b, data_range=255)
    assert metrics.psnr(a, b) == pytest.approx(expected, rel=1e-12)


def test_psnr_by_hand():
  a = np.full((4, 5, 3), 7, np.uint8)
  assert metrics.psnr(a, a) == float('inf')
  assert metrics.psnr(a, a + 1) == pytest.approx(48.1308036, abs=1e-6)  # 20 log10(255)
  b = a.copy()
  b[0, 0, 0] = 255  # one of 60 values
  assert metrics.psnr(a, b) == pytest.approx(10 * np.log10(60 * 255**2 / 248**2), rel=1e-12)


@pytest.mark.parametrize('protocol', BORDERS)
def test_equal_images(protocol):
  image = data.astronaut()[:40, :40]
  scores = metrics.evaluate_pair(image, image, protocol)
  assert scores == {'psnr': float('inf'), 'ssim': pytest.approx(1, abs=1e-12)}


@pytest.mark.parametrize('protocol', BORDERS)
def test_a_protocol_is_its_border_and_its_ssim(protocol):
  a, b = next(photographs())
  scores = metrics.evaluate_pair(b, a, protocol)
  assert metrics.pair_psnr(b, a, protocol) == scores['psnr']
  border = BORDERS[protocol]
  a, b = (image[border : 200 - border, border : 160 - border] for image in (a, b))
  ssim = metrics.ssim2d_valid if protocol == 'cnlrn' else metrics.ssim3d
  assert scores == {'psnr': metrics.psnr(a, b), 'ssim': ssim(a, b)}
  assert sorted(PROTOCOLS) == sorted(BORDERS)


SCALED_BORDERS = {'gfn': (0, 3, 5, 6), 'cnlrn': (0, 2, 3, 4), 'mprnet': (0, 0, 0, 0)}


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
@pytest.mark.parametrize('protocol', BORDERS)
def test_the_border_is_cut_exactly_and_grows_with_the_scale(protocol, scale):
  a, b = next(photographs())
  before = metrics.evaluate_pair(a, b, protocol, scale)
  border = SCALED_BORDERS[protocol][scale - 1]
  assert PROTOCOLS[protocol].border(scale) == border
  frame = np.ones(a.shape, bool)
  frame[border : 200 - border, border : 160 - border] = False
  changed = np.where(frame, 255 - a, a)
  assert metrics.evaluate_pair(changed, b, protocol, scale) == before
  for row, column in ((border, 80), (199 - border, 80), (100, border), (100, 159 - border)):
    changed = a.copy()
    changed[row, column] = 255 - changed[row, column]
    after = metrics.evaluate_pair(changed, b, protocol, scale)
    assert after['psnr'] != before['psnr']
    assert after['ssim'] != before['ssim']


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_floats_score_as_their_8_bit_images(dtype):
  a, b = next(photographs())
  expected = metrics.evaluate_pair(a, b, 'gfn')
  assert metrics.evaluate_pair((a / 255).astype(dtype), b, 'gfn') == expected
  assert metrics.evaluate_pair(a, (b / 255).astype(dtype), 'gfn') == expected


@pytest.mark.parametrize('protocol', BORDERS)
def test_the_smallest_images(protocol):
  smallest = 2 * BORDERS[protocol] + 11
  image = data.astronaut()[:smallest, : smallest + 3]
  assert metrics.evaluate_pair(image, image, protocol)['ssim'] == pytest.approx(1)
  for small in (image[:-1], image[:, : smallest - 1]):
    with pytest.raises(ValueError, match=f'{protocol} needs at least {smallest} pixels a side'):
      metrics.evaluate_pair(small, small, protocol)


def test_wrong_arguments():
  image = np.zeros((40, 40, 3), np.uint8)
  with pytest.raises(ValueError, match="unknown protocol 'y'; choose from cnlrn, gfn, mprnet"):
    metrics.evaluate_pair(image, image, 'y')
  for other in (image[1:], image[..., :1], image[None], image[..., 0]):
    with pytest.raises(ValueError, match=r'images must be \[H, W, 3\] and of equal size'):
      metrics.evaluate_pair(image, other, 'gfn')
  for grey in (image[..., :1], image[..., 0]):
    with pytest.raises(ValueError, match=r'images must be \[H, W, 3\] and of equal size'):
      metrics.evaluate_pair(grey, grey, 'gfn')
  for value in (np.nan, np.inf):
    broken = np.full((40, 40, 3), 0.5)
    broken[3, 4, 1] = value
    with pytest.raises(ValueError, match='not finite'):
      metrics.evaluate_pair(broken, image, 'gfn')
  for dtype in (np.int32, np.uint16, bool):
    with pytest.raises(TypeError, match=f'uint8 or float in .0, 1., not {np.dtype(dtype)}'):
      metrics.evaluate_pair(image, image.astype(dtype), 'gfn')
