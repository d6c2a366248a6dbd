from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from gfn_jax.ops.imresize import imresize, resize_weights, round_half_up
from tests.slow_imresize import CASES, FIXTURE, slow_imresize

SCALES = [Fraction(1, 4), Fraction(1, 3), Fraction(1, 2), Fraction(7, 10), Fraction(3, 2), 2]


def random_image(shape, dtype=np.uint8, seed=0):
  highest = np.iinfo(dtype).max
  return np.random.default_rng(seed).integers(0, highest, shape, dtype, endpoint=True)


def photograph():
  return data.astronaut()[80:147, 190:243]  # 67x53


@pytest.mark.parametrize('key', CASES)
@pytest.mark.parametrize('asarray', [np.asarray, jnp.asarray])
def test_uint8_is_matlabs(key, asarray):
  scale, border = CASES[key]
  with np.load(FIXTURE) as fixture:
    out = imresize(asarray(fixture['image']), float(scale), border)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, fixture[key])


def test_the_fixture_can_tell_the_borders_and_the_rounding_apart():
  with np.load(FIXTURE) as fixture:
    assert (fixture['quarter_symmetric'] != fixture['quarter_replicate']).any()
    once = imresize(fixture['image'].astype(np.float64), 1 / 4)
    assert (np.clip(round_half_up(once), 0, 255) != fixture['quarter_symmetric']).any()


@pytest.mark.parametrize('border', ['symmetric', 'replicate'])
@pytest.mark.parametrize('scale', [Fraction(1, 4), Fraction(3, 10), Fraction(7, 5)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_random_images_against_rational_numbers(scale, border, dtype):
  image = random_image((13, 11, 2), dtype)
  expected = slow_imresize(image, scale, border)
  np.testing.assert_array_equal(imresize(image, float(scale), border), expected)


@pytest.mark.parametrize('shape', [(1, 1, 3), (1, 9, 3), (3, 2, 3)])
@pytest.mark.parametrize('border', ['symmetric', 'replicate'])
def test_kernels_wider_than_the_image_mirror_it_repeatedly(shape, border):
  image = random_image(shape)
  np.testing.assert_array_equal(
    imresize(image, 0.25, border), slow_imresize(image, Fraction(1, 4), border)
  )


def test_halves_go_up():
  image = np.array([[10, 11]], np.uint8)  # in the middle 10.5
  np.testing.assert_array_equal(imresize(image, (1, 1)), [[11]])
  np.testing.assert_array_equal(imresize(jnp.asarray(image), (1, 1)), [[11]])
  np.testing.assert_array_equal(round_half_up(np.array([0.49, 0.5, 1.5, 2.5])), [0, 1, 2, 3])


@pytest.mark.parametrize('size', [(5, 20), (9, 30), (17, 13), (20, 5), (17, 4)])
def test_an_output_size_as_scale(size):
  image = random_image((17, 13, 3))
  out = imresize(image, size)
  assert out.shape == (*size, 3)
  np.testing.assert_array_equal(out, slow_imresize(image, size, 'symmetric'))


def test_an_output_size_maps_coordinates_by_its_own_ratio():
  image = photograph().astype(np.float64)  # 67x53
  by_factor, by_size = imresize(image, 0.25), imresize(image, (17, 14))
  assert by_factor.shape == by_size.shape
  assert np.abs(by_factor - by_size).max() > 1
  np.testing.assert_array_equal(imresize(image, 1.0), imresize(image, (67, 53)))


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('border', ['symmetric', 'replicate'])
def test_a_constant_image_stays_constant(scale, border):
  out = imresize(np.full((10, 9, 3), 0.3), float(scale), border)
  np.testing.assert_allclose(out, 0.3, rtol=1e-14)
  out = imresize(np.full((10, 9, 3), 77, np.uint8), float(scale), border)
  np.testing.assert_array_equal(out, np.full(out.shape, 77))


@pytest.mark.parametrize('scale', [4 / 3, 2.0, 3.0])
def test_a_parabola_is_reproduced_inside_when_enlarging(scale):
  # What Keys' choice of a = -0.5 is made for.
  y, x = np.mgrid[:24, :20].astype(np.float64)
  out = imresize(0.5 * y**2 - 3 * y + x**2 + x, scale)
  rows, columns = ((np.arange(n) + 0.5) / scale - 0.5 for n in out.shape)
  rows = rows[:, None]
  expected = 0.5 * rows**2 - 3 * rows + columns**2 + columns
  inside = slice(int(3 * scale), -int(3 * scale))
  np.testing.assert_allclose(out[inside, inside], expected[inside, inside], rtol=1e-12)


@pytest.mark.parametrize('shrink', [2, 3, 4])
def test_a_ramp_is_sampled_at_the_centres_when_shrinking(shrink):
  ramp = np.broadcast_to(np.arange(48.0), (48, 48))
  out = imresize(ramp, 1 / shrink)
  expected = np.arange(48 // shrink) * shrink + (shrink - 1) / 2
  np.testing.assert_allclose(
    out[:, 3:-3], np.broadcast_to(expected[3:-3], out[:, 3:-3].shape), rtol=1e-12
  )


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('border', ['symmetric', 'replicate'])
def test_rows_of_the_weights_sum_to_one(scale, border):
  weights = resize_weights(21, int(np.ceil(21 * scale)), float(scale), border)
  np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-14)
  with pytest.raises(ValueError, match='read-only'):  # as it is cached
    weights[0, 0] = 1


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32, np.float64])
def test_scale_one_is_the_identity(dtype):
  image = photograph().astype(dtype)
  np.testing.assert_array_equal(imresize(image, 1), image)


@pytest.mark.parametrize('asarray', [np.asarray, jnp.asarray])
def test_floats_overshoot_an_edge_and_are_not_clipped(asarray):
  step = np.zeros((8, 8, 1), np.float32)
  step[:, 4:] = 1
  out = imresize(asarray(step), 2.0)
  overshoot = 0.0703125  # the kernel at 1.25, negated
  assert float(out.max()) == pytest.approx(1 + overshoot, abs=1e-6)
  assert float(out.min()) == pytest.approx(-overshoot, abs=1e-6)
  assert imresize(asarray((255 * step).astype(np.uint8)), 2.0).max() == 255


def test_grey_images_are_resized_as_a_channel():
  image = photograph()
  expected = imresize(image, 1 / 3)
  grey = [imresize(image[..., channel], 1 / 3) for channel in range(3)]
  np.testing.assert_array_equal(np.stack(grey, axis=-1), expected)
  np.testing.assert_array_equal(imresize(jnp.asarray(image[..., 1]), 1 / 3), expected[..., 1])


@pytest.mark.parametrize(
  ('size', 'scale', 'expected'),
  [
    ((67, 53), 1 / 4, (17, 14)),
    ((67, 53), 1 / 3, (23, 18)),
    ((5, 1), 1 / 2, (3, 1)),
    ((50, 40), 0.7, (35, 28)),
    ((7, 9), 1.5, (11, 14)),
  ],
)
def test_output_sizes_are_rounded_up(size, scale, expected):
  assert imresize(np.zeros(size), scale).shape == expected


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_numpy_types_are_kept(dtype):
  image = photograph().astype(dtype)
  out = imresize(image, 1 / 4)
  assert out.dtype == dtype
  expected = imresize(photograph().astype(np.float64), 1 / 4)
  exact = np.issubdtype(dtype, np.floating)
  np.testing.assert_allclose(out, expected, atol=1e-4 if exact else 1.5, rtol=0)


def test_the_input_is_left_as_it_is():
  image = photograph().copy()
  imresize(image, 0.25)
  np.testing.assert_array_equal(image, photograph())


@pytest.mark.parametrize('scale', [1 / 4, 1 / 3, 1 / 2, 0.7, 1.5, 2.0, (20, 31)])
def test_jax_gives_the_integers_of_numpy(scale):
  resize = jax.jit(lambda image: imresize(image, scale))
  for seed in range(3):
    image = random_image((64, 48, 3), seed=seed)
    image[seed::7] = 255 * (image[seed::7] > 127)  # some at the limits
    out = resize(image)
    assert out.dtype == jnp.uint8
    np.testing.assert_array_equal(out, imresize(image, scale))


@pytest.mark.parametrize('scale', [1 / 4, 1 / 3, 0.7, 2.0])
def test_jax_floats_agree_with_numpy(scale):
  image = np.random.default_rng(0).random((40, 32, 3), np.float32)
  out = jax.jit(lambda image: imresize(image, scale))(image)
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(out, imresize(image.astype(np.float64), scale), atol=1e-6, rtol=0)


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_vmap_is_image_by_image(dtype):
  images = random_image((3, 16, 20, 3)).astype(dtype)
  out = jax.vmap(lambda image: imresize(image, 0.7))(images)
  for one, image in zip(out, images, strict=True):
    np.testing.assert_allclose(one, imresize(image, 0.7), rtol=1e-5, atol=1e-4)


def test_grad_is_the_transposed_resize():
  rng = np.random.default_rng(0)
  image, weight = rng.random((12, 8, 3), np.float32), rng.random((6, 4, 3), np.float32)
  loss = lambda image: jnp.sum(weight * imresize(image, 0.5))
  rows, columns = (resize_weights(n, n // 2, 0.5, 'symmetric') for n in (12, 8))
  expected = np.einsum('ih,jw,ijc->hwc', rows, columns, weight)
  np.testing.assert_allclose(jax.grad(loss)(image), expected, atol=1e-6)


@pytest.mark.parametrize('asarray', [np.asarray, jnp.asarray])
@pytest.mark.parametrize(
  ('shape', 'options', 'message'),
  [
    ((8,), {}, r'must be \[H, W\] or \[H, W, C\]'),
    ((1, 8, 8, 3), {}, r'without an empty axis, not \(1, 8, 8, 3\)'),
    ((0, 8, 3), {}, 'without an empty axis'),
    ((8, 8, 0), {}, 'without an empty axis'),
    ((8, 8), {'border': 'mirror'}, "border 'mirror'; choose from replicate, symmetric"),
    ((8, 8), {'scale': 0}, 'scale must be positive, not 0'),
    ((8, 8), {'scale': -0.5}, 'scale must be positive, not -0.5'),
    ((8, 8), {'scale': (4, 0)}, r'scale must be positive, not \(4, 0\)'),
  ],
)
def test_wrong_values(asarray, shape, options, message):
  with pytest.raises(ValueError, match=message):
    imresize(asarray(np.zeros(shape, np.float32)), **{'scale': 0.5} | options)


@pytest.mark.parametrize(
  ('image', 'message'),
  [
    (np.zeros((8, 8), bool), 'integers or floats, not bool'),
    (np.zeros((8, 8), complex), 'integers or floats, not complex128'),
    (jnp.zeros((8, 8), jnp.int32), 'JAX image must be uint8 or float, not int32'),
  ],
)
def test_wrong_types(image, message):
  with pytest.raises(TypeError, match=message):
    imresize(image, 0.5)
