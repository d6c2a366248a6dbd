import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from gfn_jax.ops import pixels


def test_to_uint8_clips_and_rounds_half_up():
  values = np.array([-0.2, 0.49 / 255, 0.5 / 255, 2.5 / 255, 254.4 / 255, 1.3])
  expected = np.array([0, 0, 1, 3, 254, 255], np.uint8)
  for array in (values, values.astype(np.float32)):
    np.testing.assert_array_equal(pixels.to_uint8(array), expected, strict=True)
  grey_levels = np.arange(256, dtype=np.uint8)
  np.testing.assert_array_equal(pixels.to_uint8(grey_levels), grey_levels, strict=True)
  for dtype in (np.float32, np.float64):
    np.testing.assert_array_equal(
      pixels.to_uint8((grey_levels / 255).astype(dtype)), grey_levels, strict=True
    )
  assert pixels.to_uint8(np.array(1, ml_dtypes.bfloat16)) == 255


def test_16_bits_become_8_rounded_to_the_nearest():
  values = np.arange(2**16, dtype=np.uint16)
  expected = np.floor(values / 257 + 0.5).astype(np.uint8)
  np.testing.assert_array_equal(pixels.to_8_bits(values), expected, strict=True)
  assert pixels.to_8_bits(expected) is expected


def test_integers_and_floats_are_converted_both_ways():
  for dtype in (np.uint8, np.uint16):
    values = np.arange(0, np.iinfo(dtype).max + 1, 5, dtype=dtype)
    as_float = pixels.to_float(jnp.asarray(values))
    assert as_float.dtype == jnp.float32
    np.testing.assert_allclose(as_float, values / np.iinfo(dtype).max, rtol=1e-6)
    np.testing.assert_array_equal(pixels.from_float(as_float, dtype), values, strict=True)
  overshoot = jnp.array([-0.1, 0.25, 1.2])
  np.testing.assert_array_equal(pixels.from_float(overshoot, jnp.float32), [0, 0.25, 1])
  assert pixels.to_float(overshoot) is overshoot


def test_images_of_another_shape_type_or_range_are_refused():
  for image, error in (
    (np.zeros((2, 2, 5), np.uint8), ValueError),
    (np.zeros((0, 2, 3), np.uint8), ValueError),
    (np.full((2, 2), np.nan), ValueError),
    (np.full((2, 2), 3.0), ValueError),
    (np.zeros((2, 2), np.int32), TypeError),
  ):
    with pytest.raises(error):
      pixels.check_image(image)
  assert pixels.check_image(np.ones((2, 3))).dtype == np.float32


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_hidden_colours_become_those_of_the_nearest_visible_pixels(dtype):
  colours = np.arange(1, 6)[None, :, None].astype(dtype) * np.array([1, 2, 3], dtype)
  alpha = np.array([[0, 1, 0, 0, 1]], dtype)
  spread = pixels.spread_colours(colours, alpha)
  np.testing.assert_array_equal(spread, colours[:, [1, 1, 1, 4, 4]], strict=True)
  np.testing.assert_array_equal(
    colours[0, 0], np.array([1, 2, 3], dtype)
  )  # the input is not changed
  assert pixels.spread_colours(colours, np.ones_like(alpha)) is colours
  assert pixels.spread_colours(colours, np.zeros_like(alpha)) is colours
