"""Optimizers that give the direction of descent; `train_step` applies the learning rate."""

from typing import Any

import jax
import optax
import optax.contrib

from gfn_jax.errors import UserError


def make_optimizer(
  b1: float, b2: float, eps: float, clip_norm: float, name: str = 'adam'
) -> optax.GradientTransformation:
  """Adam or Muon without the learning rate, after clipping by the global norm.

  Args:
    b1: Adam's decay of the first moment.
    b2: Adam's decay of the second moment.
    eps: Adam's.
    clip_norm: largest norm of the gradient; 0 for no clipping.
    name: 'adam', or 'muon' (Jordan et al. 2024): the momentum of each kernel is made orthogonal, as
      a matrix from all its inputs to its outputs; biases get NAdam at a third of the rate.

  Raises:
    UserError: for another name.
  """
  clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
  if name == 'adam':
    return optax.chain(clip, optax.scale_by_adam(b1, b2, eps))
  if name != 'muon':
    raise UserError(f"optimizer.name is {name!r}; there are 'adam' and 'muon'")
  muon = optax.contrib.muon(
    learning_rate=1.0,
    adam_learning_rate=1 / 3,
    adam_b1=b1,
    adam_b2=b2,
    eps=eps,
    muon_weight_dimension_numbers=_kernels,
  )
  return optax.chain(clip, muon, optax.scale(-1.0))  # train_step subtracts


def _kernels(params: Any) -> Any:
  """Which parameters Muon takes, `[k, k, I, O]`, and how they are matrices."""
  matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
  return jax.tree.map(lambda param: matrix if param.ndim == 4 else None, params)
