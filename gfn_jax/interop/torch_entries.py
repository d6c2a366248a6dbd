"""Choice of the weights among the entries of a checkpoint.

A checkpoint may hold several sets of weights: averaged ones beside raw ones, a discriminator beside
a generator. They are entries of nested dictionaries, or one state dict has them all and their names
begin with different modules. Averaged weights are preferred; other choices need a key.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gfn_jax.errors import UserError
from gfn_jax.interop.torch_pickle import MAX_NAME, MAX_STEPS, Instance, Tensor, show

HOLDERS = (
  'params',
  'state_dict',
  'model_state_dict',
  'model',
  'net',
  'G',
  'generator',
)
"""Keys under which a checkpoint usually holds weights."""

WRAPPERS = ('module.', '_orig_mod.')
"""Prefixes that DataParallel, AveragedModel and `torch.compile` add to all names."""

COUNTERS = frozenset({'n_averaged', 'num_batches_tracked', 'total_ops', 'total_params'})
"""Last parts of the names of tensors that AveragedModel, normalisation and profilers add."""

MAX_TENSORS = 20_000
MAX_DEPTH = 64
"""Limit on the nesting of modules."""

MAX_ENTRIES = 100
_SHOWN = 8  # names that a message lists
_MAX_KEYS = 3  # of nested dictionaries, such as callbacks, EMA, state_dict

_AVERAGED = re.compile(
  r'(?i:(?<![a-z])(?:ema|swa|averaged?|polyak|shadow)(?![a-z]))|(?<=[a-z])E(?:MA|ma)(?![a-z])'
)
_TRAINING = re.compile(r'(?i)optim|sched|scaler|momentum')  # training state that is not read


@dataclasses.dataclass(frozen=True)
class Entry:
  """Weights in a checkpoint.

  Attributes:
    label: keys and prefix under which the checkpoint holds them, such as 'state_dict.model_ema'.
      Empty for all of its tensors.
    tensors: records with a `shape` by their names, without the prefix.
    outside: tensors of the same state dict that lack the prefix.
  """

  label: str
  tensors: Mapping[str, Any]
  outside: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def averaged(self) -> bool:
    """True if the label names averaged weights."""
    return _AVERAGED.search(self.label) is not None


Locate = Callable[[Mapping[str, Any]], list[str]]
"""Function from the tensors of a state dict to the prefixes of a network's names in it."""


def is_counter(name: str) -> bool:
  """Return True for a tensor that counts something and is not a weight."""
  return name.rpartition('.')[2] in COUNTERS


def choose_entry(
  value: Any, key: str | None = None, locate: Locate | None = None
) -> tuple[Entry, tuple[str, ...]]:
  """Return the weights to read, and the labels of the others.

  Args:
    value: the object in a file, as `Unpickler.load` returns it, or a dictionary of tensors.
    key: entry or prefix to read. None prefers averaged weights, then `HOLDERS`.
    locate: returns where the network's tensors are. None accepts those of any network.

  Raises:
    UserError: if there are no weights, or the choice is not clear.
  """
  wanted, path = key, ''
  if wanted is not None and type(value) is dict and wanted in value:
    value, path, wanted = value[wanted], wanted, None
  entries, unnamed = list_entries(value, path)
  if not entries:
    raise _no_weights(value, path, wanted)
  found = _locate_all(entries, locate) if locate else []
  fitting = found or entries
  pool = fitting if wanted is None else _named(fitting, entries, wanted)
  chosen = _choose(pool)
  if key is None and not chosen.averaged:
    _check_unread(chosen, entries, found, unnamed)
  others = tuple(entry.label for entry in fitting if entry is not chosen)
  return (chosen if found else _unwrap(chosen)), others


def _locate_all(entries: list[Entry], locate: Locate) -> list[Entry]:
  """Return the parts of state dicts that hold the network's tensors."""
  prefixes = [locate(entry.tensors) for entry in entries]
  if sum(map(len, prefixes)) > MAX_ENTRIES:
    raise UserError(f'more than {MAX_ENTRIES} copies of the network; choose one with key')
  return [
    part for entry, found in zip(entries, prefixes, strict=True) for part in _split(entry, found)
  ]


def list_entries(value: Any, path: str = '') -> tuple[list[Entry], list[str]]:
  """Return all state dicts and modules in an object, and labels of averaged lists without names.

  Training state is left out.

  Raises:
    UserError: if there are too many.
  """
  entries: list[Entry] = []
  unnamed: list[str] = []
  visits = 0  # one object may be the value of many keys

  def visit(value: Any, label: str, depth: int) -> None:
    nonlocal visits
    visits += 1 + (0 if type(value) is Instance else len(value))
    if visits > MAX_STEPS or len(entries) > MAX_ENTRIES:
      raise UserError(f'more than {MAX_ENTRIES} entries; choose one with key')
    if type(value) in (list, tuple):
      if _AVERAGED.search(label) and any(type(item) is Tensor for item in value):
        unnamed.append(label)
      return
    children: Mapping[Any, Any] = {}
    if type(value) is Instance and '_modules' in value.state:
      visits += MAX_TENSORS  # the parts that a module may have
      tensors: Mapping[str, Any] = _module_tensors(value)
    else:
      children = value.state if type(value) is Instance else value
      tensors = {  # optimisers number their tensors
        name: item for name, item in children.items() if _is_tensor(item) and type(name) is str
      }
    if len(tensors) > MAX_TENSORS:
      raise UserError(f'more than {MAX_TENSORS:,} tensors')
    if tensors:
      entries.append(Entry(label, tensors))
    if depth < _MAX_KEYS:
      for name, child in children.items():
        held = type(name) is str and type(child) in (dict, Instance, list, tuple)
        if held and not _TRAINING.search(name):
          visit(child, f'{label}.{name}'.removeprefix('.'), depth + 1)

  if type(value) in (dict, Instance):
    visit(value, path, 0)
  return entries, unnamed


def _is_tensor(value: Any) -> bool:
  return hasattr(value, 'shape') and type(value) is not Instance


def _split(entry: Entry, prefixes: list[str]) -> Iterator[Entry]:
  """Yield the part of a state dict under each prefix."""
  by_prefix: dict[str, dict[str, Any]] = {prefix: {} for prefix in prefixes}
  outside = {}
  longest_first = sorted(prefixes, key=len, reverse=True)
  for name, tensor in entry.tensors.items():
    for prefix in longest_first:
      if name.startswith(prefix):
        by_prefix[prefix][name.removeprefix(prefix)] = tensor
        break
    else:
      outside[name] = tensor
  for prefix, tensors in by_prefix.items():
    yield Entry(_join(entry.label, prefix), tensors, outside)


def _unwrap(entry: Entry) -> Entry:
  """Remove prefixes of `WRAPPERS` that all names share."""
  tensors = entry.tensors
  while wrapper := next((w for w in WRAPPERS if _is_wrapped(tensors, w)), None):
    tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
  return dataclasses.replace(entry, tensors=tensors)


def _is_wrapped(tensors: Mapping[str, Any], wrapper: str) -> bool:
  names = [name for name in tensors if not is_counter(name)]
  return bool(names) and all(name.startswith(wrapper) for name in names)


def _join(label: str, prefix: str) -> str:
  return '.'.join(part for part in (label, prefix.rstrip('.')) if part)


def _named(fitting: list[Entry], entries: list[Entry], key: str) -> list[Entry]:
  """Return the entries that a key means: that label, those below it, or those that contain it.

  If there are none, the key is the first part of the names of tensors.
  """
  for means in (
    lambda label: label == key,
    lambda label: label.startswith(f'{key}.'),
    lambda label: f'.{key}.' in f'.{label}.',
  ):
    if found := [entry for entry in fitting if means(entry.label)]:
      return found
  prefix = f'{key}.'
  if found := [
    part
    for entry in entries
    if any(name.startswith(prefix) for name in entry.tensors)
    for part in _split(entry, [prefix])
  ]:
    return found
  raise UserError(f'no entry {show(key)}; the weights are {_labels(fitting)}')


def _choose(entries: list[Entry]) -> Entry:
  """Return the only averaged entry, else the only usual one, else the only one."""
  pool = [entry for entry in entries if entry.averaged]
  pool = pool or [entry for entry in entries if entry.label.rpartition('.')[2] in HOLDERS]
  pool = pool or entries
  if len(pool) > 1:
    raise UserError(f'several entries hold weights; choose an entry with key: {_labels(pool)}')
  return pool[0]


def _check_unread(
  chosen: Entry, entries: list[Entry], found: list[Entry], unnamed: list[str]
) -> None:
  """Raise `UserError` if averaged weights exist that cannot be read, so that others were chosen."""
  labels = list(unnamed)
  if found:
    fitting = {entry.label for entry in found}
    labels += [
      entry.label
      for entry in entries
      if entry.averaged
      and any(map(_is_weight, entry.tensors.values()))
      and not any(f'{label}.'.startswith(f'{entry.label}.') for label in fitting)
    ]
  outside = chosen.outside.items()
  labels += [
    name
    for name, tensor in outside
    if _AVERAGED.search(name) and _is_weight(tensor) and not is_counter(name)
  ]
  if labels:
    raise UserError(
      f'the averaged weights {show(labels[0])} do not have the names of the network; to take the '
      f'others, choose an entry with key: {_show_label(chosen.label)}'
    )


def _is_weight(tensor: Any) -> bool:
  return len(tensor.shape) > 0  # not a number, such as the decay of an average


def _no_weights(value: Any, path: str, key: str | None) -> UserError:
  if key is not None and type(value) is not dict:
    return UserError(f'no entry {show(key)}: the file does not hold a dictionary')
  place = f'in entry {show(path)}' if path else 'in the file'
  names = [show(name) for name in value if type(name) is str] if type(value) is dict else []
  hint = f'; its entries are {_shorten(names)}' if names else ''
  return UserError(f'no weights found {place}{hint}')


def _labels(entries: list[Entry]) -> str:
  """Return labels for a message, or names of tensors where the file has no entries."""
  if len(entries) == 1 and not entries[0].label:
    return _shorten([show(name) for name in entries[0].tensors])
  return _shorten([_show_label(entry.label) for entry in entries])


def _show_label(label: str) -> str:
  return show(label) or "''"  # as a shell takes it


def _shorten(names: list[str]) -> str:
  return ', '.join(names[:_SHOWN] + ['...'] * (len(names) > _SHOWN))


def _module_tensors(module: Instance) -> dict[str, Tensor]:
  """Return the parameters and buffers of a module and its submodules, by their dotted names."""
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
      raise UserError('modules are too many, too deeply nested, or cyclic')
    for name, tensor in (*parameters.items(), *buffers.items()):
      if tensor is None:
        continue  # such as a disabled bias
      if type(tensor) is not Tensor:
        raise UserError(f'{show(prefix + name)} is not a tensor')
      if prefix + name in tensors:
        raise UserError(f'two tensors are named {show(prefix + name)}')
      tensors[prefix + name] = tensor
    for name, child in reversed(children.items()):
      if child is None:
        continue
      if type(child) is not Instance or len(prefix) > MAX_NAME:
        raise UserError(f'{show(prefix + name)} is not a module')
      queue.append((f'{prefix}{name}.', depth + 1, child))
  return tensors


def _part(module: Instance, name: str) -> dict[str, Any]:
  part = module.state.get(name, {})
  if type(part) is not dict or not all(type(key) is str for key in part):
    raise UserError(f'corrupt pickle: invalid {name} of a module')
  return part
