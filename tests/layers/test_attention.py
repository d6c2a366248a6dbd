import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax.layers import attention
from gfn_jax.layers.attention import PatchAttention, attend, from_tokens, to_tokens


def normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def by_hand(query, key, value):
  scores = np.einsum('bhqd,bhkd->bhqk', query, key) / np.sqrt(query.shape[-1])
  weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
  return np.einsum('bhqk,bhkd->bhqd', weights / weights.sum(axis=-1, keepdims=True), value)


def equations(jaxpr):
  """All equations, those within others too."""
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
      if is_jaxpr(inner):
        yield from equations(getattr(inner, 'jaxpr', inner))


def is_jaxpr(value):
  return hasattr(value, 'eqns')


def test_tokens_are_patches_row_by_row():
  b, h, w, heads, f, p = 2, 4, 6, 3, 6, 2
  x = normal(b, h, w, f)
  tokens = to_tokens(x, heads, p)
  assert tokens.shape == (b, heads, (h // p) * (w // p), p * p * f // heads)
  for image, head, row, column in np.ndindex(b, heads, h // p, w // p):
    of_head = x[image, ..., 2 * head : 2 * head + 2]
    patch = of_head[row * p : row * p + p, column * p : column * p + p]
    np.testing.assert_array_equal(tokens[image, head, row * (w // p) + column], patch.ravel())
  np.testing.assert_array_equal(from_tokens(tokens, x.shape, p), x)


@pytest.mark.parametrize('queries', [1, 4, 5, 13, 20])  # in a block, of 13
def test_blocks_give_the_same_values_and_gradients(queries):
  b, heads, n, d = 2, 3, 13, 8
  tokens = [normal(b, heads, n, d, seed=seed) for seed in range(3)]
  score_bytes = queries * heads * n * 4
  out = jax.jit(lambda *tokens: attend(*tokens, score_bytes=score_bytes))(*tokens)
  np.testing.assert_allclose(out, by_hand(*tokens), atol=1e-5)

  def gradients(score_bytes):
    loss = lambda *tokens: jnp.sum(jnp.sin(attend(*tokens, score_bytes=score_bytes)))
    return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*tokens)

  for found, expected in zip(gradients(score_bytes), gradients(2**20), strict=True):
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(('width', 'height'), [(256, 256), (640, 360), (1920, 1080)])
@pytest.mark.parametrize('grad', [False, True])
def test_the_scores_have_a_bound_whatever_the_size(width, height, grad):
  n = width * height // 16
  tokens = [jax.ShapeDtypeStruct((1, 4, n, 256), jnp.float32)] * 3
  function = jax.grad(lambda *tokens: attend(*tokens).sum()) if grad else attend
  jaxpr = jax.make_jaxpr(function)(*tokens).jaxpr
  arrays = [v.aval for equation in equations(jaxpr) for v in equation.outvars]
  # The largest array without the length of a token is one of scores.
  sizes = [4 * array.size for array in arrays if array.ndim and array.shape[-1] != 256]
  assert attention.SCORE_BYTES / 2 < max(sizes) <= attention.SCORE_BYTES


def test_the_patches_of_training_are_one_block():
  for batch_size, patches, in_blocks in ((16, 1024, False), (1, 2048, False), (1, 2049, True)):
    tokens = [jax.ShapeDtypeStruct((batch_size, 4, patches, 256), jnp.float32)] * 3
    jaxpr = jax.make_jaxpr(attend)(*tokens).jaxpr
    assert in_blocks == ('scan' in {equation.primitive.name for equation in equations(jaxpr)})


@pytest.mark.parametrize('n', [10, 300])
def test_an_exported_function_takes_any_number_of_patches(n):
  shape = jax.export.symbolic_shape('B, 2, N, 8')
  exported = jax.export.export(jax.jit(attend))(*[jax.ShapeDtypeStruct(shape, jnp.float32)] * 3)
  tokens = [normal(3, 2, n, 8, seed=seed) for seed in range(3)]
  np.testing.assert_allclose(exported.call(*tokens), by_hand(*tokens), atol=1e-5)


def test_scores_of_half_precision_are_float32():
  query = jnp.full((1, 1, 1, 256), 4, jnp.bfloat16)
  key = jnp.stack([query[0, 0, 0], query[0, 0, 0].at[0].add(0.5)])[None, None]
  value = jnp.array([[[[0.0], [1.0]]]], jnp.bfloat16)
  value = jnp.broadcast_to(value, key.shape)
  out = attend(query, key, value)  # the scores are 256 and 256.125
  assert out.dtype == jnp.bfloat16
  np.testing.assert_allclose(out.astype(np.float32), 1 / (1 + np.exp(-0.125)), atol=2e-3)


def test_attention_knows_no_positions_and_sees_the_whole_image():
  x = normal(1, 8, 12, 8)
  layer = PatchAttention(heads=2, patch_size=4)
  variables = layer.init(jax.random.key(0), x)
  apply = jax.jit(layer.apply)
  out = apply(variables, x)
  rolled = np.roll(x, (4, 8), axis=(1, 2))
  np.testing.assert_allclose(apply(variables, rolled), np.roll(out, (4, 8), (1, 2)), atol=1e-5)
  changed = x.copy()
  changed[0, 0, 0] += 10
  assert np.all(np.any(np.abs(apply(variables, changed) - out) > 1e-5, axis=-1))


def test_attention_by_hand():
  x = normal(2, 4, 8, 6)
  layer = PatchAttention(heads=3, patch_size=2)
  variables = layer.init(jax.random.key(0), x)
  tokens = [
    to_tokens(x @ np.asarray(variables['params'][name]['kernel'])[0, 0], 3, 2)
    for name in ('query', 'key', 'value')
  ]
  expected = from_tokens(by_hand(*map(np.asarray, tokens)), x.shape, 2)
  np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)
