"""Records of what made a result, so that a result of other weights does not pass as finished.

The record of `DIR/NAME` is a file in the hidden folder `DIR/.gfn_restore`. Every result has a file
of its own, so several processes never write the same one, and buckets work as folders do.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from gfn_jax.errors import UserError
from gfn_jax.restoration.dtypes import INTERCHANGEABLE
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system.files import (
  exists,
  file_sha256,
  make_folder,
  printable,
  read_file,
  remove,
  write_json,
)
from gfn_jax.weights.pretrained import weights_path

FOLDER = '.gfn_restore'


def settings_of(
  restorer: Restorer, weights: str | os.PathLike, any_dtype: bool = False
) -> dict[str, Any]:
  """Return the settings that a restorer's results depend on, in types of JSON.

  Args:
    restorer: the restorer, before its first image.
    weights: path or name of its weights.
    any_dtype: True if results in each of `INTERCHANGEABLE` types count as finished, so that
      another machine, which chooses another type, can continue. Their records have the type.
  """
  settings = {
    'weights': file_sha256(weights_path(weights)),
    'output': restorer.output,
    'ensemble': restorer.ensemble,
    'dtype': list(INTERCHANGEABLE) if any_dtype else restorer.dtype_8bit,
    'overlap': restorer.overlap,
  }
  if restorer.blur is not None:
    settings['blur'] = restorer.blur
  if not restorer.model.local:  # otherwise tiles of all sizes give the same result
    settings['tile'] = restorer.tile
  return settings


def is_result(path: str | os.PathLike) -> bool:
  """Return True if a file has a record of what made it."""
  return _read(_path(path)) is not None


def check_result(target: str | os.PathLike, settings: Mapping[str, Any]) -> None:
  """Raise unless an existing result was made with these settings.

  Args:
    target: the result.
    settings: the settings, as `recording` takes them.

  Raises:
    UserError: naming the settings that differ.
  """
  made = _read(_path(target))
  if made is None:
    raise UserError(
      f'{printable(target)} exists, and has no record of what made it; --overwrite replaces it'
    )
  keys = [key for key in {**settings, **made} if not _fits(made.get(key), settings.get(key))]
  if keys:
    raise UserError(
      f'{printable(target)} exists, from other settings ({", ".join(keys)}); --overwrite replaces '
      'it'
    )


def _fits(made: Any, wanted: Any) -> bool:
  """Return True if a recorded value is the wanted one, or one of a list of them."""
  return made in wanted if isinstance(wanted, list) else made == wanted


@contextlib.contextmanager
def recording(target: str | os.PathLike, settings: Mapping[str, Any]) -> Iterator[None]:
  """Record the settings of a result that is written in the context.

  A new result is recorded before it is written, and an existing one after it is replaced. So a
  process that is killed at any moment leaves no result with the record of another one.

  Args:
    target: the result.
    settings: what it depends on, in types of JSON.
  """
  path, replaced = _path(target), exists(target)
  try:
    if replaced:
      _remove(path)
    else:
      _write(path, settings)
    yield
  except BaseException:  # Ctrl-C too
    if not replaced:
      _remove(path)
    raise
  if replaced:
    _write(path, settings)


def _path(target: str | os.PathLike) -> str:
  folder, name = os.path.split(os.fspath(target))
  digest = hashlib.sha256(os.fsencode(name)).hexdigest()  # of bounded length
  return os.path.join(folder, FOLDER, f'{digest[:32]}.json')


def _read(path: str) -> dict[str, Any] | None:
  try:
    value = json.loads(read_file(path))
  except (FileNotFoundError, ValueError, RecursionError):
    return None
  return value if isinstance(value, dict) else None


def _write(path: str, settings: Mapping[str, Any]) -> None:
  for last in (False, True):
    make_folder(os.path.dirname(path))
    try:
      return write_json(path, dict(settings))
    except FileNotFoundError:  # another process has removed the folder, which was still empty
      if last:
        raise


def _remove(path: str) -> None:
  remove(path)
  with contextlib.suppress(OSError):  # holds other records, is missing, or in a bucket
    os.rmdir(os.path.dirname(path))
