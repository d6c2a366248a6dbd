"""8-bit RGB images in folders, for training and evaluation."""

import collections
import dataclasses
import os
import re

import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.images import formats, reading, videos
from gfn_jax.images.reading import Photo
from gfn_jax.images.writing import EXTENSIONS, write_photo
from gfn_jax.ops.pixels import to_8_bits
from gfn_jax.system.files import extension_of, printable

_EXTENSIONS = (*EXTENSIONS, *formats.READ_ONLY)


@dataclasses.dataclass
class Found:
  """Files in a folder, by kind.

  Attributes:
    images: paths of the images, sorted.
    videos: paths of the videos, sorted.
    others: number of other entries by kind: an extension such as '.txt', or a description.
    failures: for each subfolder that cannot be read, its path and the reason.
  """

  images: list[str] = dataclasses.field(default_factory=list)
  videos: list[str] = dataclasses.field(default_factory=list)
  others: dict[str, int] = dataclasses.field(default_factory=dict)
  failures: list[str] = dataclasses.field(default_factory=list)


# Endings of DIV2K (x4), RCAN (_LRBI_x4, _HR_x4), SelfExSR (_SRF_4_LR) and similar files.
_ENDINGS = re.compile(
  r'([-_ ]?x[2348]|[-_ ]?SRF[-_ ]?[2348]'
  r'|[-_ ](LRBI|LRBD|LRDN|BI|BD|DN|LR|HR|GT|bicubic|blur|sharp))+$',
  re.IGNORECASE,
)


def list_images(path: str | os.PathLike, recursive: bool = False) -> list[str]:
  """List the images in a folder, as `find_files` finds them. A file is listed as itself.

  Args:
    path: a folder or a file.
    recursive: include images in all subfolders.

  Raises:
    UserError: if the path does not exist, the folder holds no image, or a subfolder cannot be read.
  """
  if not os.path.isdir(path):
    if os.path.lexists(path):
      return [os.fspath(path)]
    raise UserError(f'no such file or folder: {printable(path)}')
  found = find_files(path, recursive)
  if found.failures:
    raise UserError(found.failures[0])
  if not found.images:
    raise UserError(f'no image in {printable(path)}; extensions are {", ".join(_EXTENSIONS)}')
  return found.images


def find_files(
  folder: str | os.PathLike, recursive: bool = True, skip: str | os.PathLike | None = None
) -> Found:
  """Find the images and the videos in a folder, and count everything else.

  Extensions decide. Hidden files and folders, whose names begin with a dot, and devices count as
  others. Broken links to images are listed, so that reading them raises. Linked folders are
  followed after all others, and every folder is read once, so links cannot form a loop.

  Args:
    folder: the folder.
    recursive: include all subfolders.
    skip: a folder to leave out.
  """
  found = Found()
  skipped = skip and os.path.realpath(skip)
  seen: set[str] = set()
  others: collections.Counter[str] = collections.Counter()

  def fail(error: OSError) -> None:
    found.failures.append(f'cannot read {printable(error.filename)}: {error.strerror}')

  roots = [os.fspath(folder)]
  for root in roots:  # grows
    for parent, subfolders, names in os.walk(root, onerror=fail):
      real = os.path.realpath(parent)
      if real == skipped or real in seen:
        others['read already (linked folder)'] += real != skipped
        subfolders.clear()
        continue
      seen.add(real)
      for name in names:
        path = os.path.join(parent, name)
        kind = _kind(path)
        if kind == 'image':
          found.images.append(path)
        elif kind == 'video':
          found.videos.append(path)
        else:
          others[kind] += 1
      if not recursive:
        break
      others['hidden'] += sum(name.startswith('.') for name in subfolders)
      subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
      paths = (os.path.join(parent, name) for name in subfolders)
      roots += [path for path in paths if os.path.islink(path)]
  found.images.sort()
  found.videos.sort()
  found.others = {kind: others[kind] for kind in sorted(others) if others[kind]}
  return found


def _kind(path: str) -> str:
  """Return 'image', 'video', or the kind of another file for a message."""
  name, extension = os.path.basename(path), extension_of(path)
  if name.startswith('.'):
    return 'hidden'
  if os.path.exists(path) and not os.path.isfile(path):
    return 'not a regular file'
  if extension in _EXTENSIONS:
    return 'image'
  if extension in videos.EXTENSIONS:
    return 'video'
  if not os.path.exists(path):
    return 'linked to nothing'
  return printable(extension) or 'without extension'


def _is_image(name: str) -> bool:
  return name.lower().endswith(_EXTENSIONS) and not name.startswith('.')


def stem(path: str) -> str:
  """Return the name of a file without folder and extension."""
  return os.path.splitext(os.path.basename(path))[0]


def image_size(path: str | os.PathLike) -> tuple[int, int]:
  """Return the width and height of an image from its header, as `read_rgb` would return it.

  Raises:
    UserError: if the file cannot be read.
  """
  return reading.size_of(path, max_pixels=None)


def read_rgb(path: str | os.PathLike) -> np.ndarray:
  """Read an image as `[H, W, 3]` uint8, with its EXIF orientation applied.

  Grey, palette and CMYK images become RGB. 16 bits are rounded to 8.

  Raises:
    UserError: as `reading.read_photo`, or if a part of the image is transparent.
  """
  pixels = reading.read_photo(path, max_pixels=None).pixels
  pixels = to_8_bits(pixels)
  if pixels.shape[-1] in (2, 4):
    if (pixels[..., -1] < 255).any():
      raise UserError(f'{printable(path)} has transparency; place it on a background first')
    pixels = pixels[..., :-1]
  return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
  """Write `[H, W, 3]` uint8 as a PNG file, replaced atomically.

  Raises:
    OSError: as `write_photo`.
  """
  write_photo(path, Photo(image))


def pair_images(
  input_dir: str | os.PathLike, target_dir: str | os.PathLike
) -> list[tuple[str, str, str]]:
  """Pair the images of two folders by name, ignoring extensions.

  If names differ, the endings of benchmarks are ignored, too: `0001x4.png` belongs to `0001.png`,
  and `baby_LRBI_x4.png` to `baby_HR_x4.png`.

  Returns:
    `(name, input path, target path)`, sorted by name. Names are without endings where these differ.

  Raises:
    UserError: if a file has no partner. The message names all such files.
  """
  inputs, targets = _by_stem(input_dir), _by_stem(target_dir)
  if inputs.keys() != targets.keys():
    shorter = [_without_endings(paths) for paths in (inputs, targets)]
    if shorter[0].keys() == shorter[1].keys():
      inputs, targets = shorter
  return _pair(inputs, targets)


def _without_endings(paths: dict[str, str]) -> dict[str, str]:
  """Return paths by their names without endings of benchmarks; unchanged if two would be equal."""
  shorter = {_ENDINGS.sub('', name) or name: path for name, path in paths.items()}
  return shorter if len(shorter) == len(paths) else paths


def pair_folders(
  input_dir: str | os.PathLike, target_dir: str | os.PathLike
) -> list[tuple[str, str, str]]:
  """Pair the images of a folder with the folders of their names in another one.

  Returns:
    `(name, input path, folder)`, sorted by name.

  Raises:
    UserError: if a file or a folder has no partner. The message names all of them.
  """
  return _pair(_by_stem(input_dir), _subfolders(target_dir))


def holds_only_folders(path: str | os.PathLike) -> bool:
  """Return True if a path is a folder that holds folders but no image. Hidden ones do not count."""
  subfolders = _subfolders(path) if os.path.isdir(path) else {}
  return bool(subfolders) and not any(
    _is_image(name) for name in os.listdir(path) if name not in subfolders
  )


def _subfolders(path: str | os.PathLike) -> dict[str, str]:
  """Return the folders in a folder by name, without hidden ones."""
  paths = {n: os.path.join(path, n) for n in os.listdir(path) if not n.startswith('.')}
  return {name: folder for name, folder in paths.items() if os.path.isdir(folder)}


def _pair(inputs: dict[str, str], targets: dict[str, str]) -> list[tuple[str, str, str]]:
  alone = [path for name, path in inputs.items() if name not in targets]
  alone += [path for name, path in targets.items() if name not in inputs]
  if alone:
    names = ', '.join(printable(path) for path in sorted(alone))
    raise UserError(f'files without a counterpart of the same name: {names}')
  return [(name, inputs[name], targets[name]) for name in sorted(inputs)]


def _by_stem(folder: str | os.PathLike) -> dict[str, str]:
  paths: dict[str, str] = {}
  for path in list_images(folder):
    if stem(path) in paths:
      first, second = printable(paths[stem(path)]), printable(path)
      raise UserError(f'two images have the same name: {first} and {second}')
    paths[stem(path)] = path
  return paths
