import itertools

import numpy as np
import pytest

from gfn_jax.errors import UserError
from gfn_jax.restoration import tiling

SIZES = [4, 8, 32, 96, 100, 128, 132, 240, 720, 1280, 5000]


@pytest.mark.parametrize('tile', [32, 64, 128, 512])
@pytest.mark.parametrize('overlap', [0, 16, 96])
@pytest.mark.parametrize('stride', [1, 4, 8])
def test_every_pixel_is_kept_once_and_far_from_a_cut(tile, overlap, stride):
  if overlap >= tile:
    with pytest.raises(UserError, match=f'tile {tile} is not larger than overlap {overlap}'):
      tiling.check_tile(tile, overlap)
    return
  tiling.check_tile(tile, overlap)
  for size in SIZES:
    size += -size % stride
    side, parts = tiling._plan_axis(size, tile, overlap, stride)
    assert side % tiling.STEP == 0
    assert side <= tile
    end = 0
    for seen, kept in parts:
      assert seen.start % stride == 0
      assert seen.stop - seen.start == min(side, size)
      assert kept.start == end < kept.stop
      end = kept.stop
      assert seen.start == 0 or kept.start - seen.start >= overlap // 2
      assert seen.stop == size or seen.stop - kept.stop >= overlap // 2
    assert end == size


def test_windows_are_no_larger_than_they_need_be():
  shape, windows = tiling.plan_windows((720, 1280), 512, 96, (4, 4))
  assert shape == (416, 512)  # two of 408, three of 491, in steps of 32
  assert len(windows) == 6
  shape, windows = tiling.plan_windows((5, 2000), 512, 96, (1, 1))
  assert (shape, len(windows)) == ((32, 480), 5)


@pytest.mark.parametrize('size', [(1, 1), (40, 50), (33, 300), (200, 140), (64, 64)])
def test_what_is_cut_out_and_enlarged_comes_back_in_its_place(size):
  image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  shape, windows = tiling.plan_windows(size, 64, 16, (1, 1))
  restored = np.zeros((3 * size[0], 3 * size[1], 3), np.uint8)
  for window in itertools.chain(*tiling.batches(windows, 4)):
    part = tiling.cut_out(image, window, shape)
    assert part.shape == (*shape, 3)
    tiling.put_in(restored, window, part.repeat(3, axis=0).repeat(3, axis=1), 3)
  np.testing.assert_array_equal(restored, image.repeat(3, axis=0).repeat(3, axis=1))


def test_batches():
  windows = tiling.plan_windows((400, 64), 64, 0, (1, 1))[1]
  assert [len(batch) for batch in tiling.batches(windows, 3)] == [3, 3, 1]
  assert sum(tiling.batches(windows, 3), []) == windows


@pytest.mark.parametrize(
  ('tile', 'overlap', 'message'),
  [
    (0, 0, 'tile 0: pass a multiple of 32'),
    (100, 0, 'tile 100: pass a multiple of 32'),
    (64, 8, 'overlap 8: pass a multiple of 16'),
    (64, -16, 'overlap -16: pass a multiple of 16'),
    (64, 64, 'tile 64 is not larger than overlap 64'),
  ],
)
def test_bad_options(tile, overlap, message):
  with pytest.raises(UserError, match=message):
    tiling.check_tile(tile, overlap)
