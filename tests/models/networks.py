"""What the tests of networks need: parameters far from the initial ones, a photo, a jitted call."""

import functools

import jax
import numpy as np
import skimage.data

from gfn_jax.models import variable_shapes


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, x):
  return model.apply({'params': params}, x)


def random_params(model, seed=0):
  """Uniform: kernels within PyTorch's bounds, biases within 1."""
  rng = np.random.default_rng(seed)

  def fill(leaf):
    bound = np.prod(leaf.shape[:-1]) ** -0.5
    return rng.uniform(-bound, bound, leaf.shape).astype(np.float32)

  return jax.tree.map(fill, variable_shapes(model)['params'])


def photograph(h, w):
  return skimage.data.astronaut()[None, 50 : 50 + h, 200 : 200 + w].astype(np.float32) / 255
