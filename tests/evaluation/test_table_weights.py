import json

import pytest

from gfn_jax import UserError, create_model
from gfn_jax.evaluation.paper_tables import DataSet, Row, Table
from gfn_jax.evaluation.table_weights import Weights, find_difference, find_weights
from gfn_jax.system.files import file_sha256
from tests.paper_table import NETWORK, TABLE, WIDE, get_config, write_all_weights, write_weights


def card(steps, batch_size=4):
  """Return the part of a run's card that the check of its training reads."""
  return {'step': steps, 'config': {'training': {'batch_size': batch_size}}, 'data': {}}


def find(folder, table=TABLE, configs=get_config):
  return find_weights(folder, table, ['photos'], configs)


def test_weights_are_files_or_runs(tmp_path):
  write_all_weights(tmp_path)
  paths = {
    'narrow': tmp_path / 'narrow.safetensors',
    'wide': tmp_path / 'wide' / 'weights.safetensors',
  }
  assert find(tmp_path) == {
    name: Weights(str(path), file_sha256(path), None) for name, path in paths.items()
  }
  paths['wide'].unlink()
  assert list(find(tmp_path)) == ['narrow']


def test_a_row_with_a_network_for_each_data_set_has_weights_for_each(tmp_path):
  models = {f'x{scale}': dict(NETWORK, features=scale) for scale in (2, 4)}
  data_sets = {name: DataSet(name) for name in models}
  table = Table('Scales', 'Nobody.', 'gfn', data_sets, {'c': Row('C', {}, models=models)})
  for name, model in models.items():
    write_weights(tmp_path / f'c,{name}.safetensors', model)
  assert list(find_weights(tmp_path, table, ['x4'], get_config)) == ['c,x4']
  assert list(find_weights(tmp_path, table, data_sets, get_config)) == ['c,x2', 'c,x4']


def test_type_and_initialisation_do_not_make_another_network(tmp_path):
  options = {'dtype': 'bfloat16', 'initialization': 'authors'}
  write_weights(tmp_path / 'narrow.safetensors', NETWORK | options)
  assert list(find(tmp_path)) == ['narrow']


@pytest.mark.parametrize(
  ('model', 'difference'),
  [
    (WIDE, 'features is 6, not 4'),
    (NETWORK | {'global_skip': 'input'}, "global_skip is 'input', not 'none'"),
    ({'name': 'srresnet', 'features': 4, 'blocks': 1}, 'SRResNet, not SRBranch'),
  ],
)
def test_another_network_is_refused(tmp_path, model, difference):
  write_weights(tmp_path / 'narrow.safetensors', model)
  with pytest.raises(
    UserError, match=f"narrow.safetensors is not the paper's network: {difference}; "
  ):
    find(tmp_path)


def test_a_difference_within_a_cascade_is_found():
  first = dict(name='cnlrn_deblur', features=4, blocks=1)
  ours, papers = (create_model('cascade', first=first, second=second) for second in (NETWORK, WIDE))
  assert find_difference(ours, papers) == 'second: features is 4, not 6'
  assert find_difference(ours, ours.clone(dtype='bfloat16')) is None


@pytest.mark.parametrize(
  ('trained', 'enough'),
  [(card(6), True), (card(5), False), (card(2, batch_size=12), True), (card(1, 23), False)],
)
def test_a_shorter_training_is_refused(tmp_path, trained, enough):
  path = write_weights(tmp_path / 'narrow.safetensors', card=trained)
  if enough:
    assert find(tmp_path)['narrow'].steps == trained['step']
    return
  seen = trained['step'] * trained['config']['training']['batch_size']
  with pytest.raises(UserError) as raised:
    find(tmp_path)
  assert str(raised.value).startswith(
    f'{path} was trained on {seen} examples, fewer than the 24 of'
  )


def test_a_pass_over_a_data_set_has_as_many_examples_as_it_keeps(tmp_path):
  config = get_config('narrow')
  config.training.steps_per_epoch = 0
  trained = card(9) | {'data': {'counts': {'train': {'windows_kept': 21}}}}
  write_weights(tmp_path / 'narrow.safetensors', card=trained)
  with pytest.raises(UserError, match='was trained on 36 examples, fewer than the 40 of its row'):
    find(tmp_path, configs=lambda _: config)
  trained['step'] = 10
  write_weights(tmp_path / 'narrow.safetensors', card=trained)
  assert list(find(tmp_path, configs=lambda _: config)) == ['narrow']


def test_a_row_that_the_paper_did_not_train_has_no_budget(tmp_path):
  write_weights(tmp_path / 'narrow.safetensors', card=card(1))

  def no_config(variant):
    raise UserError(variant)

  assert list(find(tmp_path, configs=no_config)) == ['narrow']


def test_weights_that_cannot_be_used(tmp_path):
  with pytest.raises(UserError, match='^no such folder: .*none$'):
    find(tmp_path / 'none')
  with pytest.raises(UserError, match='has no weights of this table: .* is one of narrow, wide$'):
    find(tmp_path)
  path = write_weights(tmp_path / 'narrow.safetensors')
  content = path.read_bytes()
  path.write_bytes(content[:-1])
  with pytest.raises(UserError, match='narrow.safetensors is damaged: its SHA-256'):
    find(tmp_path)
  path.write_bytes(content)
  write_weights(tmp_path / 'narrow' / 'weights.safetensors')
  with pytest.raises(UserError, match='narrow.safetensors and .* are weights of one row; remove o'):
    find(tmp_path)


def test_a_damaged_card_is_one_line(tmp_path):
  path = write_weights(tmp_path / 'narrow.safetensors', card=card(6))
  content = json.loads(path.with_suffix('.json').read_text())
  del content['step']
  path.with_suffix('.json').write_text(json.dumps(content))
  with pytest.raises(UserError, match='^cannot read .*narrow.json: not the card of a run$'):
    find(tmp_path)
