"""Learning rates over phases of training."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gfn_jax.errors import UserError


def phase_starts(phases: Sequence[Mapping[str, Any]], steps_per_epoch: int) -> list[int]:
  """The first step of each phase, and the step after the last one."""
  lengths = (phase['epochs'] * steps_per_epoch for phase in phases)
  return list(itertools.accumulate(lengths, initial=0))


def learning_rate(
  phases: Sequence[Mapping[str, Any]], steps_per_epoch: int, module: str | None = None
) -> optax.Schedule:
  """The learning rate as a function of the global step; each phase starts its own schedule.

  Args:
    phases: with `epochs`, `learning_rate`, perhaps `module_learning_rates`, in which modules have
      another one, and one of these:
      `decay_rate` and `decay_every` (epochs), for the step-wise decay of the GFN recipes,
      `learning_rate * decay_rate ** floor(epoch / decay_every)`;
      `cosine_epochs`, `warmup_epochs` and `end_learning_rate`, for a linear warm-up and then half a
      cosine, which change once an epoch, as in MPRNet's recipe; the phase may end before it does;
      `warmup_steps`, for a linear warm-up and then half a cosine down to 0, from step to step;
      `warmup_steps`, `decay_steps` and `end_learning_rate`, for a linear warm-up, a constant rate,
      and a linear decay over the last `decay_steps` of the phase; with 0 of these it can run on;
      `periods`, `restart_factor` and `end_learning_rate`, for as many half cosines, from step to
      step, of which all but the first start at `restart_factor * learning_rate` (Loshchilov and
      Hutter, ICLR 2017, with periods of one length).
    steps_per_epoch: steps in an epoch.
    module: a top-level module of the network; None for the rate of those that have no other.

  Returns:
    step -> learning rate; it may be traced.

  Raises:
    UserError: if a warm-up is as long as its phase, or as its cosine.
  """
  schedules = [_schedule(_of_module(phase, module), steps_per_epoch) for phase in phases]
  return optax.join_schedules(schedules, phase_starts(phases, steps_per_epoch)[1:-1])


def _of_module(phase: Mapping[str, Any], module: str | None) -> dict[str, Any]:
  """A phase with the `learning_rate` of a module."""
  rates = phase.get('module_learning_rates', {})
  return dict(phase) | {'learning_rate': rates.get(module, phase['learning_rate'])}


def _schedule(phase: Mapping[str, Any], steps_per_epoch: int) -> optax.Schedule:
  if phase['learning_rate'] == 0:  # frozen, wherever the others end
    return optax.constant_schedule(0.0)
  if 'periods' in phase:
    return _restarts(phase, steps_per_epoch)
  if 'decay_steps' in phase:
    return _constant_then_decay(phase, steps_per_epoch)
  if 'warmup_steps' in phase:
    return _cosine(phase, steps_per_epoch)
  if 'cosine_epochs' in phase:
    return _cosine_of_epochs(phase, steps_per_epoch)
  return _staircase(phase, steps_per_epoch)


def _cosine_of_epochs(phase: Mapping[str, Any], steps_per_epoch: int) -> optax.Schedule:
  warmup, epochs = phase['warmup_epochs'], phase['cosine_epochs']
  if not 0 <= warmup < epochs:
    raise UserError(f'warmup_epochs is {warmup}, but cosine_epochs is {epochs}')
  rate, end = phase['learning_rate'], phase['end_learning_rate']
  fall = optax.cosine_decay_schedule(rate, epochs - warmup, end / rate)

  def schedule(step: jax.typing.ArrayLike) -> jax.Array:
    epoch = jnp.asarray(step) // steps_per_epoch
    rise = rate * (epoch + 1) / max(warmup, 1)
    return jnp.where(epoch < warmup, rise, fall(jnp.maximum(epoch - warmup, 0)))

  return schedule


def _cosine(phase: Mapping[str, Any], steps_per_epoch: int) -> optax.Schedule:
  steps, warmup = phase['epochs'] * steps_per_epoch, phase['warmup_steps']
  if not 0 <= warmup < steps:
    raise UserError(f'warmup_steps is {warmup}, but its phase has {steps} steps')
  return optax.warmup_cosine_decay_schedule(0.0, phase['learning_rate'], warmup, steps)


def _constant_then_decay(phase: Mapping[str, Any], steps_per_epoch: int) -> optax.Schedule:
  steps, rate = phase['epochs'] * steps_per_epoch, phase['learning_rate']
  warmup, decay = phase['warmup_steps'], phase['decay_steps']
  if min(warmup, decay) < 0 or warmup + decay > steps:
    raise UserError(
      f'warmup_steps is {warmup} and decay_steps is {decay}, but their phase has {steps} steps'
    )
  rise = optax.linear_schedule(0.0, rate, warmup) if warmup else optax.constant_schedule(rate)
  fall = optax.linear_schedule(rate, phase['end_learning_rate'], max(decay, 1), steps - decay)
  return lambda step: jnp.where(jnp.asarray(step) < warmup, rise(step), fall(step))


def _restarts(phase: Mapping[str, Any], steps_per_epoch: int) -> optax.Schedule:
  steps, periods = phase['epochs'] * steps_per_epoch, phase['periods']
  if not 1 <= periods <= steps:
    raise UserError(f'periods is {periods}, but its phase has {steps} steps')
  starts = [steps * i // periods for i in range(periods + 1)]
  cosines = []
  for i, (start, stop) in enumerate(itertools.pairwise(starts)):
    rate = phase['learning_rate'] * (phase['restart_factor'] if i else 1)
    end = phase['end_learning_rate'] / rate
    cosines.append(optax.cosine_decay_schedule(rate, stop - start, end))
  return optax.join_schedules(cosines, starts[1:-1])


def _staircase(phase: Mapping[str, Any], steps_per_epoch: int) -> optax.Schedule:
  # Not optax.exponential_decay: it divides in float32, and may be a step late under jit.
  steps = phase['decay_every'] * steps_per_epoch

  def schedule(step: jax.typing.ArrayLike) -> jax.Array:
    decays = (jnp.asarray(step) // steps).astype(jnp.float32)
    return phase['learning_rate'] * phase['decay_rate'] ** decays

  return schedule
