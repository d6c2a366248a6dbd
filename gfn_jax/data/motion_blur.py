"""Synthetic motion blur from sharp photographs, in JAX: a dynamic scene and a shaking camera.

    photo --> radiance --> N sub-frames: camera and regions move --> mean --> sensor --> hr_blur
                 |                                                                          |
                 +--> middle sub-frame, sharp: hr --> MATLAB's 1/4 --> lr  lr_blur <- JPEG <- 1/4

An example can include seven of the sub-frames, reduced to LR.

All functions are pure and can be used under `jit` and `vmap`. They draw and compute in float32,
also with `JAX_ENABLE_X64`: the same key gives the same image. As in the GOPRO data (Nah et al.,
CVPR 2017), blur is the mean of sharp sub-frames around the sharp target.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gfn_jax.data.blur_options import MotionBlur, between
from gfn_jax.data.jpeg import compress_jpeg
from gfn_jax.data.scenes import Scene, crop, exposure, hold_still, random_scene, render
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.sizes import SHARP_FRAMES


class Sensor(NamedTuple):
  """Properties of the sensor, drawn from the ranges of these names in `MotionBlur`."""

  exposure: jax.Array
  shot_noise: jax.Array
  read_noise: jax.Array
  gamma: jax.Array


def synthesize(
  key: jax.Array,
  photo: jax.Array,
  options: MotionBlur,
  margin: int = 0,
  *,
  scale: int = 4,
  frames: bool = False,
) -> dict[str, jax.Array]:
  """Make a training example from a sharp photo.

  Args:
    key: random key.
    photo: `[H + 2 margin, W + 2 margin, 3]` uint8, H and W multiples of the scale.
    options: the kinds and amounts of motion and noise.
    margin: pixels around the target that motion can bring into view. Beyond the margin, the edge is
      repeated.
    scale: factor between HR and LR images.
    frames: True for sharp frames: 7 sub-frames around the middle one, spaced as widely as possible.
      Needs at least 7 sub-frames.

  Returns:
    `hr` and `hr_blur` `[H, W, 3]`, `lr` and `lr_blur` `[H/s, W/s, 3]`, and maybe `frames`
    `[7, H/s, W/s, 3]`, uint8. The LR images are 8-bit HR images reduced by MATLAB's bicubic, as in
    LR-GOPRO.
  """
  scene_key, sensor_key, noise_key = jax.random.split(key, 3)
  still, has_jpeg, quality = jax.random.uniform(jax.random.fold_in(key, 3), (3,), jnp.float32)
  sensor = random_sensor(sensor_key, options)
  scene = random_scene(scene_key, decode(photo, sensor.gamma), options)
  sharp = crop(scene.radiance, margin)
  if _is_zero(options.sharp_share):
    light = exposure(scene, margin)
  else:
    is_still = still < options.sharp_share
    scene = hold_still(scene, is_still)
    light = jax.lax.cond(is_still, lambda: sharp, lambda: exposure(scene, margin))
  hr, light = encode(sensor.exposure * sharp, sensor.gamma), sensor.exposure * light
  if not (_is_zero(options.shot_noise[1]) and _is_zero(options.read_noise[1])):
    light = jax.lax.cond(
      (sensor.shot_noise > 0) | (sensor.read_noise > 0),
      lambda: add_noise(noise_key, light, sensor.shot_noise, sensor.read_noise),
      lambda: light,
    )
  example = degrade(hr, encode(light, sensor.gamma), scale)
  if not _is_zero(options.jpeg_share):
    low, high = options.jpeg_quality
    quality = jnp.floor(between((low, high + 1), quality)).astype(jnp.int32)
    compressed = compress_jpeg(example['lr_blur'], quality)
    has_jpeg = has_jpeg < options.jpeg_share
    example['lr_blur'] = jnp.where(has_jpeg, compressed, example['lr_blur'])
  if frames:
    middle = options.frames // 2
    step = middle // (SHARP_FRAMES // 2)
    numbers = middle + step * (jnp.arange(SHARP_FRAMES) - SHARP_FRAMES // 2)
    shown = _encoded_frames(scene, numbers, sensor, margin)
    example['frames'] = jax.vmap(lambda frame: imresize(frame, 1 / scale))(shown)
  return example


def sub_frames(key: jax.Array, photo: jax.Array, options: MotionBlur, margin: int = 0) -> jax.Array:
  """Return the sub-frames of the same call of `synthesize`, `[N, H, W, 3]` uint8, without noise."""
  scene_key, sensor_key, _ = jax.random.split(key, 3)
  sensor = random_sensor(sensor_key, options)
  scene = random_scene(scene_key, decode(photo, sensor.gamma), options)
  return _encoded_frames(scene, jnp.arange(options.frames), sensor, margin)


def _encoded_frames(scene: Scene, numbers: jax.Array, sensor: Sensor, margin: int) -> jax.Array:
  """Return the sub-frames with the given numbers, `[T, H, W, 3]` uint8."""

  def frame(n: jax.Array) -> jax.Array:
    return encode(sensor.exposure * render(scene, n, margin), sensor.gamma)

  return jax.lax.map(frame, numbers)


def degrade(hr: jax.Array, hr_blur: jax.Array, scale: int = 4) -> dict[str, jax.Array]:
  """Return a sharp and a blurred photo, `[H, W, 3]` uint8, and their LR versions as an example."""
  lr, lr_blur = (imresize(image, 1 / scale) for image in (hr, hr_blur))
  return dict(hr=hr, hr_blur=hr_blur, lr=lr, lr_blur=lr_blur)


def decode(photo: jax.Array, gamma: jax.typing.ArrayLike) -> jax.Array:
  """Convert a uint8 photo to linear light in [0, 1]."""
  return (photo.astype(jnp.float32) / 255) ** gamma


def encode(light: jax.Array, gamma: jax.typing.ArrayLike) -> jax.Array:
  """Convert linear light to a uint8 photo, clipped at 0 and 1 as by a sensor."""
  values = jnp.clip(light, 0, 1) ** (1 / gamma)
  return jnp.floor(values * 255 + 0.5).astype(jnp.uint8)


def add_noise(key: jax.Array, light: jax.Array, shot: jax.Array, read: jax.Array) -> jax.Array:
  """Clip light as a sensor does, and add noise of the variance `shot * light + read**2`."""
  light = jnp.clip(light, 0, 1)
  return light + jnp.sqrt(shot * light + read**2) * jax.random.normal(key, light.shape, jnp.float32)


def random_sensor(key: jax.Array, options: MotionBlur) -> Sensor:
  """Draw the factor of exposure, the noise levels and the gamma."""
  ranges = [getattr(options, name) for name in Sensor._fields]
  shares = jax.random.uniform(key, (len(ranges),), jnp.float32)
  return Sensor(*map(between, ranges, shares))


def _is_zero(value: Any) -> bool:
  """Return True for a plain 0, False for other numbers and for traced ones."""
  return not isinstance(value, jax.Array) and value == 0
