"""Records of a run, and the settings that a continued run must share."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import jax

from gfn_jax.data.datasets import Dataset, open_dataset
from gfn_jax.errors import UserError
from gfn_jax.evaluation.test_sets import (
  CONFIG_FORMAT,
  DATA_FILES,
  read_data_files,
  run_config,
  with_test_photos,
)
from gfn_jax.models import create_model
from gfn_jax.system import parallel
from gfn_jax.system.console import print_message
from gfn_jax.system.files import exists, file_sha256, make_folder, printable, write_json
from gfn_jax.training.checkpoints import Checkpointer
from gfn_jax.training.phases import Phase
from gfn_jax.training.train_state import TrainState, create_train_state
from gfn_jax.weights.cards import read_card
from gfn_jax.weights.pretrained import init_variables_from, weights_path

COMPARED = ('model', 'loss', 'optimizer', 'training', 'phases')
"""Sections of a config that must not change when a run is continued. Of `data` its metadata are
compared, so that files may move; `evaluation` and `run` may change."""


EXTENDABLE = ('step_decay', 'milestones', 'cosine_by_epoch')
"""Schedules whose rates do not depend on the length of the phase."""

_NAMED = 5


def open_data(config: Mapping[str, Any], workdir: str | os.PathLike) -> Dataset:
  """Open the data set of a run; a continued run keeps its test photos.

  Args:
    config: the run's config.
    workdir: the run's folder, which only the first process needs.

  Raises:
    UserError: as `open_dataset`, or if files were added, removed or changed since the run began.
      With `run.accept_changed_data`, a message names them.
  """
  found = _recorded_data(config, workdir) if jax.process_index() == 0 else None
  recorded, test_files = parallel.gather(found)[0] or (None, None)
  dataset = open_dataset(with_test_photos(config['data'], test_files))
  if recorded is None or not (changes := _changes(recorded, dataset.files)):
    return dataset
  if not config['run'].get('accept_changed_data'):
    raise UserError(
      f'the files of {printable(dataset.path)} have changed since the run in {printable(workdir)} '
      f'began: {changes}; restore them, or continue with these: '
      '--config.run.accept_changed_data=True'
    )
  print_message(f'{printable(dataset.path)}: continuing with changed files: {changes}')
  return dataset


def _recorded_data(
  config: Mapping[str, Any], workdir: str | os.PathLike
) -> tuple[dict[str, Any], dict[str, Any] | None] | None:
  """Return the files of a run, twice; the second is None if the config holds out another number."""
  if not exists(os.path.join(workdir, 'config.json')):
    return None
  if (files := read_data_files(workdir)) is None:
    return None
  same = run_config(workdir)['data'].get('held_out') == config['data'].get('held_out')
  return files, files if same else None


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """Return what differs between two `Dataset.files`, in words; '' if nothing does."""
  old, new = ({n: size for group in groups.values() for n, size in group.items()}
              for groups in (before, now))  # fmt: skip
  kinds = {
    'removed': old.keys() - new.keys(),
    'added': new.keys() - old.keys(),
    'of another size': {name for name in old.keys() & new.keys() if old[name] != new[name]},
  }
  return '; '.join(
    f'{len(names)} {kind} ({", ".join(map(printable, sorted(names)[:_NAMED]))}'
    f'{", ..." if len(names) > _NAMED else ""})'
    for kind, names in kinds.items()
    if names
  )


def open_checkpoints(
  config: Mapping[str, Any], dataset: Dataset, workdir: str | os.PathLike
) -> Checkpointer:
  """Return the checkpoints of a run, from which only a run with equal settings continues."""
  settings, run = resume_settings(config, dataset), config['run']
  accept = functools.partial(accept_differences, settings, run.get('accept_changed_data', False))
  return Checkpointer(workdir, settings, run['keep_checkpoints'], accept)


def resume_settings(config: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
  """Return what must be equal for a run to be continued."""
  settings = {section: config[section] for section in COMPARED}
  settings['data'] = dataset.metadata
  if weights := config['run']['perceptual_weights']:
    settings['perceptual_weights'] = file_sha256(weights)
  return settings


def accept_differences(
  settings: Mapping[str, Any], accept_data: bool, saved: Mapping[str, Any]
) -> dict[str, Any]:
  """Return the settings of a checkpoint with the permitted differences replaced.

  Permitted are more epochs of the last phase if the past learning rates stay the same; and other
  data on request.

  Args:
    settings: `resume_settings` of this run.
    accept_data: True to continue with other data.
    saved: the settings of the checkpoint.
  """
  saved = dict(saved)
  if accept_data:
    saved['data'] = settings['data']
  phases, name = settings['phases'], max(settings['phases'])
  phase, before = phases[name], saved['phases'].get(name, {})
  extended = before.get('epochs', phase['epochs']) < phase['epochs']
  if extended and phase['schedule']['name'] in EXTENDABLE:
    saved['phases'] = saved['phases'] | {name: before | {'epochs': phase['epochs']}}
  return saved


def restore_or_initialize(
  config: Mapping[str, Any], dataset: Dataset, phase: Phase, checkpointer: Checkpointer
) -> tuple[TrainState, Mapping[str, Any]]:
  """Return the newest checkpoint's state on all devices, and its progress; or a new run's.

  Args:
    config: the run's config; a new run starts from the weights `run.init_from`, if given.
    dataset: the training data.
    phase: the first phase. All phases have the same variables and optimizer state as
      `config['model']`, which may have modules that the first phase does not use.
    checkpointer: of the run.

  Raises:
    UserError: as `Checkpointer.restore` and `init_variables_from`.
  """
  training, run = config['training'], config['run']
  model = create_model(**config['model'])
  state = create_train_state(model, phase.optimizer, training['seed'], bool(training['ema_decay']))
  if (restored := checkpointer.restore(state)) is not None:
    state, progress = restored
    return parallel.replicate(state), progress
  if run['init_from']:
    variables = init_variables_from(
      run['init_from'], model, state.eval_variables, run['init_except']
    )
    state = state.with_variables(variables)
    _report_other_blur(run['init_from'], dataset)
  return parallel.replicate(state), {}


def _report_other_blur(weights: str, dataset: Dataset) -> None:
  """Print a message if imported weights of MPRNet meet data with another kind of blur."""
  card = read_card(weights_path(weights)) or {}
  imported = 'imported_from' in card and card['model']['name'] == 'mprnet'
  if imported and dataset.metadata.get('blur_folder') == 'blur_gamma':
    print_message(
      f'{printable(weights)}: the published weights of MPRNet were trained on `blur`, and these '
      'data have `blur_gamma`; build data with --blur_folder=blur for the same kind'
    )


def write(
  workdir: str | os.PathLike,
  config: Mapping[str, Any],
  overrides: Mapping[str, Any] | None,
  dataset: Dataset,
) -> None:
  """Write `config.json`, `overrides.json` and the data set's files into the run's folder."""
  if jax.process_index() > 0:
    return
  make_folder(workdir)
  record = {'format_version': CONFIG_FORMAT, **config}
  write_json(os.path.join(workdir, 'config.json'), record)
  write_json(os.path.join(workdir, 'overrides.json'), dict(overrides or {}))
  if dataset.files:
    write_json(os.path.join(workdir, DATA_FILES), dataset.files)


def check_format(workdir: str | os.PathLike) -> None:
  """Raise if a folder holds a run of an older version.

  Raises:
    UserError: as `run_config`.
  """
  if exists(os.path.join(workdir, 'config.json')):
    run_config(workdir)
