"""Optimizers as optax transformations: clipping, direction of descent, learning rates."""

from collections.abc import Mapping
from typing import Any

import jax
import optax
import optax.contrib

from gfn_jax.errors import UserError

OTHERS = ''
"""Label of the modules without a learning rate of their own."""


def make_optimizer(
  learning_rates: Mapping[str, optax.Schedule],
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  clip_norm: float = 0.0,
  name: str = 'adam',
) -> optax.GradientTransformationExtraArgs:
  """Return Adam or Muon, after clipping by the global norm, with a learning rate for each module.

  The state depends on the modules, not on their rates, so that phases can pass it on.

  Args:
    learning_rates: learning rate as a function of the run's step, by top-level module; under
      `OTHERS` that of all other modules.
    b1: Adam's decay of the first moment.
    b2: Adam's decay of the second moment.
    eps: Adam's epsilon.
    clip_norm: largest norm of the gradient; 0 for no clipping.
    name: 'adam', or 'muon' (Jordan et al. 2024): the momentum of each kernel is made orthogonal, as
      a matrix from all its inputs to its outputs; biases get NAdam at a third of the rate.

  Returns:
    A transformation whose `update` takes the run's `step` as a keyword argument.

  Raises:
    UserError: for another name.
  """
  if name == 'adam':
    direction = optax.chain(optax.scale_by_adam(b1, b2, eps), optax.scale(-1.0))
  elif name == 'muon':
    direction = optax.contrib.muon(
      learning_rate=1.0,
      adam_learning_rate=1 / 3,
      adam_b1=b1,
      adam_b2=b2,
      eps=eps,
      muon_weight_dimension_numbers=_kernels,
    )
  else:
    raise UserError(f"optimizer.name is {name!r}; choose 'adam' or 'muon'")
  clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
  scales = {module: scale_by_rate(rate) for module, rate in learning_rates.items()}

  def labels(params: Mapping[str, Any]) -> dict[str, str]:
    return {module: module if module in scales else OTHERS for module in params}

  return optax.chain(clip, direction, optax.partition(scales, labels))


def scale_by_rate(rate: optax.Schedule) -> optax.GradientTransformationExtraArgs:
  """Return a stateless transformation that multiplies updates by a rate of the run's step.

  optax's own count would restart whenever a phase resets the optimizer.
  """

  def update(updates, state, params=None, *, step, **_):
    del params
    factor = rate(step)
    return jax.tree.map(lambda update: factor * update, updates), state

  return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def _kernels(params: Any) -> Any:
  """Return which parameters are matrices for Muon, those `[k, k, I, O]`, and how."""
  matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
  return jax.tree.map(lambda param: matrix if param.ndim == 4 else None, params)
