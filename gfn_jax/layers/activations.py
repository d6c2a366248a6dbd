"""ReLU and leaky ReLU whose gradients are computed from their outputs, as PyTorch's in place.

Those of JAX are computed from the inputs, which are then kept beside the outputs that the next
convolution needs. cuDNN applies a ReLU within a convolution, if nothing else reads what is before.
"""

import functools

import jax
import jax.numpy as jnp


@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
  """`max(x, 0)`, of an array of any shape. The gradient at 0 is 0."""
  return jax.lax.max(x, jnp.zeros_like(x))  # jnp.maximum would be float64 in jax2onnx's hands


# Not y > 0: XLA would turn it back into x > 0.
relu.defjvps(lambda tangent, y, x: jnp.where(y == 0, 0, tangent))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def leaky_relu(x: jax.Array, negative_slope: float = 0.2) -> jax.Array:
  """`x` where it is positive, else `negative_slope * x`, of an array of any shape.

  The gradient at 0 is 1.

  Args:
    x: the array.
    negative_slope: above 0, so that the output has the sign of the input.
  """
  return jnp.where(x >= 0, x, negative_slope * x)


@leaky_relu.defjvp
def _leaky_relu_jvp(negative_slope, primals, tangents):
  [x], [tangent] = primals, tangents
  y = leaky_relu(x, negative_slope)
  return y, jnp.where(y >= 0, tangent, negative_slope * tangent)
