"""Images in folders, read with Pillow."""

import contextlib
import io
import os
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageOps

from gfn_jax.errors import UserError
from gfn_jax.files import write_file

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff')


def list_images(path: str | os.PathLike, recursive: bool = False) -> list[str]:
  """Paths of the images in a folder, sorted by name; of a file, the file itself.

  Args:
    path: of a folder or a file.
    recursive: with the images in all folders below it.

  Raises:
    UserError: if there is no such folder or file, or the folder holds no image.
  """
  if os.path.isfile(path):
    return [os.fspath(path)]
  if not os.path.isdir(path):
    raise UserError(f'no such file or folder: {os.fspath(path)}')
  tree = os.walk(path) if recursive else [(path, [], os.listdir(path))]
  images = [
    os.path.join(folder, name)
    for folder, _, names in tree
    for name in names
    if name.lower().endswith(EXTENSIONS)
  ]
  if not images:
    raise UserError(f'no image in {os.fspath(path)}; known are {", ".join(EXTENSIONS)}')
  return sorted(images)


def stem(path: str) -> str:
  """The file's name without folder and extension."""
  return os.path.splitext(os.path.basename(path))[0]


@contextlib.contextmanager
def _open(path: str | os.PathLike) -> Iterator[Image.Image]:
  try:
    with Image.open(path) as image:
      yield image
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    raise UserError(f'{os.fspath(path)} cannot be read: {error}') from error


def image_size(path: str | os.PathLike) -> tuple[int, int]:
  """Width and height of an image as `read_rgb` gives it, from the file's header.

  Raises:
    UserError: if it cannot be read.
  """
  with _open(path) as image:
    width, height = image.size
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
  return (height, width) if turned else (width, height)


def read_rgb(path: str | os.PathLike) -> np.ndarray:
  """Reads an image as `[H, W, 3]` uint8, turned as its EXIF orientation says.

  Raises:
    UserError: if it cannot be read, or is not 8-bit grey or RGB.
  """
  with _open(path) as image:
    image.load()
  return to_rgb(image, os.fspath(path))


def to_rgb(image: Image.Image, name: str = 'the image') -> np.ndarray:
  """A PIL image as `[H, W, 3]` uint8, turned as its EXIF orientation says.

  Raises:
    UserError: if it is not 8-bit grey or RGB; `name` says which.
  """
  if image.mode not in ('RGB', 'L'):
    raise UserError(f'{name} is {image.mode}; convert it to 8-bit RGB first')
  return np.asarray(ImageOps.exif_transpose(image).convert('RGB'))


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
  """Writes `[H, W, 3]` uint8 as a PNG: aside first, then renamed."""
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, format='PNG')
  write_file(path, buffer.getvalue())


def pair_images(
  input_dir: str | os.PathLike, target_dir: str | os.PathLike
) -> list[tuple[str, str, str]]:
  """Pairs the images of two folders by name, extensions apart.

  Returns:
    `(name, input path, target path)`, sorted by name.

  Raises:
    UserError: naming every file without a partner.
  """
  inputs = _by_stem(input_dir)
  targets = _by_stem(target_dir)
  alone = [path for name, path in inputs.items() if name not in targets]
  alone += [path for name, path in targets.items() if name not in inputs]
  if alone:
    raise UserError(f'files without a partner of the same name: {", ".join(sorted(alone))}')
  return [(name, inputs[name], targets[name]) for name in sorted(inputs)]


def sharp_and_blurred(path: str | os.PathLike, blur_name: str) -> list[tuple[str, str, str]]:
  """Pairs of photos in GOPRO_Large's layout: folders `sharp` and `blur_name` beside each other.

  Args:
    path: a folder that has such folders, at any depth.
    blur_name: 'blur_gamma' or 'blur' in GOPRO_Large.

  Returns:
    `(name, sharp path, blurred path)`, sorted by path.

  Raises:
    UserError: if there are none, or naming every file without a partner.
  """
  pairs = []
  for folder, names, _ in sorted(os.walk(path)):
    if {'sharp', blur_name} <= set(names):
      pairs += pair_images(os.path.join(folder, 'sharp'), os.path.join(folder, blur_name))
  if not pairs:
    raise UserError(
      f'no folders named sharp and {blur_name} beside each other in {os.fspath(path)}'
    )
  return pairs


def _by_stem(folder: str | os.PathLike) -> dict[str, str]:
  paths = {}
  for path in list_images(folder):
    if stem(path) in paths:
      raise UserError(f'two images of one name: {paths[stem(path)]} and {path}')
    paths[stem(path)] = path
  return paths
