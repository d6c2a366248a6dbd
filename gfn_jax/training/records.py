"""Records of a run, and the settings that a continued run must share."""

import os
from collections.abc import Mapping
from typing import Any

import jax

from gfn_jax.data.datasets import Dataset
from gfn_jax.evaluation.test_sets import CONFIG_FORMAT, run_config
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


def resume_settings(config: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
  """Return what must be equal for a run to be continued."""
  settings = {section: config[section] for section in COMPARED}
  settings['data'] = dataset.metadata
  if weights := config['run']['perceptual_weights']:
    settings['perceptual_weights'] = file_sha256(weights)
  return settings


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
  workdir: str | os.PathLike, config: Mapping[str, Any], overrides: Mapping[str, Any] | None
) -> None:
  """Write `config.json` and `overrides.json` into the run's folder, in the first process."""
  if jax.process_index() > 0:
    return
  make_folder(workdir)
  record = {'format_version': CONFIG_FORMAT, **config}
  write_json(os.path.join(workdir, 'config.json'), record)
  write_json(os.path.join(workdir, 'overrides.json'), dict(overrides or {}))


def check_format(workdir: str | os.PathLike) -> None:
  """Raise if a folder holds a run of an older version.

  Raises:
    UserError: as `run_config`.
  """
  if exists(os.path.join(workdir, 'config.json')):
    run_config(workdir)
