"""Exact attention between all patches of an image, in limited memory."""

from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Float

from gfn_jax.layers.blocks import ModuleDef

SCORE_BYTES = 2**26
"""Limit on the scores of an image in memory at once: enough for 2048 patches and 4 heads."""

_EXPORTED_BLOCK = 256  # queries per block if the number of patches is symbolic


class PatchAttention(nn.Module):
  """Multi-head attention whose tokens are small patches that do not overlap.

  The channels are divided among the heads. A token has all pixels of a patch in the channels of a
  head, and attends to the tokens of all patches. Positions are not encoded.

  Attributes:
    heads: number of heads, a divisor of the number of channels.
    patch_size: side of a patch, in pixels.
    conv: makes a convolution.
    precision: precision of the matrix products.
  """

  heads: int
  patch_size: int
  conv: ModuleDef = nn.Conv
  precision: Any = None

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features, sides multiples of `patch_size`, to features."""
    query, key, value = (
      to_tokens(self.conv(x.shape[-1], (1, 1), name=name)(x), self.heads, self.patch_size)
      for name in ('query', 'key', 'value')
    )
    attended = attend(query, key, value, self.precision)
    return from_tokens(attended, x.shape, self.patch_size)


def attend(
  query: Float[jax.Array, 'b heads n d'],
  key: Float[jax.Array, 'b heads n d'],
  value: Float[jax.Array, 'b heads n d'],
  precision: Any = None,
  score_bytes: int = SCORE_BYTES,
) -> Float[jax.Array, 'b heads n d']:
  """Return `softmax(query key^T / sqrt(d)) value`, computed in successive blocks of queries.

  `jax.nn.dot_product_attention` is unsuitable. Its XLA version holds all scores in memory, 3.3 GB
  for a map of 640x360. Its cuDNN version does not support float32, and on GPUs older than Hopper
  at most 128 numbers per token, while the networks here have 256.

  Args:
    query: n tokens of d numbers for each head.
    key: as `query`.
    value: as `query`.
    precision: precision of the matrix products.
    score_bytes: limit on the scores of one image in memory at once. It holds for gradients, too:
      with more than one block, the scores are computed again.

  Returns:
    Tokens of the type of `value`.
  """
  b, heads, n, d = query.shape

  def attend_block(query: jax.Array) -> jax.Array:
    scores = jnp.einsum(
      'bhqd,bhkd->bhqk', query, key, precision=precision, preferred_element_type=jnp.float32
    )
    weights = jax.nn.softmax(scores * d**-0.5).astype(value.dtype)
    return jnp.einsum('bhqk,bhkd->bhqd', weights, value, precision=precision)

  if jax.export.is_symbolic_dim(n):
    block = _EXPORTED_BLOCK
  else:
    block = max(1, score_bytes // (heads * n * 4))  # scores are float32
    if block >= n:
      return attend_block(query)
    block = -(-n // -(-n // block))  # the same number of blocks, of equal size
  count = -(-n // block)
  query = jnp.pad(query, ((0, 0), (0, 0), (0, count * block - n), (0, 0)))
  blocks = jnp.moveaxis(query.reshape(b, heads, count, block, d), 2, 0)
  out = jax.lax.map(jax.checkpoint(attend_block), blocks)  # [count, B, H, block, D]
  return jnp.moveaxis(out, 0, 2).reshape(b, heads, count * block, d)[:, :, :n]


def to_tokens(
  x: Float[jax.Array, 'b h w f'], heads: int, patch_size: int
) -> Float[jax.Array, 'b {heads} n d']:
  """Return features as tokens, patch by patch in rows.

  n is the number of patches, and `d = patch_size**2 * f / heads`.
  """
  b, h, w, f = x.shape
  p = patch_size
  x = x.reshape(b, h // p, p, w // p, p, heads, f // heads)
  x = x.transpose(0, 5, 1, 3, 2, 4, 6)  # [B, heads, h/p, w/p, p, p, F/heads]
  return x.reshape(b, heads, (h // p) * (w // p), p * p * (f // heads))


def from_tokens(
  tokens: Float[jax.Array, 'b heads n d'], shape: tuple[int, ...], patch_size: int
) -> Float[jax.Array, 'b h w f']:
  """Return features of the given shape: the inverse of `to_tokens`."""
  b, h, w, f = shape
  p, heads = patch_size, tokens.shape[1]
  x = tokens.reshape(b, heads, h // p, w // p, p, p, f // heads)
  x = x.transpose(0, 2, 4, 3, 5, 1, 6)  # [B, h/p, p, w/p, p, heads, F/heads]
  return x.reshape(b, h, w, f)
