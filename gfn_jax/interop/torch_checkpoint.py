"""PyTorch's files, read and written without PyTorch."""

import contextlib
import io
import math
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from gfn_jax.errors import UserError
from gfn_jax.interop.torch_pickle import (
  DTYPES,
  ITEM_SIZES,
  MAX_NAME,
  Global,
  Instance,
  Storage,
  Tensor,
  Unpickler,
  show,
)
from gfn_jax.system.files import printable, write_aside

HOLDERS = (
  'params_ema',
  'params',
  'state_dict',
  'model_state_dict',
  'model',
  'net',
  'G',
  'generator',
)
"""Under which keys a checkpoint holds weights; the first that does wins."""

MAX_PICKLE_BYTES = 32 * 2**20
MAX_DIRECTORY_BYTES = 8 * 2**20
"""Of a ZIP file's list of its entries; an entry takes about 100."""

MAX_GROWTH = 4
"""How many times larger than the file its tensors, or its unpacked entries, may be."""

MAX_TENSORS = 20_000
MAX_DEPTH = 64
"""Of modules in modules."""

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_ReadStorage = Callable[[Storage], bytes]


def load_torch_checkpoint(path: str | os.PathLike, key: str | None = None) -> dict[str, np.ndarray]:
  """Reads the weights of a file that `torch.save` wrote: a ZIP file, or the older kind.

  The file may hold a state dict, a dictionary with a state dict or a module in it, or a module.
  PyTorch need not be installed, and the file may come from anywhere: nothing that it names is
  imported or run, and what is read is bounded by the file's own size.

  Args:
    path: of the file.
    key: which entry of the dictionary in it to take. By default the first of `HOLDERS` that has
      weights: `params_ema`, the averaged ones, stand before `params`, as in the authors' own tests.

  Returns:
    Arrays by their PyTorch names, without the prefix 'module.' of DataParallel, each a copy of
    its own. Types and layout are the file's, but that bfloat16 becomes float32. Of a module they
    are the parameters and the buffers.

  Raises:
    UserError: if there is no such file, it is of another kind, damaged or hostile, or has no
      weights.
  """
  if not os.path.isfile(path):
    kind = 'is a folder, no checkpoint' if os.path.isdir(path) else 'does not exist'
    raise UserError(f'{printable(path)} {kind}')
  try:
    with _File(path) as file:
      value, read_storage = _open(file)
      tensors = _strip_prefix(_find_tensors(value, key))
      return _read_tensors(tensors, read_storage, file.size)
  except (UserError, OSError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise UserError(f'{printable(path)} cannot be read as a checkpoint: {reason}') from error


def save_torch_checkpoint(path: str | os.PathLike, state: Mapping[str, np.ndarray]) -> None:
  """Writes a state dict that `torch.load(path, weights_only=True)` reads, as an OrderedDict.

  The same arrays always give the same bytes. `path` is written aside and renamed.

  Args:
    path: of the file, usually ending in .pth.
    state: float32 arrays by their PyTorch names.

  Raises:
    TypeError: for another type of array, or a name that is no string.
  """
  for name, array in state.items():
    if not isinstance(name, str) or np.asarray(array).dtype != np.float32:
      raise TypeError(f'{name!r} is no name of a float32 array')
  # PyTorch takes its name for the folder in the archive; readers must take any.
  entries = {
    'data.pkl': _pickle_state(state),
    'byteorder': b'little',
    **{f'data/{i}': np.asarray(a, '<f4').tobytes() for i, a in enumerate(state.values())},
    'version': b'3\n',
  }
  with write_aside(path) as temporary, zipfile.ZipFile(temporary, 'w') as archive:
    for name, content in entries.items():
      archive.writestr(zipfile.ZipInfo(f'archive/{name}'), content)  # dated 1980


class _File(io.BufferedReader):
  """A file that knows its size; `limit` is what one call may read of it."""

  def __init__(self, path: str | os.PathLike):
    super().__init__(io.FileIO(path))
    self.size = os.fstat(self.fileno()).st_size
    self.limit = self.size

  def read(self, size: int = -1) -> bytes:
    if size > self.limit:
      raise UserError('it claims more than it has')
    return super().read(size)


def _open(file: _File) -> tuple[Any, _ReadStorage]:
  """What the file's pickle holds, and how to read a storage."""
  start = file.read(min(16, file.size))
  file.seek(0)
  if start.startswith(b'PK\x03\x04'):
    return _open_zip(file)
  if start.startswith(b'\x80'):
    return _open_legacy(file)
  if not start:
    raise UserError('it is empty')
  if start[8:9] == b'{':
    raise UserError('it looks like a safetensors file, which needs no conversion')
  if start.startswith((b'\x1f\x8b', b'\xfd7zXZ', b'BZh')):
    raise UserError('it is compressed; unpack it first')
  raise UserError('torch.save did not write it')


def _open_legacy(file: _File) -> tuple[Any, _ReadStorage]:
  """The container before PyTorch 1.6: five pickles, then the storages one after another."""
  storages: dict[str, Storage] = {}
  unpickler = Unpickler(
    file.read(min(file.size, MAX_PICKLE_BYTES)), lambda value: _persistent(value, storages)
  )
  if unpickler.load() != _MAGIC:
    raise UserError('it is a pickle, but torch.save did not write it')
  if unpickler.load() != _PROTOCOL:
    raise UserError('it is of an unknown version')
  system = unpickler.load()
  if type(system) is not dict or system.get('little_endian') is not True:
    raise UserError('it is of a big-endian machine')
  value, keys = unpickler.load(), unpickler.load()
  if type(keys) is not list or not all(type(key) is str for key in keys):
    raise UserError('the list of its storages is damaged')
  if len(keys) != len(storages) or set(keys) != storages.keys():
    raise UserError('it does not have the storages that it names')
  positions = _find_storages(file, [storages[key] for key in keys], unpickler.position)

  def read_storage(storage: Storage) -> bytes:
    file.seek(positions[storage.key])
    return file.read(_byte_size(storage))

  return value, read_storage


def _find_storages(file: _File, storages: list[Storage], position: int) -> dict[str, int]:
  """Where the values of each begin. Before each stands their number."""
  positions = {}
  for storage in storages:
    file.seek(position)
    count = file.read(8)
    if count != struct.pack('<q', storage.size):
      raise UserError('a storage is not as large as it should be: damaged')
    positions[storage.key] = position + 8
    position += 8 + _byte_size(storage)
    if position > file.size:
      raise UserError('it ends too early: damaged')
  if position != file.size:
    raise UserError('it goes on after its end: damaged, or several files in one')
  return positions


def _open_zip(file: _File) -> tuple[Any, _ReadStorage]:
  """The container since PyTorch 1.6: a ZIP file with a pickle and a file for each storage."""
  with _zip_errors():
    file.limit = MAX_DIRECTORY_BYTES
    archive = zipfile.ZipFile(file)
    file.limit = file.size
  root, entries = _check_entries(archive, file.size)

  def read(name: str, max_size: int) -> bytes:
    entry = entries[f'{root}/{name}']
    if entry.file_size > max_size:
      raise UserError(f'{name} is larger than it should be')
    with _zip_errors(), archive.open(entry) as content:
      raw = content.read(entry.file_size + 1)
    if len(raw) != entry.file_size:
      raise UserError(f'{name} does not have its size: damaged')
    return raw

  def check_size(storage: Storage) -> None:
    entry = entries.get(f'{root}/data/{storage.key}')
    if entry is None or entry.file_size != _byte_size(storage):
      raise UserError('a storage is missing, or not as large as it should be: damaged')

  if f'{root}/byteorder' in entries and read('byteorder', 16) != b'little':
    raise UserError('it is of a big-endian machine')
  storages: dict[str, Storage] = {}
  unpickler = Unpickler(
    read('data.pkl', MAX_PICKLE_BYTES), lambda value: _persistent(value, storages, check_size)
  )
  value = unpickler.load()
  return value, lambda storage: read(f'data/{storage.key}', _byte_size(storage))


def _check_entries(archive: zipfile.ZipFile, size: int) -> tuple[str, dict[str, zipfile.ZipInfo]]:
  """The folder in the archive, and the entries by their names, which are never used as paths."""
  infos = archive.infolist()
  entries = {info.filename: info for info in infos}
  if len(entries) != len(infos):
    raise UserError('two entries have one name')
  for name, info in entries.items():
    if name.startswith('/') or '\\' in name or '..' in name.split('/'):
      raise UserError(f'an entry is named {show(name)}, outside of the archive')
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
      raise UserError(f'{show(name)} is compressed in an unknown way')
  if sum(info.file_size for info in infos) > _most_bytes(size):
    raise UserError(f'it would unpack to more than {MAX_GROWTH} times its size')
  roots = [name.partition('/')[0] for name in entries if re.fullmatch(r'[^/]+/data\.pkl', name)]
  if len(roots) != 1:
    raise UserError('it is a ZIP file, but torch.save did not write it')
  [root] = roots
  if any(name.startswith((f'{root}/constants.pkl', f'{root}/code/')) for name in entries):
    raise UserError(
      'it is a TorchScript program; its weights are in the file that its authors exported it from'
    )
  return root, entries


@contextlib.contextmanager
def _zip_errors() -> Iterator[None]:
  """`zipfile` raises what its parts raise."""
  try:
    yield
  except UserError:
    raise
  except (
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,  # encrypted
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
  ) as error:
    raise UserError(f'the ZIP file is damaged or encrypted ({show(str(error))})') from error


def _persistent(
  value: Any,
  storages: dict[str, Storage],
  check_size: Callable[[Storage], None] = lambda storage: None,
) -> Storage | Global:
  """What a tuple in the pickle names: a storage, added to `storages`, or in old files a class."""
  if type(value) is not tuple or not value:
    raise UserError('it refers to something unknown outside of the pickle')
  if value[0] == 'module' and len(value) == 4 and type(value[1]) is Global:
    return value[1]
  if value[0] != 'storage' or len(value) not in (5, 6):
    raise UserError('it refers to something unknown outside of the pickle')
  _, cls, key, _, size, *view = value
  if type(cls) is not Global or type(key) is not str or len(key) > MAX_NAME:
    raise UserError('a storage is named by something else than a class and a text')
  if cls.module not in ('torch', 'torch.cuda') or cls.name not in DTYPES:
    raise UserError(f'it has values of {cls}; what is read here is {", ".join(ITEM_SIZES)}')
  if type(size) is not int or not 0 <= size < 2**62:
    raise UserError('a storage has a negative or absurd size')
  if view and view[0] is not None:
    raise UserError('a storage is a part of another one, which is not read here')
  storage = Storage(DTYPES[cls.name], key, size)
  if key not in storages:
    check_size(storage)
  if storages.setdefault(key, storage) != storage:
    raise UserError('a storage has two types or sizes')
  return storage


def _most_bytes(file_size: int) -> int:
  return MAX_GROWTH * file_size + 2**20


def _byte_size(storage: Storage) -> int:
  return storage.size * ITEM_SIZES[storage.dtype]


def _find_tensors(value: Any, key: str | None) -> dict[str, Tensor]:
  """The weights in a file's value, under `key` if one is given."""
  if key is not None:
    if type(value) is not dict:
      raise UserError(f'it has no entry {show(key)}, as it holds no dictionary')
    if key not in value:
      raise UserError(f'it has no entry {show(key)}; it has {_list_keys(value)}')
    value = value[key]
  tensors = _weights(value, depth=2)
  if tensors:
    return tensors
  place = 'there' if key is None else f'under {show(key)}'
  if type(value) is dict and (names := _list_keys(value)):
    raise UserError(f'no weights are {place}, but {names}; pick one with key')
  raise UserError(f'no weights are {place}')


def _list_keys(value: dict[Any, Any]) -> str:
  names = [show(key) for key in value if type(key) is str]
  return ', '.join(names[:8] + ['...'] * (len(names) > 8))


def _weights(value: Any, depth: int) -> dict[str, Tensor] | None:
  """The tensors of a module, of a state dict, or of what a dictionary holds under `HOLDERS`."""
  if type(value) is Instance:
    return _module_tensors(value) if '_modules' in value.state else None
  if type(value) is not dict:
    return None
  if depth:
    for holder in HOLDERS:
      if tensors := _weights(value.get(holder), depth - 1):
        return tensors
  tensors = {name: tensor for name, tensor in value.items() if type(tensor) is Tensor}
  if not all(type(name) is str for name in tensors):
    raise UserError('a tensor has a name that is no text')
  if tensors and any(map(_may_hold_more, value.values())):
    raise UserError(f'tensors stand beside dictionaries: {_list_keys(value)}; pick one with key')
  return tensors


def _may_hold_more(value: Any) -> bool:
  module = type(value) is Instance and '_modules' in value.state
  return module or (type(value) is dict and bool(value))


def _module_tensors(module: Instance) -> dict[str, Tensor]:
  """The parameters and buffers of a module and of those in it, by their dotted names."""
  tensors: dict[str, Tensor] = {}
  visits = 0
  queue = [('', 0, module)]
  while queue:
    prefix, depth, module = queue.pop()
    children, parameters, buffers = (
      _part(module, name) for name in ('_modules', '_parameters', '_buffers')
    )
    visits += 1 + len(children) + len(parameters) + len(buffers)
    if visits > MAX_TENSORS or depth > MAX_DEPTH:
      raise UserError('its modules are too many, too deep, or contain themselves')
    for name, tensor in (*parameters.items(), *buffers.items()):
      if tensor is None:
        continue  # such as a bias that is switched off
      if type(tensor) is not Tensor:
        raise UserError(f'{show(prefix + name)} is no tensor')
      if prefix + name in tensors:
        raise UserError(f'two tensors are named {show(prefix + name)}')
      tensors[prefix + name] = tensor
    for name, child in reversed(children.items()):
      if child is None:
        continue
      if type(child) is not Instance or len(prefix) > MAX_NAME:
        raise UserError(f'{show(prefix + name)} is no module')
      queue.append((f'{prefix}{name}.', depth + 1, child))
  return tensors


def _part(module: Instance, name: str) -> dict[str, Any]:
  part = module.state.get(name, {})
  if type(part) is not dict or not all(type(key) is str for key in part):
    raise UserError(f'the {name} of a module are damaged')
  return part


def _strip_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
  """Without the 'module.' that DataParallel puts before every name."""
  if not all(name.startswith('module.') for name in tensors):
    return tensors
  return {name.removeprefix('module.'): tensor for name, tensor in tensors.items()}


def _read_tensors(
  tensors: dict[str, Tensor], read_storage: _ReadStorage, file_size: int
) -> dict[str, np.ndarray]:
  if len(tensors) > MAX_TENSORS:
    raise UserError(f'it has more than {MAX_TENSORS:,} tensors')
  total = sum(math.prod(t.shape) * ITEM_SIZES[t.storage.dtype] for t in tensors.values())
  if total > _most_bytes(file_size):  # many views of one storage
    raise UserError(f'its tensors are more than {MAX_GROWTH} times as large as the file')
  by_storage: dict[Storage, list[str]] = {}
  for name, tensor in tensors.items():
    by_storage.setdefault(tensor.storage, []).append(name)
  arrays = {}
  for storage, names in by_storage.items():
    raw = read_storage(storage)
    if len(raw) != _byte_size(storage):  # the views rely on it
      raise UserError('it ends too early: damaged')
    values = _to_array(raw, storage.dtype)
    for name in names:
      arrays[name] = _copy_view(values, tensors[name])
  return {name: arrays[name] for name in tensors}


def _to_array(raw: bytes, dtype: str) -> np.ndarray:
  if dtype == 'bfloat16':  # the upper half of a float32
    return (np.frombuffer(raw, '<u2').astype(np.uint32) << 16).view(np.float32)
  if dtype == 'bool':
    return np.frombuffer(raw, np.uint8) != 0
  return np.frombuffer(raw, np.dtype(dtype).newbyteorder('<')).astype(dtype, copy=False)


def _copy_view(values: np.ndarray, tensor: Tensor) -> np.ndarray:
  if 0 in tensor.shape:
    return np.zeros(tensor.shape, values.dtype)
  sizes = zip(tensor.shape, tensor.strides, strict=True)
  strides = [stride * values.itemsize if n > 1 else 0 for n, stride in sizes]
  # `torch_pickle` has made sure that the view ends within the storage.
  view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides)
  return view.copy()


def _pickle_state(state: Mapping[str, np.ndarray]) -> bytes:
  """The pickle of an OrderedDict of contiguous tensors, tensor `i` in storage `i`."""
  ordered_dict = pickle.GLOBAL + b'collections\nOrderedDict\n' + pickle.EMPTY_TUPLE + pickle.REDUCE
  rebuild = pickle.GLOBAL + b'torch._utils\n_rebuild_tensor_v2\n'
  parts = [pickle.PROTO, b'\x02', ordered_dict, pickle.MARK]
  for i, (name, array) in enumerate(state.items()):
    shape = np.shape(array)
    strides = [math.prod(n or 1 for n in shape[axis + 1 :]) for axis in range(len(shape))]
    parts += [_pickle_text(name), rebuild, pickle.MARK]
    parts += [pickle.MARK, _pickle_text('storage'), pickle.GLOBAL + b'torch\nFloatStorage\n']
    parts += [_pickle_text(str(i)), _pickle_text('cpu'), _pickle_number(math.prod(shape))]
    parts += [pickle.TUPLE, pickle.BINPERSID, _pickle_number(0)]
    for numbers in (shape, strides):
      parts += [pickle.MARK, *map(_pickle_number, numbers), pickle.TUPLE]
    parts += [pickle.NEWFALSE, ordered_dict, pickle.TUPLE, pickle.REDUCE]
  return b''.join([*parts, pickle.SETITEMS, pickle.STOP])


def _pickle_text(text: str) -> bytes:
  raw = text.encode()
  return pickle.BINUNICODE + struct.pack('<I', len(raw)) + raw


def _pickle_number(number: int) -> bytes:
  if number < 2**31:
    return pickle.BININT + struct.pack('<i', number)
  return pickle.LONG1 + b'\x08' + struct.pack('<q', number)
