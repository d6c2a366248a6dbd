"""Convolutions whose weight gradients are fast on CPUs; elsewhere they are JAX's own.

XLA's CPU backend takes 2 to 8 times as long for the weight gradient of a 3x3 convolution as for the
convolution itself. As nine matrix products, one a tap, it takes about half of that.
"""

from typing import Any

import jax
import jax.numpy as jnp

_MIN_WORK = 512  # input times output channels: below, XLA's gradient is the faster one


def conv_general_dilated(
  lhs: jax.Array, rhs: jax.Array, window_strides: Any, padding: Any, **options: Any
) -> jax.Array:
  """`jax.lax.conv_general_dilated`, for `flax.linen.Conv`'s attribute of that name.

  On CPUs the larger 3x3 convolutions can be differentiated in reverse mode only.
  """
  height, width, in_features, features = rhs.shape
  plain = tuple(window_strides) == (1, 1) and _only_defaults(options)
  if (
    jax.default_backend() != 'cpu'
    or not plain
    or (height, width) != (3, 3)
    or list(map(tuple, padding)) != [(1, 1), (1, 1)]
    or in_features * features < _MIN_WORK
  ):
    return jax.lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
  return _conv3x3(lhs, rhs)


def _only_defaults(options: dict[str, Any]) -> bool:
  ones = all(set(options.get(key) or (1,)) == {1} for key in ('lhs_dilation', 'rhs_dilation'))
  groups = options.get('feature_group_count', 1)
  return ones and groups == 1 and options.get('precision') is None


@jax.custom_vjp
def _conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """`[B, H, W, I]` and `[3, 3, I, O]` to `[B, H, W, O]`, padded with zeros."""
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _conv3x3(x, kernel), (x, kernel)


def _backward(
  residuals: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, kernel = residuals
  grad_x = _conv3x3(grad, kernel[::-1, ::-1].swapaxes(2, 3))
  height, width = x.shape[1:3]
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  grad = grad.reshape(-1, grad.shape[-1])  # [B * H * W, O]

  def tap(i: int, j: int) -> jax.Array:
    shifted = padded[:, i : i + height, j : j + width]
    return shifted.reshape(-1, x.shape[-1]).T @ grad  # [I, O]

  return grad_x, jnp.stack([jnp.stack([tap(i, j) for j in range(3)]) for i in range(3)])


_conv3x3.defvjp(_forward, _backward)
