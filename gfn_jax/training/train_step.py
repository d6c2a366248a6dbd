"""The training step: a pure function of the state and a batch."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from gfn_jax.models import RestorationModel
from gfn_jax.ops.pixels import to_float
from gfn_jax.training.losses import LossTerm, restoration_loss
from gfn_jax.training.train_state import TrainState

Tree = TypeVar('Tree')

Means = tuple[jax.Array, dict[str, jax.Array], dict[str, Any]]
"""Loss, its terms and the gradient."""


def train_step(
  state: TrainState,
  batch: Mapping[str, jax.Array],
  average: Callable[[Any], Any] = lambda tree: tree,
  *,
  model: RestorationModel,
  loss: Sequence[LossTerm],
  optimizer: optax.GradientTransformationExtraArgs,
  frozen: Collection[str] = (),
  accumulate: int = 1,
  ema_decay: float = 0.0,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Take one step on a batch, or on one device's share of it.

  Args:
    state: the state before the step.
    batch: `lr_blur` and `lr` `[B, h, w, 3]`, `hr` `[B, s * h, s * w, 3]`, maybe `frames`
      `[B, 7, h, w, 3]`; uint8, or float in [0, 1]; maybe `has_hr` `[B]` bool.
    average: returns the mean of a pytree over all devices (`system.parallel`).
    model: the network.
    loss: the terms of the loss, with their weights.
    optimizer: makes updates of gradients; its `update` takes the `step` of the run.
    frozen: top-level modules that get no gradient.
    accumulate: number of parts of the batch that go through the network one after the other. The
      gradient is that of the whole batch, in less memory.
    ema_decay: decay of the moving average of the parameters, if the state has one.

  Returns:
    The state after the step, and scalars: the loss, its terms, and the norm of the gradient, whole
    and per top-level module.
  """
  batch = {key: x if x.dtype == bool else to_float(x) for key, x in batch.items()}

  def loss_fn(params, batch_stats, part):
    params = params | {module: jax.lax.stop_gradient(params[module]) for module in frozen}
    variables = {'params': params, 'batch_stats': batch_stats}
    output, updated = model.apply(variables, part['lr_blur'], train=True, mutable=['batch_stats'])
    value, terms = restoration_loss(output, part, loss, model.pyramid)
    return value, (terms, updated.get('batch_stats', {}))

  def gradient(batch_stats: Any, part: Mapping[str, jax.Array]) -> tuple[Any, Means]:
    value_and_grads = jax.value_and_grad(loss_fn, has_aux=True)
    (value, (terms, batch_stats)), grads = value_and_grads(state.params, batch_stats, part)
    return batch_stats, (value, terms, grads)

  batch_stats, means = _mean_over_parts(gradient, state.batch_stats, batch, accumulate)
  value, terms, grads = average(means)

  updates, opt_state = optimizer.update(grads, state.opt_state, state.params, step=state.step)
  params = optax.apply_updates(state.params, updates)
  ema_params = state.ema_params
  if ema_params:
    ema_params = optax.incremental_update(params, ema_params, 1 - ema_decay)

  scalars = {'loss': value, **terms, 'grad_norm': optax.tree.norm(grads)}
  scalars |= {f'grad_norm/{module}': optax.tree.norm(grad) for module, grad in grads.items()}
  return TrainState(state.step + 1, params, opt_state, batch_stats, ema_params), scalars


def _mean_over_parts(
  function: Callable[[Any, Mapping[str, jax.Array]], tuple[Any, Tree]],
  carry: Any,
  batch: Mapping[str, jax.Array],
  parts: int,
) -> tuple[Any, Tree]:
  """Apply `function(carry, part)` to equal parts of a batch; return the carry and the mean value.

  Not optax.MultiSteps, with which each part would be a step of its own: of the data order, of the
  schedules and of the log.
  """
  if parts == 1:
    return function(carry, batch)
  split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), dict(batch))
  first = jax.tree.map(lambda x: x[0], split)
  zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(function, carry, first)[1])

  def add(carry, part):
    carry, total = carry
    carry, values = function(carry, part)
    return (carry, jax.tree.map(jnp.add, total, values)), None

  # XLA's CPU backend is slow in the body of a loop.
  unroll = parts if jax.default_backend() == 'cpu' else 1
  (carry, total), _ = jax.lax.scan(add, (carry, zeros), split, unroll=unroll)
  return carry, jax.tree.map(lambda x: x / parts, total)
