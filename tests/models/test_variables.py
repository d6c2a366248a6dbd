import jax
import jax.numpy as jnp
import numpy as np

from gfn_jax.models import create_model, init_variables, variable_shapes
from tests import small


def test_initial_parameters_are_those_of_flax():
  model = create_model(**small.MODEL)
  params = init_variables(model, seed=3)['params']
  expected = jax.jit(model.init)(jax.random.key(3), jnp.zeros((1, 16, 16, 3)))['params']
  assert jax.tree.structure(params) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
  shapes = jax.tree.map(lambda p: (p.shape, p.dtype), params)
  assert shapes == jax.tree.map(lambda p: (p.shape, p.dtype), variable_shapes(model)['params'])


def test_what_is_compiled_afterwards_is_optimised():
  option = 'jax_disable_most_optimizations'
  before = jax.config.read(option)
  init_variables(create_model(**small.MODEL), seed=0)['params']
  assert jax.config.read(option) == before
