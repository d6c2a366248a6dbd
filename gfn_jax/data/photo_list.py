"""Lists of photographs, for training on exactly the listed files of a folder."""

import csv
import dataclasses
import io
import os
import re
from collections.abc import Iterable, Sequence

from gfn_jax.errors import UserError
from gfn_jax.images.folders import image_size
from gfn_jax.system.files import printable, read_file

_COLUMNS = ('name', 'width', 'height', 'held_out')
_SIDE = re.compile('[1-9][0-9]{0,5}')
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class ListedPhoto:
  """Photograph on a list.

  Attributes:
    name: path below the folder of the photographs, without extension, with '/' between folders.
    width: width in pixels.
    height: height in pixels.
    held_out: True if the photograph is for evaluation only.
  """

  name: str
  width: int
  height: int
  held_out: bool


def read_photo_list(path: str | os.PathLike) -> dict[str, ListedPhoto]:
  """Read a list of photographs: a CSV file with a header.

  The columns `name`, `width`, `height` and `held_out` (0 or 1) are needed; others are ignored.

  Args:
    path: path of the file; may be `gs://...`.

  Returns:
    The photographs by name, in the order of the file.

  Raises:
    UserError: if the file cannot be read, lists nothing, or has a malformed row. The message names
      the file and the line.
  """
  photos = {}
  for line, row in read_rows(path, _COLUMNS):
    photo = _parse(row, f'{printable(path)}, line {line}')
    if photo.name in photos:
      raise UserError(
        f'{printable(path)}, line {line}: {photo.name} is listed twice; remove one of the rows'
      )
    photos[photo.name] = photo
  return photos


def read_rows(path: str | os.PathLike, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
  """Read the rows of a CSV file that has a header and at least one row.

  Args:
    path: path of the file; may be `gs://...`.
    columns: names of the columns that the file must have.

  Returns:
    The line number and the values, by column, of each row.

  Raises:
    UserError: if the file cannot be read, lacks a column, has no row, or has a row with too few or
      too many values.
  """
  try:
    text = read_file(path).decode('utf-8-sig')
  except OSError as error:
    raise UserError(f'cannot read {printable(path)}: {error.strerror or error}') from error
  except UnicodeDecodeError as error:
    raise UserError(f'cannot read {printable(path)}: not UTF-8 text; save it as CSV') from error
  reader = csv.reader(io.StringIO(text, newline=''), strict=True)
  rows = []
  try:
    header = next(reader, [])
    if missing := [column for column in columns if column not in header]:
      raise UserError(
        f'{printable(path)}, line 1: no column {", ".join(missing)}; the header must name '
        f'{", ".join(columns)}'
      )
    for values in reader:
      if len(values) != len(header):
        raise UserError(
          f'{printable(path)}, line {reader.line_num}: expected {len(header)} values, found '
          f'{len(values)}; correct the row'
        )
      rows.append((reader.line_num, dict(zip(header, values, strict=True))))
  except csv.Error as error:
    raise UserError(f'{printable(path)}, line {reader.line_num}: {error}; correct it') from error
  if not rows:
    raise UserError(f'{printable(path)} lists nothing; add a row for each photograph')
  return rows


def check_listed(
  paths: Iterable[str | os.PathLike],
  root: str | os.PathLike,
  photo_list: dict[str, ListedPhoto],
) -> tuple[list[str], list[str]]:
  """Check that images are exactly those of a list, by name and size.

  Args:
    paths: paths of all images in the folder, as returned by `folders.list_images`.
    root: folder to which the names of the list are relative.
    photo_list: photographs by name, as returned by `read_photo_list`.

  Returns:
    The paths of the photographs for training, and of the held-out ones, in the list's order.

  Raises:
    UserError: if an image is not on the list, a listed one is missing or has another size, two have
      the same name, or one cannot be read. The message names up to three of each kind.
  """
  found: dict[str, str] = {}
  for path in paths:
    name = os.path.splitext(os.path.relpath(path, root))[0].replace(os.sep, '/')
    if name in found:
      raise UserError(
        f'two images have the same name: {printable(found[name])} and {printable(path)}; remove one'
      )
    found[name] = os.fspath(path)
  unlisted = [printable(name) for name in found if name not in photo_list]
  missing = [name for name in photo_list if name not in found]
  resized = []
  for photo in photo_list.values():
    if photo.name in found and (size := image_size(found[photo.name])) != (
      photo.width,
      photo.height,
    ):
      expected = f'{photo.width}x{photo.height}'
      resized.append(f'{photo.name}: expected {expected}, found {size[0]}x{size[1]}')
  kinds = {'not on the list': unlisted, 'missing': missing, 'of another size': resized}
  if problems := [_summarise(names, kind) for kind, names in kinds.items() if names]:
    folder = printable(root)
    raise UserError(
      f'{folder} does not hold exactly the listed photographs: {"; ".join(problems)}. Move '
      f'unlisted images elsewhere, and fetch the others with gfn-prepare open_photos '
      f'--output_dir={folder}; or pass --config.data.photo_list= to train on any photographs'
    )
  return (
    [found[photo.name] for photo in photo_list.values() if not photo.held_out],
    [found[photo.name] for photo in photo_list.values() if photo.held_out],
  )


def _parse(row: dict[str, str], where: str) -> ListedPhoto:
  name = row['name']
  unsafe = '\\' in name or not name.isprintable()
  if unsafe or any(part in ('', '.', '..') for part in name.split('/')):
    raise UserError(
      f'{where}: invalid name {name!r}; give the path below the folder, without extension and '
      f'with / between folders'
    )
  for column in ('width', 'height'):
    if not _SIDE.fullmatch(row[column]):
      raise UserError(
        f'{where}: {column} must be a number of pixels, from 1 to 999999, not {row[column]!r}'
      )
  if row['held_out'] not in ('0', '1'):
    raise UserError(f'{where}: held_out must be 0 or 1, not {row["held_out"]!r}')
  return ListedPhoto(name, int(row['width']), int(row['height']), row['held_out'] == '1')


def _summarise(names: list[str], kind: str) -> str:
  shown = ', '.join(names[:_NAMED]) + (', ...' if len(names) > _NAMED else '')
  return f'{len(names)} {kind} ({shown})'
