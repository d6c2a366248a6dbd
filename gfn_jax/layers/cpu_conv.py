"""Convolutions with fast weight gradients on CPUs; on other devices, JAX's own.

A weight gradient is a convolution of the input with the output's gradient, a kernel as large as an
image. XLA's CPU backend copies such a kernel more than once. Computed in pieces that fit into the
cache, it is as fast as the forward convolution. The weight gradient of a transposed convolution
takes XLA's CPU backend fifty times as long as the equal one of the corresponding strided
convolution.

In bfloat16 the weight gradient is JAX's own: XLA passes it, like the other convolutions, to oneDNN
(`gfn_jax.system.cpu_bfloat16`).
"""

import functools
from collections.abc import Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

_PIECE_BYTES = 2**19  # of the output's gradient; the fastest of 1/4 to 2 MiB

_DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


def conv_general_dilated(
  lhs: jax.Array, rhs: jax.Array, window_strides: Any, padding: Any, **options: Any
) -> jax.Array:
  """Convolve as `jax.lax.conv_general_dilated`, for the attribute of `flax.linen.Conv`.

  On CPUs, convolutions that keep the size can be differentiated in reverse mode only.
  """
  height, width = rhs.shape[:2]
  same = [(height // 2, height // 2), (width // 2, width // 2)]
  if (
    jax.default_backend() != 'cpu'
    or tuple(window_strides) != (1, 1)
    or not _only_defaults(options)
    or not height % 2 == width % 2 == 1
    or height == width == 1
    or list(map(tuple, padding)) != same
  ):
    return jax.lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
  return _conv(lhs, rhs, options.get('precision'))


def _only_defaults(options: dict[str, Any]) -> bool:
  ones = all(set(options.get(key) or (1,)) == {1} for key in ('lhs_dilation', 'rhs_dilation'))
  groups = options.get('feature_group_count', 1)
  return ones and groups == 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: jax.Array, kernel: jax.Array, precision: Any) -> jax.Array:
  """Convolve `[B, H, W, I]` with `[h, w, I, O]`, h and w odd, to `[B, H, W, O]`, zero-padded."""
  return _plain_conv(x, kernel, precision)


def _plain_conv(x: jax.Array, kernel: jax.Array, precision: Any) -> jax.Array:
  padding = [(size // 2, size // 2) for size in kernel.shape[:2]]
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), padding, dimension_numbers=_DIMENSIONS, precision=precision
  )


def _forward(
  x: jax.Array, kernel: jax.Array, precision: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _conv(x, kernel, precision), (x, kernel)


def _backward(
  precision: Any, residuals: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, kernel = residuals
  height, width, in_features, features = kernel.shape
  grad_x = _conv(grad, kernel[::-1, ::-1].swapaxes(2, 3), precision)
  if x.dtype == jnp.bfloat16:
    _, transpose = jax.vjp(functools.partial(_plain_conv, x, precision=precision), kernel)
    return grad_x, *transpose(grad)
  if features < in_features:  # use the smaller one as the image
    swapped = _correlate(grad, x, height, width)
    grad_kernel = swapped[::-1, ::-1].swapaxes(2, 3)
  else:
    grad_kernel = _correlate(x, grad, height, width)
  return grad_x, grad_kernel.astype(kernel.dtype)


_conv.defvjp(_forward, _backward)


def _correlate(x: jax.Array, y: jax.Array, height: int, width: int) -> jax.Array:
  """Correlate `[B, H, W, I]` with `[B, H, W, O]` at each shift, to `[h, w, I, O]`.

  Works through pieces of `y`, each some rows of one image.
  """
  b, h, w, in_features = x.shape
  features = y.shape[-1]
  pieces = max(1, -(-h * w * features * y.dtype.itemsize // _PIECE_BYTES))  # per image
  rows = -(-h // pieces)
  pieces = -(-h // rows)
  missing = pieces * rows - h
  x = jnp.pad(x, ((0, 0), (height // 2, height // 2 + missing), (width // 2, width // 2), (0, 0)))
  y = jnp.pad(y, ((0, 0), (0, missing), (0, 0), (0, 0)))

  def add_piece(total: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
    start = (i // pieces, i % pieces * rows, 0, 0)
    image = jax.lax.dynamic_slice(x, start, (1, rows + height - 1, *x.shape[2:]))
    kernel = jax.lax.dynamic_slice(y, start, (1, rows, *y.shape[2:]))
    # The channels become the batch, and the image the only channel.
    image, kernel = image.transpose(3, 1, 2, 0), kernel.transpose(1, 2, 0, 3)
    piece = jax.lax.conv_general_dilated(
      image, kernel, (1, 1), 'VALID', dimension_numbers=_DIMENSIONS
    )
    return total + piece, None

  zeros = jnp.zeros((in_features, height, width, features), jnp.promote_types(x.dtype, jnp.float32))
  total, _ = jax.lax.scan(add_piece, zeros, jnp.arange(b * pieces))
  return total.transpose(1, 2, 0, 3)


class ConvTranspose(nn.ConvTranspose):
  """Transposed convolution that enlarges by its stride, with the parameters of Flax's layer.

  Both strides are the same number s. Of the `(n - 1) * s + k` pixels that a kernel of side k makes
  of n, `(k - s + 1) // 2` are cut at the start and `(k - s) // 2` at the end, as in the authors'
  PyTorch code: s * n are left.
  """

  @nn.compact
  def __call__(
    self, inputs: Float[jax.Array, 'b h w i']
  ) -> Float[jax.Array, 'b height width {self.features}']:
    """Enlarge features."""
    kernel_size = cast(Sequence[int], self.kernel_size)  # not one integer, as for 1-D layers
    shape = (*kernel_size, inputs.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape, self.param_dtype)
    bias = self.param('bias', self.bias_init, (self.features,), self.param_dtype)
    promoted = self.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
    x, kernel, bias = cast(list[jax.Array], promoted)  # None only for a None
    enlarge = _enlarge if jax.default_backend() == 'cpu' else _plain_enlarge
    stride = cast(Sequence[int], self.strides)[0]
    return enlarge(x, kernel, stride, self.precision) + bias[None, None, None]


def _plain_enlarge(x: jax.Array, kernel: jax.Array, stride: int, precision: Any) -> jax.Array:
  """Convolve `[B, H, W, I]` with `[h, w, I, O]`, transposed, to `[B, s * H, s * W, O]`."""
  padding = [
    ((size + stride - 2) // 2, (size + stride - 1) // 2)  # of the input with s - 1 zeros between
    for size in kernel.shape[:2]
  ]
  return jax.lax.conv_transpose(x, kernel, (stride, stride), padding, precision=precision)


_enlarge = jax.custom_vjp(_plain_enlarge, nondiff_argnums=(2, 3))


def _enlarge_forward(
  x: jax.Array, kernel: jax.Array, stride: int, precision: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _plain_enlarge(x, kernel, stride, precision), (x, kernel)


def _enlarge_backward(
  stride: int, precision: Any, residuals: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, kernel = residuals

  def shrink(kernel: jax.Array) -> jax.Array:  # `_enlarge` is its transpose
    padding = [((size - stride + 1) // 2, (size - stride) // 2) for size in kernel.shape[:2]]
    kernel = kernel[::-1, ::-1].swapaxes(2, 3)
    return jax.lax.conv_general_dilated(
      grad,
      kernel,
      (stride, stride),
      padding,
      dimension_numbers=_DIMENSIONS,
      precision=precision,
    )

  grad_x, transpose = jax.vjp(shrink, kernel)
  return grad_x, *transpose(x)


_enlarge.defvjp(_enlarge_forward, _enlarge_backward)
