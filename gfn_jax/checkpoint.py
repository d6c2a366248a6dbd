"""Training checkpoints, through Orbax. The only module that knows it."""

import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from gfn_jax.errors import UserError
from gfn_jax.train_state import TrainState


class Checkpointer:
  """Keeps the newest checkpoints of a run in `workdir/checkpoints`.

  A checkpoint is the state and the settings that the state depends on. The position in the data is
  the step, so nothing else needs to be kept. Saves run in the background; leaving the context waits
  for them, and a save that a kill interrupted is ignored by the next run.

  Args:
    workdir: the run's folder.
    settings: what must be the same for a run to be continued, values that JSON can hold.
    keep: how many checkpoints are kept.
  """

  def __init__(self, workdir: str | os.PathLike, settings: Mapping[str, Any], keep: int = 3):
    self._settings = json.loads(json.dumps(settings))  # as it is read back: tuples become lists
    options = ocp.CheckpointManagerOptions(max_to_keep=keep)
    path = os.path.join(os.path.abspath(workdir), 'checkpoints')
    self._manager = ocp.CheckpointManager(path, options=options)

  def __enter__(self) -> 'Checkpointer':
    return self

  def __exit__(self, *_) -> None:
    self._manager.close()

  def save(self, state: TrainState) -> None:
    """Saves a state under its step, unless that step is saved already."""
    step = int(state.step)
    if step == self._manager.latest_step():
      return
    state = jax.device_get(state)  # replicas on devices would be cut in pieces among them
    args = ocp.args.Composite(
      state=ocp.args.StandardSave(state), settings=ocp.args.JsonSave(self._settings)
    )
    self._manager.save(step, args=args)

  def restore(self, target: TrainState) -> TrainState | None:
    """The newest state, as NumPy arrays, or None if nothing has been saved.

    Args:
      target: a state, or its shapes, of the structure to restore.

    Raises:
      UserError: if the checkpoint is of other settings, naming the first that differs.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    args = ocp.args.Composite(settings=ocp.args.JsonRestore())
    saved = self._manager.restore(step, args=args).settings
    if difference := _first_difference(saved, self._settings):
      raise UserError(
        f'checkpoint {step} in {self._manager.directory} is of another run: {difference}; '
        'use the same config, or another --workdir'
      )
    empty = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), target)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(empty))
    return self._manager.restore(step, args=args).state


def _first_difference(saved: Any, wanted: Any, path: str = 'config') -> str | None:
  """Where two nested settings differ first, in words."""
  if isinstance(saved, dict) and isinstance(wanted, dict):
    for key in sorted(saved.keys() | wanted.keys()):
      if found := _first_difference(saved.get(key), wanted.get(key), f'{path}.{key}'):
        return found
    return None
  return None if saved == wanted else f'{path} was {saved!r} and is {wanted!r}'
