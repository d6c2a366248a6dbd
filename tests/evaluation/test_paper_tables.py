import dataclasses

import pytest

from configs.tables import gfn_table2
from gfn_jax import create_model
from gfn_jax.evaluation.paper_tables import DataSet, Row, Table
from gfn_jax.models import param_count, variable_shapes
from tests.paper_table import TABLE

SCALES = Table(
  'Scales',
  'Nobody, 2021, Table 4.',
  'gfn',
  {'x2': DataSet('x2'), 'x4': DataSet('x4')},
  {
    'srnet': Row(
      'SRNet',
      {'x2': {'psnr': 30.88}, 'x4': {'psnr': 28.06}},
      models={f'x{s}': dict(name='bmdsrnet', variant='srnet', scale=s) for s in (2, 4)},
    ),
    'gfn': Row('GFN', {'x4': {'psnr': 27.47}}, models={'x4': dict(name='gfn')}),
    'ikc': Row('IKC', {'x4': {'psnr': 24.37}}),
    'rcan': Row('RCAN', {}, dict(name='srresnet')),
  },
)


def test_a_row_has_one_network_or_one_for_each_data_set():
  rows = SCALES.rows
  assert rows['srnet'].network('x2') == dict(name='bmdsrnet', variant='srnet', scale=2)
  assert rows['srnet'].variant('srnet', 'x2') == 'srnet,x2'
  assert rows['gfn'].network('x2') is None
  assert rows['rcan'].network('x2') == rows['rcan'].network('x4') == dict(name='srresnet')
  assert rows['rcan'].variant('rcan', 'x2') == 'rcan'
  assert rows['ikc'].network('x4') is None


def test_a_row_without_network_and_numbers_for_a_data_set_is_left_out():
  assert list(SCALES.rows_of('x2')) == ['srnet', 'rcan']
  assert list(SCALES.rows_of('x4')) == ['srnet', 'gfn', 'ikc', 'rcan']


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'protocol': 'matlab'}, "unknown protocol 'matlab'"),
    ({'rows': {'a': Row('A', {'kohler': {'psnr': 1.0}})}}, "a: unknown data set 'kohler'"),
    ({'rows': {'a': Row('A', {}, models={'x2': {}})}}, "a: unknown data set 'x2'"),
    ({'rows': {'a': Row('A', {'photos': {'fps': 1.0}})}}, "a: unknown metric 'fps'"),
  ],
)
def test_mistakes_in_a_table_are_found_when_it_is_made(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(TABLE, **changes)


def test_the_networks_of_gfn_table_2_are_those_that_its_configs_train():
  table = gfn_table2.TABLE
  counts = {}
  for name, row in table.rows.items():
    config = gfn_table2.get_config(name)
    trained = config.model.to_dict() | list(config.phases.values())[-1].model.to_dict()
    model = create_model(**row.network('lr_gopro'))
    assert create_model(**trained) == model
    counts[name] = param_count(variable_shapes(model))
  assert counts['gfn'] == 12_210_438
  assert counts['srresnet'] == 1_546_752
  assert [row.published['lr_gopro']['psnr'] for row in table.rows.values()] == sorted(
    row.published['lr_gopro']['psnr'] for row in table.rows.values()
  )
