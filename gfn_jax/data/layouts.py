"""Layouts of downloaded data sets: the names of their folders, and pairs of images in them.

    GOPRO_Large    <sequence>/{sharp,blur,blur_gamma}/*.png
    MPRNet         {target,input}/*.png
    DVD            <sequence>/{GT,input}/*.jpg
    others         {sharp,blur}/*, {sharp,blur}/images/*, {sharp,blur}/<sequence>/*

All of them may lie in further folders. What an archiver or a file manager leaves is ignored.
"""

import dataclasses
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor

from etils import epath

from gfn_jax.errors import UserError
from gfn_jax.images.writing import EXTENSIONS
from gfn_jax.system.files import printable

BLUR_FOLDERS = ('blur_gamma', 'blur')
"""Folders of blurred images of GOPRO_Large, which are different data."""

_SHARP = ('sharp', 'target', 'gt', 'groundtruth')
_BLURRED = ('input', 'blurred')  # names that do not say which blur it is
_AT_ONCE = 16  # folders listed concurrently, because remote listing is slow


@dataclasses.dataclass(frozen=True)
class ImagePair:
  """Sharp and blurred image of one moment.

  Attributes:
    folder: path of the folder that holds both kinds, below the root; '' for the root.
    scene: name of that folder.
    name: path of the image below the folder of its kind, without extension and folders `images`.
    sharp: path of the sharp image.
    blur: path of the blurred image.
  """

  folder: str
  scene: str
  name: str
  sharp: epath.Path
  blur: epath.Path


def is_ignored(name: str) -> bool:
  """Return True for hidden files and folders, and for those that macOS adds to archives."""
  return name.startswith('.') or name == '__MACOSX'


def subfolders(folder: epath.Path) -> list[epath.Path]:
  """Return the folders in a folder, sorted, without ignored ones."""
  paths = (path for path in folder.iterdir() if not is_ignored(path.name))
  return sorted(path for path in paths if path.is_dir())


def images(folder: epath.Path, extensions: Collection[str] = EXTENSIONS) -> list[epath.Path]:
  """Return the images in a folder, sorted, without ignored ones; extensions in any case."""
  paths = (path for path in folder.iterdir() if path.suffix.lower() in extensions)
  return sorted(path for path in paths if not is_ignored(path.name))


def with_splits(root: epath.Path, splits: Collection[str]) -> epath.Path:
  """Return the folder that holds some of the folders `splits`: the root, or one in it.

  Returns:
    The root if no folder or several hold them.
  """
  found = [
    folder
    for folder in (root, *subfolders(root))
    if any((folder / split).is_dir() for split in splits)
  ]
  return found[0] if found and (found[0] == root or len(found) == 1) else root


def find_pairs(
  root: str | os.PathLike, blur_folder: str, complete: bool = False
) -> list[ImagePair]:
  """List the pairs of a sharp and a blurred image in any of the layouts above.

  Args:
    root: a folder; may be `gs://...`.
    blur_folder: name of the folders of blurred images: 'blur_gamma' or 'blur' in GOPRO_Large.
      Folders named `input` or `blurred` take their place where they are missing.
    complete: True to raise for a folder that holds neither pairs nor folders with pairs.

  Returns:
    The pairs, sorted by folder and name; at least one.

  Raises:
    UserError: if there is no pair, or an image has no counterpart. The message names it.
  """
  top = epath.Path(root)
  found = list(_search(top, blur_folder))
  pairs_of = [folder for folder in found if isinstance(folder, _Folder)]
  problems = [problem for problem in found if isinstance(problem, str)]
  if not pairs_of or (complete and problems):
    raise UserError(
      problems[0]
      if problems
      else f'no folders of sharp and blurred images in {printable(root)}: expected sibling folders '
      f'sharp and {blur_folder}, or target and input'
    )
  with ThreadPoolExecutor(_AT_ONCE) as pool:
    listed = pool.map(lambda folder: folder.pairs(top), pairs_of)
    pairs = [pair for of_folder in listed for pair in of_folder]
  return sorted(pairs, key=lambda pair: (pair.folder.split('/'), pair.name.split('/')))


@dataclasses.dataclass(frozen=True)
class _Folder:
  """Sibling folders of sharp and of blurred images."""

  sharp: epath.Path
  blur: epath.Path

  def pairs(self, top: epath.Path) -> list[ImagePair]:
    sharp, blur = (_images_below(folder) for folder in (self.sharp, self.blur))
    for name in sorted(sharp.keys() ^ blur.keys()):
      path = sharp.get(name) or blur[name]
      here, there = (self.sharp, self.blur) if name in sharp else (self.blur, self.sharp)
      raise UserError(
        f'{printable(path)} has no counterpart {printable(there / path.relative_to(here))}; '
        'restore that file or remove this one'
      )
    parent = self.sharp.parent
    folder = '' if parent == top else parent.relative_to(top).as_posix()
    return [ImagePair(folder, parent.name, name, sharp[name], blur[name]) for name in sharp]


def _search(folder: epath.Path, blur_folder: str) -> Iterator[_Folder | str]:
  """Yield the folders of pairs at any depth, and what is wrong with others."""
  try:
    inside = subfolders(folder)
  except OSError as error:
    raise UserError(f'cannot read {printable(folder)}: {error.strerror or error}') from error
  sharp = _first(inside, _SHARP)
  blur = _first(inside, (blur_folder,)) or _first(inside, _BLURRED)
  if sharp and blur:
    yield _Folder(sharp, blur)
    return
  kinds = (*_SHARP, *_BLURRED, *BLUR_FOLDERS, blur_folder)
  others = [path for path in inside if path.name.lower() not in kinds]
  if sharp or blur or not others:
    yield _problem(folder, sharp, blur, blur_folder, inside)
  for path in others:
    yield from _search(path, blur_folder)


def _first(folders: list[epath.Path], names: Collection[str]) -> epath.Path | None:
  """Return the folder that has the first of some names, in any case."""
  by_name = {folder.name.lower(): folder for folder in folders}
  return next((by_name[name] for name in names if name in by_name), None)


def _problem(
  folder: epath.Path,
  sharp: epath.Path | None,
  blur: epath.Path | None,
  blur_folder: str,
  inside: list[epath.Path],
) -> str:
  missing = printable(folder / (blur_folder if sharp else 'sharp'))
  if sharp and (other := _first(inside, BLUR_FOLDERS)):
    return (
      f'{missing} does not exist; pass --blur_folder={other.name}, which exists (of real_pairs: '
      f'blur={other.name}), or unpack the archive again'
    )
  if sharp or blur:
    return f'{missing} does not exist; unpack the archive again'
  return (
    f'{printable(folder)} holds no folders of sharp and blurred images, such as sharp and '
    f'{blur_folder} or target and input; unpack the archive again, or remove the folder'
  )


def _images_below(folder: epath.Path) -> dict[str, epath.Path]:
  """Return the images in a folder and below, by their names (`ImagePair.name`)."""
  found: dict[str, epath.Path] = {}
  waiting = [folder]
  while waiting:
    place = waiting.pop()
    waiting += subfolders(place)
    for path in images(place):
      parts = path.relative_to(folder).with_suffix('').parts
      name = '/'.join(part for part in parts if part.lower() != 'images') or path.stem
      if name in found:
        first, second = sorted(map(printable, (found[name], path)))
        raise UserError(f'two images have the same name: {first} and {second}; remove one')
      found[name] = path
  if not found:
    raise UserError(
      f'{printable(folder)} holds no frame (an image); unpack the archive again, or remove its '
      f'parent, {printable(folder.parent)}'
    )
  return found
