"""Parameters, a photograph and jitted calls for the tests of networks.

Results are NumPy arrays, because JAX compiles each operation on its own arrays.
"""

import functools

import jax
import numpy as np
import skimage.data
from flax import traverse_util

from gfn_jax.layers.blocks import Enlarge
from gfn_jax.models import variable_shapes


def apply(model, params, x):
  return jax.device_get(_apply(model, params, x))


@functools.partial(jax.jit, static_argnums=0)
def _apply(model, params, x):
  return model.apply({'params': params}, x)


def gradient(loss, params):
  """Return the gradient of a function by name, such as 'gate.conv1.kernel'."""
  return traverse_util.flatten_dict(jax.device_get(jax.jit(jax.grad(loss))(params)), sep='.')


def pyramid(model, image):
  return jax.device_get(jax.jit(model.pyramid)(image))


def enlarge(x, scale=4):
  return jax.device_get(_enlarge(x, scale))


@functools.partial(jax.jit, static_argnums=1)
def _enlarge(x, scale):
  return Enlarge(scale)(x)


def random_params(model, seed=0):
  """Uniform: kernels within PyTorch's bounds, biases within 1."""
  return random_variables(model, seed)['params']


def random_variables(model, seed=0):
  """Return `random_params` with the other collections, whose values are between 0.5 and 1.

  Unlike `init_variables`, these compile nothing, which takes longer than most uses of a network.
  """
  rng = np.random.default_rng(seed)

  def fill(path, leaf):
    bound = np.prod(leaf.shape[:-1]) ** -0.5
    low, high = (-bound, bound) if path[0].key == 'params' else (0.5, 1)
    return rng.uniform(low, high, leaf.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(fill, variable_shapes(model))


def normal_variables(model, seed=0):
  """Return variables near the initial ones: normal kernels, and others from a narrow range."""
  rng = np.random.default_rng(seed)

  def draw(leaf):
    scale = np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else 0.05
    return rng.normal(0, scale, leaf.shape).astype(np.float32)

  return jax.tree.map(draw, variable_shapes(model))


def photograph(h, w):
  return skimage.data.astronaut()[None, 50 : 50 + h, 200 : 200 + w].astype(np.float32) / 255
