"""From a blurred low-resolution photo to a sharp one, 4 times larger."""

import functools
import os
import sys
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from tqdm import tqdm

from gfn_jax.data import folders
from gfn_jax.errors import UserError
from gfn_jax.models.gfn import SCALE
from gfn_jax.pretrained import load_pretrained


def to_float(image: jax.Array) -> jax.Array:
  """An image as the networks take it: uint8 becomes float32 in [0, 1], floats stay."""
  return image.astype(jnp.float32) / 255 if image.dtype == jnp.uint8 else image


def to_uint8(image: jax.Array) -> jax.Array:
  """A network's image as 8 bit: clipped to [0, 1] and rounded half up."""
  return jnp.floor(jnp.clip(image, 0, 1) * 255 + 0.5).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnums=0)
def _forward(model: nn.Module, params: Any, lr_blur: jax.Array) -> jax.Array:
  """`[h, w, 3]` uint8 or float to `[4h, 4w, 3]` uint8."""
  return to_uint8(model.apply({'params': params}, to_float(lr_blur)[None]).hr[0])


@functools.cache
def _say_compiling(model: nn.Module, height: int, width: int) -> None:
  """Prints a line the first time that a network meets a size."""
  tqdm.write(f'compiling {type(model).__name__} for {width}x{height}', file=sys.stderr)


class Restorer:
  """Restores photos with a trained network.

      restorer = gfn_jax.Restorer.from_pretrained('weights.safetensors')
      sharp = restorer('photo.png')  # [4h, 4w, 3] uint8

  A new image size compiles the network anew, which takes some seconds and is said on stderr.

  Attributes:
    model: the network.
    params: its parameters.
  """

  def __init__(self, model: nn.Module, params: Any):
    self.model = model
    self.params = jax.device_put(params, jax.local_devices()[0])

  @classmethod
  def from_pretrained(cls, path_or_name: str | os.PathLike) -> 'Restorer':
    """Reads weights as `load_pretrained`: a file that `run_train.py` wrote, or released ones.

    Args:
      path_or_name: a .safetensors file, which names its network, or a name such as 'gfn'.

    Raises:
      UserError: if there is no such file or name, or it is damaged or not of this library.
    """
    return cls(*load_pretrained(path_or_name))

  def __call__(self, image: str | os.PathLike | Image.Image | np.ndarray) -> np.ndarray:
    """Restores one image.

    Args:
      image: a path, a PIL image, or an array `[h, w, 3]`: uint8, or float in [0, 1].

    Returns:
      `[4h, 4w, 3]` uint8.

    Raises:
      UserError: if a file cannot be read, or an image is not 8-bit grey or RGB.
      ValueError: for an array of another shape.
      TypeError: for an array of another type.
    """
    if isinstance(image, (str, os.PathLike)):
      image = folders.read_rgb(image)
    elif isinstance(image, Image.Image):
      image = folders.to_rgb(image)
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
      raise ValueError(f'an image is [h, w, 3], not {image.shape}')
    if image.dtype != np.uint8:
      if not np.issubdtype(image.dtype, np.floating):
        raise TypeError(f'an image is uint8 or float in [0, 1], not {image.dtype}')
      image = image.astype(np.float32)
    _say_compiling(self.model, *image.shape[:2])
    return np.asarray(_forward(self.model, self.params, image))


def restore_files(restorer: Restorer, source: str | os.PathLike, output_dir: str) -> list[str]:
  """Restores a file or every image of a folder into `output_dir`, as PNGs of the same name.

  Args:
    restorer: the network.
    source: a file or a folder.
    output_dir: made if needed; must not be the folder of the sources.

  Returns:
    The paths written.

  Raises:
    UserError: for a missing source, an image that cannot be read, two sources of one name, or a
      source that would be overwritten.
  """
  paths = folders.list_images(source)
  targets = [os.path.join(output_dir, folders.stem(path) + '.png') for path in paths]
  for i, (path, target) in enumerate(zip(paths, targets, strict=True)):
    if os.path.exists(target) and os.path.samefile(path, target):
      raise UserError(f'{path} would be overwritten; choose another --output_dir')
    if target in targets[:i]:
      raise UserError(f'{path} and another image would both become {target}; rename one')
  os.makedirs(output_dir, exist_ok=True)
  for path, target in zip(paths, targets, strict=True):
    image = folders.read_rgb(path)
    h, w, _ = image.shape
    print(f'{path}: {w}x{h} -> {SCALE * w}x{SCALE * h} {target}', flush=True)
    folders.write_png(target, restorer(image))
  return targets
