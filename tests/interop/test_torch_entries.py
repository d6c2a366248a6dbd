"""The choice among several weights of a file: which are read, which are named, which need a key."""

import numpy as np
import pytest

from gfn_jax.errors import UserError
from gfn_jax.interop.torch_checkpoint import read_checkpoint
from tests.interop.torch_files import Call, Ref, module, tensor, zipped

RAW = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
AVERAGED = RAW + 10
OTHER = RAW + 20  # of a network that is not asked for
STORAGES = {
  'raw': RAW,
  'averaged': AVERAGED,
  'other': OTHER,
  'count': np.int64(3),
  'number': np.float32([0.5]),
}


def weights(key, name='conv.weight'):
  return {name: tensor(key, STORAGES[key])}


def locate(tensors):
  """The prefixes of the network, whose only tensor is `conv.weight`."""
  names = [name for name in tensors if f'.{name}'.endswith('.conv.weight')]
  return sorted(name.removesuffix('conv.weight') for name in names)


RAW_STATE, AVERAGED_STATE, OTHER_STATE = weights('raw'), weights('averaged'), weights('other', 'x')
OPTIMIZER = {
  'state': {0: {'step': tensor('count', STORAGES['count']), 'exp_avg': tensor('other', OTHER)}},
  'named': {'conv.weight': tensor('other', OTHER)},
}


@pytest.fixture
def read(tmp_path):
  def write_and_read(value, key=None, locate=locate):
    path = tmp_path / 'checkpoint.pth'
    path.write_bytes(zipped(value, STORAGES))
    return read_checkpoint(path, key, locate)

  return write_and_read


@pytest.mark.parametrize('for_any_network', [False, True])
@pytest.mark.parametrize(
  'name',
  [
    'ema',
    'EMA',
    'params_ema',
    'state_dict_ema',
    'ema_state_dict',
    'model_ema',
    'ema_model',
    'net_g_ema',
    'ema-0.999',
    'modelEMA',
    'netEma',
    'swa_state_dict',
    'averaged_model',
  ],
)
def test_averaged_weights_are_taken(read, name, for_any_network):
  value = {'epoch': 3, 'state_dict': RAW_STATE, name: AVERAGED_STATE, 'optimizer': OPTIMIZER}
  checkpoint = read(value, locate=None if for_any_network else locate)
  assert checkpoint.entry == name
  assert checkpoint.others == ('state_dict',)
  np.testing.assert_array_equal(checkpoint.tensors['conv.weight'], AVERAGED)
  np.testing.assert_array_equal(read(value, 'state_dict').tensors['conv.weight'], RAW)


@pytest.mark.parametrize('name', ['schema', 'remap', 'cinema_model', 'demand'])
def test_other_words_are_no_averages(read, name):
  with pytest.raises(UserError, match=f'with key: weights, {name}$'):
    read({'weights': RAW_STATE, name: AVERAGED_STATE})


@pytest.mark.parametrize(
  ('value', 'entry'),
  [
    ({'model': RAW_STATE, 'ema': {'decay': 0.9, 'shadow': AVERAGED_STATE}}, 'ema.shadow'),
    ({'model': RAW_STATE, 'ema': {'model': AVERAGED_STATE}}, 'ema.model'),
    (
      {'state_dict': RAW_STATE, 'callbacks': {'EMA': {'ema_state_dict': AVERAGED_STATE}}},
      'callbacks.EMA.ema_state_dict',
    ),
    (
      {'model': module('Net', RAW_STATE), 'ema': module('Net', AVERAGED_STATE)},
      'ema',
    ),
    (
      {
        'model': RAW_STATE,
        'ema': Call(Ref('utils', 'EMA'), (), {'shadow': AVERAGED_STATE}, b'\x81'),
      },
      'ema.shadow',
    ),
    (
      {
        'state_dict': {
          **weights('raw', 'net.conv.weight'),
          **weights('averaged', 'ema_net.conv.weight'),
        }
      },
      'state_dict.ema_net',
    ),
    ({**RAW_STATE, **weights('averaged', 'ema.module.conv.weight')}, 'ema.module'),
  ],
)
def test_averages_in_objects_callbacks_and_prefixes(read, value, entry):
  checkpoint = read(value)
  assert checkpoint.entry == entry
  assert list(checkpoint.tensors) == ['conv.weight']
  np.testing.assert_array_equal(checkpoint.tensors['conv.weight'], AVERAGED)


@pytest.mark.parametrize(
  ('value', 'key', 'message'),
  [
    # Without names, or under names of their own: no raw weights in their place unless asked for.
    (
      {'model': RAW_STATE, 'ema': {'shadow_params': [tensor('other', OTHER)]}},
      'model',
      'ema.shadow',
    ),
    ({'model': RAW_STATE, 'ema': OTHER_STATE}, 'model', 'weights ema do not'),
    (
      {
        'state_dict': {**weights('raw', 'model.conv.weight'), **weights('other', 'model_ema.convw')}
      },
      'state_dict.model',
      'model_ema.convw',
    ),
    ({**RAW_STATE, 'ema': OTHER_STATE}, '', 'weights ema do not'),
  ],
)
def test_averages_that_cannot_be_read_are_not_passed_over(read, value, key, message):
  with pytest.raises(UserError, match=message) as error:
    read(value)
  assert str(error.value).endswith(f'choose an entry with key: {key or repr("")}')
  np.testing.assert_array_equal(read(value, key).tensors['conv.weight'], RAW)


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    ({'net_a': RAW_STATE, 'net_b': RAW_STATE}, 'with key: net_a, net_b$'),
    ({'model': RAW_STATE, 'best_model': RAW_STATE, 'D': OTHER_STATE}, None),
    ({'ema_0.99': RAW_STATE, 'ema_0.999': RAW_STATE, 'model': RAW_STATE}, 'ema_0.99, ema_0.999$'),
    (
      {'state_dict': {**weights('raw', 'a.conv.weight'), **weights('raw', 'b.conv.weight')}},
      'key: state_dict.a, state_dict.b$',
    ),
  ],
)
def test_of_several_weights_one_must_be_usual_or_named(read, value, message):
  if message:
    with pytest.raises(UserError, match=message):
      read(value)
  else:
    assert read(value).entry == 'model'


@pytest.mark.parametrize(
  ('value', 'entry'),
  [
    (RAW_STATE, ''),
    ({'weights': RAW_STATE, 'epoch': 3}, 'weights'),
    ({'netG_A': RAW_STATE, 'netD_A': OTHER_STATE}, 'netG_A'),
    ({'G': RAW_STATE, 'D': OTHER_STATE}, 'G'),
    ({'mean': tensor('other', OTHER), 'ours': RAW_STATE}, 'ours'),
    (
      {
        'state_dict': RAW_STATE,
        'callbacks': {'ModelCheckpoint': {'best_model_score': tensor('count', np.int64(3))}},
        'hyper_parameters': {'lr': 0.1},
        'optimizer_states': [OPTIMIZER],
        'ema_decay': 0.999,
        'ema': None,
      },
      'state_dict',
    ),
    # Numbers that belong to an average are no weights.
    (
      {'model': {**weights('raw', 'net.conv.weight'), 'ema.decay': tensor('count', np.int64(3))}},
      'model.net',
    ),
  ],
)
def test_the_only_weights_of_the_network_are_found(read, value, entry):
  checkpoint = read(value)
  assert checkpoint.entry == entry
  np.testing.assert_array_equal(checkpoint.tensors['conv.weight'], RAW)


def test_a_key_is_an_entry_a_prefix_or_a_part(read):
  names = {'net.conv.weight': 'raw', 'ema_net.conv.weight': 'averaged', 'critic.x': 'other'}
  value = {'state_dict': {name: tensor(key, STORAGES[key]) for name, key in names.items()}}
  for key in ('state_dict.net', 'net'):
    checkpoint = read(value, key)
    assert checkpoint.entry == 'state_dict.net'
    assert checkpoint.outside == ('critic.x',)
    np.testing.assert_array_equal(checkpoint.tensors['conv.weight'], RAW)
  assert read(value, 'ema_net').tensors['conv.weight'][0, 0, 0, 0] == 10
  assert list(read(value, 'critic').tensors) == ['x']
  assert list(read(value, 'critic', locate=None).tensors) == ['x']
  with pytest.raises(UserError, match='no entry D; the weights are state_dict.ema_net, state_d'):
    read(value, 'D')


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.module.'])
def test_prefixes_of_wrappers_are_removed_without_a_network(read, prefix):
  state = {'n_averaged': tensor('count', STORAGES['count']), **weights('raw', f'{prefix}x.y')}
  assert list(read(state, locate=None).tensors) == ['n_averaged', 'x.y']
  state |= weights('raw', 'other.x')
  assert f'{prefix}x.y' in read(state, locate=None).tensors
