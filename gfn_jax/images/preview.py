"""Images as pages show them: 8-bit RGB, of a bounded size, as JPEG."""

import os
from typing import BinaryIO

import numpy as np
from PIL import Image

from gfn_jax.ops.pixels import to_8_bits, to_uint8


def to_picture(pixels: np.ndarray) -> Image.Image:
  """Return an image as 8-bit RGB, on white where it is transparent.

  Args:
    pixels: `[h, w]` or `[h, w, C]`, C from 1 to 4, uint8, uint16 or float in [0, 1].

  Raises:
    TypeError: for an array of another type.
  """
  pixels = to_uint8(to_8_bits(pixels))
  if pixels.shape[2:] == (1,):
    pixels = pixels[..., 0]
  picture = Image.fromarray(pixels)
  if picture.mode in ('LA', 'RGBA'):
    white = Image.new('RGBA', picture.size, 'white')
    picture = Image.alpha_composite(white, picture.convert('RGBA'))
  return picture.convert('RGB')


def fit(size: tuple[int, int], max_side: int) -> tuple[int, int]:
  """Return a width and height, reduced if needed so that the longer one is `max_side`."""
  factor = min(1.0, max_side / max(size))
  return max(1, round(factor * size[0])), max(1, round(factor * size[1]))


def resize(
  picture: Image.Image,
  size: tuple[int, int],
  box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
  """Return a picture, or a box `(left, top, right, bottom)` of it, at another size.

  Pillow's bicubic differs from MATLAB's, which scores are computed with, by a few of 255 at hard
  edges, and is much faster.
  """
  return picture.resize(size, Image.Resampling.BICUBIC, box=box)


def save_jpeg(picture: Image.Image, file: str | os.PathLike | BinaryIO) -> None:
  """Write a picture as a small JPEG without visible loss."""
  picture.save(file, 'JPEG', quality=92, subsampling='4:4:4')


def shrink(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Return an image reduced to a width and height, of the same type and number of channels.

  Colours count by their alpha, so that those of transparent pixels do not reach visible ones.

  Args:
    pixels: `[h, w, C]`, C from 1 to 4, uint8 or uint16.
    size: the new width and height.
  """
  if pixels.dtype == np.uint8:  # Pillow has the same rule for alpha
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(resize(picture, size)).reshape(*size[::-1], -1)
  most = np.float32(np.iinfo(pixels.dtype).max)

  def reduce(channel: np.ndarray) -> np.ndarray:
    return np.asarray(resize(Image.fromarray(channel), size))

  channels = [pixels[..., c] / most for c in range(pixels.shape[-1])]
  if len(channels) in (2, 4):
    *colours, alpha = channels
    reduced = reduce(alpha)
    channels = [reduce(colour * alpha) / np.maximum(reduced, 1 / most) for colour in colours]
    channels.append(reduced)
  else:
    channels = [reduce(channel) for channel in channels]
  return np.round(most * np.clip(np.stack(channels, axis=-1), 0, 1)).astype(pixels.dtype)
