"""Random dynamic scenes: a photo whose regions move before a moving camera.

Positions are in pixels of the photo, from its centre. Random numbers are arguments of the functions
below `random_scene`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from gfn_jax.data.blur_options import MotionBlur, Range, between

_WAVES = 4  # harmonics of the outline of a region


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
    extent = between(extents, shares[i] ** options.skew)
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
  radius = side * between(options.region_size, shares[0])
  edge = between(options.region_edge, shares[1])
  stretch = jnp.exp(between((-0.5, 0.5), shares[2]))  # ratio of the axes
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
  total, _ = jax.lax.scan(add, crop(scene.radiance, margin), others)
  return total / frames


def render(scene: Scene, n: jax.typing.ArrayLike, margin: int = 0) -> jax.Array:
  """Render sub-frame `n` in linear light, `[H - 2 margin, W - 2 margin, 3]`."""
  height, width, _ = scene.radiance.shape
  x, y = (crop(grid, margin) for grid in jnp.broadcast_arrays(*_pixels(height, width)))
  x, y = _project(scene.camera[n], x, y)
  frame = _sample(scene.radiance, x, y)
  for r in range(scene.masks.shape[0]):
    u, v = _project(scene.motions[n, r], x, y)
    mask = _sample(scene.masks[r][..., None], u, v)
    frame += mask * (_sample(scene.radiance, u, v) - frame)
  return frame


def hold_still(scene: Scene, still: jax.Array) -> Scene:
  """Return the scene without any motion if the scalar `still` is True."""
  camera, motions = (
    jnp.where(still, jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), moves.shape), moves)
    for moves in (scene.camera, scene.motions)
  )
  return scene._replace(camera=camera, motions=motions)


def crop(image: jax.Array, margin: int) -> jax.Array:
  """Return `[H, W, ...]` without a margin of pixels on each side."""
  return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]


def _pixels(height: int, width: int) -> tuple[jax.Array, jax.Array]:
  """Return the coordinates x `[1, W]` and y `[H, 1]` of the pixels, from the centre."""
  x = jnp.arange(width, dtype=jnp.float32) - (width - 1) / 2
  y = jnp.arange(height, dtype=jnp.float32) - (height - 1) / 2
  return x[None], y[:, None]


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
