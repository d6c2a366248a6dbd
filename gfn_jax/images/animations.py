"""Writing of the frames of an exposure as a short GIF or WebP animation."""

import dataclasses
import io
import math
import os
from typing import Any

import numpy as np
from PIL import Image

from gfn_jax.errors import UserError
from gfn_jax.images.metadata import Metadata
from gfn_jax.images.reading import Animation, Photo
from gfn_jax.images.writing import exif_options
from gfn_jax.ops.pixels import is_opaque, to_8_bits
from gfn_jax.system.files import extension_of, printable, write_file

EXTENSIONS = ('.gif', '.webp')

DURATION = 100
"""Display time of a frame, in milliseconds."""

_GIF_SIDE, _WEBP_SIDE = 65535, 16383


def check_animation(path: str | os.PathLike, size: tuple[int, int], channels: int) -> None:
  """Raise `UserError` if the animation format of a path cannot hold an image.

  Args:
    path: the file to write. Its extension sets the format.
    size: width and height in pixels.
    channels: 1 for grey, 2 for grey and alpha, 3 for RGB, 4 for RGB and alpha.

  Raises:
    UserError: for another extension, too many pixels, or alpha in a GIF.
  """
  extension, width, height = extension_of(path), *size
  if extension not in EXTENSIONS:
    raise UserError(f'{printable(path)}: frames become an animation; choose .gif or .webp')
  if extension == '.gif' and channels in (2, 4):
    raise UserError(f'{printable(path)}: GIF does not support partial transparency; choose .webp')
  name, side = ('GIF', _GIF_SIDE) if extension == '.gif' else ('WebP', _WEBP_SIDE)
  if max(size) > side:
    raise UserError(
      f'{printable(path)}: {width}x{height} exceeds the {side} pixels per side of {name}; '
      'reduce the image'
    )


def for_animation(path: str | os.PathLike, photo: Photo) -> Photo:
  """Return a photo that the animation format of a path can hold: for GIF, without opaque alpha.

  Args:
    path: the file to write. Its extension sets the format.
    photo: a photo of the size of the frames.

  Raises:
    UserError: as `check_animation`, or for an HDR transfer function.
  """
  height, width, channels = photo.pixels.shape
  if extension_of(path) == '.gif' and channels in (2, 4) and is_opaque(photo.pixels):
    channels -= 1
  check_animation(path, (width, height), channels)
  if photo.metadata.hdr:
    raise UserError(
      f'{printable(path)}: an animation cannot hold the HDR transfer function '
      f'({photo.metadata.hdr}); convert the photo to SDR'
    )
  return dataclasses.replace(photo, pixels=photo.pixels[..., :channels])


def write_animation(
  path: str | os.PathLike,
  frames: np.ndarray,
  metadata: Metadata | None = None,
) -> None:
  """Write frames as an endless animation that plays forward and backward.

  A GIF has one palette of 256 colours for all frames. A WebP is lossy, with quality 90, and keeps
  EXIF, XMP and colour profile. The file is replaced atomically.

  Args:
    path: the file, with an extension of `EXTENSIONS`.
    frames: `[T, h, w, C]` uint8 or uint16, T at least 2, C as in `Photo`. 16 bits are rounded to 8.
    metadata: metadata of the photo; None for none.

  Raises:
    UserError: as `check_animation`, or if libwebp fails.
    OSError: if the file cannot be written; its `filename` is `path`.
    ValueError: for frames of another shape.
    TypeError: for frames of another type.
  """
  if frames.ndim != 4 or len(frames) < 2 or not 1 <= frames.shape[-1] <= 4 or 0 in frames.shape:
    raise ValueError(
      f'frames must be [T, h, w, C] with T of at least 2 and C from 1 to 4, not {frames.shape}'
    )
  if frames.dtype not in (np.uint8, np.uint16):
    raise TypeError(f'frames must be uint8 or uint16, not {frames.dtype}')
  _, height, width, channels = frames.shape
  check_animation(path, (width, height), channels)
  images = [_to_pillow(frame) for frame in frames]
  options: dict[str, Any] = {'save_all': True, 'duration': DURATION, 'loop': 0}
  if extension_of(path) == '.gif':
    images = _with_one_palette(images) if channels == 3 else images
    options |= {'format': 'GIF', 'optimize': False}
  else:
    options |= {'format': 'WEBP', 'quality': 90, 'method': 4}
    options |= exif_options((metadata or Metadata()).for_size((width, height)))
  _save(path, images + images[-2:0:-1], options)


def write_timed_animation(path: str | os.PathLike, animation: Animation) -> None:
  """Write an animation with the display time of each frame. The file is replaced atomically.

  GIF and WebP are as of `write_animation`. In a GIF, alpha becomes fully transparent or opaque.

  Raises:
    UserError: for an unknown extension or too many pixels, or if libwebp fails.
    OSError: if the file cannot be written; its `filename` is `path`.
  """
  _, height, width, _ = animation.frames.shape
  check_animation(path, (width, height), channels=3)
  images = [Image.fromarray(frame) for frame in animation.frames]
  options: dict[str, Any] = {'save_all': True, 'duration': list(animation.durations)}
  if animation.loops is not None:
    options['loop'] = animation.loops
  if extension_of(path) == '.gif':
    options |= {'format': 'GIF', 'optimize': False}
    if images[0].mode == 'RGBA':
      options |= {'transparency': _TRANSPARENT, 'disposal': 2}
      colours = _with_one_palette([image.convert('RGB') for image in images], _TRANSPARENT)
      images = [_with_holes(*pair) for pair in zip(colours, animation.frames[..., 3], strict=True)]
    else:
      images = _with_one_palette(images)
  else:
    options |= {'format': 'WEBP', 'quality': 90, 'method': 4}
  _save(path, images, options)


_TRANSPARENT = 255  # index in the palette


def _with_holes(image: Image.Image, alpha: np.ndarray) -> Image.Image:
  """Return an image with a palette whose pixels of low alpha have the transparent index."""
  indices = np.where(alpha < 128, np.uint8(_TRANSPARENT), np.asarray(image))
  palette = image.getpalette() or []
  with_holes = Image.fromarray(indices)
  with_holes.putpalette(palette + [0] * (768 - len(palette)))
  return with_holes


def _save(path: str | os.PathLike, images: list[Image.Image], options: dict[str, Any]) -> None:
  first, *others = images
  content = io.BytesIO()
  try:
    first.save(content, append_images=others, **options)
  except RuntimeError as error:  # libwebp has limits that depend on the image
    raise UserError(f'cannot write {printable(path)} as WebP ({error}); choose .gif') from error
  try:
    write_file(path, content.getvalue())
  except OSError as error:  # names the temporary file or no file
    raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _to_pillow(frame: np.ndarray) -> Image.Image:
  frame = to_8_bits(frame)
  return Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)


def _with_one_palette(images: list[Image.Image], colours: int = 256) -> list[Image.Image]:
  """Quantise RGB images to one palette, so that static parts do not flicker."""
  width, height = images[0].size
  step = math.isqrt(len(images) * width * height // 2**20) + 1
  some = np.concatenate([np.asarray(image)[::step, ::step] for image in images])
  palette = Image.fromarray(some).quantize(colours)
  return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
