"""The attribution that goes with the released weights."""

import csv
import json
import pathlib
import re

import pytest

from gfn_jax.data_prep import attribution
from gfn_jax.data_prep.open_photos import PHOTO_LIST
from gfn_jax.errors import UserError
from gfn_jax.weights import pretrained

RELEASED = pathlib.Path(pretrained.RELEASED_DIR)
TEXT = (RELEASED / 'ATTRIBUTION.md').read_text()


def listed():
  with open(PHOTO_LIST, newline='') as file:
    return list(csv.DictReader(file))


def write_list(target, **changes):
  """Write the first row of the list with changes."""
  row = listed()[0] | changes
  with open(target, 'w', newline='') as file:
    writer = csv.DictWriter(file, row)
    writer.writeheader()
    writer.writerow(row)
  return target


def test_the_file_of_the_package_is_what_the_script_makes():
  assert attribution.make_attribution() == TEXT, 'run python -m data_prep.attribution'
  assert len(TEXT.encode()) < 150_000


def test_it_is_of_the_list_that_the_released_weights_were_trained_on():
  data = json.loads((RELEASED / 'gfn.json').read_text())['data']
  assert data['photo_list_sha256'] in TEXT
  counts = f'{data["train_photos"]} photographs were trained on. {data["held_out"]} were held out'
  assert counts in TEXT


def test_every_photograph_has_one_row_with_its_licence():
  rows = re.findall(r'^\| `(.+?)` \| (.*) \|$', TEXT, re.MULTILINE)
  expected = []
  for photo in listed():
    licence = photo['licence'].replace('CC-BY', 'CC BY').replace('-SA-', '-SA ')
    licence = re.sub(r'-([\d.]+)$', r' \1', licence).removesuffix(' (wesaturate)')
    expected.append((photo['path'], licence, photo['held_out'] == '1'))
  found = []
  for path, cells in rows:
    names = [cell.strip() for cell in cells.split('|')]
    [licence] = [name for name in names if name.startswith(('CC', 'MIT'))]
    found.append((path, licence, names[-1] == 'held out'))
  assert sorted(found) == sorted(expected)
  assert len(found) == 525


def test_photographs_of_coco_have_the_page_of_their_number():
  assert (
    '| `images/val2017/000000000285.jpg` | <https://www.flickr.com/photo.gne?id=9138147604> | '
    'CC BY 2.0 | lightly-ai/coco128_yolo |  |'
  ) in TEXT
  numbers = re.findall(r'photo\.gne\?id=(\d+)>', TEXT)
  files = [photo['attribution'] for photo in listed() if photo['name'].startswith('coco')]
  assert sorted(numbers) == sorted(file.rpartition('/')[2].partition('_')[0] for file in files)
  assert len(numbers) == 138


def test_gopro_and_reds_come_first_and_notices_are_complete():
  gopro, reds, photographs = (TEXT.index(name) for name in ('[GOPRO]', '[REDS]', '## Photographs'))
  assert gopro < reds < photographs
  for repository, commit in {(photo['repo'], photo['commit']) for photo in listed()}:
    assert f'<https://github.com/{repository}>, commit `{commit}`' in TEXT
  mit = TEXT[TEXT.index('Copyright (c) Microsoft Corporation') :]
  assert mit.index('Permission is hereby granted, free of charge') < mit.index('"AS IS"')
  assert 'look like numbers of photographs on Pexels' in TEXT
  anchors = {
    re.sub('[^a-z0-9-]', '', title.lower().replace(' ', '-'))
    for title in re.findall('^#+ (.*)$', TEXT, re.MULTILINE)
  }
  assert set(re.findall(r'\]\(#(.*?)\)', TEXT)) <= anchors


@pytest.mark.parametrize(
  ('changes', 'reason'),
  [
    ({'name': 'unknown/a'}, "describe the source 'unknown'"),
    ({'licence': 'CC-BY-NC-2.0'}, "and the licence 'CC-BY-NC-2.0'"),
    ({'name': 'coco_by/a', 'attribution': 'http://a/b.jpg'}, 'not the address of a file on Flickr'),
    ({'commit': 'main'}, "invalid commit 'main'"),
  ],
)
def test_what_the_script_does_not_know_is_an_error(tmp_path, changes, reason):
  path = write_list(tmp_path / 'list.csv', **changes)
  with pytest.raises(UserError, match=re.escape(reason)):
    attribution.make_attribution(path)


def test_paths_cannot_break_the_table(tmp_path):
  path = write_list(tmp_path / 'list.csv', path='a|`b`.jpg')
  assert '| `a%7C%60b%60.jpg` | MIT |  |' in attribution.make_attribution(path)
