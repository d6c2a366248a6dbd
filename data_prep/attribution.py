"""Write the attribution of the images that the released weights were trained on.

  python -m data_prep.attribution

makes `gfn_jax/weights/ATTRIBUTION.md` from `data_prep/photos_open.csv`. Run it after each change of
the list or of this file. A test compares the two.
"""

import collections
import dataclasses
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from absl import app, flags

from gfn_jax.cli.runner import run_command
from gfn_jax.data.photo_list import read_rows
from gfn_jax.data_prep.open_photos import PHOTO_LIST, read_published
from gfn_jax.errors import UserError
from gfn_jax.system.files import file_sha256, write_file

OUTPUT = Path(__file__).parents[1] / 'gfn_jax' / 'weights' / 'ATTRIBUTION.md'

Row = Mapping[str, str]

_LICENCES = {
  'CC0-1.0': ('CC0 1.0', 'https://creativecommons.org/publicdomain/zero/1.0/'),
  'CC0 (wesaturate)': ('CC0', 'https://creativecommons.org/publicdomain/zero/1.0/'),
  'CC-BY-2.0': ('CC BY 2.0', 'https://creativecommons.org/licenses/by/2.0/'),
  'CC-BY-SA-2.0': ('CC BY-SA 2.0', 'https://creativecommons.org/licenses/by-sa/2.0/'),
  'CC-BY-SA-4.0': ('CC BY-SA 4.0', 'https://creativecommons.org/licenses/by-sa/4.0/'),
  'MIT': ('MIT', '#mit-licence-of-the-sample-data-files'),
}
"""Name and address of a licence, by its name in the list."""

_START = """\
# Attribution

The released weights were trained on the photographs below, and `gfn` also on GOPRO and REDS. The
weights are CC BY-SA 4.0: use and sell what you restore with them; pass on changed weights under the
same licence. Photographs that you restore are yours.

All images were **changed**: cropped and reduced. The photographs were also blurred, by synthetic
motion. No image is part of this package.

`python -m data_prep.attribution` makes this file from `data_prep/photos_open.csv`. That list has
the size, the SHA-256 and the address of each photograph. The SHA-256 of the list is
`{sha256}`.

## GOPRO and REDS

Pairs of blurred and sharp frames. Both data sets are licensed under
[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/).

| data set | authors | paper | frames | changed |
|---|---|---|---|---|
{pairs}

## Photographs

{trained} photographs were trained on. {held_out} were held out, for scores only; the tables mark
them. Paths are those in the repositories.

| source | licence | photographs |
|---|---|---|
{sources}
"""

_PAIRS = (
  (
    '[GOPRO](https://seungjunnah.github.io/Datasets/gopro)',
    'Seungjun Nah, Tae Hyun Kim, Kyoung Mu Lee',
    'Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring, CVPR 2017',
    '45 pairs of training scenes',
    'reduced to 1/4, cropped',
  ),
  (
    '[REDS](https://seungjunnah.github.io/Datasets/reds)',
    'Seungjun Nah, Sungyong Baik, Seokil Hong, Gyeongsik Moon, Sanghyun Son, Radu Timofte, '
    'Kyoung Mu Lee',
    'NTIRE 2019 Challenge on Video Deblurring and Super-Resolution: Dataset and Study, '
    'CVPR Workshops 2019',
    '40 pairs of 4 scenes',
    'reduced to 1/4, cropped',
  ),
)

_MIT = """\
### MIT licence of the sample data files

```
MIT License

Copyright (c) Microsoft Corporation.

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
```
"""


@dataclasses.dataclass(frozen=True)
class Source:
  """Source of photographs: a folder of the list.

  Attributes:
    title: heading.
    text: where the licence is stated, and whom to name.
    columns: heading and function of a row, for each column of the table.
    end: text behind the table.
  """

  title: str
  text: str
  columns: dict[str, Callable[[Row], str]]
  end: str = ''


def _file(row: Row) -> str:
  return _escape(row['path'])


def _licence(row: Row) -> str:
  return _LICENCES[row['licence']][0]


def _licence_link(row: Row) -> str:
  name, address = _LICENCES[row['licence']]
  return f'[{name}]({address})'


def _flickr_page(row: Row) -> str:
  """Return a link to the page of a photograph, whose number begins Flickr's file name."""
  name = row['attribution'].rpartition('/')[2]
  number = re.fullmatch(r'(\d+)_[0-9a-f]+(?:_[a-z])?\.jpg', name)
  if 'flickr.com/' not in row['attribution'] or not number:
    raise UserError(f'{row["name"]}: not the address of a file on Flickr: {row["attribution"]!r}')
  return f'<https://www.flickr.com/photo.gne?id={number[1]}>'


_COCO = Source(
  'COCO: photographs on Flickr',
  "Author at the link. COCO's annotations name the file on Flickr, and the first number in that "
  'name is the number of the page. The licence is as the annotations state it: licence 4 is '
  'CC BY 2.0, and licence 5 is CC BY-SA 2.0.',
  {'photograph': _file, 'page': _flickr_page},
)

SOURCES = {
  'cid22': Source(
    'CID22: Cloudinary Image Dataset 2022',
    'By Cloudinary. The file `CID22/LICENSE` states CC BY-SA 4.0 for the data set. Many names look '
    'like numbers of photographs on Pexels, and some begin with `pexels-photo`. The list records '
    'no authors of single photographs.',
    {'photograph': _file},
  ),
  'clothing': Source(
    'Clothing dataset',
    'By A. Grigorev and contributors. The file `LICENSE` is CC0 1.0.',
    {'photograph': _file},
  ),
  'coco_by': _COCO,
  'coco_bysa': dataclasses.replace(_COCO, title='COCO: photographs on Flickr, share-alike'),
  'azure': Source(
    'Sample data files of Azure Cognitive Services',
    'By Microsoft Corporation. The file `LICENSE.md` is the MIT licence, which stands below.',
    {'photograph': _file},
    _MIT,
  ),
  'gb82': Source(
    'GB82 image set',
    'By Gianni Rosato. The file `LICENSE` is CC0 1.0.',
    {'photograph': _file},
  ),
  'budgie': Source(
    'Budgie Backgrounds',
    'The file `LICENSE` is CC0 1.0. The list records no authors.',
    {'photograph': _file},
  ),
  'libjxl_cc0': Source(
    'Test data of libjxl: photographs of Wesaturate',
    'The file `external/wesaturate/LICENSE.md` states CC0. The list records neither a version nor '
    'authors.',
    {'photograph': _file},
  ),
}
"""Sources by their folder in the list, in the order of the file."""


def make_attribution(photo_list: Path = PHOTO_LIST) -> str:
  """Return the text of the file.

  Args:
    photo_list: CSV file, as for `open_photos.read_published`, with `licence` and `attribution`.

  Raises:
    UserError: if the list cannot be read, or has a source or a licence that is not described here.
  """
  read_published(photo_list)  # checks repositories, commits and paths
  groups: dict[str, list[Row]] = {source: [] for source in SOURCES}
  for line, row in read_rows(photo_list, ('name', 'licence', 'attribution', 'held_out')):
    source = row['name'].partition('/')[0]
    if source not in SOURCES or row['licence'] not in _LICENCES:
      raise UserError(
        f'{photo_list}, line {line}: describe the source {source!r} and the licence '
        f'{row["licence"]!r} in data_prep/attribution.py'
      )
    groups[source].append(row)
  rows = [row for group in groups.values() for row in group]
  held_out = sum(row['held_out'] == '1' for row in rows)
  start = _START.format(
    sha256=file_sha256(photo_list),
    trained=len(rows) - held_out,
    held_out=held_out,
    pairs='\n'.join(f'| {" | ".join(cells)} |' for cells in _PAIRS),
    sources='\n'.join(
      f'| {SOURCES[source].title} | {_licence_link(group[0])} | {len(group)} |'
      for source, group in groups.items()
      if group
    ),
  )
  sections = [_section(SOURCES[source], group) for source, group in groups.items() if group]
  return '\n'.join([start, *sections])


def _section(source: Source, rows: Sequence[Row]) -> str:
  repositories = collections.Counter((row['repo'], row['commit']) for row in rows)
  lines = [f'### {source.title}', '', source.text, '']
  for (repo, commit), count in sorted(repositories.items()):
    lines.append(f'- {count} from <https://github.com/{repo}>, commit `{commit}`')
  columns = source.columns | {'licence': _licence}
  if len(repositories) > 1:
    columns['repository'] = lambda row: row['repo']
  lines += ['', f'| {" | ".join(columns)} | |', '|---' * (len(columns) + 1) + '|']
  for row in rows:
    cells = [text(row) for text in columns.values()]
    cells.append('held out' if row['held_out'] == '1' else '')
    lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join([*lines, '', *([source.end] if source.end else [])])


def _escape(path: str) -> str:
  """Return a path as code in a table of Markdown."""
  if '`' in path or '|' in path or not path.isprintable():
    path = urllib.parse.quote(path)
  return f'`{path}`'


def main(argv: list[str]) -> None:
  """Write the file."""
  if argv[1:]:
    raise app.UsageError(f'unexpected argument {argv[1]}')
  text = make_attribution(Path(flags.FLAGS.photo_list))
  write_file(flags.FLAGS.output, text.encode())
  print(f'wrote {flags.FLAGS.output}: {len(text.encode()) / 1000:.0f} kB')


def define_flags() -> None:
  """Define the command's flags."""
  flags.DEFINE_string('photo_list', str(PHOTO_LIST), 'CSV file with the list of photographs')
  flags.DEFINE_string('output', str(OUTPUT), 'file to write')


if __name__ == '__main__':
  define_flags()
  run_command(main)
