import csv
import dataclasses
import io

from gfn_jax.evaluation.paper_tables import DataSet, Row, Table
from gfn_jax.evaluation.table_format import format_csv, format_markdown, table_lines
from gfn_jax.evaluation.table_results import Measurement
from tests.evaluation.test_table_results import RESULTS, SCORES, TIMING
from tests.paper_table import TABLE


def test_markdown_has_the_published_number_beside_each_measured_one():
  timed = dataclasses.replace(TIMING, seconds=1.5)
  results = {'photos': RESULTS['photos'] | {'wide': Measurement(2000, timing=timed)}}
  assert format_markdown(TABLE, results) == (
    '# Tiny networks\n'
    '\n'
    'Nobody, Nothing, 2020, Table 1.\n'
    '\n'
    '## Photos x4\n'
    '\n'
    '| method | parameters | parameters (paper) | PSNR | PSNR (paper) | SSIM | SSIM (paper) '
    '| LPIPS | seconds | seconds (paper) |\n'
    '|---|---|---|---|---|---|---|---|---|---|\n'
    '| bicubic | 0 | - | 23.50 | - | 0.5000 | - | 0.4000 | - | - |\n'
    '| Narrow | 1,000 | 1.5M | 25.50 | 26.20 | 0.7500 | 0.818 | 0.3000 | 0.250 | 0.07 |\n'
    '| Wide (not scored) | 2,000 | - | - | 24.948 | - | 0.90 | - | 1.500 | 2.10 |\n'
    '| Lost (no network) | - | 1.1M | - | 22.74 | - | - | - | - | 0.66 |\n'
    '\n'
    '- PSNR, SSIM and LPIPS: 1,111 images of GOPRO, protocol gfn, NVIDIA H200, JAX 0.12.0, '
    '2026-11-30; Narrow (weights 01234567, 740,000 steps).\n'
    '- seconds: forward pass on an image of 20x12, median of 5, cpu, 2 cores, JAX 0.12.0, '
    '2026-12-01; Narrow, Wide.\n'
    '\n'
    '- Seconds of one GTX 1080 Ti.\n'
    '- Narrow: the SSIM is probably a misprint.\n'
  )


def test_without_measurements_the_published_numbers_are_alone():
  text = format_markdown(TABLE, {})
  assert "\nNothing has been measured: all numbers are the paper's.\n" in text
  assert '| method | parameters (paper) | PSNR (paper) | SSIM (paper) | seconds (paper) |' in text
  assert '| Wide | - | 24.948 | 0.90 | 2.10 |' in text
  assert '| Lost | 1.1M | 22.74 | - | 0.66 |' in text
  assert 'bicubic' not in text


def test_published_numbers_have_the_decimals_of_the_paper():
  text = format_markdown(dataclasses.replace(TABLE, decimals={'psnr': 3, 'ssim': 4}), {})
  assert '| Narrow | 1.5M | 26.200 | 0.8180 | 0.07 |' in text
  assert '| Wide | - | 24.948 | 0.9000 | 2.10 |' in text


def test_networks_that_are_only_timed_are_not_marked():
  lines = table_lines(TABLE, 'photos', {'photos': {'wide': Measurement(2000, timing=TIMING)}})
  assert [line.mark for line in lines] == ['', '', 'no network']


def test_rows_share_a_note():
  rows = {
    name: dataclasses.replace(row, note='not a measurement') for name, row in TABLE.rows.items()
  }
  text = format_markdown(dataclasses.replace(TABLE, rows=rows), {})
  assert text.endswith('\n- Narrow, Wide, Lost: not a measurement.\n')


def test_a_table_may_have_its_own_row_of_bicubic_interpolation():
  row = Row('Bicubic', {'photos': {'psnr': 23.848}})
  table = dataclasses.replace(TABLE, rows={'bicubic': row, **TABLE.rows})
  text = format_markdown(table, RESULTS)
  assert text.lower().count('bicubic') == 1
  assert '| Bicubic | 0 | - | 23.50 | 23.848 | 0.5000 | - | 0.4000 | - | - |' in text
  [bicubic, *_] = table_lines(table, 'photos', {'photos': {'wide': Measurement(1)}})
  assert (bicubic.mark, bicubic.measured) == ('', {})


def test_each_data_set_is_a_part_with_its_own_rows():
  data_sets = {'x2': DataSet('Motion-Blurred LR x2'), 'x4': DataSet('Motion-Blurred LR x4')}
  rows = {
    'c': Row('C', {'x2': {'psnr': 31.28}, 'x4': {'psnr': 28.43}}),
    'gfn': Row('GFN', {'x4': {'psnr': 27.47}}),
  }
  text = format_markdown(Table('Scales', 'Nobody.', 'gfn', data_sets, rows), {})
  head = '| method | PSNR (paper) |\n|---|---|\n'
  assert text.split('## ')[1:] == [
    f'Motion-Blurred LR x2\n\n{head}| C | 31.28 |\n\n',
    f'Motion-Blurred LR x4\n\n{head}| C | 28.43 |\n| GFN | 27.47 |\n',
  ]


def test_csv_has_one_row_for_each_method():
  rows = list(csv.DictReader(io.StringIO(format_csv(TABLE, RESULTS))))
  assert [row['row'] for row in rows] == ['bicubic', 'narrow', 'wide', 'lost']
  bicubic, narrow, wide, lost = rows
  assert (bicubic['psnr'], bicubic['psnr_paper'], bicubic['parameters']) == ('23.5', '', '0')
  assert (narrow['data_set'], narrow['title'], narrow['parameters_paper']) == (
    'photos',
    'Narrow',
    '1.5M',
  )
  assert (narrow['psnr'], narrow['psnr_paper'], narrow['lpips']) == ('25.5', '26.2', '0.3')
  assert (narrow['seconds'], narrow['seconds_paper']) == ('0.25', '0.07')
  assert (narrow['images'], narrow['test_set'], narrow['steps']) == ('1111', 'GOPRO', '740000')
  assert narrow['weights'] == SCORES.inputs.weights
  assert (narrow['device'], narrow['timed_device']) == ('NVIDIA H200', 'cpu, 2 cores')
  assert (wide['parameters'], wide['psnr'], wide['psnr_paper']) == ('2000', '', '24.948')
  assert lost['psnr_paper'] == '22.74'
