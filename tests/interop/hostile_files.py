"""Files that try to run something, to take all memory or time, or to pass for something else.

`files()` gives each by its name, with a part of the message that it must be refused with.
"""

import gzip
import io
import json
import pickle
import struct
import zipfile

import numpy as np

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
  storage,
  tensor,
  view,
  zip_files,
  zipped,
)

MANY = 1_000_000
X = np.arange(6, dtype=np.float32)
STORAGES = {'0': X}
GOOD = {'w': tensor('0', X)}
SYSTEM = Ref('posix', 'system')
COMMAND = ('touch canary',)
DAMAGED = 'corrupt'


def beside(value):
  """A good tensor, and something else."""
  return GOOD | {'x': value}


def calls():
  """Attempts to run something; of the names, only what they are is told."""
  attempts = {
    'REDUCE': Call(SYSTEM, COMMAND),
    'REDUCE os': Call(Ref('os', 'system'), COMMAND),
    'REDUCE nt': Call(Ref('nt', 'system'), COMMAND),
    'REDUCE eval': Call(Ref('builtins', 'eval'), ('open("canary", "w")',)),
    'REDUCE exec': Call(Ref('__builtin__', 'exec'), ('open("canary", "w")',)),
    'REDUCE open': Call(Ref('io', 'open'), ('canary', 'w')),
    'REDUCE import': Call(Ref('builtins', '__import__'), ('antigravity',)),
    'REDUCE getattr': Call(Ref('builtins', 'getattr'), (Ref('torch', 'nn'), 'x')),
    'REDUCE Popen': Call(Ref('subprocess', 'Popen'), (['touch', 'canary'],)),
    'REDUCE runpy': Call(Ref('runpy', 'run_path'), ('canary',)),
    'REDUCE partial': Call(Ref('functools', 'partial'), (SYSTEM, 'touch canary')),
    'REDUCE type': Call(Ref('builtins', 'type'), ('X', (), {})),
    'REDUCE _reconstructor': Call(
      Ref('copy_reg', '_reconstructor'), (Ref('os', '_wrap_close'), Ref('builtins', 'object'), None)
    ),
    'NEWOBJ': Call(Ref('subprocess', 'Popen'), COMMAND, None, pickle.NEWOBJ),
    'NEWOBJ_EX': Raw(encode(SYSTEM) + encode(COMMAND) + encode({}) + pickle.NEWOBJ_EX),
    'BUILD': Call(Ref('os', 'environ'), (), {'PATH': '.'}, pickle.NEWOBJ),
    'INST': Raw(pickle.MARK + encode('touch canary') + b'iposix\nsystem\n'),
    'OBJ': Raw(pickle.MARK + encode(SYSTEM) + encode('touch canary') + pickle.OBJ),
    'STACK_GLOBAL': Raw(encode('os') + encode('system') + pickle.STACK_GLOBAL),
    'only named': SYSTEM,
    'in a submodule': Ref('os.path', 'os.system'),
    'in a module': module('Net', {'w': GOOD['w']}, hook=SYSTEM),
  }
  for name, attempt in attempts.items():
    yield name, attempt, 'never writes' if name == 'INST' else 'names'
  # Of other packages the names are kept as notes, but what is called must be known.
  for name in ('torch.hub load', 'numpy load', 'torch.storage _load_from_bytes', 'evil f'):
    yield f'REDUCE {name}', Call(Ref(*name.split()), ('x',)), f'calls {name.replace(" ", ".")}'
  yield 'REDUCE torch dtype', Call(Ref('torch', 'float32')), 'calls torch.float32'


def instructions():
  """Instructions that lie about sizes, have no sense, or are too many."""
  claims = {
    'BINUNICODE': pickle.BINUNICODE + struct.pack('<I', 2**32 - 1),
    'BINBYTES': pickle.BINBYTES + struct.pack('<I', 2**31),
    'BINSTRING': pickle.BINSTRING + struct.pack('<i', -5),
    'SHORT_BINUNICODE': pickle.SHORT_BINUNICODE + b'\xff',
    'LONG1': pickle.LONG1 + b'\xff',
    'GLOBAL': pickle.GLOBAL + b'torch',
    'endless GLOBAL': pickle.GLOBAL + b'x' * 2000 + b'\n' + b'x\n',
    'FRAME': pickle.FRAME + b'\xff',
  }
  for name, code in claims.items():
    yield f'claimed {name}', one_pickle(Raw(code)), DAMAGED
  never = {
    'BINUNICODE8': pickle.BINUNICODE8 + struct.pack('<Q', 2**62),
    'BINBYTES8': pickle.BINBYTES8 + struct.pack('<Q', 2**62),
    'BYTEARRAY8': pickle.BYTEARRAY8 + struct.pack('<Q', 2**62),
    'LONG4': pickle.LONG4 + struct.pack('<i', 2**31 - 1),
    'LONG': pickle.LONG + b'9' * 100_000 + b'L\n',
    'FLOAT': pickle.FLOAT + b'1e5\n',
    'STRING': pickle.STRING + b"'x'\n",
    'UNICODE': pickle.UNICODE + b'x\n',
    'EXT1': pickle.EXT1 + b'\x01',
    'EXT4': pickle.EXT4 + struct.pack('<i', -1),
    'PERSID': pickle.PERSID + b'0\n',
    'DUP': pickle.NONE + pickle.DUP,
    'NEXT_BUFFER': pickle.NEXT_BUFFER,
    'OBJ of a class': pickle.MARK + encode(Ref('a', 'b')) + pickle.OBJ,
    'NEWOBJ_EX of a class': encode(Ref('a', 'b')) + encode(()) + encode({}) + pickle.NEWOBJ_EX,
    'no instruction': b'\x00',
  }
  for name, code in never.items():
    yield name, one_pickle(Raw(code)), 'torch.save never writes'
  unfit = {
    'INT of many digits': pickle.INT + b'9' * 1000 + b'\n',
    'INT of letters': pickle.INT + b'x\n',
    'text that is none': pickle.BINUNICODE + b'\x01\x00\x00\x00\xff',
    'half a surrogate': encode('\ud800'),
    'a class that is no text': pickle.NONE + pickle.NONE + pickle.STACK_GLOBAL,
    'BINGET of nothing': pickle.BINGET + b'\x07',
    'POP of nothing': pickle.POP,
    'TUPLE without MARK': pickle.TUPLE,
    'TUPLE3 of nothing': pickle.TUPLE3,
    'BINPUT of nothing': pickle.BINPUT + b'\x00',
    'REDUCE of nothing': pickle.REDUCE,
    'REDUCE of a text': encode('x') + encode(()) + pickle.REDUCE,
    'REDUCE without a tuple': encode(Ref('torch', 'Size')) + encode([]) + pickle.REDUCE,
    'NEWOBJ of a text': encode('x') + encode(()) + pickle.NEWOBJ,
    'BUILD of a class': encode(Ref('x', 'y')) + encode({}) + pickle.BUILD,
    'BUILD of a list': encode([]) + encode({'__class__': 1}) + pickle.BUILD,
    'APPENDS to a dict': encode({}) + pickle.MARK + pickle.NONE + pickle.APPENDS,
    'SETITEMS of a list': encode([]) + pickle.MARK + encode('k') + pickle.NONE + pickle.SETITEMS,
    'SETITEMS without a value': encode({}) + pickle.MARK + encode('k') + pickle.SETITEMS,
    'nothing at all': b'',
  }
  for name, code in unfit.items():
    yield name, one_pickle(Raw(code)), DAMAGED
  yield 'protocol 9', one_pickle(GOOD, protocol=9), 'pickle protocol 9'
  push = {
    'a million of None': pickle.NONE,
    'a million marks': pickle.MARK,
    'a million lists': pickle.EMPTY_LIST,
    'a million in the memo': pickle.MEMOIZE,
  }
  for name, code in push.items():
    yield name, one_pickle(Raw(pickle.NONE + code * MANY)), 'more than 1,000,000 pickle'
  rebuild = encode(Ref('collections', 'OrderedDict')) + pickle.BINGET + b'\x00'
  pairs = encode([[i, i] for i in range(1000)]) + pickle.BINPUT + b'\x00'
  copies = pairs + (rebuild + pickle.TUPLE1 + pickle.REDUCE + pickle.POP) * 10_000
  yield 'a copied list', one_pickle(Raw(copies)), 'more than 1,000,000 pickle'


def values():
  """Objects that are not what they should be."""
  half = MANY // 2 - 10
  deep = {
    'lists': pickle.EMPTY_LIST * half + pickle.APPEND * (half - 1),
    'tuples': pickle.EMPTY_TUPLE + pickle.TUPLE1 * half,
    'dicts': (pickle.EMPTY_DICT + pickle.NONE) * (half // 2)
    + pickle.NONE
    + pickle.SETITEM * (half // 2),
  }
  for name, code in deep.items():
    yield f'deep {name}', Raw(code), 'no weights found'
  laugh = pickle.EMPTY_TUPLE + (pickle.BINPUT + b'\x00' + pickle.BINGET + b'\x00' + b'\x86') * 90
  yield 'a billion laughs', Raw(laugh), 'no weights found'
  key = encode({}) + laugh + pickle.NONE + pickle.SETITEM
  yield 'a billion laughs as a key', Raw(key), 'key is neither a number nor a string'
  number = pickle.LONG1 + b'\xff' + b'\x7f' * 255
  large = Raw(encode({}) + number + number + pickle.SETITEM)
  yield 'a large number as a key', large, 'key is neither'
  yield 'a long name', {'x' * 2000: GOOD['w']}, 'key is neither'
  itself = pickle.EMPTY_DICT + pickle.BINPUT + b'\x00' + encode('state_dict') + pickle.BINGET
  yield 'a dict in itself', Raw(itself + b'\x00' + pickle.SETITEM), 'no weights found'
  yield 'a tensor without a name', {3: GOOD['w']}, 'no weights found'
  yield 'a tensor named by a class', {Ref('a', 'b'): GOOD['w']}, 'no weights found'
  yield 'two of one name', {'a.b': GOOD['w'], 'a': GOOD}, 'several entries hold weights'
  # One object under many keys: a short file with much to look through.
  for name, held in (
    ('a state dict', {f'{i}.w': GOOD['w'] for i in range(3000)}),
    ('a deeply wrapped state', {'module.' * 140 + f'{i}': GOOD['w'] for i in range(3000)}),
    ('an empty module', module('Net', children={f'{i}': module('Leaf') for i in range(1000)})),
    ('numbers', {str(i): i for i in range(100_000)}),
    ('a list', [0] * 100_000),
  ):
    yield f'{name} under many keys', Raw(_under_many_keys(held)), 'more than 100 entries'

  inner = module('Inner', {'b': GOOD['w']})
  yield 'two of one name in a module', module('Net', {'a.b': GOOD['w']}, {'a': inner}), 'named a.b'
  both = module('Net', {'w': GOOD['w']}, buffers={'w': GOOD['w']})
  yield 'a parameter and a buffer', both, 'two tensors are named w'
  yield 'a module of a list', module('Net', children={'a': []}), 'a is not a module'
  yield 'a parameter of a number', module('Net', {'w': 3}), 'w is not a tensor'
  yield 'a parameter without a name', module('Net', {3: GOOD['w']}), '_parameters of a module'
  for part in ('_modules', '_parameters', '_buffers'):
    for wrong in (3, [], Ref('a', 'b'), Call(Ref('a', 'b'), (), {}, pickle.NEWOBJ)):
      broken = module('Net', {'w': GOOD['w']}, **{part: wrong})
      yield f'{part} of {type(wrong).__name__} {wrong}', broken, f'{part} of a module'
  yield 'poison', module('Net', __class__=SYSTEM), 'names posix.system'
  setter = module('Net', __setstate__=3, __dict__={'_modules': {}}, _modules=3)
  yield 'a module of its own', setter, '_modules of a module'
  cyclic = (
    encode(Call(Ref('a', 'Net'), (), None, pickle.NEWOBJ)) + pickle.BINPUT + b'\x00' + encode({})
  )
  cyclic += encode('_modules') + encode({}) + encode('a') + pickle.BINGET + b'\x00' + pickle.SETITEM
  yield 'a module in itself', Raw(cyclic + pickle.SETITEM + pickle.BUILD), 'cyclic'
  nested = module('Leaf', {'w': GOOD['w']})
  for _ in range(100):
    nested = module('Net', children={'a': nested})
  yield 'modules 100 deep', nested, 'too deep'
  leaf = encode(module('Leaf', {'w': GOOD['w']})) + pickle.BINPUT + b'\x00' + pickle.POP
  twice = {'a': Raw(pickle.BINGET + b'\x00'), 'b': Raw(pickle.BINGET + b'\x00')}
  tree = leaf + (encode(module('Net', children=twice)) + pickle.BINPUT + b'\x00') * 40
  yield 'modules 2 to the 40', Raw(tree), 'too many'

  for name, value in {
    'a number': 3,
    'nothing': (),
    'a text': 'storage',
    'another kind': ('tensor', 1, 2, 3, 4),
    'a short tuple': ('storage', Ref('torch', 'FloatStorage'), '0'),
    'a storage in a storage': ('storage', storage('0', 6), '0', 'cpu', 6),
    'itself': Raw(encode(('storage',)) + pickle.BINPERSID),
    'a module that is none': ('module', 'x', 'y', 'z'),
    'a class of no text': ('storage', 'FloatStorage', '0', 'cpu', 6),
    'a key of no text': ('storage', Ref('torch', 'FloatStorage'), 0, 'cpu', 6),
    'a long key': ('storage', Ref('torch', 'FloatStorage'), 'x' * 2000, 'cpu', 6),
  }.items():
    yield f'persistent {name}', beside(Persistent(value)), 'corrupt pickle: '
  for kind in ('ComplexFloatStorage', 'QInt8Storage', 'UntypedStorage', 'system'):
    yield f'values of {kind}', {'w': view(storage('0', 6, kind), (6,), (1,))}, f'torch.{kind}'
  other = Persistent(('storage', Ref('os', 'FloatStorage'), '0', 'cpu', 6))
  yield 'storage of another package', {'w': view(other, (6,), (1,))}, 'names os.FloatStorage'
  two = [storage('0', 6), storage('0', 3, 'DoubleStorage')]
  yield 'a storage of two types', {'w': view(two[0], (6,), (1,)), 'x': two[1]}, ''
  for size in (-1, 2**62, 2**200, True, None, 6.0):
    yield f'a storage of {size}', {'w': view(storage('0', size), (6,), (1,))}, 'invalid size'
  slice_of = storage('0', 6, extra=(('9', 0, 6),))
  yield 'a storage in another', {'w': view(slice_of, (6,), (1,))}, 'part of another storage'
  views = {
    'beyond the end': ((7,), (1,), 0, 'exceeds its storage'),
    'offset beyond': ((6,), (1,), 1, 'exceeds its storage'),
    'stride beyond': ((2, 3), (4, 1), 0, 'exceeds its storage'),
    'wide stride': ((2,), (2**61,), 0, 'exceeds its storage'),
    'overflow': ((2**31, 2**31), (2**31, 1), 0, 'exceeds its storage'),
    'offset 2 to the 61': ((1,), (1,), 2**61, 'exceeds its storage'),
    'stride 0': ((2, 3), (0, 1), 0, 'stride of 0'),
    'stride 0, large': ((2**40,), (0,), 0, 'stride of 0'),
    'negative size': ((-6,), (1,), 0, 'invalid size'),
    'negative stride': ((6,), (-1,), 5, 'invalid size'),
    'negative offset': ((6,), (1,), -4, 'invalid size'),
    'absurd size': ((2**62,), (1,), 0, 'invalid size'),
    'absurd and empty': ((0, 2**61, 2**61), (1, 1, 1), 0, 'a tensor is too large'),
    'a size of a float': ((6.0,), (1,), 0, 'invalid size'),
    'a size of a bool': ((True,), (1,), 0, 'invalid size'),
    'sizes in a list': ([6], [1], 0, DAMAGED),
    'more sizes than strides': ((6, 1), (1,), 0, '2 dimensions and 1 strides'),
    '40 dimensions': ((1,) * 40, (1,) * 40, 0, '40 dimensions'),
  }
  for name, (shape, strides, offset, message) in views.items():
    yield f'view {name}', {'w': view(storage('0', 6), shape, strides, offset)}, message
  rebuild = Ref('torch._utils', '_rebuild_tensor_v2')
  held = storage('0', 6)
  yield 'a tensor of a text', {'w': Call(rebuild, ('0', 0, (6,), (1,)))}, DAMAGED
  yield 'a tensor of little', {'w': Call(rebuild, (held, 0, (6,)))}, DAMAGED
  negated = (held, 0, (6,), (1,), False, ORDERED_DICT, {'neg': True})
  yield 'a negated tensor', {'w': Call(rebuild, negated)}, 'negated'
  for name in ('_rebuild_tensor_v3', '_rebuild_sparse_tensor', '_rebuild_qtensor'):
    yield name, {'w': Call(Ref('torch._utils', name), (held,))}, f'calls torch._utils.{name}'
  typed = Ref('torch._tensor', '_rebuild_from_type_v2')
  for function in (SYSTEM, typed, 'x'):
    wrong = Call(typed, (function, Ref('a', 'b'), (), {}))
    yield f'_rebuild_from_type of {function}', {'w': wrong}, ''
  parameter = Ref('torch._utils', '_rebuild_parameter')
  yield 'a parameter of a class', {'w': Call(parameter, (Ref('a', 'b'), True))}, DAMAGED
  yield 'an OrderedDict of a text', Call(Ref('collections', 'OrderedDict'), ('ab',)), DAMAGED
  odd = Call(Ref('collections', 'OrderedDict'), ([['a']],))
  yield 'an OrderedDict of less', odd, DAMAGED
  yield 'a set of numbers', Call(Ref('builtins', 'set'), (3,)), DAMAGED
  wide = np.zeros(1000, np.float32)
  bomb = {f'w{i}': view(storage('big', 1000), (500, 500), (1, 1)) for i in range(40)}
  yield 'many views of one storage', bomb, 'more than 4 times as large', {'big': wide}


def containers():
  """Files that are damaged or lie around the pickle."""
  whole, archive = legacy(GOOD, STORAGES), zipped(GOOD, STORAGES)
  for name, content in (('old', whole), ('ZIP', archive)):
    for end in sorted({*range(1, len(content), 13), *range(len(content) - 30, len(content))}):
      yield f'{name} file cut at {end}', content[:end], ''
  yield 'empty', b'', 'empty file'
  yield 'a text', b'This is no checkpoint.\n' * 10, 'written by torch.save'
  yield 'gzip', gzip.compress(whole), 'compressed file; unpack it first'
  yield 'xz', b'\xfd7zXZ\x00' + whole, 'compressed file'
  yield 'safetensors', struct.pack('<Q', 2) + b'{}', 'no weights found'
  yield from safetensors_files()
  yield 'a picture', b'\x89PNG\r\n\x1a\n' + bytes(100), 'written by torch.save'
  yield 'a plain pickle', one_pickle(GOOD), ''
  yield 'a pickle of Python', pickle.dumps({'w': [1, 2]}, 4), 'written by torch.save'
  yield 'another magic', legacy(GOOD, STORAGES, magic=encode(5)), 'written by torch.save'
  yield 'another version', legacy(GOOD, STORAGES, version=1002), 'unknown version'
  for endian in (False, None, 1, 'yes'):
    content = legacy(GOOD, STORAGES, little_endian=endian)
    yield f'little_endian {endian}', content, 'big-endian'
  for name, keys in {
    'no keys': [],
    'another key': ['1'],
    'a key twice': ['0', '0'],
    'a number as key': [0],
    'a list as key': [[]],
    'a dict of keys': {'0': 1},
  }.items():
    yield name, legacy(GOOD, STORAGES, keys=keys), 'storages'
  for count in (0, 5, 7, -6, -1, 2**62, -(2**63)):
    content = legacy(GOOD, STORAGES, counts={'0': count})
    yield f'a count of {count}', content, 'has the wrong size'
  claim = legacy({'w': view(storage('0', 2**40), (6,), (1,))}, STORAGES, counts={'0': 2**40})
  yield 'a storage of 4 TB', claim, 'truncated file'
  yield 'more after the end', legacy(GOOD, STORAGES, tail=b'x'), 'unexpected data after'
  yield 'two files in one', whole + whole, 'unexpected data after'

  for order in (b'big', b'', b'little' * 10):
    content = zipped(GOOD, STORAGES, entries={'archive/byteorder': order})
    yield f'byteorder {order}', content, ''
  for name in ('/etc/passwd', '../../x', 'archive/../x', '..', 'a\\..\\b'):
    content = zipped(GOOD, STORAGES, entries={name: b'x'})
    yield f'an entry {name}', content, 'outside the archive'
  climbing = tensor('../../../etc/passwd', X)
  yield 'a storage outside', zipped({'w': climbing}), 'a storage is missing'
  yield 'no pickle', zip_files({'archive/version': b'3\n'}), 'written by torch.save'
  yield 'a pickle without a folder', zip_files({'data.pkl': one_pickle(GOOD)}), 'not written by'
  yield 'two pickles', zipped(GOOD, entries={'b/data.pkl': one_pickle(GOOD)}), 'not written by'
  for name in ('constants.pkl', 'code/__torch__.py'):
    script = zipped(GOOD, STORAGES, entries={f'archive/{name}': b'x'})
    yield f'TorchScript {name}', script, 'TorchScript'
  for size in (0, 20, 28):
    content = zipped(GOOD, entries={'archive/data/0': bytes(size)})
    yield f'a storage of {size} bytes', content, 'has the wrong size'
  yield 'no storage', zipped(GOOD), 'a storage is missing'
  zeros = np.zeros(2**22, np.float32)
  packed = zipped({'w': tensor('0', zeros)}, {'0': zeros}, compression=zipfile.ZIP_DEFLATED)
  yield 'a ZIP bomb', packed, 'unpack to more than'
  nops = pickle.PROTO + b'\x02' + (pickle.NONE + pickle.POP) * 2**22
  yield 'a ZIP bomb of a pickle', zip_files({'a/data.pkl': nops}, 8), 'unpack to more than'
  long = zip_files({'a/data.pkl': bytes(2**25 + 1)})
  yield 'a large pickle', long, 'is larger than'
  yield 'bzip2', zipped(GOOD, STORAGES, compression=zipfile.ZIP_BZIP2), 'unsupported compression'
  yield 'LZMA', zipped(GOOD, STORAGES, compression=zipfile.ZIP_LZMA), 'unsupported compression'
  yield 'an entry twice', _twice(archive), 'two entries have the same name'
  yield 'an encrypted entry', _patch(archive, 8, 6, b'\x01'), 'encrypted'
  yield 'another checksum', archive.replace(X.tobytes(), X[::-1].tobytes()), DAMAGED
  yield 'a hundred thousand entries', _many_entries(100_000), 'a size field is too large'
  yield 'a large directory', _patch_end(archive, 12, struct.pack('<I', 2**31)), DAMAGED
  yield 'a directory elsewhere', _patch_end(archive, 16, struct.pack('<I', 2**31)), ''
  yield 'entries that overlap', _overlapping(), ''


def _patch(archive, central, local, raw):
  """Changes bytes in the headers of every entry, in the directory and before the content."""
  patched = bytearray(archive)
  for magic, offset in ((b'PK\x01\x02', central), (b'PK\x03\x04', local)):
    position = archive.find(magic)
    while position >= 0:
      patched[position + offset : position + offset + len(raw)] = raw
      position = archive.find(magic, position + 4)
  return bytes(patched)


def _patch_end(archive, offset, raw):
  position = archive.rfind(b'PK\x05\x06') + offset
  return archive[:position] + raw + archive[position + len(raw) :]


def _twice(archive):
  """Names two entries alike."""
  return archive.replace(b'archive/byteorder', b'archive/version\x00x')


def _many_entries(count):
  content = io.BytesIO(zipped(GOOD, STORAGES))
  with zipfile.ZipFile(content, 'a') as archive:
    info = archive.infolist()[-1]
    archive.filelist += [_renamed(info, f'archive/{i:060}') for i in range(count)]
    archive._didModify = True
  return content.getvalue()


def _overlapping():
  """Ten thousand entries with the same content of a kilobyte."""
  content = io.BytesIO(zipped(GOOD, STORAGES, entries={'archive/x': bytes(1024)}))
  with zipfile.ZipFile(content, 'a') as archive:
    info = archive.infolist()[-1]
    archive.filelist += [_renamed(info, f'archive/{i}') for i in range(10_000)]
    archive._didModify = True
  return content.getvalue()


def _renamed(info, name):
  other = zipfile.ZipInfo(name)
  for field in ('CRC', 'compress_size', 'file_size', 'header_offset', 'create_version'):
    setattr(other, field, getattr(info, field))
  return other


def safetensors_files():
  """Safetensors files that are damaged, or whose metadata ask for much."""
  tensor_of = lambda shape, end: {'dtype': 'F32', 'shape': shape, 'data_offsets': [0, end]}
  good = {'w': tensor_of([1000], 4000)}
  copies = {'__metadata__': {f'w{i}': 'w' for i in range(1000)}}
  headers = {
    'too many copies': (good | copies, 'more than 4 times as large'),
    'many copies': (
      good | {'__metadata__': {f'w{i}': 'w' for i in range(30_000)}},
      '20,000 tensors',
    ),
    'too large a shape': ({'w': tensor_of([2**40], 4000)}, 'not a valid safetensors file'),
    'too far an end': ({'w': tensor_of([2**30], 2**32)}, 'not a valid safetensors file'),
    'an odd type': ({'w': tensor_of([1000], 4000) | {'dtype': 'F8_E4M3'}}, 'not a valid safet'),
    'an unknown type': ({'w': tensor_of([1000], 1000) | {'dtype': 'F8_E4M3'}}, 'unsupported type'),
    'its own network': (good | {'__metadata__': {'model': '{"name": "gfn"}'}}, 'no conversion'),
  }
  for name, (header, message) in headers.items():
    text = json.dumps(header).encode()
    size = 1000 if name == 'an unknown type' else 4000
    yield f'safetensors with {name}', struct.pack('<Q', len(text)) + text + bytes(size), message
  yield 'safetensors with a long header', struct.pack('<Q', 2**60) + b'{' * 100, 'not a valid'
  yield 'safetensors with deep JSON', struct.pack('<Q', 99) + b'{"a":' + b'[' * 94, 'not a valid'


def _under_many_keys(value):
  """The instructions for a dictionary with one object as the value of 300 keys."""
  code = encode(value) + pickle.BINPUT + b'\x00' + pickle.POP + pickle.EMPTY_DICT + pickle.MARK
  for i in range(300):
    code += encode(f'key{i}') + pickle.BINGET + b'\x00'
  return code + pickle.SETITEMS


def files():
  """All of them: their names, contents, and a part of the message."""
  for name, value, message in calls():
    for kind, container in CONTAINERS.items():
      yield f'{kind}, {name}', container(beside(value), STORAGES), message
  for name, code, message in instructions():
    yield name, zipped(None, pickled=code), message
  for name, value, message, *storages in values():
    held = storages[0] if storages else STORAGES
    yield f'zip, {name}', zipped(value, held), message
    if not name.startswith('deep'):  # these take a second
      yield f'legacy, {name}', legacy(value, held), ''
  for name, content, message in containers():
    yield name, content, message
