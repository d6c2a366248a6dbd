import dataclasses
import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from PIL import Image
from scipy import ndimage

from gfn_jax.data import motion_blur, scenes
from gfn_jax.data.blur_options import MotionBlur, select_world
from gfn_jax.data.map_examples import map_examples
from gfn_jax.data.scenes import Scene
from gfn_jax.ops.imresize import imresize

STILL = MotionBlur(
  frames=5,
  translation=(0, 0),
  rotation=(0, 0),
  tilt=(0, 0),
  zoom=(0, 0),
  region_translation=(0, 0),
  region_rotation=(0, 0),
  region_zoom=(0, 0),
)
MOVING = MotionBlur(frames=5)
NOISY = dataclasses.replace(STILL, shot_noise=(1e-3, 1e-3), read_noise=(1e-2, 1e-2))
KEY = jax.random.key(0)


@pytest.fixture(scope='module')
def photo():
  return skimage.data.astronaut()[:96, 180:276]


# Jitted, because each operation outside of jit is compiled on its own.
exposure = jax.jit(scenes.exposure, static_argnames='margin')
render = jax.jit(scenes.render, static_argnames='margin')
random_scene = jax.jit(scenes.random_scene, static_argnames='options')
random_region = jax.jit(scenes.random_region, static_argnames=('shape', 'options'))
unit_path = jax.jit(scenes.unit_path, static_argnames='frames')

# `COUNTS` change the program, and so do `EXTRAS` that are 0. Other options are traced, as in
# `select_world`, so that all cases share a program.
COUNTS, EXTRAS = ('frames', 'regions'), ('shot_noise', 'read_noise', 'sharp_share', 'jpeg_share')


@functools.partial(jax.jit, static_argnames=('function', 'plain', 'margin', 'scale', 'frames'))
def _call(function, key, photo, plain, traced, **layout):
  options = MotionBlur(**dict(plain))
  for name, value in traced.items():
    object.__setattr__(options, name, value)
  return function(key, photo, options, **layout)


def call(function, key, photo, options, **layout):
  """Call a function of `motion_blur` with the options as numbers, and return NumPy arrays."""
  values = dict(vars(options))
  has_extras = any(np.any(values[name]) for name in EXTRAS)
  plain = tuple((name, values.pop(name)) for name in COUNTS + (() if has_extras else EXTRAS))
  traced = jax.tree.map(np.float32, values)
  return jax.device_get(_call(function, key, photo, plain, traced, **layout))


synthesize = functools.partial(call, motion_blur.synthesize)
sub_frames = functools.partial(call, motion_blur.sub_frames)


@functools.partial(jax.jit, static_argnames='frames')
def camera(frames, x=0.0, y=0.0, angle=0.0, scale=1.0, yaw=0.0, pitch=0.0):
  """Homographies that move by the given amounts from one sub-frame to the next."""
  t = jnp.arange(frames) - frames // 2
  return scenes.homographies(
    t * x, t * y, t * angle, scale**t, t * yaw, t * pitch, focal_length=1000.0
  )


def scene(photo, homographies, gamma=2.2):
  """Only the camera moves."""
  frames = len(homographies)
  masks, motions = np.zeros((0, *photo.shape[:2])), np.zeros((frames, 0, 3, 3))
  radiance = np.float32((photo / 255) ** gamma)
  return Scene(radiance, np.float32(masks), homographies, np.float32(motions))


def psnr(a, b):
  return -10 * np.log10(np.mean((np.float64(a) - np.float64(b)) ** 2) / 255**2)


@pytest.mark.parametrize('regions', [0, 1, 2])
@pytest.mark.parametrize('gamma', [(2.2, 2.2), (1.0, 1.0), (1.0, 2.2)])
def test_without_motion_it_is_the_plain_degradation(photo, regions, gamma):
  options = dataclasses.replace(STILL, regions=regions, gamma=gamma)
  example = synthesize(KEY, photo, options)
  for name in ('hr', 'hr_blur'):
    np.testing.assert_array_equal(example[name], photo, name)
  for name in ('lr', 'lr_blur'):
    np.testing.assert_array_equal(example[name], imresize(photo, 0.25), name)


def test_every_value_survives_the_gamma():
  values = jnp.arange(256, dtype=jnp.uint8)
  for gamma in (1.8, 2.2, 2.4, 1.0, jnp.float32(1.0)):
    linear = motion_blur.decode(values, gamma)
    np.testing.assert_array_equal(motion_blur.encode(linear, gamma), values)
  np.testing.assert_allclose(motion_blur.decode(values, 2.2), (np.arange(256) / 255) ** 2.2, 1e-5)


def test_gamma_is_drawn_between_its_ends():
  options = dataclasses.replace(MOVING, gamma=(1.0, 2.2))
  draw = jax.vmap(lambda key: motion_blur.random_sensor(key, options).gamma)
  gamma = np.asarray(jax.jit(lambda key: draw(jax.random.split(key, 1000)))(KEY))
  assert gamma.min() == pytest.approx(1, abs=0.01)
  assert gamma.max() == pytest.approx(2.2, abs=0.01)
  assert gamma.mean() == pytest.approx(1.6, abs=0.05)


@pytest.mark.parametrize('axis', [0, 1])
def test_constant_translation_is_a_box_convolution(photo, axis):
  step = {'y': 1.0} if axis == 0 else {'x': 1.0}
  light = exposure(scene(photo, camera(7, **step)))
  linear = (photo / 255) ** 2.2
  expected = ndimage.uniform_filter1d(linear, 7, axis=axis, mode='nearest')
  np.testing.assert_allclose(light, expected, atol=1e-6)


def test_homographies_move_points_as_they_say():
  def moved(point, **motion):
    x, y, w = np.asarray(camera(3, **motion))[2] @ np.array([*point, 1.0])
    return [x / w, y / w]

  assert moved((10, 20), x=3, y=-4) == pytest.approx([13, 16])
  assert moved((10, 0), angle=np.pi / 2) == pytest.approx([0, 10], abs=1e-5)
  assert moved((10, 20), scale=1.5) == pytest.approx([15, 30])
  assert moved((0, 0), yaw=0.01) == pytest.approx([1000 * np.tan(0.01), 0], rel=1e-4)
  assert moved((0, 0), pitch=0.01) == pytest.approx([0, -1000 * np.tan(0.01)], rel=1e-4)
  # Perspective: what was turned towards the camera grows.
  left, right = moved((-100, 50), yaw=0.1), moved((100, 50), yaw=0.1)
  assert right[1] > 50 > left[1]


def test_a_rotation_about_the_centre_leaves_the_centre_sharp(photo):
  noise = np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8)
  blur = exposure(scene(noise, camera(9, angle=0.005), gamma=1.0))
  error = np.abs(np.asarray(blur) - noise / 255)
  assert error[45:51, 45:51].mean() < 0.03
  assert error[:16].mean() > 0.15


def test_the_middle_frame_is_the_photo_and_the_target(photo):
  options = dataclasses.replace(MOVING, regions=2)
  frames = sub_frames(KEY, photo, options)
  example = synthesize(KEY, photo, options)
  assert frames.shape == (5, 96, 96, 3)
  np.testing.assert_array_equal(frames[2], photo)
  np.testing.assert_array_equal(example['hr'], photo)
  assert psnr(frames[0], photo) < 40
  assert psnr(frames[4], photo) < 40


def test_blur_is_the_mean_of_the_sub_frames(photo):
  options = dataclasses.replace(MOVING, regions=2, gamma=(1.0, 1.0))
  example, frames = synthesize(KEY, photo, options), sub_frames(KEY, photo, options)
  mean = frames.mean(axis=0)
  assert np.abs(mean - example['hr_blur']).max() <= 1


@pytest.mark.parametrize(('frames', 'shown'), [(7, range(7)), (15, range(1, 15, 2))])
def test_sharp_frames_are_seven_of_the_sub_frames_shrunk(photo, frames, shown):
  options = dataclasses.replace(MOVING, frames=frames, regions=0, exposure=(1.1, 1.1))
  example = synthesize(KEY, photo, options, margin=12, scale=3, frames=True)
  all_frames = sub_frames(KEY, photo, options, margin=12)
  assert example['hr'].shape == (72, 72, 3)
  expected = [imresize(all_frames[n], 1 / 3) for n in shown]
  np.testing.assert_array_equal(example['frames'], expected)
  np.testing.assert_array_equal(example['frames'][3], example['lr'])
  np.testing.assert_array_equal(example['lr_blur'], imresize(example['hr_blur'], 1 / 3))
  assert psnr(example['frames'][0], example['frames'][6]) < 40


def test_reversed_time_gives_the_same_blur(photo):
  forward = random_scene(KEY, np.float32(photo / 255), dataclasses.replace(MOVING, regions=2))
  backward = forward._replace(camera=forward.camera[::-1], motions=forward.motions[::-1])
  np.testing.assert_allclose(exposure(forward), exposure(backward), atol=1e-6)


def test_mean_brightness_in_linear_light_is_kept(photo):
  flat = np.full(photo.shape, 60, np.uint8)
  flat[16:80, 16:80] = photo[:64, :64]
  options = dataclasses.replace(STILL, translation=(16, 16), regions=0)
  example = synthesize(KEY, flat, options)
  sharp, blur = (np.mean((example[k] / 255) ** 2.2) for k in ('hr', 'hr_blur'))
  assert psnr(example['hr'], example['hr_blur']) < 35
  assert blur == pytest.approx(sharp, rel=2e-3)
  # In the values themselves it is not.
  assert np.mean(example['hr_blur']) > np.mean(example['hr']) + 0.2


def test_regions_cover_what_is_behind_them_and_move_alone():
  photo = np.zeros((64, 64, 3), np.uint8)
  photo[:, 32:] = 255
  still = camera(3)
  mask = np.zeros((1, 64, 64), np.float32)
  mask[:, :, 32:] = 1
  light = np.float32(photo / 255)
  frames = Scene(light, mask, still, camera(3, x=4.0)[:, None])
  # The white half moves by 4 pixels: to the right it uncovers itself, to the left it covers.
  for n, edge in ((0, 36), (1, 32), (2, 28)):
    expected = np.zeros((64, 64, 3))
    expected[:, min(edge, 32) :] = 1
    np.testing.assert_allclose(render(frames, n), expected, atol=1e-6)


def test_each_region_has_its_own_mask_and_motion():
  light, masks = np.zeros((64, 64, 3), np.float32), np.zeros((2, 64, 64), np.float32)
  light[10:20, 10:20] = light[40:50, 40:50] = 1
  masks[0, 10:20, 10:20] = masks[1, 40:50, 40:50] = 1
  motions = jnp.stack([camera(3, x=4.0), camera(3, y=6.0)], axis=1)
  frames = Scene(light, masks, camera(3), motions)
  for n, t in enumerate((-1, 0, 1)):
    expected = light.copy()
    expected[10:20, 10 - 4 * t : 20 - 4 * t] = expected[40 - 6 * t : 50 - 6 * t, 40:50] = 1
    np.testing.assert_allclose(render(frames, n), expected, atol=1e-6)


def test_masks_have_soft_edges_of_the_given_width():
  options = dataclasses.replace(STILL, region_size=(0.3, 0.3), region_edge=(6.0, 6.0))
  for seed in range(5):
    rng = np.random.default_rng(seed)
    shares, normals = rng.uniform(size=9), rng.normal(size=4)
    mask = np.asarray(random_region(shares, normals, (96, 96), options))
    soft = (mask > 0) & (mask < 1)
    assert mask.min() == 0
    assert mask.max() <= 1
    assert np.abs(np.diff(mask, axis=0)).max() < 0.5
    assert 0 < soft.sum() < (mask > 0).sum()


def test_different_keys_differ_and_equal_keys_do_not(photo):
  keys = [jax.random.key(seed) for seed in (1, 1, 2)]
  first, again, other = (synthesize(key, photo, MOVING)['hr_blur'] for key in keys)
  np.testing.assert_array_equal(first, again)
  assert psnr(first, other) < 40


def test_psnr_falls_as_the_amplitude_grows(photo):
  def score(extent):
    options = dataclasses.replace(STILL, translation=(extent, extent))
    return psnr(synthesize(KEY, photo, options)['hr_blur'], photo)

  scores = [score(extent) for extent in (1, 2, 4, 8, 16)]
  assert scores == sorted(scores, reverse=True)
  assert scores[0] > scores[-1] + 8


def terms(seed, dims):
  return np.random.default_rng(seed).normal(size=(3, 1, dims))


@pytest.mark.parametrize('dims', [1, 2])
def test_paths_have_extent_one_and_pass_the_origin(dims):
  for seed in range(5):
    path = np.asarray(unit_path(terms(seed, dims), 33, wobble=0.5))
    distances = np.linalg.norm(path[:, None] - path[None], axis=-1)
    assert distances.max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(path[16], 0, atol=1e-6)
    assert np.linalg.norm(np.diff(path, n=2, axis=0), axis=-1).max() < 0.06  # smooth
  straight = np.asarray(unit_path(terms(0, dims), 33, wobble=0.0))
  np.testing.assert_allclose(np.diff(straight, n=2, axis=0), 0, atol=1e-6)


def test_motions_stay_in_their_ranges_and_skew_favours_small_ones():
  def extents(skew):
    options = dataclasses.replace(STILL, skew=skew)
    rng = np.random.default_rng(0)
    shares, normals = rng.uniform(size=(400, 4)), rng.normal(size=(400, 3, 1, 6))
    still = (0.0, 0.0)
    draw = lambda *numbers: scenes.random_motion(
      *numbers, options, (2.0, 10.0), still, still, still
    )
    motions = jax.jit(jax.vmap(draw))(shares, normals)
    positions = np.asarray(motions)[:, :, :2, 2]  # [400, N, 2]
    return np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1).max((1, 2))

  even, skewed = extents(1.0), extents(3.0)
  assert even.min() >= 2 - 1e-4
  assert even.max() <= 10 + 1e-4
  assert np.median(even) == pytest.approx(6, abs=0.6)
  assert np.median(skewed) == pytest.approx(2 + 8 / 8, abs=0.4)


def test_exposure_clips_highlights_of_both_images(photo):
  options = dataclasses.replace(STILL, gamma=(1.0, 1.0), exposure=(2.0, 2.0))
  example = synthesize(KEY, photo, options)
  expected = np.minimum(2 * photo.astype(int), 255)
  np.testing.assert_array_equal(example['hr'], expected)
  np.testing.assert_array_equal(example['hr_blur'], expected)


def test_bright_lights_leave_saturated_streaks():
  photo = np.zeros((64, 64, 3), np.uint8)
  photo[30:34, 28:36] = 255
  moving = scene(photo, camera(5, x=1.0), gamma=1.0)
  clipped = motion_blur.encode(4.0 * exposure(moving), 1.0)
  assert (np.asarray(clipped[31, 25:39, 0]) == 255).sum() > 8


def test_noise_has_the_variance_of_a_sensor():
  flat = np.full((96, 96, 3), 128, np.uint8)
  options = dataclasses.replace(NOISY, regions=0, gamma=(1.0, 1.0))
  example = synthesize(KEY, flat, options)
  blur = example['hr_blur'] / 255
  light = 128 / 255
  assert blur.mean() == pytest.approx(light, abs=1e-3)
  assert blur.var() == pytest.approx(1e-3 * light + 1e-2**2, rel=0.03)
  assert (example['hr'] == 128).all()


def test_the_mean_is_kept_in_light_and_not_in_stored_values():
  photo = np.zeros((96, 96, 3), np.uint8)
  photo[:, 48:] = 200
  options = dataclasses.replace(STILL, translation=(20, 20), gamma=(2.2, 2.2), regions=0)
  blur = synthesize(jax.random.key(4), photo, options)['hr_blur']
  light = lambda values: np.mean((values / 255) ** 2.2)
  assert light(blur) == pytest.approx(light(photo), rel=0.02)
  assert blur.mean() > 1.02 * photo.mean()


def test_a_share_of_the_photos_is_sharp(photo):
  options = dataclasses.replace(MOVING, sharp_share=0.4, regions=0)
  examples = [synthesize(jax.random.key(seed), photo, options) for seed in range(40)]
  still = [bool((e['hr'] == e['hr_blur']).all()) for e in examples]
  assert 8 <= sum(still) <= 24


def test_a_share_of_the_inputs_goes_through_jpeg(photo):
  options = dataclasses.replace(STILL, regions=0, jpeg_share=0.5, jpeg_quality=(40, 60))
  found = {}
  for seed in range(24):
    example = synthesize(jax.random.key(seed), photo, options)
    np.testing.assert_array_equal(example['hr_blur'], photo)
    lr = example['lr']
    files = {None: lr}
    for quality in range(40, 61):
      file = io.BytesIO()
      Image.fromarray(lr).save(file, format='JPEG', quality=quality)
      files[quality] = np.asarray(Image.open(file))
    quality = next(q for q, image in files.items() if (image == example['lr_blur']).all())
    found[quality] = found.get(quality, 0) + 1
  assert 5 <= found[None] <= 19
  assert len(found) > 5


def test_worlds_by_number_are_the_worlds(photo):
  worlds = (
    dataclasses.replace(MOVING, regions=0, gamma=(1.0, 1.0), exposure=(1.2, 1.5)),
    dataclasses.replace(MOVING, regions=0, read_noise=(1e-3, 1e-2), wobble=0.1, jpeg_share=1.0),
  )

  @jax.jit
  def select(index):
    return motion_blur.synthesize(KEY, photo, select_world(worlds, index))

  for index, world in enumerate(worlds):
    expected = jax.jit(functools.partial(motion_blur.synthesize, options=world))(KEY, photo)
    for name, image in select(index).items():
      difference = np.abs(np.asarray(image, int) - np.asarray(expected[name], int))
      assert (difference > 1).mean() < 2e-3, name  # JPEG may round another way
  with pytest.raises(ValueError, match='frames must be the same in all worlds'):
    select_world((MOVING, dataclasses.replace(MOVING, frames=3)), 0)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'sharp_share': 1.5}, r'sharp_share must be in \[0, 1\], not 1.5'),
    ({'jpeg_share': -1}, r'jpeg_share must be in \[0, 1\], not -1'),
    ({'jpeg_quality': (0, 50)}, 'jpeg_quality must be between 1 and 100'),
    ({'jpeg_quality': (50, 101)}, 'jpeg_quality must be between 1 and 100'),
  ],
)
def test_shares_and_qualities_that_cannot_be(options, message):
  with pytest.raises(ValueError, match=message):
    MotionBlur(**options)


def test_the_margin_is_seen_but_not_shown(photo):
  wide = dataclasses.replace(MOVING, regions=0, translation=(12, 12))
  inside = synthesize(KEY, photo, wide, margin=16)
  whole = synthesize(KEY, photo, wide)
  assert inside['hr_blur'].shape == (64, 64, 3)
  assert inside['lr_blur'].shape == (16, 16, 3)
  np.testing.assert_array_equal(inside['hr_blur'], whole['hr_blur'][16:-16, 16:-16])


def test_light_is_the_mean_of_all_rendered_frames(photo):
  scene = random_scene(KEY, np.float32(photo / 255), dataclasses.replace(MOVING, regions=2))
  frames = [render(scene, n, margin=8) for n in range(5)]
  np.testing.assert_allclose(exposure(scene, 8), np.mean(frames, axis=0), atol=1e-6)


def test_regions_have_a_wavy_outline():
  options = dataclasses.replace(STILL, region_size=(0.3, 0.3), region_edge=(3.0, 3.0))
  shares = np.array([0.5, 0.5, 0.5, 0.7, 0.4, 0.1, 0.3, 0.6, 0.8])
  normals = np.array([1.0, -0.7, 0.9, 1.2])
  mask = random_region(shares, normals, (80, 101), options)
  x, y = np.arange(101) - 50 - 101 * 0.2, (np.arange(80) - 39.5 + 80 * 0.1)[:, None]
  angle = np.arctan2(y, x)
  waves = [
    0.2 * normals[i] / (i + 1) * np.cos((i + 1) * angle + 2 * np.pi * shares[5 + i])
    for i in range(4)
  ]
  outline = 24 * (1 + sum(waves))
  np.testing.assert_allclose(mask, np.clip((outline - np.hypot(x, y)) / 3 + 0.5, 0, 1), atol=2e-5)


def test_a_batch_on_two_cores_is_its_examples(monkeypatch, photo):
  monkeypatch.setattr('os.cpu_count', lambda: 2)
  worlds = (
    dataclasses.replace(MOVING, sharp_share=1.0),
    dataclasses.replace(MOVING, read_noise=(1e-2, 1e-2)),
    MOVING,
  )

  def make(example):
    world = select_world(worlds, example['world'])
    return motion_blur.synthesize(example['key'], example['photo'], world, margin=32)

  batch = {
    'photo': np.stack([photo, photo[::-1], photo[:, ::-1]]),
    'key': jax.random.split(KEY, 3),
    'world': np.arange(3),
  }
  found = jax.jit(lambda batch: map_examples(make, batch))(batch)
  expected = jax.jit(jax.vmap(make))(batch)
  for name, images in expected.items():
    np.testing.assert_allclose(np.asarray(found[name], int), np.asarray(images, int), atol=1)
    assert (found[name] != images).mean() < 1e-3, name
  still = [bool((a == b).all()) for a, b in zip(found['hr'], found['hr_blur'], strict=True)]
  assert still == [True, False, False]


@pytest.mark.full
def test_the_same_under_jit_and_vmap(photo):
  photos = np.stack([photo, photo[::-1], photo[:, ::-1]])
  keys = jax.random.split(KEY, 3)
  options = dataclasses.replace(MOVING, shot_noise=(0, 1e-3), read_noise=(0, 1e-3))

  def synthesize(key, photo):
    return motion_blur.synthesize(key, photo, options, margin=16)

  batch = jax.jit(jax.vmap(synthesize))(keys, photos)
  for i in range(3):
    alone = synthesize(keys[i], photos[i])
    for name, image in alone.items():
      difference = np.abs(np.asarray(batch[name][i], int) - np.asarray(image, int))
      assert difference.max() <= 1, name
      assert (difference > 0).mean() < 1e-2, name


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'frames': 4}, 'frames must be odd'),
    ({'frames': 0}, 'frames must be odd'),
    ({'regions': -1}, 'regions must be at least 0'),
    ({'gamma': (0.0, 2.2)}, 'gamma must be above 0'),
    ({'focal_length': 0.0}, 'focal_length must be positive'),
    ({'translation': (3.0, 1.0)}, r'translation must be \(low, high\)'),
    ({'zoom': (-1.0, 1.0)}, r'zoom must be \(low, high\)'),
    ({'rotation': (1.0,)}, r'rotation must be \(low, high\)'),
    ({'gamma': 2.2}, r'gamma must be \(low, high\) with 0 <= low <= high, not 2.2'),
    ({'region_edge': (0.0, 1.0)}, 'region_size and region_edge must be above 0'),
  ],
)
def test_options_that_make_no_sense_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    MotionBlur(**options)


def test_ranges_may_be_lists_as_json_has_them():
  assert MotionBlur(zoom=[0, 1]) == MotionBlur(zoom=(0, 1))
  assert hash(MotionBlur(zoom=[0, 1])) == hash(MotionBlur(zoom=(0, 1)))
