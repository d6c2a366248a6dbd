"""Options of synthetic motion blur."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

Range = tuple[float, float]


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


def between(limits: Range, share: jax.Array) -> jax.Array:
  """Return the value at a share in [0, 1] of a range."""
  low, high = limits
  return low + (high - low) * share


def _is_range(value: Any) -> bool:
  return isinstance(value, tuple) and len(value) == 2 and 0 <= value[0] <= value[1] < math.inf
