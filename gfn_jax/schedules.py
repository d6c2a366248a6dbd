"""Learning rates over phases of training."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

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
  schedules = [
    optax.exponential_decay(
      phase['learning_rate'],
      transition_steps=phase['decay_every'] * steps_per_epoch,
      decay_rate=phase['decay_rate'],
      staircase=True,
    )
    for phase in phases
  ]
  return optax.join_schedules(schedules, phase_starts(phases, steps_per_epoch)[1:-1])
