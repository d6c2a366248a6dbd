"""Phases of a training: for each its network, loss, learning rates, steps and crops."""

import dataclasses
import functools
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import optax

from gfn_jax.data.datasets import Dataset
from gfn_jax.errors import UserError
from gfn_jax.models import RestorationModel, create_model, variable_shapes
from gfn_jax.system import parallel
from gfn_jax.system.console import print_message
from gfn_jax.system.files import printable
from gfn_jax.training import schedules
from gfn_jax.training.losses import LossTerm, make_loss
from gfn_jax.training.optimizers import OTHERS, make_optimizer
from gfn_jax.training.perceptual import MIN_SIDE, VGG19
from gfn_jax.training.train_state import TrainState
from gfn_jax.training.train_step import train_step

PRECISIONS = {
  'float32': ('float32', 'highest'),
  'tf32': ('float32', 'tensorfloat32'),
  'bfloat16': ('bfloat16', None),
}
"""Type and precision of a network's computations, by the names that configs use. Parameters, loss
and optimizer are always float32."""


@dataclasses.dataclass(frozen=True)
class Phase:
  """One phase of a run.

  Attributes:
    number: from 1.
    first_step: step before the phase's first one.
    last_step: step after which the phase ends.
    model_config: `name` and options of the network, as `create_model` takes them.
    model: the network as it is trained.
    loss: the terms of the loss.
    optimizer: the optimizer, with the phase's learning rates.
    learning_rates: rates as functions of the run's step, by the names that logs use.
    frozen: top-level modules that are not trained.
    crop_size: side of the crops in LR pixels; 0 for whole patches.
    reset_optimizer: True if the phase starts with a fresh optimizer.
    accumulate: number of parts that a batch is divided into.
    ema_decay: decay of the average of the parameters; 0 for none.
  """

  number: int
  first_step: int
  last_step: int
  model_config: Mapping[str, Any]
  model: RestorationModel
  loss: tuple[LossTerm, ...]
  optimizer: optax.GradientTransformationExtraArgs
  learning_rates: Mapping[str, optax.Schedule]
  frozen: tuple[str, ...]
  crop_size: int
  reset_optimizer: bool
  accumulate: int
  ema_decay: float

  def train_step(
    self,
    state: TrainState,
    batch: Mapping[str, jax.Array],
    average: Callable[[Any], Any] = lambda tree: tree,
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """Take one step, as `train_step.train_step` does; the scalars include the learning rates."""
    rates = {name: rate(state.step) for name, rate in self.learning_rates.items()}
    state, scalars = train_step(
      state,
      batch,
      average,
      model=self.model,
      loss=self.loss,
      optimizer=self.optimizer,
      frozen=self.frozen,
      accumulate=self.accumulate,
      ema_decay=self.ema_decay,
    )
    return state, scalars | rates

  def batches(
    self, dataset: Dataset, batch_size: int, seed: int, start_step: int
  ) -> Iterator[dict[str, np.ndarray]]:
    """Return this process's shares of the batches from a step on."""
    return dataset.train_batches(
      batch_size,
      seed,
      crop_size=self.crop_size,
      start_step=start_step,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )


def make_phases(
  config: Mapping[str, Any], dataset: Dataset, overrides: Collection[str] = ()
) -> list[Phase]:
  """Return the phases that a config describes, in the order of their names.

  A warm-up that is longer than its phase is shortened, which a message says.

  Args:
    config: plain values, with the sections of `configs/defaults.py`.
    dataset: what the phases train on.
    overrides: keys that the user set, with dots, such as
      'phases.phase_1.schedule.warmup_steps'. These values stay as they are.

  Raises:
    UserError: for settings that do not fit each other or the data.
  """
  training = config['training']
  if training['precision'] not in PRECISIONS:
    raise UserError(
      f'training.precision is {training["precision"]!r}; choose from {", ".join(PRECISIONS)}'
    )
  names = sorted(config['phases'])
  settings = [config['phases'][name] for name in names]
  modules = _modules_with_rates(config, settings)
  features = _perceptual_features(config, settings, dataset)
  steps_per_pass = dataset.steps_per_pass(training['batch_size'])
  steps_per_epoch = training['steps_per_epoch'] or steps_per_pass
  phases, start = [], 0
  for number, (name, phase) in enumerate(zip(names, settings, strict=True), 1):
    phase = _with_fitting_warmup(name, phase, steps_per_epoch, overrides)
    end = start + phase['epochs'] * steps_per_epoch
    make = functools.partial(_make_phase, config, phase, modules, steps_per_epoch, features)
    phases.append(make(number=number, first_step=start, last_step=end))
    start = end
  for phase in phases:
    _check(phase, dataset)
  return phases


def _with_fitting_warmup(
  name: str, phase: Mapping[str, Any], steps_per_epoch: int, overrides: Collection[str]
) -> Mapping[str, Any]:
  key = f'phases.{name}.schedule'
  if any(override.startswith((f'{key}.warmup', f'{key}.decay_s')) for override in overrides):
    return phase
  steps = phase['epochs'] * steps_per_epoch
  schedule = schedules.fit_warmup(phase['schedule'], steps)
  if schedule != phase['schedule']:
    print_message(
      f'{name} has {steps} steps: warmup_steps is {schedule["warmup_steps"]}, not '
      f'{phase["schedule"]["warmup_steps"]} (--config.{key}.warmup_steps sets it)'
    )
  return {**phase, 'schedule': schedule}


def _make_phase(
  config: Mapping[str, Any],
  phase: Mapping[str, Any],
  modules: list[str],
  steps_per_epoch: int,
  features: VGG19 | None,
  *,
  number: int,
  first_step: int,
  last_step: int,
) -> Phase:
  dtype, precision = PRECISIONS[config['training']['precision']]
  model_config = config['model'] | phase['model'] | {'dtype': dtype}
  own_rates = phase.get('module_learning_rates', {})

  def rate(module: str) -> optax.Schedule:
    settings = dict(phase['schedule'])
    settings['learning_rate'] = own_rates.get(module, settings['learning_rate'])
    schedule = schedules.make_schedule(settings, phase['epochs'], steps_per_epoch)
    return lambda step: schedule(step - first_step)

  rates = {module: rate(module) for module in (OTHERS, *modules)}
  weights = {'hr': phase['hr_weight'], 'lr': phase['lr_weight']}
  return Phase(
    number=number,
    first_step=first_step,
    last_step=last_step,
    model_config=model_config,
    model=create_model(**model_config, precision=precision).for_training(parallel.AXIS),
    loss=make_loss(config['loss'], weights, features),
    optimizer=make_optimizer(rates, **config['optimizer']),
    learning_rates={
      f'learning_rate/{module}' if module else 'learning_rate': schedule
      for module, schedule in rates.items()
    },
    frozen=tuple(module for module, own in own_rates.items() if own == 0),
    crop_size=phase.get('crop_size', config['training']['crop_size']),
    reset_optimizer=phase['reset_optimizer'],
    accumulate=config['training']['accumulate'],
    ema_decay=config['training']['ema_decay'],
  )


def _modules_with_rates(config: Mapping[str, Any], phases: list[Mapping[str, Any]]) -> list[str]:
  """Return the modules that have a learning rate of their own in some phase."""
  modules = set().union(*(phase.get('module_learning_rates', {}) for phase in phases))
  if modules:
    model = create_model(**config['model'])
    known = sorted(variable_shapes(model)['params'])
    if unknown := sorted(modules - set(known)):
      raise UserError(
        f'module_learning_rates: {type(model).__name__} has no module {unknown[0]!r}; it has '
        f'{", ".join(known)}'
      )
  return sorted(modules)


def _perceptual_features(
  config: Mapping[str, Any], phases: list[Mapping[str, Any]], dataset: Dataset
) -> VGG19 | None:
  """Return the features of the perceptual loss, if there are weights for it."""
  perceptual = 'perceptual' in {term['loss'] for term in config['loss'].values()}
  if not (weights := config['run']['perceptual_weights']):
    if perceptual and dataset.has_frames:
      print_message(
        'no perceptual loss: pass --config.run.perceptual_weights=FILE, the weights of VGG19'
      )
    return None
  if not dataset.has_frames:
    raise UserError(
      f'run.perceptual_weights: {printable(dataset.path)} has no sharp frames to compare'
    )
  crops = [phase.get('crop_size', config['training']['crop_size']) for phase in phases]
  if small := [crop for crop in crops if 0 < crop < MIN_SIDE]:
    raise UserError(
      f'run.perceptual_weights needs crops of {MIN_SIDE}x{MIN_SIDE} or more, not {small[0]}'
    )
  if not perceptual:
    raise UserError('run.perceptual_weights: no term of the loss is perceptual')
  return VGG19.from_file(weights)


def _check(phase: Phase, dataset: Dataset) -> None:
  """Raise a UserError for crops or a network that do not fit the data."""
  dataset.check_crop_size(phase.crop_size)
  trains_hr = any(term.on == 'hr' for term in phase.loss)
  if trains_hr and phase.model.scale not in (1, dataset.scale):
    raise UserError(
      f'{type(phase.model).__name__} enlarges by {phase.model.scale}, but the LR images of '
      f'{printable(dataset.path)} are {dataset.scale} times smaller than the HR ones'
    )


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
  """Return a config as plain values, as `config.json` holds them."""
  return json.loads(json.dumps(config, default=dict))
