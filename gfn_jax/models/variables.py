"""Variables of a network: Flax's dictionary of collections, `params` and maybe `batch_stats`."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
from jax.extend import core

from gfn_jax.models.base import RestorationModel


def init_variables(model: RestorationModel, seed: int) -> dict[str, Any]:
  """Return the initial variables of a network, float32, as a function of the seed."""
  inputs = jax.random.key(seed), jnp.zeros((1, 16, 16, 3), jnp.float32)
  program, shapes = jax.make_jaxpr(model.init, return_shape=True)(*inputs)
  # One operation after the other, so that layers of the same shapes are compiled once.
  with _quick_compilation():
    leaves = core.jaxpr_as_fun(_without_forward_pass(program))(*inputs)
  return flax.core.unfreeze(jax.tree.unflatten(jax.tree.structure(shapes), leaves))


def _without_forward_pass(program: core.ClosedJaxpr) -> core.ClosedJaxpr:
  """Return a program with the equations only that its results depend on."""
  needed = {result for result in program.jaxpr.outvars if isinstance(result, core.Var)}
  equations = []
  for equation in reversed(program.jaxpr.eqns):
    if not needed.isdisjoint(equation.outvars):
      needed.update(value for value in equation.invars if isinstance(value, core.Var))
      equations.append(equation)
  return core.ClosedJaxpr(program.jaxpr.replace(eqns=equations[::-1]), program.consts)


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
