"""Restoration of animated images, frame by frame."""

import os

import numpy as np
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.images.animations import check_animation, write_timed_animation
from gfn_jax.images.reading import MAX_PIXELS, read_animation
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system.files import check_new_file, is_same_file, printable


def restore_animation(
  restorer: Restorer,
  source: str | os.PathLike,
  target: str | os.PathLike,
  *,
  overwrite: bool = False,
  max_pixels: int = MAX_PIXELS,
) -> None:
  """Restore an animated GIF, WebP or PNG as a GIF or WebP with the same display times.

  Args:
    restorer: the network, with the output 'hr' or 'lr'.
    source: the animation.
    target: the file to write, with the extension '.gif' or '.webp'.
    overwrite: True to replace an existing file.
    max_pixels: maximum number of pixels of all frames together.

  Raises:
    UserError: if the source cannot be read, or the target cannot be written.
    OSError: as `write_timed_animation`.
  """
  check_new_file(target, overwrite)
  if is_same_file(source, target):
    raise UserError(f'{printable(source)} would be overwritten; choose another output')
  animation = read_animation(source, max_pixels)
  _, height, width, _ = animation.frames.shape
  check_animation(target, (restorer.scale * width, restorer.scale * height), channels=3)
  frames = [restorer(frame) for frame in tqdm(animation.frames, 'restoring', unit='frame')]
  write_timed_animation(target, animation._replace(frames=np.stack(frames)))
