"""What a training step changes."""

from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class TrainState:
  """Step, parameters and optimiser state; everything else is a function of the step.

  Attributes:
    step: number of steps taken, int32 scalar.
    params: the network's parameters, float32.
    opt_state: optax's state.
    batch_stats: running statistics of batch normalisations; empty for most networks.
    ema_params: exponential moving average of `params`; empty if there is none.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  batch_stats: Any
  ema_params: Any
