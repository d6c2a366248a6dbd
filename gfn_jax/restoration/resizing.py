"""Bicubic resizing of photographs of any type, by Pillow: with antialiasing where they shrink."""

import numpy as np
from PIL import Image


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Return an image at another size.

  Args:
    image: `[h, w, C]` of uint8, uint16 or float32 in [0, 1].
    size: new height and width.

  Returns:
    `[*size, C]` of the same type. Floats are clipped to [0, 1].
  """
  channels = [resize_channel(image[..., c], size) for c in range(image.shape[-1])]
  return np.stack(channels, axis=-1)


def resize_channel(channel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Return `[h, w]` at another size, as `resize` does."""
  if channel.shape == size:
    return channel
  shape = size[1], size[0]  # Pillow's order
  if channel.dtype == np.uint8:
    return np.asarray(Image.fromarray(channel).resize(shape, Image.Resampling.BICUBIC))
  picture = Image.fromarray(channel.astype(np.float32))
  resized = np.asarray(picture.resize(shape, Image.Resampling.BICUBIC))
  if channel.dtype == np.float32:
    return np.clip(resized, 0, 1)
  return np.clip(np.round(resized), 0, np.iinfo(channel.dtype).max).astype(channel.dtype)
