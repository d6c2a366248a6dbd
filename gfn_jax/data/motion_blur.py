"""Synthetic motion blur from sharp photographs, in JAX: a dynamic scene and a shaking camera.

    photo --> radiance --> N sub-frames: camera and regions move --> mean --> sensor --> hr_blur
                 |                                                                          |
                 +--> middle sub-frame, sharp: hr --> MATLAB's 1/4 --> lr  lr_blur <- JPEG <- 1/4

An example can include seven of the sub-frames, reduced to LR.

All functions are pure and can be used under `jit` and `vmap`. They draw and compute in float32,
also with `JAX_ENABLE_X64`: the same key gives the same image. As in the GOPRO data (Nah et al.,
CVPR 2017), blur is the mean of sharp sub-frames around the sharp target.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from gfn_jax.data.jpeg import compress_jpeg
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.sizes import SHARP_FRAMES

Range = tuple[float, float]

_WAVES = 4  # harmonics of the outline of a region


@dataclasses.dataclass(frozen=True)
class MotionBlur:
  """Options of synthetic blur. Each photo gets its own value from every range `(low, high)`.

  The extent of a motion is the largest distance between two of its positions during the exposure.
  Extents of translations are in pixels of the sharp photo.

  Attributes:
    frames: number of sub-frames of an exposure, odd. The middle one is the sharp target.
    gamma: gamma of the photos. They are converted to linear light before averaging. With 1, pixel
      values are averaged, as in GOPRO's `blur` folder.
    skew: extents are `low + (high - low) * u**skew` with u uniform. Above 1, small extents are more
      frequent.
    wobble: deviation of paths from uniform motion along a line; 0 for none.
    translation: extent of the camera's translation, pixels.
    rotation: extent of the camera's roll, degrees.
    tilt: extent of the camera's pitch and yaw, degrees.
    focal_length: focal length for `tilt`, pixels.
    zoom: extent of the camera's zoom, percent.
    regions: number of regions of the photo that move on their own paths, in front of the rest.
    region_size: radius of a region, as a fraction of the photo's smaller side.
    region_edge: width of a region's soft edge, pixels.
    region_translation: extent of a region's own translation, pixels.
    region_rotation: extent of a region's own rotation, degrees.
    region_zoom: extent of a region's own zoom, percent.
    exposure: factor of the light before the sensor clips it at 1. Clipping makes highlights into
      streaks; the sharp target is exposed and clipped in the same way.
    shot_noise: variance of the sensor's noise per unit of light.
    read_noise: standard deviation of the sensor's noise in the dark; full scale is 1.
    sharp_share: share of the photos without any motion.
    jpeg_share: share of the LR inputs that are compressed as JPEG.
    jpeg_quality: quality of these, integers on Pillow's scale.
  """

  frames: int = 15
  gamma: Range = (2.2, 2.2)
  skew: float = 2.0
  wobble: float = 0.5
  translation: Range = (0.0, 40.0)
  rotation: Range = (0.0, 2.0)
  tilt: Range = (0.0, 0.5)
  focal_length: float = 1000.0
  zoom: Range = (0.0, 2.0)
  regions: int = 1
  region_size: Range = (0.15, 0.6)
  region_edge: Range = (1.0, 4.0)
  region_translation: Range = (0.0, 40.0)
  region_rotation: Range = (0.0, 4.0)
  region_zoom: Range = (0.0, 4.0)
  exposure: Range = (1.0, 1.0)
  shot_noise: Range = (0.0, 0.0)
  read_noise: Range = (0.0, 0.0)
  sharp_share: float = 0.0
  jpeg_share: float = 0.0
  jpeg_quality: Range = (30, 95)

  def __post_init__(self) -> None:
    if self.frames < 1 or self.frames % 2 == 0:
      raise ValueError(f'frames must be odd and at least 1, not {self.frames}')
    if self.regions < 0:
      raise ValueError(f'regions must be at least 0, not {self.regions}')
    for name in ('focal_length', 'skew'):
      if not (value := getattr(self, name)) > 0:
        raise ValueError(f'{name} must be positive, not {value}')
    for field in dataclasses.fields(self):
      if field.type is Range:
        value = getattr(self, field.name)
        if isinstance(value, list):
          value = tuple(value)  # hashable, unlike a list from JSON
          object.__setattr__(self, field.name, value)
        if not _is_range(value):
          raise ValueError(f'{field.name} must be (low, high) with 0 <= low <= high, not {value}')
    if self.regions and min(self.region_size[0], self.region_edge[0]) <= 0:
      raise ValueError('region_size and region_edge must be above 0')
    if self.gamma[0] <= 0:
      raise ValueError(f'gamma must be above 0, not {self.gamma}')
    for name in ('sharp_share', 'jpeg_share'):
      if not 0 <= (value := getattr(self, name)) <= 1:
        raise ValueError(f'{name} must be in [0, 1], not {value}')
    if not 1 <= self.jpeg_quality[0] <= self.jpeg_quality[1] <= 100:
      raise ValueError(f'jpeg_quality must be between 1 and 100, not {self.jpeg_quality}')


def select_world(worlds: Sequence[MotionBlur], index: jax.Array) -> MotionBlur:
  """Return the options of one of several worlds, chosen by a traced number.

  Args:
    worlds: options with the same `frames` and `regions`.
    index: scalar integer.

  Returns:
    Options for `synthesize`. Values that differ between the worlds are traced numbers.

  Raises:
    ValueError: if `frames` or `regions` differ.
  """
  selected = object.__new__(MotionBlur)  # without the checks, which need plain numbers
  for field in dataclasses.fields(MotionBlur):
    values = [getattr(world, field.name) for world in worlds]
    value = values[0]
    if any(other != value for other in values):
      if field.name in ('frames', 'regions'):
        raise ValueError(f'{field.name} must be the same in all worlds, not {values}')
      value = jnp.asarray(values, jnp.float32)[index]
      value = tuple(value) if value.ndim else value
    object.__setattr__(selected, field.name, value)
  return selected


class Sensor(NamedTuple):
  """Properties of the sensor, drawn from the ranges of these names in `MotionBlur`."""

  exposure: jax.Array
  shot_noise: jax.Array
  read_noise: jax.Array
  gamma: jax.Array


class Scene(NamedTuple):
  """Photo with its motions.

  Motions are homographies that map positions in a sub-frame to positions in the photo, both (x, y)
  in pixels from the centre.

  Attributes:
    radiance: `[H, W, 3]`, linear light.
    masks: `[R, H, W]` in [0, 1], 1 inside a region.
    camera: `[N, 3, 3]`, motion of the camera in each sub-frame; the identity in the middle one.
    motions: `[N, R, 3, 3]`, motions of the regions, applied after the camera's; the identity
      in the middle one.
  """

  radiance: jax.Array
  masks: jax.Array
  camera: jax.Array
  motions: jax.Array


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
  sharp = _crop(scene.radiance, margin)
  if _is_zero(options.sharp_share):
    light = exposure(scene, margin)
  else:
    is_still = still < options.sharp_share
    scene = _hold_still(scene, is_still)
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
    quality = jnp.floor(_between((low, high + 1), quality)).astype(jnp.int32)
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
  return Sensor(*map(_between, ranges, shares))


def random_scene(key: jax.Array, radiance: jax.Array, options: MotionBlur) -> Scene:
  """Draw the paths of the camera and of the regions, and the shapes of the regions."""
  # One call for all numbers: every call of jax.random takes half a second to compile on a CPU.
  uniform_key, normal_key = jax.random.split(key)
  moving = 1 + options.regions  # the camera, then the regions
  shares = jax.random.uniform(uniform_key, (moving, 4 + 5 + _WAVES), jnp.float32)
  normals = jax.random.normal(normal_key, (moving, 3 * 6 + _WAVES), jnp.float32)

  def motion(i: int, translation: Range, rotation: Range, zoom: Range, tilt: Range) -> jax.Array:
    numbers = shares[i, :4], normals[i, :18].reshape(3, 1, 6)
    return random_motion(*numbers, options, translation, rotation, zoom, tilt)

  camera = motion(0, options.translation, options.rotation, options.zoom, options.tilt)
  own = options.region_translation, options.region_rotation, options.region_zoom, (0.0, 0.0)
  motions, masks = [], []
  for i in range(1, moving):
    motions.append(motion(i, *own))
    masks.append(random_region(shares[i, 4:], normals[i, 18:], radiance.shape, options))
  return Scene(
    radiance=radiance,
    masks=jnp.stack(masks) if masks else jnp.zeros((0, *radiance.shape[:2]), jnp.float32),
    camera=camera,
    motions=jnp.stack(motions, axis=1)
    if motions
    else jnp.zeros((options.frames, 0, 3, 3), jnp.float32),
  )


def random_motion(
  shares: jax.Array,
  terms: jax.Array,
  options: MotionBlur,
  translation: Range,
  rotation: Range,
  zoom: Range,
  tilt: Range,
) -> jax.Array:
  """Return a smooth motion as homographies `[N, 3, 3]`.

  Args:
    shares: `[4]`, uniform random numbers.
    terms: `[3, 1, 6]`, normal random numbers.
    options: options, of which `frames`, `skew`, `wobble` and `focal_length` are used.
    translation: range of the extent of the translation, in units of `MotionBlur` like all below.
    rotation: range of the extent of the roll.
    zoom: range of the extent of the zoom.
    tilt: range of the extent of pitch and yaw.
  """

  def path(i: int, extents: Range, dims: slice) -> jax.Array:
    extent = _between(extents, shares[i] ** options.skew)
    return extent * unit_path(terms[..., dims], options.frames, options.wobble)

  x, y = path(0, translation, slice(0, 2)).T
  angle = jnp.deg2rad(path(1, rotation, slice(2, 3))[:, 0])
  scale = jnp.exp(path(2, zoom, slice(3, 4))[:, 0] / 100)
  yaw, pitch = jnp.deg2rad(path(3, tilt, slice(4, 6))).T
  return homographies(x, y, angle, scale, yaw, pitch, options.focal_length)


def unit_path(terms: jax.Array, frames: int, wobble: float) -> jax.Array:
  """Return a smooth path `[N, D]` of extent 1, at the origin in the middle frame.

  Args:
    terms: `[3, 1, D]`, directions of the linear, the quadratic and the cubic term.
    frames: number N of positions.
    wobble: weight of the quadratic and the cubic term.
  """
  t = jnp.linspace(-1, 1, frames, dtype=jnp.float32)[:, None]  # [N, 1]
  line, bend, sway = terms
  path = t * line + wobble * (t**2 * bend + (t**3 - 0.6 * t) * sway)
  extent = jnp.max(jnp.linalg.norm(path[:, None] - path[None], axis=-1))
  return path / jnp.maximum(extent, 1e-6)


def homographies(
  x: jax.Array,
  y: jax.Array,
  angle: jax.Array,
  scale: jax.Array,
  yaw: jax.Array,
  pitch: jax.Array,
  focal_length: float,
) -> jax.Array:
  """Return homographies of translation, roll, zoom and tilt.

  Args:
    x: `[N]`, horizontal translation, pixels.
    y: `[N]`, vertical translation, pixels.
    angle: `[N]`, roll, radians.
    scale: `[N]`, zoom, a factor.
    yaw: `[N]`, radians.
    pitch: `[N]`, radians.
    focal_length: focal length, pixels.

  Returns:
    `[N, 3, 3]`; tilt and roll are rotations of a pinhole camera: `K R K^-1`.
  """
  zero, one = jnp.zeros_like(x), jnp.ones_like(x)
  c, s = scale * jnp.cos(angle), scale * jnp.sin(angle)
  moved = _matrices([[c, -s, x], [s, c, y], [zero, zero, one]])
  f = focal_length
  cy, sy, cp, sp = jnp.cos(yaw), jnp.sin(yaw), jnp.cos(pitch), jnp.sin(pitch)
  tilted = _matrices(
    [[cy, sy * sp, f * sy * cp], [zero, cp, -f * sp], [-sy / f, cy * sp / f, cy * cp]]
  )
  return jnp.matmul(moved, tilted, precision=jax.lax.Precision.HIGHEST)


def _matrices(rows: list[list[jax.Array]]) -> jax.Array:
  """Stack 3 rows of 3 entries `[N]` to matrices `[N, 3, 3]`."""
  return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def random_region(
  shares: jax.Array, normals: jax.Array, shape: tuple[int, ...], options: MotionBlur
) -> jax.Array:
  """Return the mask of a blob with a wavy outline and a soft edge, `[H, W]` in [0, 1].

  Args:
    shares: `[9]`, uniform random numbers.
    normals: `[4]`, normal random numbers.
    shape: `(H, W, ...)`.
    options: options, of which `region_size` and `region_edge` are used.
  """
  height, width = shape[:2]
  side = min(height, width)
  radius = side * _between(options.region_size, shares[0])
  edge = _between(options.region_edge, shares[1])
  stretch = jnp.exp(_between((-0.5, 0.5), shares[2]))  # ratio of the axes
  x, y = _pixels(height, width)
  x = (x - width * (shares[3] - 0.5)) * stretch
  y = (y - height * (shares[4] - 0.5)) / stretch
  sizes = 0.2 * normals / jnp.arange(1.0, _WAVES + 1, dtype=jnp.float32)
  starts = 2 * jnp.pi * shares[5:]
  distance = jnp.sqrt(x**2 + y**2)
  # Cosines of multiples of the angle by the addition theorem, much faster than `cos` and `arctan2`.
  cosine, sine = x / jnp.maximum(distance, 1e-6), y / jnp.maximum(distance, 1e-6)
  c, s, outline = cosine, sine, jnp.ones_like(distance)
  for i in range(_WAVES):
    outline += sizes[i] * (jnp.cos(starts[i]) * c - jnp.sin(starts[i]) * s)
    c, s = c * cosine - s * sine, s * cosine + c * sine
  return jnp.clip((radius * outline - distance) / edge + 0.5, 0, 1)


def exposure(scene: Scene, margin: int = 0) -> jax.Array:
  """Return the mean of the sub-frames in linear light, `[H - 2 margin, W - 2 margin, 3]`."""
  frames = scene.camera.shape[0]

  def add(total: jax.Array, n: jax.Array) -> tuple[jax.Array, None]:  # one frame at a time
    return total + render(scene, n, margin), None

  others = jnp.delete(jnp.arange(frames), frames // 2)  # the middle one is the photo
  total, _ = jax.lax.scan(add, _crop(scene.radiance, margin), others)
  return total / frames


def render(scene: Scene, n: jax.typing.ArrayLike, margin: int = 0) -> jax.Array:
  """Render sub-frame `n` in linear light, `[H - 2 margin, W - 2 margin, 3]`."""
  height, width, _ = scene.radiance.shape
  x, y = (_crop(grid, margin) for grid in jnp.broadcast_arrays(*_pixels(height, width)))
  x, y = _project(scene.camera[n], x, y)
  frame = _sample(scene.radiance, x, y)
  for r in range(scene.masks.shape[0]):
    u, v = _project(scene.motions[n, r], x, y)
    mask = _sample(scene.masks[r][..., None], u, v)
    frame += mask * (_sample(scene.radiance, u, v) - frame)
  return frame


def _hold_still(scene: Scene, still: jax.Array) -> Scene:
  """Return the scene without any motion if the scalar `still` is True."""
  camera, motions = (
    jnp.where(still, jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), moves.shape), moves)
    for moves in (scene.camera, scene.motions)
  )
  return scene._replace(camera=camera, motions=motions)


def _is_zero(value: Any) -> bool:
  """Return True for a plain 0, False for other numbers and for traced ones."""
  return not isinstance(value, jax.Array) and value == 0


def _is_range(value: Any) -> bool:
  return isinstance(value, tuple) and len(value) == 2 and 0 <= value[0] <= value[1] < math.inf


def _between(extents: Range, share: jax.Array) -> jax.Array:
  low, high = extents
  return low + (high - low) * share


def _pixels(height: int, width: int) -> tuple[jax.Array, jax.Array]:
  """Return the coordinates x `[1, W]` and y `[H, 1]` of the pixels, from the centre."""
  x = jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2
  y = jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2
  return x[None], y[:, None]


def _crop(image: jax.Array, margin: int) -> jax.Array:
  return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]


def _project(h: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
  depth = h[2, 0] * x + h[2, 1] * y + h[2, 2]
  u = (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / depth
  v = (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / depth
  return u, v


def _sample(image: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
  """Sample `[H, W, C]` bilinearly at positions from its centre; the edge is repeated beyond it."""
  height, width, _ = image.shape
  where = [y + (height - 1) / 2, x + (width - 1) / 2]

  def sample(channel: jax.Array) -> jax.Array:
    return map_coordinates(channel, where, order=1, mode='nearest')

  return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)
