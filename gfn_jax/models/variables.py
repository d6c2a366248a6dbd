"""A network's parameters: drawn, counted, and as Flax takes them."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp


def init_params(model: nn.Module, seed: int) -> Any:
  """Initial parameters of a network, float32, a function of the seed.

  Running statistics of a batch normalisation come with them, under the key 'batch_stats', and so
  they do wherever a network's parameters are passed, but for the train state. `as_variables` makes
  of both what `model.apply` takes.
  """
  lr_blur = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
  # Nothing but the parameters is computed, and of layers with the same shapes one is compiled.
  with _quick_compilation():
    return from_variables(model.lazy_init(jax.random.key(seed), lr_blur))


@contextlib.contextmanager
def _quick_compilation() -> Iterator[None]:
  """On CPUs, for what runs only once: XLA's takes a second to optimise each shape of normals."""
  option = 'jax_disable_most_optimizations'
  before = jax.config.read(option)
  jax.config.update(option, before or jax.default_backend() == 'cpu')
  try:
    yield
  finally:
    jax.config.update(option, before)


def param_shapes(model: nn.Module) -> Any:
  """What `init_params` gives, as a pytree of `jax.ShapeDtypeStruct`; nothing is computed."""
  return flax.core.unfreeze(_param_shapes(model))  # the caller's own dicts, in their order


@functools.lru_cache(maxsize=64)
def _param_shapes(model: nn.Module) -> Any:
  # Tracing a large network takes seconds, and a run needs its shapes with each checkpoint.
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
