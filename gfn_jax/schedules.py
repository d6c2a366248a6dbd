"""Learning rates over phases of training."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax


def phase_starts(phases: Sequence[Mapping[str, Any]], steps_per_epoch: int) -> list[int]:
  """The first step of each phase, and the step after the last one."""
  lengths = (phase['epochs'] * steps_per_epoch for phase in phases)
  return list(itertools.accumulate(lengths, initial=0))


def step_decay(phases: Sequence[Mapping[str, Any]], steps_per_epoch: int) -> optax.Schedule:
  """The step-wise decay of the GFN recipes, as a function of the global step.

  In each phase `learning_rate * decay_rate ** floor(epoch / decay_every)`, with epochs counted
  from the phase's start.

  Args:
    phases: with `epochs`, `learning_rate`, `decay_rate` and `decay_every` (epochs).
    steps_per_epoch: steps in an epoch.

  Returns:
    step -> learning rate; it may be traced.
  """
  schedules = [_staircase(phase, steps_per_epoch) for phase in phases]
  return optax.join_schedules(schedules, phase_starts(phases, steps_per_epoch)[1:-1])


def _staircase(phase: Mapping[str, Any], steps_per_epoch: int) -> optax.Schedule:
  # Not optax.exponential_decay: it divides in float32, and may be a step late under jit.
  steps = phase['decay_every'] * steps_per_epoch

  def schedule(step: jax.typing.ArrayLike) -> jax.Array:
    decays = (jnp.asarray(step) // steps).astype(jnp.float32)
    return phase['learning_rate'] * phase['decay_rate'] ** decays

  return schedule
