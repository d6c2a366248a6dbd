"""The networks: one file for each paper's system, `blocks.py` for what they share."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gfn_jax.errors import UserError
from gfn_jax.models.blocks import RestorationOutput
from gfn_jax.models.gfn import GFN, SRBranch

MODELS = {'gfn': GFN, 'sr_branch': SRBranch}

__all__ = ['GFN', 'MODELS', 'RestorationOutput', 'SRBranch', 'create_model', 'init_params']


def create_model(name: str, **options) -> nn.Module:
  """Makes a network by its name.

  Every network maps `lr_blur`, `[B, h, w, 3]` float in [0, 1], to a `RestorationOutput`:

      model = create_model('gfn', gate_recursions=3)
      params = model.init(jax.random.key(0), lr_blur)['params']
      output = model.apply({'params': params}, lr_blur)

  Args:
    name: a key of `MODELS`.
    **options: fields of the network's class, such as `features` or `dtype`.

  Returns:
    The Flax module.

  Raises:
    UserError: for an unknown name or option, or a value that the network refuses.
  """
  if name not in MODELS:
    raise UserError(f'unknown model {name!r}; there are {", ".join(sorted(MODELS))}')
  fields = {field.name for field in dataclasses.fields(MODELS[name])} - {'parent', 'name'}
  if unknown := sorted(set(options) - fields):
    raise UserError(
      f'model {name!r} has no option {unknown[0]!r}; it has {", ".join(sorted(fields))}'
    )
  try:
    return MODELS[name](**options)
  except (TypeError, ValueError) as error:
    raise UserError(f'model {name!r}: {error}') from error


def init_params(model: nn.Module, seed: int) -> Any:
  """Initial parameters of a network, float32, a function of the seed."""
  # XLA's CPU backend takes 20 s to optimise the random numbers that are drawn here only once.
  on_cpu = jax.default_backend() == 'cpu'
  options = {'xla_backend_optimization_level': 0} if on_cpu else None
  init = jax.jit(model.init, compiler_options=options)
  return init(jax.random.key(seed), jnp.zeros((1, 16, 16, 3)))['params']
