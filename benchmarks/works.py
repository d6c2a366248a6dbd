"""What the speed benchmarks run: the network and a training step, ours and PyTorch's.

A work is a function without arguments that returns when the device is done. Only a training step
gives something: its loss.
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
from gfn_jax.models import as_variables
from gfn_jax.system import parallel
from gfn_jax.training import loop, losses
from gfn_jax.training.optimizers import make_optimizer

OURS = {
  'cpu': {'jax': {}},
  'gpu': {
    'jax bfloat16': {'dtype': 'bfloat16'},
    'jax tf32': {},
    'jax float32': {'precision': 'highest'},
  },
  'tpu': {'jax bfloat16': {'dtype': 'bfloat16'}, 'jax float32': {'precision': 'highest'}},
}
"""Options of the network that are timed, by platform."""

LEARNING_RATE = 1e-4

Work = Callable[[], Any]


def inference_works(model: nn.Module, params: Any, x: np.ndarray, peer: bool) -> dict[str, Work]:
  """Restoring images `[B, h, w, 3]` with each of our types, and in PyTorch."""
  variants = OURS[jax.default_backend()].items()
  works = {name: inference_work(model.clone(**options), params, x) for name, options in variants}
  if peer:
    torch_gfn, network = load_peer(model, params)
    for name, variant in torch_gfn.VARIANTS[torch_gfn.device()].items():
      works[name] = torch_gfn.inference_work(network, variant, x)
  return works


def train_works(
  model: nn.Module, params: Any, batch: Mapping[str, np.ndarray], peer: bool
) -> dict[str, Work]:
  """The next step on a batch with each of our types, and in PyTorch; each call gives the loss."""
  variants = OURS[jax.default_backend()].items()
  works = {name: train_work(model.clone(**options), params, batch) for name, options in variants}
  if peer:
    torch_gfn, network = load_peer(model, params)
    for name, variant in torch_gfn.VARIANTS[torch_gfn.device()].items():
      works[name] = torch_gfn.train_work(network, variant, batch, LEARNING_RATE)
  return works


def inference_work(model: nn.Module, params: Any, x: np.ndarray) -> Work:
  """Restores images that are on the device; the results stay there."""
  forward = jax.jit(lambda params, x: model.apply(as_variables(params), x))
  on_device = jnp.asarray(x)

  def work():
    jax.block_until_ready(forward(params, on_device))

  return work


def train_work(model: nn.Module, params: Any, batch: Mapping[str, np.ndarray]) -> Work:
  """One step of Adam on GFN's loss, without clipping; gives the loss."""
  optimizer, step = optimizer_and_step(model)
  state = loop.create_train_state(model, optimizer, seed=0)
  states = [parallel.replicate(state.replace(params=jax.tree.map(jnp.copy, params)))]
  step = parallel.parallel_step(step)
  on_device = parallel.shard(batch)

  def work():
    state, scalars = jax.block_until_ready(step(states.pop(), on_device))
    states.append(state)
    return scalars['loss']

  return work


def optimizer_and_step(model: nn.Module) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
  """Adam, and the step of `train_work`, for one device."""
  optimizer = make_optimizer(0.9, 0.999, 1e-8, clip_norm=0.0)
  step = functools.partial(
    loop.train_step,
    model=model,
    optimizer=optimizer,
    learning_rate=optax.constant_schedule(LEARNING_RATE),
    loss=functools.partial(losses.restoration_loss, lr_weight=0.5),
  )
  return optimizer, step


def load_peer(model: nn.Module, params: Any) -> tuple[Any, Any]:
  """The module `torch_gfn`, and the network in PyTorch, which gives the same images.

  Raises:
    UserError: if PyTorch is missing or does not see the device, or the images differ.
  """
  torch_gfn = import_peer()
  torch_gfn.device()
  network = torch_gfn.load(model, params)
  torch_gfn.check_same(model, params, network)
  return torch_gfn, network


def import_peer() -> Any:
  """The module `torch_gfn`.

  Raises:
    UserError: if PyTorch is missing.
  """
  try:
    from benchmarks import torch_gfn
  except ImportError as error:
    raise UserError(
      f"the peer needs {error.name}: pip install 'gfn_jax[benchmark]', or pass --nopeer"
    ) from error
  return torch_gfn


def check_losses(first_losses: Mapping[str, float]) -> None:
  """Checks that the first losses agree: to 1e-3, or 5% with types of 16 or 19 bits.

  Raises:
    UserError: if they do not.
  """
  expected = next(iter(first_losses.values()))
  for name, loss in first_losses.items():
    tolerance = 5e-2 if 'bfloat16' in name or 'tf32' in name else 1e-3
    if not abs(loss / expected - 1) <= tolerance:
      raise UserError(f'the first loss of {name!r} is {loss}, not {expected}')


def matmul_works(side: int) -> dict[str, Work]:
  """A product of square matrices for each of our types, named as they are."""

  def work(dtype: Any = jnp.float32, precision: Any = None) -> Work:
    x = jnp.ones((side, side), dtype)
    product = jax.jit(lambda x: jnp.matmul(x, x, precision=precision))
    return lambda: jax.block_until_ready(product(x))

  variants = OURS[jax.default_backend()].items()
  return {f'matmul {name}': work(**options) for name, options in variants}


def forward_flops(model: nn.Module, params: Any, shape: tuple[int, ...]) -> float:
  """Floating-point operations of the network on an input of `[B, h, w, 3]`, by XLA's count."""
  forward = jax.jit(lambda params, x: model.apply(as_variables(params), x))
  return forward.lower(params, jax.ShapeDtypeStruct(shape, jnp.float32)).cost_analysis()['flops']


def noise(*shape: int) -> np.ndarray:
  """Images in [0, 1]; the time does not depend on what is seen."""
  return np.random.default_rng(0).random(shape, np.float32)


def noise_batch(size: int, side: int) -> dict[str, np.ndarray]:
  """Patches as the datasets give them, `side` pixels of the input wide."""
  sides = {'lr_blur': side, 'lr': side, 'hr': 4 * side}
  return {key: noise(size, side, side, 3) for key, side in sides.items()}
