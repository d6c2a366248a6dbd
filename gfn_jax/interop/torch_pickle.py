"""Reads the pickles in PyTorch's files. Nothing that a file names is imported, made or called.

Python's own unpickler is not used: even with a safe `find_class` a short file makes it allocate
gigabytes (an index of its memo) or hash for ever (nested tuples as keys of a dictionary). This is a
small machine for the instructions that `torch.save` writes, in which an object is a note of what
the file says. An instruction makes one object at most, moves each reference once, and copies no
more bytes than it occupies: time and memory are proportional to the size of the pickle.
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
"""Instructions in the pickles of a file. The largest published networks have some 50,000."""

MAX_NAME = 1024
"""Characters in a name: a key of a dictionary, or a class with its module."""

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
"""PyTorch's names of what a storage can hold, and the usual ones."""

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
"""Bytes of each."""


@dataclasses.dataclass(frozen=True, slots=True)
class Global:
  """A class or a function that a file names."""

  module: str
  name: str

  @property
  def full_name(self) -> str:
    """With its module."""
    return f'{self.module}.{self.name}'

  def __str__(self) -> str:
    return show(self.full_name)


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
  """Values that lie in the file, `size` of them, under a key."""

  dtype: str
  key: str
  size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
  """A view of a storage, within its bounds; offset and strides count values."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


@dataclasses.dataclass(eq=False, slots=True)
class Instance:
  """An object of a class that the file names: attributes, where it has any, and no behaviour."""

  cls: Global
  state: dict[Any, Any] = dataclasses.field(default_factory=dict)


class Unpickler:
  """Reads one pickle after another from `data`."""

  def __init__(self, data: bytes, persistent_load: Callable[[tuple], Any]):
    """Starts at the first byte.

    Args:
      data: the pickles, and what comes after them.
      persistent_load: turns the tuple by which a pickle names something outside of it into that.
    """
    self.position = 0
    self._data = data
    self._persistent_load = persistent_load
    self._steps = 0

  def load(self) -> Any:
    """The object of the next pickle, and `position` moves behind it.

    Numbers, strings, bytes, None, lists, tuples and dicts (OrderedDicts too) are Python's; sets are
    lists. All else is a `Global`, a `Storage`, a `Tensor` or an `Instance`. Any of it can be
    shared, cyclic, and nested to any depth.

    Raises:
      UserError: if the pickle is damaged, too long, or has what no checkpoint needs.
    """
    self._stack: list[Any] = []
    self._marks: list[int] = []
    self._memo: dict[int, Any] = {}
    while (code := self._take(1)) != pickle.STOP:
      self.spend(1)
      action = _ACTIONS.get(code)
      if action is None:
        raise UserError(f'there is an instruction that torch.save never writes: {code!r}')
      action(self)
    return self._pop()

  def spend(self, steps: int) -> None:
    """Counts work, and raises `UserError` when it gets too much."""
    self._steps += steps
    if self._steps > MAX_STEPS:
      raise UserError(f'more than {MAX_STEPS:,} instructions: more than any network needs')

  def _take(self, size: int) -> bytes:
    end = self.position + size
    if end > len(self._data):
      raise UserError('it ends too early, or claims more than it has: damaged')
    taken = self._data[self.position : end]
    self.position = end
    return taken

  def _take_number(self, layout: str) -> Any:
    return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

  def _take_line(self) -> bytes:
    end = self._data.find(b'\n', self.position, self.position + MAX_NAME)
    if end < 0:
      raise UserError('a name does not end: damaged')
    line = self._take(end - self.position)
    self.position += 1
    return line

  def _push(self, value: Any) -> None:
    self._stack.append(value)

  def _pop(self) -> Any:
    if not self._stack:
      raise _damaged()
    return self._stack.pop()

  def _top(self) -> Any:
    if not self._stack:
      raise _damaged()
    return self._stack[-1]

  def _pop_mark(self) -> list[Any]:
    if not self._marks:
      raise _damaged()
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
    """Text if it can be that: in Python 2 a string is bytes."""
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
    line = self._take_line()  # Python 2's way for numbers of more than 32 bits
    if len(line) > 20 or not line.removeprefix(b'-').isdigit():
      raise _damaged()
    self._push(int(line))

  def _take_protocol(self) -> None:
    protocol = self._take_number('B')
    if not 2 <= protocol <= 5:
      raise UserError(f'pickle protocol {protocol} is none of 2 to 5')

  def _append(self, items: list[Any]) -> None:
    target = self._top()
    if type(target) is list:
      target.extend(items)
    elif type(target) is not Instance:
      raise _damaged()

  def _set_items(self, items: list[Any]) -> None:
    target = self._top()
    if len(items) % 2:
      raise _damaged()
    if type(target) is dict:
      for key, value in zip(items[::2], items[1::2], strict=True):
        target[_check_key(key)] = value
    elif type(target) is not Instance:
      raise _damaged()

  def _get(self, index: int) -> None:
    if index not in self._memo:
      raise _damaged()
    self._push(self._memo[index])

  def _put(self, index: int) -> None:
    self._memo[index] = self._top()

  def _take_global(self) -> None:
    self._push(_make_global(_decode(self._take_line()), _decode(self._take_line())))

  def _pop_global(self) -> None:
    name, module = self._pop(), self._pop()
    if type(name) is not str or type(module) is not str:
      raise _damaged()
    self._push(_make_global(module, name))

  def _reduce(self) -> None:
    args, function = self._pop(), self._pop()
    if type(function) is not Global or type(args) is not tuple:
      raise UserError('something is called that is no function: damaged')
    self._push(_call(function, args, self.spend))

  def _new_object(self) -> None:
    args, cls = self._pop(), self._pop()
    if type(cls) is not Global or type(args) is not tuple:
      raise UserError('an object is made of something that is no class: damaged')
    self._push(_call(cls, args, self.spend) if cls.full_name in _CALLS else Instance(cls))

  def _build(self) -> None:
    """Attributes of an object. Those of a dict or a tensor, as `_metadata`, serve for nothing."""
    state, target = self._pop(), self._top()
    if type(target) is Instance:
      if type(state) is dict:
        target.state = state
    elif type(target) not in (dict, Tensor):
      raise UserError('attributes are set on something that has none: damaged')

  def _persistent(self) -> None:
    self._push(self._persistent_load(self._pop()))


def show(name: str) -> str:
  """A name of a file for a message: printable and not too long."""
  return printable(name if len(name) <= 100 else f'{name[:97]}...')


def _decode(raw: bytes) -> str:
  try:
    return raw.decode('utf-8')
  except UnicodeDecodeError as error:
    raise UserError('a text is no UTF-8: damaged') from error


def _damaged() -> UserError:
  return UserError('its instructions do not fit together: damaged')


def _check_key(key: Any) -> Any:
  """A key of a dictionary: hashing and comparing it is cheap, whatever the file says."""
  short = type(key) in (str, bytes) and len(key) <= MAX_NAME
  number = type(key) is int and abs(key) < 2**64
  if not (short or number or key is None or type(key) in (bool, float, Global)):
    raise UserError(
      f'a dictionary has a key that is neither a number nor a name of up to {MAX_NAME} characters'
    )
  return key


def _make_global(module: str, name: str) -> Global:
  """Whatever a file names is only ever a note; these checks tell what cannot be of a network."""
  if len(module) + len(name) > MAX_NAME:
    raise UserError(f'a class has a name of more than {MAX_NAME} characters')
  found = Global(module, name)
  package = module.partition('.')[0]
  standard = package in sys.stdlib_module_names or package in ('__builtin__', 'copy_reg')
  if standard and found.full_name not in _STANDARD:
    raise UserError(f'it names {found}, which no network needs; nothing of it was run')
  return found


def _call(function: Global, args: tuple, spend: Callable[[int], None]) -> Any:
  """What a known function or class would return; of most, nothing but the name is kept."""
  name = function.full_name
  if name in _CALLS:
    return _CALLS[name](args, spend)
  if name in _INERT:
    return Instance(function)
  raise UserError(
    f'it calls {function}, which is not known here and was not run. If you trust the file, load it '
    'with PyTorch and save model.state_dict()'
  )


def _ordered_dict(args: tuple, spend: Callable[[int], None]) -> dict[Any, Any]:
  pairs = args[0] if args else []  # Python 2 writes them here, as lists
  if len(args) > 1 or type(pairs) is not list:
    raise _damaged()
  spend(len(pairs))
  if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
    raise _damaged()
  return {_check_key(key): value for key, value in pairs}


def _set(args: tuple, spend: Callable[[int], None]) -> list[Any]:
  items = args[0] if args else []
  if len(args) > 1 or type(items) is not list:
    raise _damaged()
  return items


def _tensor(args: tuple, spend: Callable[[int], None]) -> Tensor:
  """`_rebuild_tensor(storage, offset, size, stride)`; `_v2` adds gradient, hooks, metadata."""
  if not 4 <= len(args) <= 7:
    raise _damaged()
  storage, offset, shape, strides = args[:4]
  if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
    raise _damaged()
  spend(len(shape))
  if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
    raise UserError(f'a tensor has {len(shape)} dimensions and {len(strides)} strides')
  if not all(type(n) is int and 0 <= n < 2**62 for n in (offset, *shape, *strides)):
    raise UserError('a tensor has a negative or absurd size, offset or stride')
  if len(args) == 7 and args[6]:
    raise UserError('a tensor is stored negated or conjugated, which is not read here')
  steps = [(n - 1, stride) for n, stride in zip(shape, strides, strict=True)]
  if 0 not in shape:  # otherwise it has no values, wherever it lies
    if any(count > 0 and stride == 0 for count, stride in steps):
      raise UserError('a tensor repeats its values (a stride of 0), which no weights do')
    if offset + sum(count * stride for count, stride in steps) >= storage.size:
      raise UserError(f'a tensor reaches beyond its storage of {storage.size} values')
  if math.prod(n or 1 for n in shape) > 2**40:
    raise UserError('a tensor has an absurd size')
  return Tensor(storage, offset, shape, strides)


def _parameter(args: tuple, spend: Callable[[int], None]) -> Tensor:
  """A tensor that comes wrapped: `nn.Parameter(tensor, ...)`."""
  if not args or type(args[0]) is not Tensor:
    raise _damaged()
  return args[0]


def _typed_tensor(args: tuple, spend: Callable[[int], None]) -> Tensor:
  """`_rebuild_from_type_v2(function, class, args, state)`: a tensor with attributes."""
  if len(args) != 4 or type(args[0]) is not Global or type(args[2]) is not tuple:
    raise _damaged()
  if args[0].full_name not in _TENSORS:
    raise _damaged()
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

# Values beside the weights in files that people share: scores, arrays, settings, paths, dates.
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

# All that may be named of Python's own; of other packages any class, as only its name is kept.
_STANDARD = {
  *_CALLS,
  *_INERT,
  *(f'{module}.{name}' for module in ('builtins', '__builtin__') for name in _TYPES),
  'argparse.Namespace',
  'types.SimpleNamespace',
}

_Action = Callable[[Unpickler], None]

# fmt: off
_ACTIONS: dict[bytes, _Action] = {
  pickle.PROTO: Unpickler._take_protocol,
  pickle.FRAME: lambda self: self._take(8),  # a hint for reading ahead
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
