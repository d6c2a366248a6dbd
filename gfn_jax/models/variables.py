"""A network's parameters: drawn, counted, and as Flax takes them."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def init_params(model: nn.Module, seed: int) -> Any:
  """Initial parameters of a network, float32, a function of the seed.

  Running statistics of a batch normalisation come with them, under the key 'batch_stats', and so
  they do wherever a network's parameters are passed, but for the train state. `as_variables` makes
  of both what `model.apply` takes.
  """
  # XLA's CPU backend takes 20 s to optimise the random numbers that are drawn here only once.
  on_cpu = jax.default_backend() == 'cpu'
  options = {'xla_backend_optimization_level': 0} if on_cpu else None
  init = jax.jit(model.init, compiler_options=options)
  return from_variables(init(jax.random.key(seed), jnp.zeros((1, 16, 16, 3))))


def param_shapes(model: nn.Module) -> Any:
  """What `init_params` gives, as a pytree of `jax.ShapeDtypeStruct`; nothing is computed."""
  lr_blur = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
  return from_variables(jax.eval_shape(model.init, jax.random.key(0), lr_blur))


def param_count(params: Any) -> int:
  """Number of parameters in a pytree of arrays or shapes, `batch_stats` left out."""
  return sum(leaf.size for leaf in jax.tree.leaves(as_variables(params)['params']))


def as_variables(params: Any) -> dict[str, Any]:
  """The collections of a network, from its parameters and what `batch_stats` are among them."""
  params = dict(params)
  batch_stats = params.pop('batch_stats', {})
  return {'params': params, 'batch_stats': batch_stats}


def from_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
  """The opposite of `as_variables`; without the key 'batch_stats' if there are none."""
  batch_stats = variables.get('batch_stats')
  return dict(variables['params']) | ({'batch_stats': batch_stats} if batch_stats else {})
