"""Safe unpickler for PyTorch files. It imports, instantiates and calls nothing that a file names.

Python's own unpickler is not used. Even with a safe `find_class`, a short file can make it allocate
gigabytes (a large memo index) or hash forever (nested tuples as dictionary keys). This interpreter
supports only the instructions that `torch.save` writes, and represents objects by inert records.
Each instruction creates at most one object, moves each reference once, and copies no more bytes
than it occupies. Time and memory are therefore proportional to the size of the pickle.
"""

import dataclasses
import math
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any

from gfn_jax.errors import UserError
from gfn_jax.system.files import printable

MAX_STEPS = 1_000_000
"""Limit on the instructions in a file's pickles. The largest published networks have about 50,000.
"""

MAX_NAME = 1024
"""Limit on the characters of a name: a dictionary key, or a class with its module."""

MAX_DIMENSIONS = 32

DTYPES = {
  'DoubleStorage': 'float64',
  'FloatStorage': 'float32',
  'HalfStorage': 'float16',
  'BFloat16Storage': 'bfloat16',
  'LongStorage': 'int64',
  'IntStorage': 'int32',
  'ShortStorage': 'int16',
  'CharStorage': 'int8',
  'ByteStorage': 'uint8',
  'BoolStorage': 'bool',
}
"""NumPy names of the storage types of PyTorch."""

ITEM_SIZES = {
  'float64': 8,
  'float32': 4,
  'float16': 2,
  'bfloat16': 2,
  'int64': 8,
  'int32': 4,
  'int16': 2,
  'int8': 1,
  'uint8': 1,
  'bool': 1,
}
"""Bytes per value of each type."""


@dataclasses.dataclass(frozen=True, slots=True)
class Global:
  """Class or function that a file names."""

  module: str
  name: str

  @property
  def full_name(self) -> str:
    """Name with the module."""
    return f'{self.module}.{self.name}'

  def __str__(self) -> str:
    return show(self.full_name)


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
  """Block of `size` values in the file, identified by a key."""

  dtype: str
  key: str
  size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
  """View within the bounds of a storage. Offset and strides are in values."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


@dataclasses.dataclass(eq=False, slots=True)
class Instance:
  """Object of a class that the file names: its attributes, without behaviour."""

  cls: Global
  state: dict[Any, Any] = dataclasses.field(default_factory=dict)


class Unpickler:
  """Reader of consecutive pickles in `data`."""

  def __init__(self, data: bytes, persistent_load: Callable[[tuple], Any]):
    """Start at the first byte.

    Args:
      data: the pickles; other data may follow them.
      persistent_load: function that resolves a persistent ID.
    """
    self.position = 0
    self._data = data
    self._persistent_load = persistent_load
    self._steps = 0

  def load(self) -> Any:
    """Load the object of the next pickle, and move `position` past it.

    Numbers, strings, bytes, None, lists, tuples and dictionaries become Python objects, an
    OrderedDict becomes a dict, and a set a list. Everything else is a `Global`, `Storage`, `Tensor`
    or `Instance`. Objects can be shared, cyclic and nested to any depth.

    Raises:
      UserError: if the pickle is corrupt, too long, or has content that no checkpoint needs.
    """
    self._stack: list[Any] = []
    self._marks: list[int] = []
    self._memo: dict[int, Any] = {}
    while (code := self._take(1)) != pickle.STOP:
      self.spend(1)
      action = _ACTIONS.get(code)
      if action is None:
        raise UserError(f'corrupt pickle: torch.save never writes instruction {code!r}')
      action(self)
    return self._pop()

  def spend(self, steps: int) -> None:
    """Count work, and raise `UserError` above the limit."""
    self._steps += steps
    if self._steps > MAX_STEPS:
      raise UserError(f'more than {MAX_STEPS:,} pickle instructions')

  def _take(self, size: int) -> bytes:
    end = self.position + size
    if end > len(self._data):
      raise UserError('corrupt pickle: unexpected end of file')
    taken = self._data[self.position : end]
    self.position = end
    return taken

  def _take_number(self, layout: str) -> Any:
    return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

  def _take_line(self) -> bytes:
    end = self._data.find(b'\n', self.position, self.position + MAX_NAME)
    if end < 0:
      raise UserError('corrupt pickle: unterminated name')
    line = self._take(end - self.position)
    self.position += 1
    return line

  def _push(self, value: Any) -> None:
    self._stack.append(value)

  def _pop(self) -> Any:
    if not self._stack:
      raise _corrupt()
    return self._stack.pop()

  def _top(self) -> Any:
    if not self._stack:
      raise _corrupt()
    return self._stack[-1]

  def _pop_mark(self) -> list[Any]:
    if not self._marks:
      raise _corrupt()
    start = self._marks.pop()
    items = self._stack[start:]
    del self._stack[start:]
    return items

  def _pop_tuple(self, size: int) -> None:
    items = [self._pop() for _ in range(size)]
    self._push(tuple(reversed(items)))

  def _take_string(self, layout: str) -> None:
    self._push(_decode(self._take(self._take_number(layout))))

  def _take_python2_string(self, layout: str) -> None:
    """Push ASCII as a string and other content as bytes: Python 2 strings may be either."""
    raw = self._take(self._take_number(layout))
    try:
      self._push(raw.decode('ascii'))
    except UnicodeDecodeError:
      self._push(raw)

  def _take_bytes(self, layout: str) -> None:
    self._push(self._take(self._take_number(layout)))

  def _take_long(self) -> None:
    self._push(int.from_bytes(self._take(self._take_number('B')), 'little', signed=True))

  def _take_decimal(self) -> None:
    line = self._take_line()  # how Python 2 writes numbers of more than 32 bits
    if len(line) > 20 or not line.removeprefix(b'-').isdigit():
      raise _corrupt()
    self._push(int(line))

  def _take_protocol(self) -> None:
    protocol = self._take_number('B')
    if not 2 <= protocol <= 5:
      raise UserError(f'pickle protocol {protocol} is not supported; 2 to 5 are')

  def _append(self, items: list[Any]) -> None:
    target = self._top()
    if type(target) is list:
      target.extend(items)
    elif type(target) is not Instance:
      raise _corrupt()

  def _set_items(self, items: list[Any]) -> None:
    target = self._top()
    if len(items) % 2:
      raise _corrupt()
    if type(target) is dict:
      for key, value in zip(items[::2], items[1::2], strict=True):
        target[_check_key(key)] = value
    elif type(target) is not Instance:
      raise _corrupt()

  def _get(self, index: int) -> None:
    if index not in self._memo:
      raise _corrupt()
    self._push(self._memo[index])

  def _put(self, index: int) -> None:
    self._memo[index] = self._top()

  def _take_global(self) -> None:
    self._push(_make_global(_decode(self._take_line()), _decode(self._take_line())))

  def _pop_global(self) -> None:
    name, module = self._pop(), self._pop()
    if type(name) is not str or type(module) is not str:
      raise _corrupt()
    self._push(_make_global(module, name))

  def _reduce(self) -> None:
    args, function = self._pop(), self._pop()
    if type(function) is not Global or type(args) is not tuple:
      raise UserError('corrupt pickle: called object is not a function')
    self._push(_call(function, args, self.spend))

  def _new_object(self) -> None:
    args, cls = self._pop(), self._pop()
    if type(cls) is not Global or type(args) is not tuple:
      raise UserError('corrupt pickle: instantiated object is not a class')
    self._push(_call(cls, args, self.spend) if cls.full_name in _CALLS else Instance(cls))

  def _build(self) -> None:
    """Set the attributes of an instance. Those of a dict or tensor, as `_metadata`, are ignored."""
    state, target = self._pop(), self._top()
    if type(target) is Instance:
      if type(state) is dict:
        target.state = state
    elif type(target) not in (dict, Tensor):
      raise UserError('corrupt pickle: attributes set on an object without attributes')

  def _persistent(self) -> None:
    self._push(self._persistent_load(self._pop()))


def show(name: str) -> str:
  """Return a name from a file for use in a message: printable, at most 100 characters."""
  return printable(name if len(name) <= 100 else f'{name[:97]}...')


def _decode(raw: bytes) -> str:
  try:
    return raw.decode('utf-8')
  except UnicodeDecodeError as error:
    raise UserError('corrupt pickle: string is not UTF-8') from error


def _corrupt() -> UserError:
  return UserError('corrupt pickle: inconsistent instructions')


def _check_key(key: Any) -> Any:
  """Return a dictionary key after checking that hashing and comparing it is cheap."""
  short = type(key) in (str, bytes) and len(key) <= MAX_NAME
  number = type(key) is int and abs(key) < 2**64
  if not (short or number or key is None or type(key) in (bool, float, Global)):
    raise UserError(
      f'a dictionary key is neither a number nor a string of up to {MAX_NAME:,} characters'
    )
  return key


def _make_global(module: str, name: str) -> Global:
  """Return a record of a name, or raise `UserError` for one that no checkpoint needs."""
  if len(module) + len(name) > MAX_NAME:
    raise UserError(f'a class name has more than {MAX_NAME:,} characters')
  found = Global(module, name)
  package = module.partition('.')[0]
  standard = package in sys.stdlib_module_names or package in ('__builtin__', 'copy_reg')
  if standard and found.full_name not in _STANDARD:
    raise UserError(f'the file names {found}, which no checkpoint needs; nothing was executed')
  return found


def _call(function: Global, args: tuple, spend: Callable[[int], None]) -> Any:
  """Return the result of a known function or class, or an `Instance` that keeps its name."""
  name = function.full_name
  if name in _CALLS:
    return _CALLS[name](args, spend)
  if name in _INERT:
    return Instance(function)
  raise UserError(
    f'the file calls {function}, which is not supported; nothing was executed. If you trust the '
    'file, load it with PyTorch and save model.state_dict()'
  )


def _ordered_dict(args: tuple, spend: Callable[[int], None]) -> dict[Any, Any]:
  pairs = args[0] if args else []  # Python 2 passes the items as a list of lists
  if len(args) > 1 or type(pairs) is not list:
    raise _corrupt()
  spend(len(pairs))
  if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
    raise _corrupt()
  return {_check_key(key): value for key, value in pairs}


def _set(args: tuple, spend: Callable[[int], None]) -> list[Any]:
  items = args[0] if args else []
  if len(args) > 1 or type(items) is not list:
    raise _corrupt()
  return items


def _tensor(args: tuple, spend: Callable[[int], None]) -> Tensor:
  """Return the tensor of `_rebuild_tensor(storage, offset, size, stride)` or of its `_v2`.

  `_v2` adds requires_grad, hooks and metadata, which are ignored.
  """
  if not 4 <= len(args) <= 7:
    raise _corrupt()
  storage, offset, shape, strides = args[:4]
  if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
    raise _corrupt()
  spend(len(shape))
  if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
    raise UserError(f'a tensor has {len(shape)} dimensions and {len(strides)} strides')
  if not all(type(n) is int and 0 <= n < 2**62 for n in (offset, *shape, *strides)):
    raise UserError('corrupt pickle: invalid size, offset or stride of a tensor')
  if len(args) == 7 and args[6]:
    raise UserError('negated or conjugated tensors are not supported')
  steps = [(n - 1, stride) for n, stride in zip(shape, strides, strict=True)]
  if 0 not in shape:  # an empty tensor reads no values
    if any(count > 0 and stride == 0 for count, stride in steps):
      raise UserError('tensors with a stride of 0 are not supported; save them contiguous')
    if offset + sum(count * stride for count, stride in steps) >= storage.size:
      raise UserError(f'corrupt pickle: a tensor exceeds its storage of {storage.size} values')
  if math.prod(n or 1 for n in shape) > 2**40:
    raise UserError('corrupt pickle: a tensor is too large')
  return Tensor(storage, offset, shape, strides)


def _parameter(args: tuple, spend: Callable[[int], None]) -> Tensor:
  """Return the tensor that `nn.Parameter(tensor, ...)` wraps."""
  if not args or type(args[0]) is not Tensor:
    raise _corrupt()
  return args[0]


def _typed_tensor(args: tuple, spend: Callable[[int], None]) -> Tensor:
  """Return the tensor of `_rebuild_from_type_v2(function, class, args, state)`."""
  if len(args) != 4 or type(args[0]) is not Global or type(args[2]) is not tuple:
    raise _corrupt()
  if args[0].full_name not in _TENSORS:
    raise _corrupt()
  return _TENSORS[args[0].full_name](args[2], spend)


_TENSORS = {
  'torch._utils._rebuild_tensor': _tensor,
  'torch._utils._rebuild_tensor_v2': _tensor,
  'torch._utils._rebuild_parameter': _parameter,
  'torch._utils._rebuild_parameter_with_state': _parameter,
}

_CALLS = _TENSORS | {
  'torch._tensor._rebuild_from_type_v2': _typed_tensor,
  'torch.nn.parameter.Parameter': _parameter,  # PyTorch 0.1 to 0.3
  'torch.autograd.variable.Variable': _parameter,
  'collections.OrderedDict': _ordered_dict,
  'collections.defaultdict': lambda args, spend: {},
  'builtins.set': _set,
  'builtins.frozenset': _set,
  '__builtin__.set': _set,
  '__builtin__.frozenset': _set,
}

# Classes of values that checkpoints hold beside weights: scores, arrays, settings, paths, dates.
_INERT = {
  'numpy.dtype',
  'numpy.core.multiarray.scalar',
  'numpy.core.multiarray._reconstruct',
  'numpy._core.multiarray.scalar',
  'numpy._core.multiarray._reconstruct',
  'torch.Size',
  'torch.device',
  'torch.nn.backends.thnn._get_thnn_function_backend',  # every module of PyTorch 0.4
  '_codecs.encode',
  'builtins.bytearray',
  'builtins.complex',
  'collections.Counter',
  'collections.deque',
  'datetime.date',
  'datetime.datetime',
  'datetime.timedelta',
  'pathlib.PosixPath',
  'pathlib.PurePosixPath',
  'pathlib.PureWindowsPath',
  'pathlib.WindowsPath',
}

_TYPES = ('bool', 'bytes', 'dict', 'float', 'int', 'list', 'object', 'str', 'tuple')

# Allowed names of the standard library. Other packages may name any class: only the name is kept.
_STANDARD = {
  *_CALLS,
  *_INERT,
  *(f'{module}.{name}' for module in ('builtins', '__builtin__') for name in _TYPES),
  'argparse.Namespace',
  'types.SimpleNamespace',
}

_Action = Callable[[Unpickler], object]  # the result is ignored

# fmt: off
_ACTIONS: dict[bytes, _Action] = {
  pickle.PROTO: Unpickler._take_protocol,
  pickle.FRAME: lambda self: self._take(8),  # frame length, not needed
  pickle.MARK: lambda self: self._marks.append(len(self._stack)),
  pickle.POP: lambda self: self._pop(),
  pickle.POP_MARK: lambda self: self._pop_mark(),
  pickle.NONE: lambda self: self._push(None),
  pickle.NEWTRUE: lambda self: self._push(True),
  pickle.NEWFALSE: lambda self: self._push(False),
  pickle.INT: Unpickler._take_decimal,
  pickle.BININT: lambda self: self._push(self._take_number('<i')),
  pickle.BININT1: lambda self: self._push(self._take_number('B')),
  pickle.BININT2: lambda self: self._push(self._take_number('<H')),
  pickle.LONG1: Unpickler._take_long,
  pickle.BINFLOAT: lambda self: self._push(self._take_number('>d')),
  pickle.BINUNICODE: lambda self: self._take_string('<I'),
  pickle.SHORT_BINUNICODE: lambda self: self._take_string('B'),
  pickle.BINSTRING: lambda self: self._take_python2_string('<I'),
  pickle.SHORT_BINSTRING: lambda self: self._take_python2_string('B'),
  pickle.BINBYTES: lambda self: self._take_bytes('<I'),
  pickle.SHORT_BINBYTES: lambda self: self._take_bytes('B'),
  pickle.EMPTY_TUPLE: lambda self: self._push(()),
  pickle.TUPLE: lambda self: self._push(tuple(self._pop_mark())),
  pickle.TUPLE1: lambda self: self._pop_tuple(1),
  pickle.TUPLE2: lambda self: self._pop_tuple(2),
  pickle.TUPLE3: lambda self: self._pop_tuple(3),
  pickle.EMPTY_LIST: lambda self: self._push([]),
  pickle.EMPTY_SET: lambda self: self._push([]),
  pickle.FROZENSET: lambda self: self._push(self._pop_mark()),
  pickle.APPEND: lambda self: self._append([self._pop()]),
  pickle.APPENDS: lambda self: self._append(self._pop_mark()),
  pickle.ADDITEMS: lambda self: self._append(self._pop_mark()),
  pickle.EMPTY_DICT: lambda self: self._push({}),
  pickle.SETITEM: lambda self: self._set_items([self._pop(), self._pop()][::-1]),
  pickle.SETITEMS: lambda self: self._set_items(self._pop_mark()),
  pickle.BINGET: lambda self: self._get(self._take_number('B')),
  pickle.LONG_BINGET: lambda self: self._get(self._take_number('<I')),
  pickle.BINPUT: lambda self: self._put(self._take_number('B')),
  pickle.LONG_BINPUT: lambda self: self._put(self._take_number('<I')),
  pickle.MEMOIZE: lambda self: self._put(len(self._memo)),
  pickle.GLOBAL: Unpickler._take_global,
  pickle.STACK_GLOBAL: Unpickler._pop_global,
  pickle.REDUCE: Unpickler._reduce,
  pickle.NEWOBJ: Unpickler._new_object,
  pickle.BUILD: Unpickler._build,
  pickle.BINPERSID: Unpickler._persistent,
}
# fmt: on
