import numpy as np
import pytest
from PIL import Image
from skimage import data

from gfn_jax.data_prep import degradation
from gfn_jax.data_prep.gopro_tree import FramePair
from gfn_jax.errors import UserError
from gfn_jax.ops.imresize import imresize


def save_pair(folder, sharp, blur, name='seq/000001'):
  paths = [folder / 'sharp.png', folder / 'blur.png']
  for path, image in zip(paths, (sharp, blur), strict=True):
    Image.fromarray(image).save(path)
  return FramePair(name, *paths)


def mirrored_bicubic_quarter(plane, row, column):
  """One pixel of a x1/4 shrink, summed directly over its 16x16 neighbours."""

  def taps(index, size):
    centre = 4 * index + 1.5
    places = np.arange(4 * index - 6, 4 * index + 10)
    x = np.abs(places - centre) / 4
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, far)
    places = np.where(places < 0, -1 - places, places)
    places = np.where(places >= size, 2 * size - 1 - places, places)
    return places, weights / weights.sum()

  (rows, down), (columns, across) = taps(row, plane.shape[0]), taps(column, plane.shape[1])
  return down @ plane[np.ix_(rows, columns)] @ across


@pytest.mark.parametrize(
  ('height', 'width', 'count'),
  [(720, 1280, 36), (504, 896, 12), (360, 640, 4), (256, 256, 1), (255, 1280, 0)],
)
def test_number_of_windows(height, width, count):
  assert len(degradation.window_corners(height, width)) == count


def test_windows_go_row_by_row_and_fit():
  assert degradation.window_corners(400, 520) == [
    (0, 0), (0, 128), (0, 256), (128, 0), (128, 128), (128, 256),
  ]  # fmt: skip


def test_mean_gradient_of_a_plane_is_its_slope():
  y, x = np.mgrid[:20, :30]
  plane = (0.003 * y + 0.004 * x)[..., None].repeat(3, axis=2)
  assert degradation.mean_gradient(plane) == pytest.approx(0.005, rel=1e-12)


def test_mean_gradient_is_central_inside_and_one_sided_at_the_border():
  parabola = (np.arange(5.0) ** 2)[:, None, None] * np.ones((1, 4, 3))
  assert degradation.mean_gradient(parabola) == pytest.approx((1 + 2 + 4 + 6 + 7) / 5)


def test_to_uint8_clips_and_rounds_half_up():
  values = np.array([-0.2, 0.49 / 255, 0.5 / 255, 2.5 / 255, 254.4 / 255, 1.3])
  np.testing.assert_array_equal(degradation.to_uint8(values), [0, 0, 1, 3, 254, 255])


def test_train_pair(tmp_path):
  sharp, blur = data.coffee(), data.coffee()[::-1].copy()  # 400x600
  pair = save_pair(tmp_path, sharp, blur)
  result = degradation.degrade_train_pair(pair, float_lr=False)
  names = [example['name'] for example in result.examples]
  assert names == [f'seq/000001_s1.0_y{y}_x{x}' for y in (0, 128) for x in (0, 128, 256)] + [
    f'seq/000001_s0.7_y0_x{x}' for x in (0, 128)
  ]
  assert result.windows_seen == 8
  full = result.examples[4]  # y 128, x 128
  hr = sharp[128:384, 128:384]
  np.testing.assert_array_equal(full['hr'], hr, strict=True)
  for key, image in (('lr', hr), ('lr_blur', blur[128:384, 128:384])):
    quarter = imresize(image / 255.0, 0.25)
    np.testing.assert_array_equal(full[key], degradation.to_uint8(quarter), strict=True)
  smaller = result.examples[7]
  np.testing.assert_array_equal(smaller['hr'], imresize(sharp, 0.7)[:256, 128:384])


def test_float_lr_is_mirrored_at_the_window_and_keeps_the_overshoot(tmp_path):
  rng = np.random.default_rng(0)
  sharp = (rng.integers(0, 2, (67, 80)).repeat(4, 0).repeat(4, 1) * 255).astype(np.uint8)
  sharp = sharp[:, :, None].repeat(3, axis=2)  # 268x320: black and white blocks
  pair = save_pair(tmp_path, sharp, sharp)
  (example,) = degradation.degrade_train_pair(pair, float_lr=True).examples
  assert example['lr'].dtype == np.float32
  assert example['lr'].shape == (64, 64, 3)
  assert example['lr'].min() < -0.04
  assert example['lr'].max() > 1.04
  window = sharp[:256, :256, 1] / 255
  for row, column in ((0, 0), (0, 40), (63, 62), (17, 30)):
    expected = mirrored_bicubic_quarter(window, row, column)
    assert example['lr'][row, column, 1] == pytest.approx(expected, abs=1e-6)


def test_flat_windows_are_dropped_by_the_sharp_patch(tmp_path):
  blur = np.ascontiguousarray(data.coffee()[:256, :512])
  sharp = blur.copy()
  sharp[:, :256] = 90
  result = degradation.degrade_train_pair(save_pair(tmp_path, sharp, blur), float_lr=False)
  assert result.windows_seen == 3
  names = [example['name'] for example in result.examples]
  assert names == ['seq/000001_s1.0_y0_x128', 'seq/000001_s1.0_y0_x256']


def test_the_threshold_lies_between_one_and_two_grey_levels_per_pixel(tmp_path):
  ramp = np.arange(256, dtype=np.uint8)
  steeper = np.abs(2 * np.arange(256) - 255).astype(np.uint8)
  kept = []
  for row in (ramp, steeper):  # gradients 1/255 = 0.0039 and 0.0078
    image = np.ascontiguousarray(np.broadcast_to(row[None, :, None], (256, 256, 3)))
    result = degradation.degrade_train_pair(save_pair(tmp_path, image, image), float_lr=False)
    kept.append(len(result.examples))
  assert kept == [0, 1]


def test_frames_smaller_than_a_window_give_none(tmp_path):
  image = np.ascontiguousarray(data.coffee()[:200, :300])
  result = degradation.degrade_train_pair(save_pair(tmp_path, image, image), float_lr=False)
  assert result == degradation.Degraded([], 0)


@pytest.mark.parametrize('float_lr', [False, True])
def test_test_pair_is_the_whole_frame_in_8_bit(tmp_path, float_lr):
  sharp = np.ascontiguousarray(data.coffee()[:150, :170])
  blur = sharp[::-1].copy()
  pair = save_pair(tmp_path, sharp, blur)
  (example,) = degradation.degrade_test_pair(pair, float_lr).examples
  assert example['name'] == 'seq/000001'
  np.testing.assert_array_equal(example['hr'], sharp[:144, :160])
  for key, image in (('lr', sharp), ('lr_blur', blur)):
    expected = degradation.to_uint8(imresize(image[:144, :160] / 255.0, 0.25))
    if float_lr:
      assert example[key].dtype == np.float32
      np.testing.assert_array_equal(example[key], (expected / 255).astype(np.float32))
    else:
      np.testing.assert_array_equal(example[key], expected, strict=True)


def test_a_test_frame_that_crops_to_nothing_is_refused(tmp_path):
  image = np.zeros((15, 40, 3), np.uint8)
  with pytest.raises(UserError, match='sharp.png is smaller than 16x16'):
    degradation.degrade_test_pair(save_pair(tmp_path, image, image), float_lr=False)
