"""Variables of a network: Flax's dictionary of collections, `params` and maybe `batch_stats`."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import flax.core
import jax
import jax.numpy as jnp

from gfn_jax.models.base import RestorationModel


def init_variables(model: RestorationModel, seed: int) -> dict[str, Any]:
  """Return the initial variables of a network, float32, as a function of the seed."""
  lr_blur = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
  # Lazily: computes the variables only, and compiles layers of the same shapes once.
  with _quick_compilation():
    return flax.core.unfreeze(model.lazy_init(jax.random.key(seed), lr_blur))


@contextlib.contextmanager
def _quick_compilation() -> Iterator[None]:
  """Skip XLA's optimisations on CPUs, which take a second for each shape of normal numbers."""
  option = 'jax_disable_most_optimizations'
  before = jax.config.read(option)
  jax.config.update(option, before or jax.default_backend() == 'cpu')
  try:
    yield
  finally:
    jax.config.update(option, before)


def variable_shapes(model: RestorationModel) -> dict[str, Any]:
  """Return `init_variables` as a pytree of `jax.ShapeDtypeStruct`, without computing anything."""
  return flax.core.unfreeze(_variable_shapes(model))  # the caller's own dicts, in their order


@functools.lru_cache(maxsize=64)
def _variable_shapes(model: RestorationModel) -> dict[str, Any]:
  # Tracing a large network takes seconds, and a run needs its shapes at each checkpoint.
  lr_blur = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
  return jax.eval_shape(model.init, jax.random.key(0), lr_blur)


def param_count(variables: Mapping[str, Any]) -> int:
  """Return the number of parameters, without running statistics.

  Args:
    variables: variables of a network, arrays or shapes.
  """
  return sum(leaf.size for leaf in jax.tree.leaves(variables.get('params', {})))
