import numpy as np
import pytest
import skimage.data

from gfn_jax.images.preview import shrink


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_a_reduced_image_has_the_same_type_and_channels(channels, dtype):
  photo = skimage.data.astronaut()[:200, :300]
  image = np.concatenate([photo, np.full_like(photo[..., :1], 255)], axis=-1)[..., -channels:]
  image = image.astype(dtype) * dtype(257 if dtype == np.uint16 else 1)
  reduced = shrink(image, (150, 100))
  assert (reduced.shape, reduced.dtype) == ((100, 150, channels), dtype)
  means = image.reshape(100, 2, 150, 2, channels).mean(axis=(1, 3))
  assert np.abs(reduced - means).mean() / np.iinfo(dtype).max < 0.006


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_hidden_colours_do_not_reach_visible_ones(dtype):
  most = np.iinfo(dtype).max
  image = np.full((40, 40, 4), [most, most, 0, 0], dtype)
  image[:, 15:] = [most // 2, most // 2, most // 2, most]
  reduced = shrink(image, (20, 20))
  assert reduced[..., 3].tolist() == [reduced[0, :, 3].tolist()] * 20
  assert 0 < reduced[0, 7, 3] < most
  visible = reduced[..., 3] > most // 50
  np.testing.assert_allclose(reduced[visible][:, :3], most // 2, atol=0.03 * most)
