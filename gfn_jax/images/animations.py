"""Writes the frames of an exposure as a short animation, GIF or WebP."""

import io
import math
import os

import numpy as np
from PIL import Image

from gfn_jax.errors import UserError
from gfn_jax.images import metadata
from gfn_jax.system.files import extension_of, printable, write_file

EXTENSIONS = ('.gif', '.webp')

DURATION = 100
"""Milliseconds that a frame is shown."""

_GIF_SIDE, _WEBP_SIDE = 65535, 16383


def check_animation(path: str | os.PathLike, size: tuple[int, int], channels: int) -> None:
  """Refuses what the format of a path cannot hold, before any work is done for it.

  Args:
    path: of a file to write; its extension says the format.
    size: width and height.
    channels: 1 for grey, 2 for grey and alpha, 3 for RGB, 4 for RGB and alpha.

  Raises:
    UserError: for another extension, too many pixels, or alpha in a GIF.
  """
  extension, width, height = extension_of(path), *size
  if extension not in EXTENSIONS:
    raise UserError(f'{printable(path)}: frames become an animation; choose .gif or .webp')
  if extension == '.gif' and channels in (2, 4):
    raise UserError(f'{printable(path)}: GIF has no partial transparency; choose .webp')
  name, side = ('GIF', _GIF_SIDE) if extension == '.gif' else ('WebP', _WEBP_SIDE)
  if max(size) > side:
    raise UserError(
      f'{printable(path)}: {name} holds at most {side} pixels a side, not {width}x{height}; '
      'make the picture smaller'
    )


def write_animation(
  path: str | os.PathLike,
  frames: np.ndarray,
  exif: bytes = b'',
  icc_profile: bytes | None = None,
) -> None:
  """Writes frames as an animation that goes forth and back, for ever: aside first, then renamed.

  A GIF has 256 colours, the same in all frames; a WebP is lossy, with quality 90, and has EXIF and
  colour profile.

  Args:
    path: its extension is one of `EXTENSIONS`.
    frames: `[T, h, w, C]`, T at least 2, uint8 or uint16, which is rounded to 8 bits; C as in
      `Photo`.
    exif: as in `Photo`.
    icc_profile: as in `Photo`.

  Raises:
    UserError: as `check_animation`, or if libwebp fails.
    OSError: if the file cannot be written; its `filename` is `path`.
    ValueError: for frames of another shape.
    TypeError: for frames of another type.
  """
  if frames.ndim != 4 or len(frames) < 2 or not 1 <= frames.shape[-1] <= 4 or 0 in frames.shape:
    raise ValueError(f'frames are [T, h, w, C] with T from 2, C from 1 to 4, not {frames.shape}')
  if frames.dtype not in (np.uint8, np.uint16):
    raise TypeError(f'frames are uint8 or uint16, not {frames.dtype}')
  _, height, width, channels = frames.shape
  check_animation(path, (width, height), channels)
  images = [_to_pillow(frame) for frame in frames]
  options = {'save_all': True, 'duration': DURATION, 'loop': 0}
  if extension_of(path) == '.gif':
    images = _with_one_palette(images) if channels == 3 else images
    options |= {'format': 'GIF', 'optimize': False}
  else:
    tags = Image.Exif()
    tags.load(exif)
    options |= {'exif': metadata.to_bytes(metadata.kept(tags, (width, height)))}
    options |= {'format': 'WEBP', 'quality': 90, 'method': 4, 'icc_profile': icc_profile}
  first, *others = images + images[-2:0:-1]
  content = io.BytesIO()
  try:
    first.save(content, append_images=others, **options)
  except RuntimeError as error:  # of libwebp, which has limits that depend on the picture
    raise UserError(f'{printable(path)}: WebP does not hold it ({error}); choose .gif') from error
  try:
    write_file(path, content.getbuffer())
  except OSError as error:  # names the temporary file, or none
    raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _to_pillow(frame: np.ndarray) -> Image.Image:
  if frame.dtype == np.uint16:
    frame = ((frame.astype(np.uint32) + 128) // 257).astype(np.uint8)
  return Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)


def _with_one_palette(images: list[Image.Image]) -> list[Image.Image]:
  """RGB images in 256 colours, chosen for all of them: what does not move does not flicker."""
  width, height = images[0].size
  step = math.isqrt(len(images) * width * height // 2**20) + 1
  some = np.concatenate([np.asarray(image)[::step, ::step] for image in images])
  palette = Image.fromarray(some).quantize(256)
  return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
