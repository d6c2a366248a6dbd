"""The state of a training: what a step changes."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from gfn_jax.models import RestorationModel, init_variables


class TrainState(flax.struct.PyTreeNode):
  """Step, variables and optimizer state. Everything else in a run is a function of the step.

  Attributes:
    step: number of steps taken, int32 scalar.
    params: the network's parameters, float32.
    opt_state: optax's state.
    batch_stats: running statistics of batch normalisations; empty for most networks.
    ema_params: exponential moving average of `params`; empty if the run has none.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  batch_stats: Any
  ema_params: Any

  @property
  def eval_variables(self) -> dict[str, Any]:
    """Variables to evaluate and to save: averaged parameters if there are any."""
    variables = {'params': self.ema_params or self.params}
    return variables | ({'batch_stats': self.batch_stats} if self.batch_stats else {})

  def with_variables(self, variables: Mapping[str, Any]) -> 'TrainState':
    """Return the state with other variables, which the average starts from, too."""
    params = variables['params']
    return self.replace(
      params=params,
      batch_stats=variables.get('batch_stats', {}),
      ema_params=jax.tree.map(jnp.copy, params) if self.ema_params else {},
    )


def create_train_state(
  model: RestorationModel, optimizer: optax.GradientTransformation, seed: int, ema: bool = False
) -> TrainState:
  """Return the state before the first step, a function of the seed.

  Args:
    model: the network.
    optimizer: its optimizer.
    seed: of the initial parameters.
    ema: True for a state with a moving average of the parameters.
  """
  variables = init_variables(model, seed)
  params = variables['params']
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=jax.jit(optimizer.init)(params),
    batch_stats=variables.get('batch_stats', {}),
    ema_params=jax.tree.map(jnp.copy, params) if ema else {},
  )
