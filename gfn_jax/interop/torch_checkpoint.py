"""Reading and writing of PyTorch checkpoints without PyTorch."""

import contextlib
import dataclasses
import glob
import io
import json
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
from gfn_jax.interop.safetensors_file import is_safetensors, open_safetensors
from gfn_jax.interop.torch_entries import Locate, choose_entry
from gfn_jax.interop.torch_pickle import (
  DTYPES,
  ITEM_SIZES,
  MAX_NAME,
  Global,
  Storage,
  Tensor,
  Unpickler,
  show,
)
from gfn_jax.system.files import printable, write_aside

CARD_KEY = 'gfn_jax'
"""Key of the model card, as JSON, beside the `state_dict` of an exported file."""

MAX_PICKLE_BYTES = 32 * 2**20
MAX_DIRECTORY_BYTES = 8 * 2**20
"""Limit on the size of a ZIP file's central directory; an entry takes about 100 bytes."""

MAX_GROWTH = 4
"""Limit on the size of the tensors, and of the unpacked entries, relative to the file size."""

_PART = re.compile(r'((?:encoder|decoder)_lv[0-9]+)\.pkl')
"""Names of the files of one checkpoint in a folder, as DMPHN's authors save it, and the modules."""

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_ReadStorage = Callable[[Storage], bytes]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """Weights that were read from a checkpoint.

  Attributes:
    tensors: arrays by their PyTorch names.
    entry: keys and prefix of these weights in the file; empty if it holds no others.
    others: entries with weights of the network that were not read.
    outside: names of tensors beside the prefix of `entry` that were not read.
    card: model card of the weights, if `save_torch_checkpoint` wrote one.
  """

  tensors: dict[str, np.ndarray]
  entry: str = ''
  others: tuple[str, ...] = ()
  outside: tuple[str, ...] = ()
  card: dict[str, Any] | None = None


def load_torch_checkpoint(path: str | os.PathLike, key: str | None = None) -> dict[str, np.ndarray]:
  """Read the weights of a file that `torch.save` wrote, or of a safetensors file.

  The file may hold a state dict, a module, or a dictionary that contains one of them. A folder with
  files `encoder_lv1.pkl`, `decoder_lv1.pkl` and so on, one for each module, is read as one
  checkpoint. PyTorch need not be installed. Untrusted files are safe: nothing that they name is
  imported or executed, and memory use is bounded by the file size.

  Args:
    path: the checkpoint file, or the folder.
    key: the entry to read if a file holds a dictionary, or the first part of the names. None reads
      averaged weights, such as `params_ema`, if there are any, else an entry of `HOLDERS`.

  Returns:
    Arrays by their PyTorch names, without the prefixes of `WRAPPERS` that all names share. They
    share no memory, and keep the types and layout of the file, except that bfloat16 becomes
    float32. A module gives its parameters and buffers. Names from a folder begin with that of the
    file's module.

  Raises:
    UserError: if the file is missing, unsupported, damaged or hostile, has no weights, or it is not
      clear which ones to read.
  """
  return read_checkpoint(path, key).tensors


def read_checkpoint(
  path: str | os.PathLike, key: str | None = None, locate: Locate | None = None
) -> Checkpoint:
  """Read a checkpoint as `load_torch_checkpoint` does, and return what was chosen.

  Args:
    path: the checkpoint file, or the folder.
    key: as for `load_torch_checkpoint`.
    locate: returns the prefixes of a network's names in a state dict. Weights without such names
      are read only if there are no others. None reads the weights of any network.

  Raises:
    UserError: as `load_torch_checkpoint`, and for averaged weights that `locate` does not find.
  """
  if parts := checkpoint_parts(path):
    read = {module: read_checkpoint(file, key) for module, file in parts.items()}
    tensors = {f'{module}.{name}': x for module, c in read.items() for name, x in c.tensors.items()}
    return dataclasses.replace(next(iter(read.values())), tensors=tensors)
  if not os.path.isfile(path):
    kind = 'is a folder, not a checkpoint' if os.path.isdir(path) else 'does not exist'
    raise UserError(f'{printable(path)} {kind}')
  try:
    if is_safetensors(path):
      return _read_safetensors(path, key, locate)
    with _File(path) as file:
      value, read_storage = _open(file)
      if (card := _find_card(value)) is not None:
        key, locate = 'state_dict' if key is None else key, None
      entry, others = choose_entry(value, key, locate)
      tensors = _read_tensors(entry.tensors, read_storage, file.size)
      return Checkpoint(tensors, entry.label, others, tuple(entry.outside), card)
  except (UserError, OSError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise UserError(f'cannot read {printable(path)} as a checkpoint: {reason}') from error


def _read_safetensors(
  path: str | os.PathLike, key: str | None, locate: Locate | None
) -> Checkpoint:
  with open_safetensors(path) as file:
    entry, others = choose_entry(file.tensors, key, locate)
    _check_total(sum(tensor.size for tensor in entry.tensors.values()), os.path.getsize(path))
    tensors = {name: file.read(tensor) for name, tensor in entry.tensors.items()}
  return Checkpoint(tensors, entry.label, others, tuple(entry.outside))


def _find_card(value: Any) -> dict[str, Any] | None:
  """Return the model card in a file of `save_torch_checkpoint`; None if there is none."""
  if type(value) is not dict or CARD_KEY not in value:
    return None
  try:
    card = json.loads(value[CARD_KEY]) if type(value[CARD_KEY]) is str else None
  except (ValueError, RecursionError) as error:
    raise UserError(f'its entry {CARD_KEY} is not a model card: {show(str(error))}') from error
  model = card.get('model') if isinstance(card, dict) else None
  if not isinstance(model, dict) or not isinstance(model.get('name'), str):
    raise UserError(f'its entry {CARD_KEY} is not a model card: it names no model')
  return card


def checkpoint_parts(path: str | os.PathLike) -> dict[str, str]:
  """Return the files of a checkpoint in a folder, by the names of their modules.

  Args:
    path: a folder. For others, and for files, the result is empty.
  """
  parts: dict[str, str] = {}
  if not os.path.isdir(path):
    return parts
  for name in sorted(glob.glob('*.pkl', root_dir=path)):
    file = os.path.join(path, name)
    if (match := _PART.fullmatch(name)) and os.path.isfile(file):
      parts[match[1]] = file
  return parts


def save_torch_checkpoint(
  path: str | os.PathLike,
  state: Mapping[str, np.ndarray],
  card: Mapping[str, Any] | None = None,
) -> None:
  """Write a state dict that `torch.load(path, weights_only=True)` reads.

  The same arrays always give the same bytes. The file is replaced atomically.

  Args:
    path: the file to write, usually .pth.
    state: float32 arrays by their PyTorch names.
    card: model card to write beside the weights. The file is then a dictionary of `state_dict` and
      `gfn_jax`, the card as JSON; without a card it is the state dict.

  Raises:
    TypeError: if an array is not float32, or a name is not a string.
  """
  for name, array in state.items():
    if not isinstance(name, str) or np.asarray(array).dtype != np.float32:
      raise TypeError(f'{name!r}: names must be strings and arrays float32')
  # PyTorch names the folder after the file; readers accept any name.
  entries = {
    'data.pkl': _pickle_file(state, card),
    'byteorder': b'little',
    **{f'data/{i}': np.asarray(a, '<f4').tobytes() for i, a in enumerate(state.values())},
    'version': b'3\n',
  }
  with write_aside(path) as temporary, zipfile.ZipFile(temporary, 'w') as archive:
    for name, content in entries.items():
      archive.writestr(zipfile.ZipInfo(f'archive/{name}'), content)  # fixed date: equal bytes


class _File(io.BufferedReader):
  """Binary file with a size, and a limit on the bytes that one call may read."""

  def __init__(self, path: str | os.PathLike):
    super().__init__(io.FileIO(path))
    self.size = os.fstat(self.fileno()).st_size
    self.limit = self.size

  def read(self, size: int | None = -1, /) -> bytes:
    if size is not None and size > self.limit:
      raise UserError('corrupt file: a size field is too large')
    return super().read(size)


def _open(file: _File) -> tuple[Any, _ReadStorage]:
  """Return the object in the file's pickle, and a function that reads a storage."""
  start = file.read(min(16, file.size))
  file.seek(0)
  if start.startswith(b'PK\x03\x04'):
    return _open_zip(file)
  if start.startswith(b'\x80'):
    return _open_legacy(file)
  if not start:
    raise UserError('empty file')
  if start.startswith((b'\x1f\x8b', b'\xfd7zXZ', b'BZh')):
    raise UserError('compressed file; unpack it first')
  raise UserError('not a file written by torch.save')


def _open_legacy(file: _File) -> tuple[Any, _ReadStorage]:
  """Open the format before PyTorch 1.6: five pickles, followed by the storages."""
  storages: dict[str, Storage] = {}
  unpickler = Unpickler(
    file.read(min(file.size, MAX_PICKLE_BYTES)), lambda value: _persistent(value, storages)
  )
  if unpickler.load() != _MAGIC:
    raise UserError('a pickle, but not written by torch.save')
  if unpickler.load() != _PROTOCOL:
    raise UserError('unknown version of the legacy format')
  system = unpickler.load()
  if type(system) is not dict or system.get('little_endian') is not True:
    raise UserError('big-endian checkpoints are not supported')
  value, keys = unpickler.load(), unpickler.load()
  if type(keys) is not list or not all(type(key) is str for key in keys):
    raise UserError('corrupt file: invalid list of storages')
  if len(keys) != len(storages) or set(keys) != storages.keys():
    raise UserError('corrupt file: the list of storages differs from those in use')
  positions = _find_storages(file, [storages[key] for key in keys], unpickler.position)

  def read_storage(storage: Storage) -> bytes:
    file.seek(positions[storage.key])
    return file.read(_byte_size(storage))

  return value, read_storage


def _find_storages(file: _File, storages: list[Storage], position: int) -> dict[str, int]:
  """Return the position of each storage's values, which follow their count."""
  positions = {}
  for storage in storages:
    file.seek(position)
    count = file.read(8)
    if count != struct.pack('<q', storage.size):
      raise UserError('corrupt file: a storage has the wrong size')
    positions[storage.key] = position + 8
    position += 8 + _byte_size(storage)
    if position > file.size:
      raise UserError('truncated file: a storage is incomplete')
  if position != file.size:
    raise UserError('corrupt file: unexpected data after the last storage')
  return positions


def _open_zip(file: _File) -> tuple[Any, _ReadStorage]:
  """Open the format since PyTorch 1.6: a ZIP file with a pickle and one entry per storage."""
  with _zip_errors():
    file.limit = MAX_DIRECTORY_BYTES
    archive = zipfile.ZipFile(file)
    file.limit = file.size
  root, entries = _check_entries(archive, file.size)

  def read(name: str, max_size: int) -> bytes:
    entry = entries[f'{root}/{name}']
    if entry.file_size > max_size:
      raise UserError(f'{name} is larger than {max_size:,} bytes')
    with _zip_errors(), archive.open(entry) as content:
      raw = content.read(entry.file_size + 1)
    if len(raw) != entry.file_size:
      raise UserError(f'corrupt file: {name} has the wrong size')
    return raw

  def check_size(storage: Storage) -> None:
    entry = entries.get(f'{root}/data/{storage.key}')
    if entry is None or entry.file_size != _byte_size(storage):
      raise UserError('corrupt file: a storage is missing or has the wrong size')

  if f'{root}/byteorder' in entries and read('byteorder', 16) != b'little':
    raise UserError('big-endian checkpoints are not supported')
  storages: dict[str, Storage] = {}
  unpickler = Unpickler(
    read('data.pkl', MAX_PICKLE_BYTES), lambda value: _persistent(value, storages, check_size)
  )
  value = unpickler.load()
  return value, lambda storage: read(f'data/{storage.key}', _byte_size(storage))


def _check_entries(archive: zipfile.ZipFile, size: int) -> tuple[str, dict[str, zipfile.ZipInfo]]:
  """Return the archive's root folder and its entries by name, which is never used as a path."""
  infos = archive.infolist()
  entries = {info.filename: info for info in infos}
  if len(entries) != len(infos):
    raise UserError('corrupt file: two entries have the same name')
  for name, info in entries.items():
    if name.startswith('/') or '\\' in name or '..' in name.split('/'):
      raise UserError(f'entry {show(name)} points outside the archive')
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
      raise UserError(f'unsupported compression of entry {show(name)}')
  if sum(info.file_size for info in infos) > _most_bytes(size):
    raise UserError(f'the archive would unpack to more than {MAX_GROWTH} times its size')
  roots = [name.partition('/')[0] for name in entries if re.fullmatch(r'[^/]+/data\.pkl', name)]
  if len(roots) != 1:
    raise UserError('a ZIP file, but not written by torch.save')
  [root] = roots
  if any(name.startswith((f'{root}/constants.pkl', f'{root}/code/')) for name in entries):
    raise UserError(
      'TorchScript programs are not supported; use the checkpoint that it was exported from'
    )
  return root, entries


@contextlib.contextmanager
def _zip_errors() -> Iterator[None]:
  """Turn the exceptions of `zipfile` and of the modules it uses into `UserError`."""
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
    raise UserError(f'corrupt or encrypted ZIP file ({show(str(error))})') from error


def _persistent(
  value: Any,
  storages: dict[str, Storage],
  check_size: Callable[[Storage], None] = lambda storage: None,
) -> Storage | Global:
  """Resolve a persistent ID: a storage, which is added to `storages`, or a class in old files."""
  if type(value) is not tuple or not value:
    raise UserError('corrupt pickle: unknown persistent ID')
  if value[0] == 'module' and len(value) == 4 and type(value[1]) is Global:
    return value[1]
  if value[0] != 'storage' or len(value) not in (5, 6):
    raise UserError('corrupt pickle: unknown persistent ID')
  _, cls, key, _, size, *view = value
  if type(cls) is not Global or type(key) is not str or len(key) > MAX_NAME:
    raise UserError('corrupt pickle: invalid class or key of a storage')
  if cls.module not in ('torch', 'torch.cuda') or cls.name not in DTYPES:
    raise UserError(f'unsupported storage {cls}; supported types: {", ".join(ITEM_SIZES)}')
  if type(size) is not int or not 0 <= size < 2**62:
    raise UserError('corrupt pickle: invalid size of a storage')
  if view and view[0] is not None:
    raise UserError('storages that are part of another storage are not supported')
  storage = Storage(DTYPES[cls.name], key, size)
  if key not in storages:
    check_size(storage)
  if storages.setdefault(key, storage) != storage:
    raise UserError('corrupt pickle: a storage has two types or sizes')
  return storage


def _most_bytes(file_size: int) -> int:
  return MAX_GROWTH * file_size + 2**20


def _byte_size(storage: Storage) -> int:
  return storage.size * ITEM_SIZES[storage.dtype]


def _read_tensors(
  tensors: Mapping[str, Tensor], read_storage: _ReadStorage, file_size: int
) -> dict[str, np.ndarray]:
  sizes = [math.prod(t.shape) * ITEM_SIZES[t.storage.dtype] for t in tensors.values()]
  _check_total(sum(sizes), file_size)
  by_storage: dict[Storage, list[str]] = {}
  for name, tensor in tensors.items():
    by_storage.setdefault(tensor.storage, []).append(name)
  arrays = {}
  for storage, names in by_storage.items():
    raw = read_storage(storage)
    if len(raw) != _byte_size(storage):  # the views rely on this size
      raise UserError('truncated file: a storage is incomplete')
    values = _to_array(raw, storage.dtype)
    for name in names:
      arrays[name] = _copy_view(values, tensors[name])
  return {name: arrays[name] for name in tensors}


def _check_total(total: int, file_size: int) -> None:
  """Raise `UserError` for more bytes than a file holds: many tensors may share one storage."""
  if total > _most_bytes(file_size):
    raise UserError(f'the tensors are more than {MAX_GROWTH} times as large as the file')


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
  # `torch_pickle` has checked that the view lies within the storage.
  view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides)
  return view.copy()


def _pickle_file(state: Mapping[str, np.ndarray], card: Mapping[str, Any] | None) -> bytes:
  """Pickle a state dict, or with a card the dictionary that holds both."""
  if card is None:
    return pickle.PROTO + b'\x02' + _pickle_state(state) + pickle.STOP
  items = [_pickle_text('state_dict'), _pickle_state(state)]
  items += [_pickle_text(CARD_KEY), _pickle_text(json.dumps(card))]
  return b''.join(
    [pickle.PROTO, b'\x02', pickle.EMPTY_DICT, pickle.MARK, *items, pickle.SETITEMS, pickle.STOP]
  )


def _pickle_state(state: Mapping[str, np.ndarray]) -> bytes:
  """Pickle an OrderedDict of contiguous tensors, with tensor `i` in storage `i`."""
  ordered_dict = pickle.GLOBAL + b'collections\nOrderedDict\n' + pickle.EMPTY_TUPLE + pickle.REDUCE
  rebuild = pickle.GLOBAL + b'torch._utils\n_rebuild_tensor_v2\n'
  parts = [ordered_dict, pickle.MARK]
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
  return b''.join([*parts, pickle.SETITEMS])


def _pickle_text(text: str) -> bytes:
  raw = text.encode()
  return pickle.BINUNICODE + struct.pack('<I', len(raw)) + raw


def _pickle_number(number: int) -> bytes:
  if number < 2**31:
    return pickle.BININT + struct.pack('<i', number)
  return pickle.LONG1 + b'\x08' + struct.pack('<q', number)
