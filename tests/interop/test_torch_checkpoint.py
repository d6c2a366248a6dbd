import io
import lzma
import pathlib
import pickle
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from gfn_jax.errors import UserError
from gfn_jax.interop import load_torch_checkpoint, save_torch_checkpoint
from tests.interop.torch_files import (
  CONTAINERS,
  ORDERED_DICT,
  Call,
  Persistent,
  Raw,
  Ref,
  encode,
  legacy,
  module,
  one_pickle,
  ordered_dict,
  set_items,
  storage,
  tensor,
  view,
  zipped,
)

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
WEIGHT = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7
BIAS = np.array([1.5, -2.0], np.float32)
STORAGES = {'94828621': WEIGHT, '20973840': BIAS}
STATE = {'conv.weight': tensor('94828621', WEIGHT), 'conv.bias': tensor('20973840', BIAS)}
EXPECTED = {'conv.weight': WEIGHT, 'conv.bias': BIAS}


@pytest.fixture(params=CONTAINERS)
def load(request, tmp_path):
  """Writes a value with its storages in one of the containers, and reads it."""

  def write_and_load(value, storages=STORAGES, key=None, **options):
    path = tmp_path / 'checkpoint.pth'
    code = encode(value)
    used = {name: array for name, array in storages.items() if encode(name) in code}
    path.write_bytes(CONTAINERS[request.param](value, used, **options))
    return load_torch_checkpoint(path, key)

  return write_and_load


def assert_same(state, expected=EXPECTED):
  assert list(state) == list(expected)
  for name, array in state.items():
    np.testing.assert_array_equal(array, expected[name], strict=True)


@pytest.mark.parametrize('container', ['legacy', 'zip'])
def test_a_whole_gfn_of_pytorch_is_read_bit_for_bit(container, tmp_path):
  path = tmp_path / 'GFN.pkl'
  with lzma.open(FIXTURES / f'gfn_whole_model_{container}.pkl.xz') as file:
    path.write_bytes(file.read())
  state = load_torch_checkpoint(path)
  assert len(state) == 168
  assert sum(array.size for array in state.values()) == 12_210_438
  for name, array in state.items():
    values = ((np.arange(array.size) + zlib.crc32(name.encode())) % 251 - 125) / 256
    np.testing.assert_array_equal(array, values.astype(np.float32).reshape(array.shape))
  shapes = {name: array.shape for name, array in state.items()}
  assert shapes['deblurMoudle.0.deconv1.0.weight'] == (256, 128, 4, 4)
  assert shapes['reconstructMoudle.0.resBlock.7.layers.2.bias'] == (64,)


@pytest.mark.parametrize(
  'value',
  [
    STATE,
    ordered_dict(STATE, state={'_metadata': ordered_dict({'': {'version': 1}})}),
    {'state_dict': STATE},
    {'epoch': 3, 'params': {}, 'params_ema': STATE, 'optimizer': {'state': {0: {'step': 7}}}},
    {'params': {'lr': 0.1}, 'model': {'state_dict': ordered_dict(STATE)}},
    {'G': {f'module.{name}': value for name, value in STATE.items()}},
    {'best': tensor('20973840', BIAS), 'net': STATE},
    {**STATE, 'epoch': 3, 'name': 'x', 'none': None, 'done': True, 'loss': 0.5, 'list': [1, 'a']},
  ],
)
def test_where_the_weights_are(load, value):
  assert_same(load(value))


def test_of_several_weights_the_averaged_ones_are_taken_or_those_asked_for(load):
  value = {'params': {'w': tensor('20973840', BIAS)}, 'params_ema': {'w': STATE['conv.weight']}}
  assert_same(load(value), {'w': WEIGHT})
  assert_same(load(value, key='params'), {'w': BIAS})
  assert_same(load({'ours': {'model': value}, 'model': 3}, key='ours'), {'w': WEIGHT})


@pytest.mark.parametrize(
  ('value', 'key', 'message'),
  [
    ({'w': 1}, None, 'no weights found in the file; its entries are w'),
    ({str(i): {} for i in range(9)}, None, 'its entries are 0, 1, 2, 3, 4, 5, 6, 7, ...'),
    ({'a': {'w': STATE['conv.bias']}, 'b': 1}, 'c', 'no entry c; the weights are a'),
    ({'a': 3}, 'a', 'no weights found in entry a'),
    ([STATE], 'a', 'no entry a: the file does not hold a dictionary'),
    ([STATE], None, 'no weights found in the file'),
    (STATE['conv.bias'], None, 'no weights found in the file'),
    ({}, None, 'no weights found in the file'),
    ({3: STATE['conv.bias']}, None, 'no weights found in the file'),
    (STATE, 'c', 'no entry c; the weights are conv.weight, conv.bias'),
    ({3: 4}, None, 'no weights found in the file'),
    ({'mean': STATE['conv.bias'], 'ours': STATE}, None, "choose an entry with key: '', ours"),
    ({'params': STATE, 'model': STATE}, None, 'choose an entry with key: params, model'),
    ({'a_ema': STATE, 'b_ema': STATE}, None, 'choose an entry with key: a_ema, b_ema'),
    ({'model': STATE, 'ema': {'shadow_params': [STATE['conv.bias']]}}, None, 'key: model'),
    ({str(i): STATE for i in range(102)}, None, 'more than 100 entries; choose one with key'),
  ],
)
def test_no_weights_or_not_clear_which(load, value, key, message):
  with pytest.raises(UserError, match='^cannot read .*checkpoint.pth as a checkpoint: ') as error:
    load(value, key=key)
  assert message in str(error.value)


def test_modules_in_modules_and_a_parallel_one_around_them(load):
  conv = module(
    'Conv2d',
    {'weight': STATE['conv.weight'], 'bias': None},
    buffers={'count': tensor('n', np.int64(12))},
    package='torch.nn.modules.conv',
    stride=(1, 1),
    padding_mode='zeros',
    _non_persistent_buffers_set=Call(Ref('__builtin__', 'set'), ([],)),
    # What PyTorch 0.4 has in every module.
    _backend=Call(Ref('torch.nn.backends.thnn', '_get_thnn_function_backend')),
  )
  net = module('Net', {'scale': tensor('20973840', BIAS)}, {'conv': conv, 'off': None})
  parallel = module('DataParallel', children={'module': net}, package='torch.nn.parallel')
  state = load({'epoch': 55, 'model': parallel}, STORAGES | {'n': np.int64(12)})
  assert_same(state, {'scale': BIAS, 'conv.weight': WEIGHT, 'conv.count': np.array(12)})


def test_what_old_files_say_of_a_class(tmp_path):
  cls = Persistent(('module', Ref('networks.GFN_4x', 'Net'), 'GFN_4x.py', 'class Net: pass'))
  net = module('Net', STATE)
  path = tmp_path / 'old.pkl'
  path.write_bytes(legacy(Call(cls, (), net.state, net.code), STORAGES))
  assert_same(load_torch_checkpoint(path))


@pytest.mark.parametrize(
  'array',
  [
    np.array([0.1, -np.inf, np.nan], np.float64),
    np.array([0.1, -65504], np.float16),
    np.array([-(2**62), 3], np.int64),
    np.array([-(2**31), 3], np.int32),
    np.array([-(2**15), 3], np.int16),
    np.array([-128, 3], np.int8),
    np.array([255, 3], np.uint8),
    np.array([[True], [False]]),
    np.float32(0.25),
    np.zeros((0, 3), np.float32),
    np.zeros((4, 0, 2**30), np.float32),
  ],
)
def test_types_and_shapes(load, array):
  assert_same(load({'x': tensor('0', array)}, {'0': array}), {'x': np.asarray(array)})


def test_bfloat16_becomes_float32(load):
  bits = np.array([0x3F80, 0xC049, 0x7F80, 0x0001], np.uint16)
  value = {'x': view(storage('0', 4, 'BFloat16Storage'), (2, 2), (2, 1))}
  expected = np.array([[1, -3.140625], [np.inf, 2.0**-133]], np.float32)
  assert_same(load(value, {'0': bits}), {'x': expected})


def test_views_of_a_shared_storage_are_copies(load):
  held = storage('0', 24)
  value = {
    'all': view(held, (24,), (1,)),
    'part': view(held, (2, 3), (3, 1), offset=5),
    'transposed': view(held, (4, 3), (1, 4)),
    'every_other': view(held, (6,), (2,), offset=1),
    'last': view(held, (), (), offset=23, function='_rebuild_tensor'),
    'one': view(held, (1, 1), (0, 2**40), offset=23),
    'windows': view(held, (4, 3), (1, 1)),
    'empty': view(held, (0, 5), (0, 1), offset=24),
  }
  flat = np.arange(24, dtype=np.float32)
  state = load(value, {'0': flat})
  windows = np.lib.stride_tricks.sliding_window_view(flat, 3)[:4]
  expected = {
    'all': flat,
    'part': flat[5:11].reshape(2, 3),
    'transposed': flat[:12].reshape(3, 4).T,
    'every_other': flat[1:13:2],
    'last': flat[23],
    'one': flat[23:].reshape(1, 1),
    'windows': windows,
    'empty': np.zeros((0, 5), np.float32),
  }
  assert_same(state, {name: np.asarray(array) for name, array in expected.items()})
  for name, array in state.items():
    assert array.flags.writeable and array.flags.c_contiguous, name
  state['all'][:] = -1
  assert state['windows'][0, 0] == 0


@pytest.mark.parametrize(
  'wrap',
  [
    lambda value: Call(Ref('torch._utils', '_rebuild_parameter'), (value, True, ORDERED_DICT)),
    lambda value: Call(
      Ref('torch._utils', '_rebuild_parameter_with_state'), (value, True, ORDERED_DICT, {'a': 1})
    ),
    # PyTorch 0.1 to 0.3
    lambda value: Call(Ref('torch.nn.parameter', 'Parameter'), (value,), (True, False, None)),
    lambda value: Call(
      Ref('torch.autograd.variable', 'Variable'), (value,), (True,), pickle.NEWOBJ
    ),
    lambda value: Call(
      Ref('torch._tensor', '_rebuild_from_type_v2'),
      (value.function, Ref('torch.nn.parameter', 'Buffer'), value.args, {'persistent': True}),
    ),
  ],
)
def test_wrapped_tensors(load, wrap):
  assert_same(load({name: wrap(value) for name, value in STATE.items()}))


def test_what_people_put_beside_the_weights(load):
  number = Call(
    Ref('numpy.core.multiarray', 'scalar'),
    (
      Call(Ref('numpy', 'dtype'), ('f8', False, True), (3, '<', None, None, None, -1, -1, 0)),
      Call(Ref('_codecs', 'encode'), ('\x00\x01', 'latin1')),
    ),
  )
  dictionary = encode(Call(Ref('easydict', 'EasyDict'), (), None, pickle.NEWOBJ))
  value = {
    'best_psnr': number,
    'array': Call(
      Ref('numpy.core.multiarray', '_reconstruct'),
      (Ref('numpy', 'ndarray'), (0,), b'b'),
      (1, (2,), Call(Ref('numpy', 'dtype'), ('f8', 0, 1)), False, b'\x00' * 16),
    ),
    'args': Call(Ref('argparse', 'Namespace'), (), {'lr': 1e-4, 'gpus': [0]}, pickle.NEWOBJ),
    'path': Call(Ref('pathlib', 'PosixPath'), ('/', 'home')),
    'size': Call(Ref('torch', 'Size'), ((1, 2),)),
    'device': Call(Ref('torch', 'device'), ('cuda', 0)),
    'dtype': Ref('torch', 'float32'),
    'type': Ref('__builtin__', 'float'),
    'state': Call(Ref('collections', 'defaultdict'), (Ref('__builtin__', 'dict'),)),
    'easy': Raw(dictionary + set_items({'lr': 1})),
    'optimizer': {
      'state': {140234234234234: {'step': 3, 'exp_avg': tensor('m', WEIGHT)}},
      'param_groups': [{'lr': 1e-4, 'betas': (0.9, 0.999), 'amsgrad': False, 'params': [0, 1]}],
    },
    'state_dict': ordered_dict(STATE),
  }
  assert_same(load(value, STORAGES | {'m': WEIGHT}))


def test_what_python_2_writes(load):
  name = lambda text: Raw(b'U' + bytes([len(text)]) + text)
  pairs = [[name(key.encode()), value] for key, value in STATE.items()]
  ids = {'state': {}, 'params': [Raw(b'I140234234234234\n'), Raw(b'\x8a\x02\x00\x80')]}
  value = {
    name(b'state_dict'): Call(Ref('collections', 'OrderedDict'), (pairs,)),
    name(b'optimizer'): ids,
    name(b'bytes'): name(b'\xff\xfe'),
  }
  assert_same(load(value))


def test_protocols_3_to_5(tmp_path):
  class Pickler(pickle._Pickler):  # Python's own, which writes what `Raw` and the others stand for
    dispatch = pickle._Pickler.dispatch.copy()
    dispatch[Raw] = lambda self, value: self.write(value.code)

  parts = {name: Raw(encode(value)) for name, value in STATE.items()}
  for protocol in (3, 4, 5):
    content = io.BytesIO()
    value = {
      'epoch': 2**40,
      'set': {1, 2},
      'frozen': frozenset([1]),
      'b': b'x',
      'state_dict': parts,
    }
    Pickler(content, protocol).dump(value)
    path = tmp_path / f'{protocol}.pth'
    path.write_bytes(zipped(None, STORAGES, pickled=content.getvalue()))
    assert_same(load_torch_checkpoint(path))


def test_a_recompressed_archive_of_another_name(tmp_path):
  path = tmp_path / 'x.pth'
  path.write_bytes(zipped(STATE, STORAGES, root='best epoch', compression=zipfile.ZIP_DEFLATED))
  assert_same(load_torch_checkpoint(path))


def test_a_storage_is_read_only_if_it_is_needed(tmp_path):
  big = np.zeros(2**22, np.float32)
  path = tmp_path / 'big.pth'
  for container in CONTAINERS.values():
    value = {'params': STATE, 'optimizer': {'state': tensor('big', big)}}
    path.write_bytes(container(value, {**STORAGES, 'big': big}))
    load_torch_checkpoint(path)
    tracemalloc.start()
    assert_same(load_torch_checkpoint(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    limit = 2**20 if container is zipped else 2**25 + 2**20  # old files: 32 MB are looked through
    assert peak < limit


def test_a_folder_with_a_file_for_each_module(tmp_path):
  for name in ('encoder_lv1', 'decoder_lv1', 'decoder_lv12', 'optimizer', 'encoder_lv1.bak'):
    value = {'layer1.weight': tensor('0', BIAS * len(name))}
    (tmp_path / f'{name}.pkl').write_bytes(legacy(value, {'0': BIAS * len(name)}))
  expected = {
    'decoder_lv1.layer1.weight': BIAS * 11,
    'decoder_lv12.layer1.weight': BIAS * 12,
    'encoder_lv1.layer1.weight': BIAS * 11,
  }
  assert_same(load_torch_checkpoint(tmp_path), expected)
  assert_same(load_torch_checkpoint(f'{tmp_path}/'), expected)
  (tmp_path / 'decoder_lv1.pkl').write_bytes(b'')
  with pytest.raises(
    UserError, match='^cannot read .*/decoder_lv1.pkl as a checkpoint: empty file$'
  ):
    load_torch_checkpoint(tmp_path)


def test_saving(tmp_path):
  state = {
    'conv.weight': WEIGHT.transpose(2, 0, 1),
    'naïve.ß': BIAS[:1],
    'empty': np.zeros((2, 0), np.float32),
  }
  path = tmp_path / 'x.pth'
  save_torch_checkpoint(path, state)
  assert_same(load_torch_checkpoint(path), state)
  first = path.read_bytes()
  save_torch_checkpoint(path, state)
  assert path.read_bytes() == first
  assert [file.name for file in tmp_path.iterdir()] == ['x.pth']
  with zipfile.ZipFile(path) as archive:
    assert archive.namelist()[:2] == ['archive/data.pkl', 'archive/byteorder']
    assert archive.namelist()[-1] == 'archive/version'
    data = archive.read('archive/data.pkl')
  # These are the instructions that torch.save writes, but for its memo.
  value = {name: tensor(str(i), array) for i, (name, array) in enumerate(state.items())}
  assert data == one_pickle(ordered_dict(value))


def test_saving_single_numbers_and_nothing(tmp_path):
  path = tmp_path / 'x.pth'
  save_torch_checkpoint(path, {'number': np.float32(3)})
  assert_same(load_torch_checkpoint(path), {'number': np.array(3, np.float32)})
  save_torch_checkpoint(path, {})
  with pytest.raises(UserError, match='no weights found in the file$'):
    load_torch_checkpoint(path)


@pytest.mark.parametrize('state', [{'a': np.zeros(2)}, {'a': [1, 2]}, {3: BIAS}])
def test_saving_something_else(tmp_path, state):
  with pytest.raises(TypeError, match='names must be strings and arrays float32'):
    save_torch_checkpoint(tmp_path / 'x.pth', state)
  assert list(tmp_path.iterdir()) == []
