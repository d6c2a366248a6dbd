"""Writes what `torch.save` writes, one instruction after another: any of them can be wrong."""

import dataclasses
import io
import math
import pickle
import struct
import zipfile

import numpy as np

STORAGES = {
  'float64': 'DoubleStorage',
  'float32': 'FloatStorage',
  'float16': 'HalfStorage',
  'int64': 'LongStorage',
  'int32': 'IntStorage',
  'int16': 'ShortStorage',
  'int8': 'CharStorage',
  'uint8': 'ByteStorage',
  'bool': 'BoolStorage',
}
MAGIC = pickle.LONG1 + b'\x0a' + bytes.fromhex('6cfc9c46f9206aa85019')


@dataclasses.dataclass(frozen=True)
class Ref:
  """A class or function by its name."""

  module: str
  name: str


@dataclasses.dataclass(frozen=True)
class Call:
  """A function called, or with `code` NEWOBJ an object made; `state` is set afterwards."""

  function: object
  args: object = ()
  state: object = None
  code: bytes = pickle.REDUCE


@dataclasses.dataclass(frozen=True)
class Persistent:
  """Something outside of the pickle."""

  value: object


@dataclasses.dataclass(frozen=True)
class Raw:
  """Instructions as they stand."""

  code: bytes


ORDERED_DICT = Call(Ref('collections', 'OrderedDict'))


def encode(value):
  """The instructions that push `value`, of protocol 2, without a memo."""
  match value:
    case Raw(code):
      return code
    case None:
      return pickle.NONE
    case bool():
      return pickle.NEWTRUE if value else pickle.NEWFALSE
    case int():
      if -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack('<i', value)
      raw = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
      return pickle.LONG1 + bytes([len(raw)]) + raw
    case float():
      return pickle.BINFLOAT + struct.pack('>d', value)
    case str():
      raw = value.encode('utf-8', 'surrogatepass')
      return pickle.BINUNICODE + struct.pack('<I', len(raw)) + raw
    case bytes():
      return pickle.BINBYTES + struct.pack('<I', len(value)) + value
    case tuple() if not value:
      return pickle.EMPTY_TUPLE
    case tuple():
      return pickle.MARK + b''.join(map(encode, value)) + pickle.TUPLE
    case list():
      return pickle.EMPTY_LIST + pickle.MARK + b''.join(map(encode, value)) + pickle.APPENDS
    case dict():
      return pickle.EMPTY_DICT + set_items(value)
    case Ref(module, name):
      return pickle.GLOBAL + f'{module}\n{name}\n'.encode()
    case Persistent(inner):
      return encode(inner) + pickle.BINPERSID
    case Call(function, args, state, code):
      build = b'' if state is None else encode(state) + pickle.BUILD
      return encode(function) + encode(args) + code + build
  raise TypeError(value)


def set_items(items):
  return pickle.MARK + b''.join(encode(k) + encode(v) for k, v in items.items()) + pickle.SETITEMS


def ordered_dict(items, state=None):
  build = b'' if state is None else encode(state) + pickle.BUILD
  return Raw(encode(ORDERED_DICT) + set_items(items) + build)


def storage(key, size, kind='FloatStorage', location='cpu', extra=()):
  return Persistent(('storage', Ref('torch', kind), key, location, size, *extra))


def view(held, shape, strides, offset=0, function='_rebuild_tensor_v2'):
  args = (held, offset, shape, strides)
  if function == '_rebuild_tensor_v2':
    args += (False, ORDERED_DICT)
  return Call(Ref('torch._utils', function), args)


def tensor(key, array, extra=(), **options):
  """A whole array, contiguous, in the storage `key`."""
  array = np.asarray(array)
  strides = [math.prod(n or 1 for n in array.shape[axis + 1 :]) for axis in range(array.ndim)]
  held = storage(key, array.size, STORAGES[array.dtype.name], extra=extra)
  return view(held, array.shape, tuple(strides), **options)


def module(name, parameters=None, children=None, buffers=None, package='networks.GFN_4x', **more):
  state = {
    'training': True,
    '_parameters': ordered_dict(parameters or {}),
    '_buffers': ordered_dict(buffers or {}),
    '_backward_hooks': ORDERED_DICT,
    '_modules': ordered_dict(children or {}),
    **more,
  }
  return Call(Ref(package, name), (), state, pickle.NEWOBJ)


def one_pickle(value, protocol=2):
  return pickle.PROTO + bytes([protocol]) + encode(value) + pickle.STOP


def legacy(
  value,
  storages=None,
  magic=MAGIC,
  version=1001,
  little_endian=True,
  keys=None,
  counts=None,
  tail=b'',
):
  """The container before PyTorch 1.6. `value` is what it holds, `storages` arrays by their keys."""
  storages = storages or {}
  system = {'protocol_version': 1001, 'little_endian': little_endian, 'type_sizes': {'int': 4}}
  parts = [one_pickle(part) for part in (Raw(magic), version, system, value)]
  parts.append(one_pickle(list(storages) if keys is None else keys))
  for key, array in storages.items():
    count = (counts or {}).get(key, np.size(array))
    parts += [struct.pack('<q', count), np.asarray(array).tobytes()]
  return b''.join([*parts, tail])


def zipped(
  value, storages=None, root='archive', entries=None, compression=zipfile.ZIP_STORED, pickled=None
):
  """The container since PyTorch 1.6; `entries` are more files in it, or others."""
  files = {'data.pkl': one_pickle(value) if pickled is None else pickled, 'byteorder': b'little'}
  files |= {f'data/{key}': np.asarray(array).tobytes() for key, array in (storages or {}).items()}
  files = {f'{root}/{name}': content for name, content in (files | {'version': b'3\n'}).items()}
  return zip_files(files | (entries or {}), compression)


def zip_files(files, compression=zipfile.ZIP_STORED):
  content = io.BytesIO()
  with zipfile.ZipFile(content, 'w', compression) as archive:
    for name, raw in files.items():
      archive.writestr(zipfile.ZipInfo(name), raw, compression)
  return content.getvalue()


CONTAINERS = {'legacy': legacy, 'zip': zipped}
