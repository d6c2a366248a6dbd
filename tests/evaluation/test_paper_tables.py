import dataclasses

import pytest

from gfn_jax import UserError, create_model
from gfn_jax.cli.table import load_tables
from gfn_jax.evaluation.paper_tables import DataSet, Row, Table
from gfn_jax.evaluation.table_weights import find_difference
from tests.paper_table import TABLE

TABLES = load_tables()

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
    ({'decimals': {'fps': 1}}, "decimals: unknown metric 'fps'"),
  ],
)
def test_mistakes_in_a_table_are_found_when_it_is_made(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(TABLE, **changes)


@pytest.mark.parametrize('name', TABLES)
def test_the_network_of_a_row_is_the_one_that_its_config_trains(name):
  table, get_config = TABLES[name].TABLE, TABLES[name].get_config
  for key, row in table.rows.items():
    for data_set in table.data_sets:
      if network := row.network(data_set):
        config = get_config(row.variant(key, data_set))
        phase = config.phases[max(config.phases)]
        trained = create_model(**config.model.to_dict() | phase.model.to_dict())
        assert find_difference(trained, create_model(**network)) is None, key
  with pytest.raises(UserError, match="'fast'"):
    get_config('fast')
