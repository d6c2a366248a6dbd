"""Training checkpoints, written by Orbax and verified by a manifest. No other module uses Orbax.

A checkpoint is a folder, `checkpoints/<step>`:

    state/         the train state, written by Orbax
    run.json       the settings that the state depends on, its PSNR, and the loop's progress
    manifest.json  size and SHA-256 of all other files, written last

A checkpoint without a manifest is unfinished; one whose files differ from its manifest is damaged.
Orbax itself restores a flipped byte silently. Checkpoints in a bucket are copied to this machine
first, so that the verified files are the restored ones.

Not orbax.CheckpointManager: it counts an unverified checkpoint as the newest, and retention here
depends on verification and on the PSNR in `run.json`.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from gfn_jax.errors import UserError, first_line
from gfn_jax.system import parallel
from gfn_jax.system.files import (
  absolute,
  as_path,
  exists,
  file_sha256,
  folder_to_fill,
  local_folder,
  reaching,
  write_file,
)
from gfn_jax.training.train_state import TrainState


class Checkpointer:
  """Keeper of the newest checkpoints in `workdir/checkpoints`, and of the one of the best PSNR.

  Saves run in the background, one at a time; leaving the context waits for them. A failed save
  raises in the next call of any method, and does not change earlier checkpoints. Only the first
  process of a run reads and writes, and only it needs the folder.

  Args:
    workdir: the run's folder, a path or a `gs://` address.
    settings: JSON values that must be equal for a run to be continued.
    keep: number of checkpoints to keep beside the best one.
    accept: maps the settings of a checkpoint to those to compare, with permitted differences
      replaced.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    settings: Mapping[str, Any],
    keep: int = 3,
    accept: Callable[[dict[str, Any]], dict[str, Any]] = lambda saved: saved,
  ):
    self._accept = accept
    self._settings = json.loads(json.dumps(settings))  # as it is read back: tuples become lists
    self._folder = as_path(absolute(workdir)) / 'checkpoints'
    self._keep = keep
    self._damaged: set[int] = set()
    self._psnr: dict[int, float] = {}
    self._is_first = jax.process_index() == 0
    index = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
      primary_host=index, active_processes={index}, barrier_sync_key_prefix=f'process{index}'
    )
    self._orbax = ocp.Checkpointer(
      ocp.StandardCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone
    )
    self._executor = ThreadPoolExecutor(1, 'checkpoint')
    self._saving: tuple[int, Future] | None = None

  def __enter__(self) -> 'Checkpointer':
    return self

  def __exit__(self, error_type: type | None, *_) -> None:
    try:
      self.wait()
    except UserError:
      if error_type is None:  # otherwise the first error matters
        raise
    finally:
      self._executor.shutdown()

  def save(
    self, state: TrainState, progress: Mapping[str, Any] | None = None, psnr: float | None = None
  ) -> None:
    """Save a state under its step in the background, unless that step is saved already.

    Args:
      state: the train state, on any device.
      progress: JSON values that the loop needs to continue.
      psnr: PSNR of an evaluation of this state, if there was one.

    Raises:
      UserError: if the save before this one has failed.
    """
    self.wait()
    step = int(state.step)
    if not self._is_first or step in self._whole_steps():
      return
    state = jax.tree.map(np.array, jax.device_get(state))  # copies: the step reuses its buffers
    run = {'settings': self._settings, 'progress': dict(progress or {}), 'psnr': psnr}
    self._saving = step, self._executor.submit(self._write, step, state, json.dumps(run))

  def wait(self) -> None:
    """Wait until the last save is on the disk.

    Raises:
      UserError: if it could not be written.
    """
    if self._saving is None:
      return
    (step, saving), self._saving = self._saving, None
    try:
      saving.result()
    except Exception as error:
      newest = max(self._whole_steps(), default=None)
      left = 'no earlier one' if newest is None else f'the newest good one is {newest}'
      raise UserError(
        f'checkpoint {step} cannot be written to {self._folder}: {first_line(error)}; {left}'
      ) from error

  def check(self) -> None:
    """Raise as `wait` does if the last save has failed by now, without waiting for it."""
    if self._saving is not None and self._saving[1].done():
      self.wait()

  def restore(self, target: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
    """Return the newest whole checkpoint; say on stderr which newer ones are skipped, and why.

    Args:
      target: a state of the structure to restore, or its shapes.

    Returns:
      The state as NumPy arrays, wherever it was saved, and its `progress`; or None if nothing has
      been saved yet.

    Raises:
      UserError: if the checkpoint has other settings, all of which are named, or if there are
        checkpoints and none is whole.
    """
    self.wait()
    found, problem = None, None
    if self._is_first:
      try:
        found = self._restore(target)
      except UserError as error:
        problem = str(error)
    problem, progress = parallel.gather((problem, found and found[1]))[0]
    if problem is not None:
      raise UserError(problem)
    if progress is None:
      return None
    return parallel.from_first(found[0] if found else _empty(target)), progress

  def _restore(self, target: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
    for step in sorted(self._steps(), reverse=True):
      try:
        if not self._is_finished(step):
          raise _Damaged('is unfinished')
        with local_folder(self._folder / str(step)) as folder:
          _verify(Path(folder))
          return self._read(step, Path(folder), target)
      except _Damaged as problem:
        print(f'checkpoint {step} in {self._folder} {problem}: skipped', file=sys.stderr)
      if self._is_finished(step):
        self._damaged.add(step)
    if self._damaged:
      raise UserError(
        f'every checkpoint in {self._folder} is damaged; restore one from a backup, or start with '
        'another --workdir'
      )
    return None

  def _steps(self) -> set[int]:
    """Return the steps of all folders, whatever they contain."""
    with reaching(self._folder):
      if not self._folder.exists():
        return set()
      return {int(path.name) for path in self._folder.iterdir() if path.name.isdecimal()}

  def _is_finished(self, step: int) -> bool:
    return exists(self._folder / str(step) / 'manifest.json')

  def _whole_steps(self) -> set[int]:
    return {step for step in self._steps() if self._is_finished(step)} - self._damaged

  def _write(self, step: int, state: TrainState, run: str) -> None:
    folder = self._folder / str(step)
    if folder.exists():  # unfinished or damaged
      folder.rmtree()
    with folder_to_fill(folder) as filled:
      temporary = Path(filled)
      self._orbax.save(temporary / 'state', args=ocp.args.StandardSave(state))
      (temporary / 'run.json').write_text(run)
      manifest = json.dumps(_digests(temporary), indent=1)
    write_file(folder / 'manifest.json', manifest.encode())
    self._damaged.discard(step)
    self._delete_old(step)

  def _delete_old(self, newest: int) -> None:
    """Delete all checkpoints before the newest but those to keep, unfinished ones too."""
    whole = {step for step in self._whole_steps() if step <= newest}
    kept = set(sorted(whole)[-self._keep :])
    if scores := {step: psnr for step in whole if (psnr := self._psnr_of(step)) is not None}:
      kept.add(max(scores, key=lambda step: (scores[step], step)))
    for step in self._steps():
      if step < newest and step not in kept | self._damaged:
        (self._folder / str(step) / 'manifest.json').unlink(missing_ok=True)  # first: no half of it
        (self._folder / str(step)).rmtree()

  def _psnr_of(self, step: int) -> float | None:
    if step not in self._psnr:
      self._psnr[step] = json.loads((self._folder / str(step) / 'run.json').read_text())['psnr']
    return self._psnr[step]

  def _read(self, step: int, folder: Path, target: TrainState) -> tuple[TrainState, dict[str, Any]]:
    run = json.loads((folder / 'run.json').read_text())
    if differences := _differences(self._accept(run['settings']), self._settings):
      if all(difference.startswith('config.data.') for difference in differences):
        hint = 'continue with these data: --config.run.accept_changed_data=True'
      else:
        weights = self._folder.parent / 'weights.safetensors'
        hint = f'another --workdir that starts from these weights: --config.run.init_from={weights}'
      raise UserError(
        f'checkpoint {step} in {self._folder} is of another run: {"; ".join(differences)}; use the '
        f'same config, or {hint}'
      )
    args = ocp.args.StandardRestore(_empty(target))
    try:
      state = self._orbax.restore(folder / 'state', args=args)
    except Exception as error:  # of many kinds, where files are as their manifest but not Orbax's
      raise _Damaged(f'cannot be read ({first_line(error)})') from error
    if int(state.step) != step:
      raise _Damaged(f'is one of step {int(state.step)}')
    return state, run['progress']


class _Damaged(Exception):
  """Reason to skip a checkpoint."""


def _empty(target: TrainState) -> TrainState:
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), target)


def _verify(folder: Path) -> None:
  """Raise `_Damaged` if the files differ from the manifest."""
  try:
    if not (folder / 'manifest.json').is_file():  # a pipe or a device would have no end
      raise ValueError
    manifest = json.loads((folder / 'manifest.json').read_text())
    wanted = {str(name): (int(size), str(digest)) for name, (size, digest) in manifest.items()}
    if 'run.json' not in wanted:
      raise ValueError
  except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
    raise _Damaged('is damaged (manifest.json)') from error
  try:
    for name, (size, digest) in wanted.items():
      path = folder / name
      if not path.is_file():
        raise _Damaged(f'is damaged ({name} is missing)')
      if path.stat().st_size != size or file_sha256(path) != digest:
        raise _Damaged(f'is damaged ({name})')
  except OSError as error:
    raise _Damaged(f'cannot be read ({first_line(error)})') from error


def _digests(folder: Path) -> dict[str, tuple[int, str]]:
  """Return size and SHA-256 of every file below a folder, by its relative path."""
  return {
    path.relative_to(folder).as_posix(): (path.stat().st_size, file_sha256(path))
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def _differences(saved: Any, wanted: Any, path: str = 'config') -> list[str]:
  """Return where two nested settings differ, in words."""
  if isinstance(saved, dict) and isinstance(wanted, dict):
    keys = sorted(saved.keys() | wanted.keys())
    found = [_differences(saved.get(key), wanted.get(key), f'{path}.{key}') for key in keys]
    return [difference for some in found for difference in some]
  return [] if saved == wanted else [f'{path} was {saved!r} and is {wanted!r}']
