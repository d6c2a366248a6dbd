import json

import pytest

from gfn_jax import UserError
from gfn_jax.evaluation.table_results import (
  Measurement,
  ScoreInputs,
  Scores,
  Timing,
  TimingInputs,
  read_results,
  write_results,
)
from tests.paper_table import TABLE

SCORES = Scores(
  inputs=ScoreInputs('gfn', {'name': 'GOPRO', 'files': 'ab'}, '0123456789', ('c', 'd')),
  means={'psnr': 25.5, 'ssim': 0.75, 'lpips': 0.3},
  bicubic={'psnr': 23.5, 'ssim': 0.5, 'lpips': 0.4},
  images=1111,
  steps=740_000,
  device='NVIDIA H200',
  jax='0.12.0',
  date='2026-11-30',
)
TIMING = Timing(TimingInputs((12, 20), 5, 'cpu, 2 cores', '0.12.0'), 0.25, '2026-12-01')
RESULTS = {'photos': {'narrow': Measurement(1000, SCORES, TIMING), 'wide': Measurement(2000)}}


def test_results_are_read_as_they_were_written(tmp_path):
  path = tmp_path / 'table.json'
  assert read_results(path, 'tiny', TABLE) == {}
  write_results(path, 'tiny', RESULTS)
  assert read_results(path, 'tiny', TABLE) == RESULTS
  content = json.loads(path.read_text())
  assert (content['format_version'], content['table']) == (1, 'tiny')
  assert content['data_sets']['photos']['narrow']['scores']['means']['psnr'] == 25.5


def test_results_of_another_table_are_refused(tmp_path):
  path = tmp_path / 'table.json'
  write_results(path, 'other', RESULTS)
  with pytest.raises(UserError, match="the table 'other' in format 1, not 'tiny' in format 1; cho"):
    read_results(path, 'tiny', TABLE)
  write_results(path, 'tiny', {'photos': {'new': Measurement(1)}})
  with pytest.raises(UserError, match="tiny has no row 'new' on 'photos'; delete the file"):
    read_results(path, 'tiny', TABLE)
  write_results(path, 'tiny', {'kohler': {'wide': Measurement(1)}})
  with pytest.raises(UserError, match="tiny has no row 'wide' on 'kohler'"):
    read_results(path, 'tiny', TABLE)


def damaged(keys, value):
  """Return the content of a file with one value replaced."""
  entry = {
    'parameters': 1,
    'scores': None,
    'timing': {
      'inputs': {'size': [1, 2], 'rounds': 1, 'device': '', 'jax': ''},
      'seconds': 1,
      'date': '',
    },
  }
  content = {'format_version': 1, 'table': 'tiny', 'data_sets': {'photos': {'wide': entry}}}
  place = content
  for key in keys[:-1]:
    place = place[key]
  place[keys[-1]] = value
  return json.dumps(content)


WIDE = ('data_sets', 'photos', 'wide')


@pytest.mark.parametrize(
  'content',
  [
    '',
    '[]',
    '{"table": "tiny"}',
    damaged(('data_sets',), [1]),
    damaged(WIDE, None),
    damaged((*WIDE, 'parameters'), 'many'),
    damaged((*WIDE, 'scores'), {}),
    damaged((*WIDE, 'timing', 'inputs', 'size'), [1]),
    damaged((*WIDE, 'timing', 'seconds'), None),
    '[' * 100_000,
  ],
)
def test_a_damaged_file_is_one_line(tmp_path, content):
  path = tmp_path / 'table.json'
  path.write_text(content)
  with pytest.raises(UserError, match=r'^cannot read .*table\.json: [^\n]*; delete it$'):
    read_results(path, 'tiny', TABLE)
