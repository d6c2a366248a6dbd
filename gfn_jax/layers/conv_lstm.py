"""Convolutional LSTM."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.blocks import ModuleDef

State = tuple[Float[jax.Array, 'b _ _ _'], Float[jax.Array, 'b _ _ _']]
"""The cell and the hidden state of a ConvLSTM, both of its input's shape."""


class ConvLSTM(nn.Module):
  """One step of a convolutional LSTM (Shi et al. 2015), without peepholes.

  Flax's `ConvLSTMCell` has the same equations, but two convolutions, with two biases or none.

  Attributes:
    features: channels of the input, of both states and of the output.
    conv: makes a convolution.
    kernel_init: initialiser of the kernel.
  """

  features: int
  conv: ModuleDef
  kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()

  @nn.compact
  def __call__(
    self, state: State, x: Float[jax.Array, 'b h w f']
  ) -> tuple[State, Float[jax.Array, 'b h w f']]:
    """Map the states and the input to new states and the output."""
    cell, hidden = state
    conv = self.conv(
      4 * self.features, (3, 3), padding=1, kernel_init=self.kernel_init, name='gates'
    )
    gates = conv(jnp.concatenate([x, hidden], axis=-1))  # [B, h, w, 4F]
    enter, new, keep, show = jnp.split(gates, 4, axis=-1)
    cell = cell * nn.sigmoid(keep + 1) + nn.sigmoid(enter) * jnp.tanh(new)
    hidden = jnp.tanh(cell) * nn.sigmoid(show)
    return (cell, hidden), hidden
