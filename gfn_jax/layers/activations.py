"""ReLU and leaky ReLU with gradients computed from their outputs, as PyTorch's in-place versions.

JAX's own gradients need the inputs, which are then kept in memory beside the outputs that the next
convolution needs. cuDNN fuses a ReLU with a convolution only if nothing else reads its input.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Float


@jax.custom_jvp
def relu(x: Float[jax.Array, '*shape']) -> Float[jax.Array, '*shape']:
  """Return `max(x, 0)`. The gradient at 0 is 0."""
  return jax.lax.max(x, jnp.zeros_like(x))  # jax2onnx would make jnp.maximum float64


# Not y > 0, which XLA would rewrite as x > 0.
relu.defjvps(lambda tangent, y, x: jnp.where(y == 0, 0, tangent))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def leaky_relu(
  x: Float[jax.Array, '*shape'], negative_slope: float = 0.2
) -> Float[jax.Array, '*shape']:
  """Return `x` where it is positive, else `negative_slope * x`. The gradient at 0 is 1.

  Args:
    x: the input.
    negative_slope: number above 0, so that the output has the sign of the input.
  """
  return jnp.where(x >= 0, x, negative_slope * x)


@leaky_relu.defjvp
def _leaky_relu_jvp(
  negative_slope: float, primals: Sequence[jax.Array], tangents: Sequence[jax.Array]
) -> tuple[jax.Array, jax.Array]:
  [x], [tangent] = primals, tangents
  y = leaky_relu(x, negative_slope)
  return y, jnp.where(y >= 0, tangent, negative_slope * tangent)
