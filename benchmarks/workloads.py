"""Workloads of the speed benchmarks: inference and training steps in JAX and in PyTorch.

A workload is a function without arguments that returns when the device has finished. A training
step returns its loss, the others return None.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from gfn_jax.errors import UserError
from gfn_jax.system import cpu_bfloat16, parallel
from gfn_jax.training.losses import LossTerm, make_loss
from gfn_jax.training.optimizers import OTHERS, make_optimizer
from gfn_jax.training.train_state import create_train_state
from gfn_jax.training.train_step import train_step

OURS = {
  'cpu': {'jax': {}, 'jax bfloat16': {'dtype': 'bfloat16'}},
  'gpu': {
    'jax bfloat16': {'dtype': 'bfloat16'},
    'jax tf32': {},
    'jax float32': {'precision': 'highest'},
  },
  'tpu': {'jax bfloat16': {'dtype': 'bfloat16'}, 'jax float32': {'precision': 'highest'}},
}
"""Network options to time, by platform."""

LEARNING_RATE = 1e-4

Workload = Callable[[], Any]


def inference_workloads(
  model: nn.Module, variables: Mapping[str, Any], x: np.ndarray
) -> dict[str, Workload]:
  """Return a workload for each data type that restores images `[B, h, w, 3]` in [0, 1]."""
  variants = OURS[jax.default_backend()].items()
  return {
    name: inference_workload(model.clone(**options), variables, x) for name, options in variants
  }


def train_workloads(
  model: nn.Module, variables: Any, batch: Mapping[str, np.ndarray]
) -> dict[str, Workload]:
  """Return a workload for each data type that takes a training step on a batch of `noise_batch`."""
  variants = OURS[jax.default_backend()].items()
  return {
    name: train_workload(model.clone(**options), variables, batch) for name, options in variants
  }


def inference_workload(model: nn.Module, variables: Mapping[str, Any], x: np.ndarray) -> Workload:
  """Return a workload that restores images from and to device memory."""
  forward = jax.jit(
    lambda variables, x: model.apply(variables, x),
    compiler_options=cpu_bfloat16.compiler_options(model.dtype),
  )
  forward = cpu_bfloat16.without_cache_warning(forward)
  on_device = jnp.asarray(x)

  def workload():
    jax.block_until_ready(forward(variables, on_device))

  return workload


def train_workload(model: nn.Module, variables: Any, batch: Mapping[str, np.ndarray]) -> Workload:
  """Return a workload that takes one step of Adam on GFN's loss, without clipping."""
  optimizer, step = optimizer_and_step(model)
  state = create_train_state(model, optimizer, seed=0)
  states = [parallel.replicate(state.replace(params=jax.tree.map(jnp.copy, variables['params'])))]
  step = parallel.parallel_step(step, cpu_bfloat16.compiler_options(model.dtype))
  on_device = parallel.shard(batch)

  def workload():
    state, scalars = jax.block_until_ready(step(states.pop(), on_device))
    states.append(state)
    return scalars['loss']

  return workload


def optimizer_and_step(model: nn.Module) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
  """Return Adam and the step of `train_workload` for one device."""
  optimizer = make_optimizer({OTHERS: optax.constant_schedule(LEARNING_RATE)})
  step = functools.partial(train_step, model=model, optimizer=optimizer, loss=gfn_loss())
  return optimizer, step


def gfn_loss() -> tuple[LossTerm, ...]:
  """Return the loss of the GFN paper, eq. 2."""
  terms = {name: {'on': name, 'loss': 'mse', 'weight': 1.0} for name in ('hr', 'lr')}
  return make_loss(terms, {'lr': 0.5})


def check_losses(first_losses: Mapping[str, float]) -> None:
  """Check that the first losses agree: within 1e-3, or 5% with bfloat16 or TF32.

  Raises:
    UserError: if they differ by more.
  """
  expected = next(iter(first_losses.values()))
  for name, loss in first_losses.items():
    tolerance = 5e-2 if 'bfloat16' in name or 'tf32' in name else 1e-3
    if not abs(loss / expected - 1) <= tolerance:
      raise UserError(f'the first loss of {name!r} is {loss}, not {expected}')


def matmul_workloads(side: int) -> dict[str, Workload]:
  """Return a product of square matrices in each data type, named `matmul jax...`."""

  def workload(dtype: Any = jnp.float32, precision: Any = None) -> Workload:
    x = jnp.ones((side, side), dtype)
    product = jax.jit(
      lambda x: jnp.matmul(x, x, precision=precision),
      compiler_options=cpu_bfloat16.compiler_options(dtype),
    )
    product = cpu_bfloat16.without_cache_warning(product)
    return lambda: jax.block_until_ready(product(x))

  variants = OURS[jax.default_backend()].items()
  return {f'matmul {name}': workload(**options) for name, options in variants}


def forward_flops(model: nn.Module, variables: Any, shape: tuple[int, ...]) -> float:
  """Return XLA's count of floating-point operations for an input of `[B, h, w, 3]`."""
  forward = jax.jit(lambda variables, x: model.apply(variables, x))
  return forward.lower(variables, jax.ShapeDtypeStruct(shape, jnp.float32)).cost_analysis()['flops']


def noise(*shape: int) -> np.ndarray:
  """Return random images in [0, 1]; the time does not depend on the content."""
  return np.random.default_rng(0).random(shape, np.float32)


def noise_batch(size: int, side: int) -> dict[str, np.ndarray]:
  """Return a batch of patches with inputs of `side` x `side` pixels, as the datasets do."""
  sides = {'lr_blur': side, 'lr': side, 'hr': 4 * side}
  return {key: noise(size, side, side, 3) for key, side in sides.items()}
