"""Compression is compared with Pillow's, that is libjpeg-turbo's: every value must be equal."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax.data import jpeg

QUALITIES = np.arange(1, 101)


@pytest.fixture(scope='module')
def photos():
  return skimage.data.astronaut()[20:], skimage.data.coffee()[90:], skimage.data.chelsea()[80:]


def pillow(image, quality):
  file = io.BytesIO()
  Image.fromarray(image).save(file, format='JPEG', quality=int(quality))
  return np.asarray(Image.open(file).convert('RGB'))


# From less than a block to several: multiples of 16 and not, odd and even, chroma of 1 or 2 columns
# (which is not filtered) and of 3.
@pytest.mark.parametrize('size', [(1, 1), (20, 3), (5, 6), (7, 13), (33, 50), (48, 48)])
def test_every_value_is_that_of_pillow(photos, size):
  height, width = size
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (height, width, 3), np.uint8)
  extremes = 255 * rng.integers(0, 2, (height, width, 3), np.uint8)
  crops = [photo[:height, 200 : 200 + width] for photo in photos]
  images = np.stack([*crops, noise, extremes])
  images = np.tile(images, (20, 1, 1, 1))  # one for each quality
  actual = jax.jit(jax.vmap(jpeg.compress_jpeg))(images, QUALITIES)
  assert actual.dtype == jnp.uint8
  np.testing.assert_array_equal(actual, [*map(pillow, images, QUALITIES)])


def test_one_compilation_serves_every_quality(photos):
  compress = jax.jit(jpeg.compress_jpeg)
  image = photos[1][:16, :24]
  for quality in (1, 30, 100):
    np.testing.assert_array_equal(compress(image, jnp.int32(quality)), pillow(image, quality))
  np.testing.assert_array_equal(compress(image, jnp.int32(0)), pillow(image, 1))
  np.testing.assert_array_equal(compress(image, jnp.int32(200)), pillow(image, 100))
  assert compress._cache_size() == 1


@pytest.mark.parametrize('quality', [50, np.uint8(50), jnp.int32(50)])
def test_any_integer_is_a_quality(quality):
  image = jnp.zeros((16, 24, 3), jnp.uint8)
  result = jax.eval_shape(jpeg.compress_jpeg, image, quality)
  assert (result.shape, result.dtype) == ((16, 24, 3), jnp.uint8)


@pytest.mark.parametrize(
  ('shape', 'dtype', 'quality', 'error', 'message'),
  [
    ((8, 8, 3), jnp.float32, 50, TypeError, 'image must be uint8, not float32'),
    ((8, 8), jnp.uint8, 50, ValueError, r'image must be \[H, W, 3\] and not empty, not \[8, 8\]'),
    ((2, 8, 8, 3), jnp.uint8, 50, ValueError, r'not \[2, 8, 8, 3\]'),
    ((8, 8, 4), jnp.uint8, 50, ValueError, r'not \[8, 8, 4\]'),
    ((0, 8, 3), jnp.uint8, 50, ValueError, r'not \[0, 8, 3\]'),
    ((8, 8, 3), jnp.uint8, 50.0, TypeError, r'quality must be a scalar integer, not float32\[\]'),
    ((8, 8, 3), jnp.uint8, np.ones(2, np.int32), TypeError, r'scalar integer, not int32\[2\]'),
  ],
)
def test_other_arguments_are_refused(shape, dtype, quality, error, message):
  with pytest.raises(error, match=message):
    jpeg.compress_jpeg(jnp.zeros(shape, dtype), quality)
