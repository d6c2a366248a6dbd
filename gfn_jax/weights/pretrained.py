"""Trained weights: a safetensors file that names its network, with a model card beside it.

Released weights are files of the package's folder `weights/` and are found by name. Weights of
others are folders in the layout of model hubs, or addresses of such folders on a hub.

A file from outside is checked in this order: its hash, the options and the layers of its network,
the names and shapes of its tensors. Only then are tensors read.
"""

import contextlib
import dataclasses
import glob
import hashlib
import json
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from gfn_jax.errors import UserError
from gfn_jax.models import RestorationModel, create_model, list_models, param_count
from gfn_jax.system.files import (
  check_new_file,
  file_sha256,
  is_file,
  is_folder,
  local_copy,
  printable,
  remove,
  write_aside,
  write_json,
)
from gfn_jax.weights import hub
from gfn_jax.weights.cards import CARD_FORMAT, HUB_WEIGHTS, card_path, find_card, read_card
from gfn_jax.weights.model_options import build_model
from gfn_jax.weights.tensors import (
  find_mismatch,
  find_shape_mismatch,
  flatten_variables,
  unflatten_variables,
)

Variables = Mapping[str, Any]
"""Flax's dictionary of collections: `params` and maybe `batch_stats`."""

RELEASED_DIR = os.path.dirname(os.path.abspath(__file__))
"""The folder of the released weights."""

WEIGHTS_FILE = 'weights.safetensors'
"""The newest weights in the folder of a training run."""

DTYPES = {'float32': 'F32', 'bfloat16': 'BF16', 'float16': 'F16'}
"""The types that a file can hold, and their names in its header."""

MAX_HEADER = 2**16
"""Limit on the characters of the network's name and options in a header."""


def list_pretrained() -> list[str]:
  """Return the names of the released weights, sorted, as `load_pretrained` takes them."""
  files = glob.glob('*.safetensors', root_dir=RELEASED_DIR)
  return sorted(file.removesuffix('.safetensors') for file in files)


def load_pretrained(path_or_name: str | os.PathLike) -> tuple[RestorationModel, Variables]:
  """Load trained weights from a file of `save_weights`, or released ones by name.

  The file's hash and network are compared with its card. A file without a card is accepted, unless
  it is a released one. Nothing in a file is executed.

  Args:
    path_or_name: a .safetensors file, the folder of a run, or a folder in the layout of model
      hubs, local or remote (`gs://...`); one of `list_pretrained()`; or weights on a hub,
      `hf://OWNER/NAME` or `hf://OWNER/NAME@REVISION`.

  Returns:
    The network and its variables, float32.

  Raises:
    UserError: if there is no such file or name, the file is damaged or not one of this library, or
      its tensors do not fit its network, are not finite or not all of one type.
  """
  with _open(path_or_name) as file:
    model, variables = _build_named(file.model_config, file.path)
    tensors = _read_checked(file, flatten_variables(variables), model)
  return model, unflatten_variables(tensors)


def load_model_config(path_or_name: str | os.PathLike) -> dict[str, Any]:
  """Return the `name` and the options of a weights file's network, from its header.

  Raises:
    UserError: if there is no such file or name, or it is damaged or not one of this library.
  """
  with _open(path_or_name) as file:
    return file.model_config


def load_card(path_or_name: str | os.PathLike) -> dict[str, Any]:
  """Return the card of weights: `model`, `config`, `data` with its `licence`, `scores`, `sha256`.

  Raises:
    UserError: if there are no such weights, or they have no card.
  """
  path = weights_path(path_or_name)
  card = _read_card(path)
  if card is None:
    raise UserError(f'{printable(path)} has no model card: no file {printable(find_card(path))}')
  return card


def weights_path(path_or_name: str | os.PathLike) -> str:
  """Return the path of a weights file.

  Args:
    path_or_name: the path itself, the folder of a training run or of a hub's layout, or the name
      of released weights, which comes before a folder of that name. `hf://OWNER/NAME` is
      downloaded, or found in the cache of huggingface_hub.

  Raises:
    UserError: if there is no such file or name, or as `hub.fetch`.
  """
  path = os.fspath(path_or_name)
  if path.startswith(hub.SCHEME):
    path = hub.fetch(path)
  if is_file(path) and not is_folder(path):
    return path
  names = list_pretrained()
  if path in names:
    return os.path.join(RELEASED_DIR, f'{path}.safetensors')
  if is_folder(path):
    for name in (WEIGHTS_FILE, HUB_WEIGHTS):
      if is_file(file := os.path.join(path, name)):
        return file
    raise UserError(
      f'no weights in the folder {printable(path)}: neither {WEIGHTS_FILE} nor {HUB_WEIGHTS} is '
      'there; pass the folder of a training run or of a hub, or a .safetensors file (gfn-import '
      'converts weights of other libraries)'
    )
  if is_file(f'{path}.index'):
    raise _foreign(path, 'a checkpoint of TensorFlow')
  if path.endswith('.safetensors') or os.path.basename(path) != path:
    raise UserError(
      f'no weights at {printable(path)}: train a network with gfn-train, which writes '
      'WORKDIR/weights.safetensors, and pass that file'
    )
  choice = f'choose from {", ".join(names)}, or pass' if names else 'pass'
  raise UserError(f'no released weights are named {path!r}; {choice} a .safetensors file')


def check_new_weights(path: str | os.PathLike, overwrite: bool) -> None:
  """Raise, before long work, if `save_weights` cannot write to a path.

  Raises:
    UserError: as `check_new_file`, also for the card's file, or for another extension.
  """
  if not os.fspath(path).endswith('.safetensors'):
    raise UserError(f'{printable(path)}: the name of a weights file must end in .safetensors')
  check_new_file(path, overwrite)
  check_new_file(card_path(path), overwrite)


def save_weights(
  path: str | os.PathLike,
  variables: Variables,
  model_config: Mapping[str, Any],
  card: Mapping[str, Any],
  dtype: str = 'float32',
) -> None:
  """Write a weights file and its card, which has the suffix .json instead of .safetensors.

  Args:
    path: file that ends in .safetensors; may be in a bucket, `gs://...`.
    variables: the network's variables.
    model_config: `name` and the options of `create_model`, values that JSON can hold.
    card: description for users: `step`, `config`, `data`, `scores`. The file's `model`, `dtype`,
      `parameters` and `sha256` are added.
    dtype: type of the stored parameters, a key of `DTYPES`.

  Raises:
    UserError: for an unknown type, or naming a tensor that is not finite in that type.
  """
  if dtype not in DTYPES:
    raise UserError(f'unknown dtype {dtype!r}; choose from {", ".join(DTYPES)}')
  path = os.fspath(path)
  flat = flatten_variables(variables)
  tensors = {key: _cast(key, value, dtype) for key, value in flat.items()}
  # One entry only: safetensors writes several in a random order, and the hash would change.
  metadata = {'model': json.dumps(dict(model_config), sort_keys=True)}
  content = safetensors.numpy.save(tensors, metadata)
  facts = {'format_version': CARD_FORMAT, 'model': dict(model_config), 'dtype': dtype}
  facts['parameters'] = param_count(variables)
  facts['sha256'] = hashlib.sha256(content).hexdigest()
  facts = facts | dict(card) | facts  # listed first, and not overridden by a card of other weights
  json.dumps(facts)  # fails, if it does, before anything is written
  # The old card is removed before the file is replaced: a run that is killed between the two leaves
  # a file without a card, not one that its card contradicts.
  with write_aside(path) as temporary:
    with open(temporary, 'wb') as file:
      file.write(content)
    remove(card_path(path))
  write_json(card_path(path), facts)


def init_variables_from(
  path_or_name: str | os.PathLike,
  model: RestorationModel,
  variables: Variables,
  exceptions: Sequence[str] = (),
) -> Variables:
  """Return initial variables taken from trained weights, whose network may have other options.

  Args:
    path_or_name: as for `load_pretrained`.
    model: the network to initialise.
    variables: its initial variables.
    exceptions: modules or parameters that need not fit, such as 'gate' or 'reconstruction.conv4'.
      A parameter there keeps its value in `variables` if the file lacks it or has another shape;
      a tensor there that the network lacks is ignored.

  Returns:
    The variables, float32.

  Raises:
    UserError: as `load_pretrained`, if the tensors do not fit the network outside the exceptions,
      or if an exception is found in neither.
  """
  initial = flatten_variables(variables)
  with _open(path_or_name) as file:
    free = set()
    for prefix in exceptions:
      names = initial.keys() | file.shapes.keys()
      found = {key for key in names if f'{key}.'.startswith(f'{prefix}.')}
      if not found:
        raise UserError(
          f'neither {type(model).__name__} nor {printable(file.path)} has a module or parameter '
          f'{prefix!r}'
        )
      free |= found
    free -= {
      key for key in initial.keys() & file.shapes.keys() if initial[key].shape == file.shapes[key]
    }
    taken = _read_checked(file, initial, model, free)
  start = {key: jnp.asarray(value, jnp.float32) for key, value in (initial | taken).items()}
  return unflatten_variables(start)


def convert_weights(
  source: str | os.PathLike,
  path: str | os.PathLike,
  dtype: str,
  changes: Mapping[str, Any] | None = None,
) -> None:
  """Write weights as another type, such as the weights of a run for a release.

  The card gets `reference`: the network's `reference_output` with the stored weights.

  Args:
    source: as for `load_pretrained`, with a card.
    path: the new file, which ends in .safetensors.
    dtype: a key of `DTYPES`.
    changes: entries of the card to add or to replace.

  Raises:
    UserError: as `load_pretrained` and `save_weights`, or if `source` has no card.
  """
  _, variables = load_pretrained(source)
  card = load_card(source) | dict(changes or {})
  stored = {key: _cast(key, value, dtype) for key, value in flatten_variables(variables).items()}
  stored = {key: value.astype(np.float32) for key, value in stored.items()}
  model = create_model(**card['model'])  # the new card's, which may compute in another type
  card['reference'] = reference_output(model, unflatten_variables(stored))
  save_weights(path, variables, card['model'], card, dtype)


def reference_input() -> np.ndarray:
  """Return a fixed image, `[1, 32, 32, 3]` float32 in [0, 1]: waves of several lengths."""
  y, x, c = np.mgrid[:32, :32, :3]
  return (0.5 + 0.5 * np.sin(0.05 * y * x / (c + 1) + 0.7 * c))[None].astype(np.float32)


def reference_output(model: RestorationModel, variables: Variables) -> list[float]:
  """Return 48 values of a network's output for `reference_input`, rounded to 5 decimals."""
  output = jax.jit(model.apply)(variables, reference_input())
  image = np.asarray(output.lr if output.hr is None else output.hr)[0]
  step = image.shape[0] // 4
  return [round(float(value), 5) for value in image[step // 2 :: step, step // 3 :: step].ravel()]


def _cast(key: str, value: jax.typing.ArrayLike, dtype: str) -> np.ndarray:
  with np.errstate(over='ignore'):  # reported below, with the tensor's name
    tensor = np.asarray(value, jnp.dtype(dtype), order='C')
  if not np.isfinite(tensor).all():
    raise UserError(f'{key} has values that are not finite as {dtype}; no weights are written')
  return tensor


def _read_card(path: str) -> dict[str, Any] | None:
  """Return the card of a weights file, or None if there is none; released ones must have one."""
  card = read_card(path)
  if card is None and os.path.dirname(path) == RELEASED_DIR:
    raise UserError(f'cannot read {card_path(path)}: no such file; install gfn_jax again')
  return card


@dataclasses.dataclass
class _OpenFile:
  """Weights file whose tensors are not read yet.

  Attributes:
    path: its path.
    model_config: the network that its header names, unchecked.
    shapes: shape of each tensor to read, by name.
    read: function that returns a tensor by name, as float32.
  """

  path: str
  model_config: Any
  shapes: dict[str, tuple[int, ...]]
  read: Callable[[str], np.ndarray]


@contextlib.contextmanager
def _open(path_or_name: str | os.PathLike) -> Iterator[_OpenFile]:
  """Open a weights file whose hash, types and network agree with its card, if there is one."""
  path = weights_path(path_or_name)
  name, card_name = printable(path), printable(find_card(path))
  with local_copy(path) as copy:
    if _is_pickle(copy):  # before a .json beside it is taken for its card
      raise _foreign(path, 'a PyTorch checkpoint')
    card = _read_card(path)
    if card and card['sha256'] != file_sha256(copy):
      raise UserError(
        f'{name} is damaged: its SHA-256 is not the one in {card_name}; copy both again'
      )
    try:
      with safetensors.safe_open(copy, framework='numpy') as tensors:
        file = _open_tensors(tensors, path)
        if card and card['model'] != file.model_config:
          raise UserError(f'{name} and {card_name} name different networks; copy both again')
        yield file
    except (safetensors.SafetensorError, OSError) as error:
      raise UserError(f'cannot read {name} as safetensors: {error}') from error


def _open_tensors(tensors: safetensors.safe_open, path: str) -> _OpenFile:
  """Return the file at `path`, whose open local copy is `tensors`."""
  text = (tensors.metadata() or {}).get('model')
  if text is None or len(text) > MAX_HEADER:  # before its types are refused
    raise _unnamed_network(path)
  slices = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118 (no mapping)
  types = {part.get_dtype() for part in slices.values()}
  if len(types) > 1 or not types <= set(DTYPES.values()):
    raise UserError(
      f'cannot read {printable(path)}: tensors of type {", ".join(sorted(types))}; all must have '
      f'the same type, one of {", ".join(DTYPES.values())}'
    )
  try:
    model_config = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise _unnamed_network(path) from error
  shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
  read = lambda key: tensors.get_tensor(key).astype(np.float32, copy=False)
  return _OpenFile(path, model_config, shapes, read)


def _read_checked(
  file: _OpenFile,
  wanted: Mapping[str, Any],
  model: RestorationModel,
  free: Collection[str] = (),
) -> dict[str, np.ndarray]:
  """Return the tensors of a file, after names and shapes are compared with those of `wanted`.

  Tensors named in `free` are neither compared nor read.
  """
  found = {name: shape for name, shape in file.shapes.items() if name not in free}
  shapes = {name: leaf.shape for name, leaf in wanted.items() if name not in free}
  mismatch = find_shape_mismatch(found, shapes)
  if not mismatch:
    tensors = {name: file.read(name) for name in found}
    mismatch = find_mismatch(tensors, shapes)
  if mismatch:
    raise UserError(f'{printable(file.path)} does not fit {type(model).__name__}: {mismatch}')
  return tensors


def _build_named(model_config: Any, path: str) -> tuple[RestorationModel, Variables]:
  """Return `build_model` of the header of a file."""
  if not isinstance(model_config, dict) or not isinstance(model_config.get('name'), str):
    raise _unnamed_network(path)
  try:
    return build_model(**model_config)
  except UserError as error:
    own = model_config['name'] not in list_models()
    hint = '; register a network of your own first (docs/own_network.md)' if own else ''
    raise UserError(f'{printable(path)}: {error}{hint}') from error


def _unnamed_network(path: str) -> UserError:
  return _foreign(path, 'a safetensors file whose header does not name a model of gfn_jax')


def _foreign(path: str, kind: str) -> UserError:
  """Return the error for weights of another library, with the command that converts them."""
  new = os.path.splitext(path)[0] + '_imported.safetensors'
  command = shlex.join(['gfn-import', path, new, '--model', 'NAME'])
  return UserError(f'{printable(path)} is {kind}; convert it first: {printable(command)}')


def _is_pickle(copy: str) -> bool:
  """Return True if a file begins as one of `torch.save`: with PK, or the protocol of a pickle."""
  with open(copy, 'rb') as file:
    start = file.read(9)
  return start.startswith((b'PK\x03\x04', b'\x80')) and start[8:] != b'{'  # of safetensors
