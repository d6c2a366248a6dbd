import numpy as np
import pytest
import skimage.data
from scipy import ndimage

from gfn_jax import UserError
from gfn_jax.evaluation.selection import open_test_pairs, score_pairs
from gfn_jax.ops import metrics


def pair(size):
  """A photograph, and the mean over `size` pixels."""
  lr = skimage.data.astronaut()[100:180, 180:260]
  blur = ndimage.uniform_filter1d(lr.astype(np.float32), size, axis=1) if size else lr
  return {'name': str(size), 'lr': lr, 'lr_blur': np.round(blur).astype(np.uint8)}


def slightly_changed(value):
  lr = pair(0)['lr']
  noise = np.random.default_rng(0).choice([-value, value], lr.shape)
  return {
    'name': 'noise',
    'lr': lr,
    'lr_blur': np.clip(lr.astype(int) + noise, 0, 255).astype('u1'),
  }


def test_pairs_are_scored_apart_by_how_blurred_they_are():
  images = [pair(9), pair(5), slightly_changed(6), slightly_changed(2)]
  before = [metrics.psnr(image['lr_blur'], image['lr']) for image in images]
  assert before[1] < 30 < before[2] < 36 < before[3]

  def restore(image):  # brighter by 3
    return np.clip(image.astype(int) + 3, 0, 255).astype(np.uint8)

  scores = score_pairs(restore, images)
  gains = [
    metrics.psnr(restore(image['lr_blur']), image['lr']) - psnr
    for image, psnr in zip(images, before, strict=True)
  ]
  assert (scores.blurred, scores.nearly_sharp, scores.sharp) == (2, 1, 1)
  assert scores.gain == pytest.approx((gains[0] + gains[1]) / 2)
  assert scores.nearly_sharp_gain == pytest.approx(gains[2])
  assert scores.sharp_change == pytest.approx(3, abs=0.1)
  assert set(scores.scalars()) == {'gain', 'nearly_sharp_gain', 'sharp_change'}
  assert str(scores).startswith(f'{scores.gain:+.2f} dB (2 blurred), ')


def test_scores_of_no_pair_are_left_out():
  scores = score_pairs(lambda image: image, [pair(9)])
  assert scores.scalars() == {'gain': 0.0}
  assert str(scores) == '+0.00 dB (1 blurred)'


def test_a_folder_that_is_trained_on_is_refused(gopro_tree, monkeypatch):
  monkeypatch.chdir(gopro_tree / 'test')
  here = {'path': '.', 'blur': 'blur_gamma', 'reduce': 4}
  unused = here | {'path': ''}
  config = {'data': {'real_pairs': {'a': unused}}, 'evaluation': {'test_pairs': {'b': here}}}
  assert list(open_test_pairs(config)) == ['b']
  config['data']['real_pairs']['a'] = here | {'path': str(gopro_tree / 'test')}
  with pytest.raises(UserError, match=r'evaluation.test_pairs.b.path is one of data.real_pairs'):
    open_test_pairs(config)
