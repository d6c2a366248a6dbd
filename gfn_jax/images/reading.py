"""Reading of photos, with their metadata.

The size of an image is checked before decoding, and every decoder error becomes a `UserError` of
one line.
"""

import dataclasses
import os
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from gfn_jax.errors import UserError
from gfn_jax.images import formats, metadata
from gfn_jax.images.damage import UnreadableError
from gfn_jax.images.decoding import (
  Decoded,
  Opened,
  decoder_errors,
  open_regular,
  opened_with,
  pixels_of,
)
from gfn_jax.images.metadata import Metadata

MAX_PIXELS = 50_000_000
# Limit for images read without an option: evaluation targets have 16 times the pixels of inputs.
_MOST_PIXELS = 16 * MAX_PIXELS


@dataclasses.dataclass(frozen=True)
class Photo:
  """Image with its metadata.

  Attributes:
    pixels: `[h, w, C]` uint8 or uint16, upright. C is 1 for grey, 2 for grey and alpha, 3 for RGB
      and 4 for RGB and alpha.
    metadata: metadata of the image.
    notes: what a user should know about how the file was read, one sentence each.
  """

  pixels: np.ndarray
  metadata: Metadata = Metadata()
  notes: tuple[str, ...] = ()


def read_photo(path: str | os.PathLike, max_pixels: int | None = MAX_PIXELS) -> Photo:
  """Read an image file, whatever its extension.

  Palette and 1-bit images become 8-bit RGB or grey, with alpha if they have transparency. CMYK and
  LAB become sRGB, through the embedded profile if there is one. 16 bits are kept. The EXIF
  orientation is applied, and damaged EXIF tags are dropped. Of several images, such as an MPO
  file's, the first is read. A file that is damaged beside its pixels is read, with a note.

  Args:
    path: the image file.
    max_pixels: maximum number of pixels, checked before decoding. None allows 800 megapixels.

  Raises:
    UserError: if the file cannot be read, is animated, or has an unsupported format, floating-point
      values, missing pixels or too many pixels.
  """
  with decoder_errors(path), open_regular(path) as file:
    return _upright(_open(file, max_pixels))


def size_of(path: str | os.PathLike, max_pixels: int | None = MAX_PIXELS) -> tuple[int, int]:
  """Return the width and height of a file from its header, as `read_photo` would return it.

  Raises:
    UserError: if the header cannot be read, or shows that `read_photo` would raise.
  """
  with decoder_errors(path), open_regular(path) as file:
    opened = _open(file, max_pixels)
    width, height = opened.size
    return (height, width) if metadata.orientation(opened.exif) in (5, 6, 7, 8) else (width, height)


class Animation(NamedTuple):
  """Animated image.

  Attributes:
    frames: `[T, h, w, C]` uint8. C is 3 for RGB and 4 for RGB and alpha.
    durations: display time of each frame, in milliseconds.
    loops: number of repetitions, 0 for ever; None to play it once.
  """

  frames: np.ndarray
  durations: tuple[int, ...]
  loops: int | None


_ANIMATED = {'GIF': GifImageFile, 'WebP': WebPImageFile, 'PNG': PngImageFile}


def is_animated(path: str | os.PathLike) -> bool:
  """Return True if a file is an animated GIF, WebP or PNG; False also if it cannot be read."""
  try:
    with decoder_errors(path), open_regular(path) as file:
      plugin = _ANIMATED.get(formats.format_of(file) or '')
      return plugin is not None and getattr(plugin(file), 'n_frames', 1) > 1
  except UserError:
    return False


def read_animation(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Animation:
  """Read an animated GIF, WebP or PNG, for which `is_animated` is True.

  Args:
    path: the file.
    max_pixels: maximum number of pixels of all frames together.

  Raises:
    UserError: if the file cannot be read, or has too many pixels.
  """
  with decoder_errors(path), open_regular(path) as file:
    plugin = _ANIMATED[formats.format_of(file) or '']
    image = plugin(file)
    count, (width, height) = getattr(image, 'n_frames', 1), image.size
    if count * width * height > max_pixels:
      raise UnreadableError(
        f'{count} frames of {width}x{height} exceed the limit of {max_pixels:,} pixels; reduce '
        f'them, or pass --max_pixels={count * width * height}'
      )
    loops = image.info.get('loop')
    frames, durations = [], []
    # The first image of an animated PNG may be for other programs only.
    for i in range(bool(image.info.get('default_image')), count):
      image.seek(i)
      frames.append(np.asarray(image.convert('RGBA')))
      durations.append(round(image.info.get('duration') or _DURATION))
  stacked = np.stack(frames)
  opaque = bool((stacked[..., 3] == 255).all())
  return Animation(stacked[..., :3] if opaque else stacked, tuple(durations), loops)


# Display time of a frame whose file has none, in milliseconds, as in browsers.
_DURATION = 100


def to_photo(image: Image.Image, name: str = 'the image') -> Photo:
  """Convert a Pillow image as `read_photo` reads a file.

  Pillow images hold 8-bit colour. For 16 bits, read the file with `read_photo`.

  Args:
    image: the Pillow image.
    name: name of the image in error messages.

  Raises:
    UserError: if the image holds floating-point or 32-bit values, or cannot be loaded.
  """
  with decoder_errors(name):
    image.load()
    return _upright(opened_with(image, lambda: Decoded(*pixels_of(image))))


def _open(file: BinaryIO, max_pixels: int | None) -> Opened:
  opened = formats.open_image(file)
  width, height = opened.size
  if not width or not height:
    raise UnreadableError('image without pixels')
  limit = _MOST_PIXELS if max_pixels is None else max_pixels
  if width * height > limit:
    advice = 'reduce the image'
    if max_pixels is not None:
      advice += f', or pass --max_pixels={width * height}'
    raise UnreadableError(f'{width}x{height} exceeds the limit of {limit:,} pixels; {advice}')
  return opened


def _upright(opened: Opened) -> Photo:
  pixels, icc_profile, notes = opened.decode()
  orientation = metadata.orientation(opened.exif)
  pixels = np.ascontiguousarray(_TURNS.get(orientation, lambda pixels: pixels)(pixels))
  exif, resolution = metadata.kept(opened.exif), opened.metadata.resolution
  if orientation in (5, 6, 7, 8):
    metadata.turn(exif)
    resolution = resolution and resolution.turned()
  kept = dataclasses.replace(
    opened.metadata,
    exif=metadata.to_bytes(exif),
    icc_profile=icc_profile or None,
    resolution=resolution,
    size=pixels.shape[1::-1],
  )
  return Photo(pixels, kept, opened.notes + notes)


_TURNS = {
  2: lambda pixels: pixels[:, ::-1],
  3: lambda pixels: pixels[::-1, ::-1],
  4: lambda pixels: pixels[::-1],
  5: lambda pixels: pixels.swapaxes(0, 1),
  6: lambda pixels: np.rot90(pixels, -1),
  7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
  8: lambda pixels: np.rot90(pixels),
}
