"""Animations, read back by Pillow."""

import os

import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import UserError
from gfn_jax.images import animations
from gfn_jax.images.animations import (
  check_animation,
  write_animation,
  write_timed_animation,
)
from gfn_jax.images.metadata import Metadata
from gfn_jax.images.reading import Animation, Photo, is_animated, read_animation

# A cup before a table that moves: the lower half of the frames is at rest.
COFFEE = skimage.data.coffee()
FRAMES = np.stack([COFFEE[100:148, 200 + 4 * i : 264 + 4 * i] for i in range(7)])
FRAMES[:, 24:] = FRAMES[0, 24:]
FORTH_AND_BACK = [0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1]


def read(path, mode='RGB'):
  """`[T, h, w, C]`, and what each frame says."""
  frames, facts = [], []
  with Image.open(path) as image:
    for i in range(image.n_frames):
      image.seek(i)
      frames.append(np.asarray(image.convert(mode)))
      facts.append(dict(image.info))
  return np.stack(frames), facts


@pytest.mark.parametrize(('extension', 'error'), [('.gif', 4.5), ('.webp', 2.5), ('.GIF', 4.5)])
def test_frames_go_forth_and_back_for_ever(extension, error, tmp_path):
  path = tmp_path / f'frames{extension}'
  write_animation(path, FRAMES)
  frames, facts = read(path)
  assert frames.shape == (12, 48, 64, 3)
  difference = np.abs(frames[:, None].astype(int) - FRAMES).mean(axis=(2, 3, 4))
  assert difference.argmin(axis=1).tolist() == FORTH_AND_BACK
  assert difference.min(axis=1).max() < error
  assert {fact['duration'] for fact in facts} == {100}
  assert facts[0]['loop'] == 0
  assert os.listdir(tmp_path) == [f'frames{extension}']


def test_a_gif_does_not_flicker(tmp_path):
  write_animation(tmp_path / 'frames.gif', FRAMES)
  frames, _ = read(tmp_path / 'frames.gif')
  assert len(np.unique(frames.reshape(-1, 3), axis=0)) <= 256
  np.testing.assert_array_equal(frames[:, 24:], np.stack([frames[0, 24:]] * 12))


def test_the_colours_of_a_gif_are_those_of_all_frames(tmp_path):
  colours = np.uint8([[255, 0, 0], [0, 160, 0], [0, 0, 255], [250, 240, 0]])
  frames = np.broadcast_to(colours[:, None, None], (4, 1500, 1000, 3))
  write_animation(tmp_path / 'frames.gif', frames)
  read_back, _ = read(tmp_path / 'frames.gif')
  np.testing.assert_array_equal(read_back[:, 700, 500], colours[[0, 1, 2, 3, 2, 1]])


def test_grey_stays_as_it_is_in_a_gif(tmp_path):
  grey = FRAMES[..., :1]
  write_animation(tmp_path / 'frames.gif', grey)
  frames, _ = read(tmp_path / 'frames.gif', 'L')
  np.testing.assert_array_equal(frames[..., None], grey[FORTH_AND_BACK])


def test_16_bits_are_rounded(tmp_path):
  deep = np.arange(2**16).astype(np.uint16).reshape(2, 128, 256, 1)
  write_animation(tmp_path / 'frames.gif', deep)
  frames, _ = read(tmp_path / 'frames.gif', 'L')
  np.testing.assert_array_equal(frames[..., None], np.floor(deep / 65535 * 255 + 0.5))


def test_a_webp_keeps_alpha(tmp_path):
  alpha = FRAMES[..., 1:2]
  write_animation(tmp_path / 'rgba.webp', np.concatenate([FRAMES, alpha], axis=-1))
  frames, _ = read(tmp_path / 'rgba.webp', 'RGBA')
  np.testing.assert_array_equal(frames[..., 3:], alpha[FORTH_AND_BACK])
  write_animation(tmp_path / 'grey.webp', np.concatenate([FRAMES[..., :1], alpha], axis=-1))
  frames, _ = read(tmp_path / 'grey.webp', 'RGBA')
  np.testing.assert_array_equal(frames[..., 3:], alpha[FORTH_AND_BACK])


@pytest.mark.parametrize(
  ('name', 'size', 'channels', 'message'),
  [
    ('a\n.png', (4, 4), 3, r'a\n.png: frames become an animation; choose .gif or .webp'),
    ('gif', (4, 4), 3, 'gif: frames become an animation'),
    ('a.gif', (4, 4), 4, 'a.gif: GIF does not support partial transparency; choose .webp'),
    ('a.gif', (4, 4), 2, 'a.gif: GIF does not support partial transparency; choose .webp'),
    ('a.webp', (16384, 2), 3, '16384x2 exceeds the 16383 pixels per side of WebP; reduce'),
    ('a.gif', (2, 65536), 1, '2x65536 exceeds the 65535 pixels per side of GIF; reduce'),
  ],
)
def test_what_a_format_cannot_hold(name, size, channels, message):
  with pytest.raises(UserError) as error:
    check_animation(name, size, channels)
  assert message in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_a_photo_for_an_animation_loses_opaque_alpha(dtype):
  pixels = np.full((2, 3, 4), np.iinfo(dtype).max, dtype)
  pixels[..., :3] = 7
  assert animations.for_animation('a.webp', Photo(pixels)).pixels.shape == (2, 3, 4)
  fitted = animations.for_animation('a.gif', Photo(pixels)).pixels
  np.testing.assert_array_equal(fitted, pixels[..., :3])
  pixels[0, 0, 3] -= 1
  with pytest.raises(UserError, match='a.gif: GIF does not support partial transparency'):
    animations.for_animation('a.gif', Photo(pixels))
  hdr = Photo(pixels, Metadata(colour=((b'cICP', b'\x09\x12\0\1'),)))
  with pytest.raises(UserError, match=r'a.webp: .* HDR transfer function \(HLG\)'):
    animations.for_animation('a.webp', hdr)


def test_the_largest_that_a_format_holds(tmp_path):
  for name, side in (('a.webp', 16383), ('a.gif', 65535)):
    frames = np.zeros((2, 2, side, 3), np.uint8)
    frames[1] = 255
    write_animation(tmp_path / name, frames)
    assert read(tmp_path / name)[0].shape == (2, 2, side, 3)


@pytest.mark.parametrize(
  ('frames', 'error'),
  [
    (FRAMES[:1], ValueError),
    (FRAMES[0], ValueError),
    (FRAMES[:, :0], ValueError),
    (FRAMES.repeat(2, axis=-1), ValueError),
    (FRAMES / 255, TypeError),
  ],
)
def test_other_frames(frames, error, tmp_path):
  with pytest.raises(error, match='frames must be'):
    write_animation(tmp_path / 'a.gif', frames)
  assert os.listdir(tmp_path) == []


def test_what_libwebp_refuses_is_told(tmp_path, monkeypatch):
  sides = iter(range(20, 27))
  monkeypatch.setattr(animations, '_to_pillow', lambda frame: Image.new('RGB', (next(sides), 20)))
  with pytest.raises(UserError, match=r'^cannot write .*a.webp as WebP \(ERROR .*\); choose .gif'):
    write_animation(tmp_path / 'a.webp', FRAMES)
  assert os.listdir(tmp_path) == []


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
  def interrupted(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, 'replace', interrupted)
  with pytest.raises(KeyboardInterrupt):
    write_animation(tmp_path / 'a.gif', FRAMES)
  assert os.listdir(tmp_path) == []


def test_what_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'a.webp').mkdir()
  with pytest.raises(OSError) as error:  # noqa: PT011
    write_animation(tmp_path / 'a.webp', FRAMES)
  assert error.value.filename == str(tmp_path / 'a.webp')
  assert os.listdir(tmp_path) == ['a.webp']


TIMES = (50, 100, 150)
MOVING = FRAMES[[0, 3, 6]]
DISC = np.hypot(*np.ogrid[-24:24, -32:32]) < 20
HOLES = np.stack([DISC] * 3)[..., None] * np.uint8(255)


@pytest.mark.parametrize('loops', [0, 3, None])
@pytest.mark.parametrize('extension', ['.gif', '.webp'])
def test_an_animation_comes_back_with_its_times(tmp_path, extension, loops):
  path = tmp_path / f'a{extension}'
  write_timed_animation(path, Animation(MOVING, TIMES, loops))
  assert is_animated(path)
  animation = read_animation(path)
  assert animation.durations == TIMES
  if extension == '.gif' or loops is not None:
    assert animation.loops == loops
  assert animation.frames.shape == MOVING.shape
  assert np.abs(animation.frames.astype(int) - MOVING).mean() < 5


@pytest.mark.parametrize('extension', ['.gif', '.webp'])
def test_an_animation_keeps_its_holes(tmp_path, extension):
  path = tmp_path / f'a{extension}'
  write_timed_animation(path, Animation(np.concatenate([MOVING, HOLES], -1), TIMES, 0))
  animation = read_animation(path)
  np.testing.assert_array_equal(animation.frames[..., 3:], HOLES)
  visible = HOLES[..., 0] > 0
  assert np.abs(animation.frames[..., :3].astype(int) - MOVING)[visible].mean() < 6


def test_animated_pngs_and_still_images(tmp_path):
  first, *others = (Image.fromarray(frame) for frame in MOVING)
  options = {'save_all': True, 'append_images': others, 'duration': list(TIMES)}
  first.save(tmp_path / 'a.png', **options)
  np.testing.assert_array_equal(read_animation(tmp_path / 'a.png').frames, MOVING)
  first.save(tmp_path / 'b.png', default_image=True, **options | {'duration': [50, 100]})
  found = read_animation(tmp_path / 'b.png')
  np.testing.assert_array_equal(found.frames, MOVING[1:])
  with pytest.raises(
    UserError, match='3 frames of 64x48 exceed the limit of 9,215 pixels; .*=9216$'
  ):
    read_animation(tmp_path / 'a.png', max_pixels=9215)
  first.save(tmp_path / 'c.gif')
  (tmp_path / 'd.gif').write_bytes(b'GIF89a')
  for name in ('c.gif', 'd.gif', 'missing.gif'):
    assert not is_animated(tmp_path / name)
