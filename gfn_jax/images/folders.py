"""Images in folders, for training and evaluation: RGB of 8 bits."""

import os

import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.images import reading
from gfn_jax.images.reading import Photo
from gfn_jax.images.writing import EXTENSIONS, write_photo
from gfn_jax.system.files import printable


def list_images(path: str | os.PathLike, recursive: bool = False) -> list[str]:
  """Paths of the images in a folder, sorted by name; of a file, the file itself.

  Hidden files and folders, whose names begin with a dot, are left out, as are devices. A link to a
  file that does not exist is listed: reading it says so.

  Args:
    path: of a folder or a file.
    recursive: with the images in all folders below it.

  Raises:
    UserError: if there is no such folder or file, the folder holds no image, or one below it cannot
      be read.
  """
  if not os.path.isdir(path):
    if os.path.lexists(path):
      return [os.fspath(path)]
    raise UserError(f'no such file or folder: {printable(path)}')
  tree = os.walk(path, onerror=_refuse) if recursive else [(path, [], os.listdir(path))]
  found = []
  for folder, folders, names in tree:
    folders[:] = [name for name in folders if not name.startswith('.')]  # not walked through
    names = [n for n in names if n.lower().endswith(EXTENSIONS) and not n.startswith('.')]
    paths = [os.path.join(folder, name) for name in names]
    found += [path for path in paths if os.path.isfile(path) or not os.path.exists(path)]
  if not found:
    raise UserError(f'no image in {printable(path)}; known are {", ".join(EXTENSIONS)}')
  return sorted(found)


def _refuse(error: OSError) -> None:
  raise UserError(f'{printable(error.filename)}: {error.strerror}') from error


def stem(path: str) -> str:
  """The file's name without folder and extension."""
  return os.path.splitext(os.path.basename(path))[0]


def image_size(path: str | os.PathLike) -> tuple[int, int]:
  """Width and height of an image as `read_rgb` gives it, from the file's header.

  Raises:
    UserError: if it cannot be read.
  """
  return reading.size_of(path, max_pixels=None)


def read_rgb(path: str | os.PathLike) -> np.ndarray:
  """Reads an image as `[H, W, 3]` uint8, turned as its EXIF orientation says.

  Grey, palettes and CMYK become RGB, and 16 bits become 8, rounded.

  Raises:
    UserError: if `reading.read_photo` refuses it, or a part of it is transparent.
  """
  pixels = reading.read_photo(path, max_pixels=None).pixels
  if pixels.dtype == np.uint16:
    pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
  if pixels.shape[-1] in (2, 4):
    if (pixels[..., -1] < 255).any():
      raise UserError(f'{printable(path)} has transparency; put it on a background first')
    pixels = pixels[..., :-1]
  return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
  """Writes `[H, W, 3]` uint8 as a PNG: aside first, then renamed.

  Raises:
    OSError: as `write_photo`.
  """
  write_photo(path, Photo(image))


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
    names = ', '.join(printable(path) for path in sorted(alone))
    raise UserError(f'files without a partner of the same name: {names}')
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
      f'no folders named sharp and {blur_name} beside each other in {printable(path)}'
    )
  return pairs


def _by_stem(folder: str | os.PathLike) -> dict[str, str]:
  paths = {}
  for path in list_images(folder):
    if stem(path) in paths:
      first, second = printable(paths[stem(path)]), printable(path)
      raise UserError(f'two images of one name: {first} and {second}')
    paths[stem(path)] = path
  return paths
