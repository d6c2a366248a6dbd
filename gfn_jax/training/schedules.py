"""Learning rates within a phase of training, as functions of the phase's own step."""

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gfn_jax.errors import UserError

WARMUP_SHARE = 10
"""A warm-up that does not fit into its phase is shortened to this part of it: a tenth."""


def fit_warmup(settings: Mapping[str, Any], steps: int) -> dict[str, Any]:
  """Return a schedule's settings with a warm-up, and a decay, that fit into a phase.

  Args:
    settings: as for `make_schedule`.
    steps: length of the phase.
  """
  lengths = {key: settings[key] for key in ('warmup_steps', 'decay_steps') if key in settings}
  most = steps if 'decay_steps' in lengths else steps - 1
  if sum(lengths.values()) <= most or min(lengths.values(), default=0) < 0:
    return dict(settings)
  return {**settings, **{key: min(n, steps // WARMUP_SHARE) for key, n in lengths.items()}}


def make_schedule(
  settings: Mapping[str, Any], epochs: int, steps_per_epoch: int
) -> Callable[[jax.typing.ArrayLike], jax.Array]:
  """Return the schedule that a config describes.

  Args:
    settings: `name`, a key of `SCHEDULES`, and the other arguments of that function. A
      `learning_rate` of 0 stays 0.
    epochs: length of the phase.
    steps_per_epoch: steps in an epoch.

  Returns:
    Learning rate as a function of the phase's step, which may be traced.

  Raises:
    UserError: for an unknown name, an unknown or missing argument, or a warm-up or decay that does
      not fit into the phase.
  """
  arguments = dict(settings)
  name = arguments.pop('name', None)
  if name not in SCHEDULES:
    raise UserError(f'schedule.name is {name!r}; choose from {", ".join(SCHEDULES)}')
  make = SCHEDULES[name]
  known = set(inspect.signature(make).parameters) - {'epochs', 'steps_per_epoch'}
  if wrong := sorted(known ^ set(arguments)):
    raise UserError(f'schedule {name!r} takes {", ".join(sorted(known))}; check {wrong[0]!r}')
  if arguments['learning_rate'] == 0:
    return optax.constant_schedule(0.0)
  return make(epochs=epochs, steps_per_epoch=steps_per_epoch, **arguments)


def step_decay(
  epochs: int, steps_per_epoch: int, learning_rate: float, decay_rate: float, decay_every: int
) -> optax.Schedule:
  """Return `learning_rate * decay_rate ** floor(epoch / decay_every)` (GFN, section 3.3)."""
  del epochs
  # Not optax.exponential_decay: it divides in float32, and may be a step late under jit.
  steps = decay_every * steps_per_epoch

  def schedule(step: jax.typing.ArrayLike) -> jax.Array:
    decays = (jnp.asarray(step) // steps).astype(jnp.float32)
    return learning_rate * decay_rate**decays

  return schedule


def milestones(
  epochs: int,
  steps_per_epoch: int,
  learning_rate: float,
  decay_rate: float,
  decay_epochs: Sequence[int],
) -> optax.Schedule:
  """Return a rate that is multiplied by `decay_rate` after each of `decay_epochs`."""
  del epochs
  return optax.piecewise_constant_schedule(
    learning_rate, {steps_per_epoch * epoch: decay_rate for epoch in decay_epochs}
  )


def polynomial(
  epochs: int, steps_per_epoch: int, learning_rate: float, power: float
) -> optax.Schedule:
  """Return `learning_rate * (1 - step / steps) ** power`, 0 at the end of the phase."""
  # Not optax.polynomial_schedule: with a fractional power, its end is NaN under jit.
  steps = epochs * steps_per_epoch

  def schedule(step: jax.typing.ArrayLike) -> jax.Array:
    left = jnp.maximum(1 - jnp.asarray(step) / steps, 0)
    return learning_rate * left**power

  return schedule


def cosine(
  epochs: int, steps_per_epoch: int, learning_rate: float, warmup_steps: int
) -> optax.Schedule:
  """Return a linear warm-up, then half a cosine down to 0 at the end of the phase."""
  steps = epochs * steps_per_epoch
  if not 0 <= warmup_steps < steps:
    raise UserError(
      f'warmup_steps is {warmup_steps}, but its phase has {steps} steps; set '
      '--config.phases.NAME.schedule.warmup_steps to fewer'
    )
  return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, steps)


def cosine_by_epoch(
  epochs: int,
  steps_per_epoch: int,
  learning_rate: float,
  end_learning_rate: float,
  warmup_epochs: int,
  cosine_epochs: int,
) -> optax.Schedule:
  """Return a linear warm-up, then half a cosine, that change once an epoch (MPRNet's recipe).

  The phase may end before the cosine does, which ends after `cosine_epochs`, warm-up included.
  """
  del epochs
  if not 0 <= warmup_epochs < cosine_epochs:
    raise UserError(f'warmup_epochs is {warmup_epochs}, but cosine_epochs is {cosine_epochs}')
  fall = optax.cosine_decay_schedule(
    learning_rate, cosine_epochs - warmup_epochs, end_learning_rate / learning_rate
  )

  def schedule(step: jax.typing.ArrayLike) -> jax.Array:
    epoch = jnp.asarray(step) // steps_per_epoch
    rise = learning_rate * (epoch + 1) / max(warmup_epochs, 1)
    return jnp.where(epoch < warmup_epochs, rise, fall(jnp.maximum(epoch - warmup_epochs, 0)))

  return schedule


def constant(
  epochs: int,
  steps_per_epoch: int,
  learning_rate: float,
  end_learning_rate: float,
  warmup_steps: int,
  decay_steps: int,
) -> optax.Schedule:
  """Return a linear warm-up, a constant rate, and a linear decay over the last `decay_steps`."""
  steps = epochs * steps_per_epoch
  if min(warmup_steps, decay_steps) < 0 or warmup_steps + decay_steps > steps:
    raise UserError(
      f'warmup_steps is {warmup_steps} and decay_steps is {decay_steps}, but their phase has '
      f'{steps} steps; set --config.phases.NAME.schedule.warmup_steps and .decay_steps to fewer'
    )
  if warmup_steps:
    rise = optax.linear_schedule(0.0, learning_rate, warmup_steps)
  else:
    rise = optax.constant_schedule(learning_rate)
  fall = optax.linear_schedule(
    learning_rate, end_learning_rate, max(decay_steps, 1), steps - decay_steps
  )
  return lambda step: jnp.where(jnp.asarray(step) < warmup_steps, rise(step), fall(step))


def cosine_restarts(
  epochs: int,
  steps_per_epoch: int,
  learning_rate: float,
  end_learning_rate: float,
  periods: int,
  restart_factor: float,
) -> optax.Schedule:
  """Return half cosines of one length (Loshchilov and Hutter, ICLR 2017).

  All but the first start at `restart_factor * learning_rate`.
  """
  steps = epochs * steps_per_epoch
  if not 1 <= periods <= steps:
    raise UserError(f'periods is {periods}, but its phase has {steps} steps')
  starts = [steps * i // periods for i in range(periods + 1)]
  cosines = []
  for i, (start, stop) in enumerate(itertools.pairwise(starts)):
    rate = learning_rate * (restart_factor if i else 1)
    cosines.append(optax.cosine_decay_schedule(rate, stop - start, end_learning_rate / rate))
  return optax.join_schedules(cosines, starts[1:-1])


SCHEDULES = {
  function.__name__: function
  for function in (
    step_decay,
    milestones,
    polynomial,
    cosine,
    cosine_by_epoch,
    constant,
    cosine_restarts,
  )
}
"""The schedules, by the names that configs use."""
