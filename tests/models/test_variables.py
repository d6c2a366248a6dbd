import jax
import jax.numpy as jnp
import numpy as np

from gfn_jax.models import SRResNet, create_model, init_variables, variable_shapes
from tests import small


def test_initial_parameters_are_those_of_flax():
  model = create_model(**small.SR_BRANCH)
  params = init_variables(model, seed=3)['params']
  expected = jax.jit(model.init)(jax.random.key(3), jnp.zeros((1, 16, 16, 3)))['params']
  assert jax.tree.structure(params) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)
  shapes = jax.tree.map(lambda p: (p.shape, p.dtype), params)
  assert shapes == jax.tree.map(lambda p: (p.shape, p.dtype), variable_shapes(model)['params'])


class FailsForward(SRResNet):
  """Fails when its forward pass is computed."""

  def __call__(self, lr_blur, train=False):
    output = super().__call__(lr_blur, train)
    shape = jax.ShapeDtypeStruct(output.hr.shape, output.hr.dtype)
    return output.replace(hr=jax.pure_callback(self.fail, shape, output.hr))

  def fail(self, image):
    raise AssertionError('the forward pass was computed')


def test_no_forward_pass_is_computed_for_initial_parameters():
  options = {'features': 4, 'blocks': 1}
  found, expected = (init_variables(model(**options), 0) for model in (FailsForward, SRResNet))
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_array_equal(a, b)


def test_what_is_compiled_afterwards_is_optimised():
  option = 'jax_disable_most_optimizations'
  before = jax.config.read(option)
  init_variables(create_model(**small.MODEL), seed=0)['params']
  assert jax.config.read(option) == before
