"""Convolutions in bfloat16 on CPUs, through oneDNN.

XLA's own convolutions gain nothing from bfloat16 on a CPU. With an option that JAX 0.12 brought,
XLA hands them to oneDNN, which uses the processor's instructions for it (AVX512_BF16 or AMX): two
to three times as fast as float32.
"""

import functools
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import jax

_OPTION = 'xla_cpu_experimental_onednn_custom_call'
_FIRST_JAX = (0, 12)  # JAX 0.10 knows the option and ignores it; earlier ones refuse it
_FLAGS = {'avx512_bf16', 'amx_bf16'}


@functools.cache
def has_bfloat16() -> bool:
  """Return True if this machine's CPU computes in bfloat16; always False outside Linux on x86."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return False
  flags = next((line for line in lines if line.startswith('flags')), '')
  return bool(_FLAGS & set(flags.split()))


def compiler_options(dtype: jax.typing.DTypeLike) -> dict[str, bool] | None:
  """Return what `jax.jit(..., compiler_options=...)` needs for a network that computes in `dtype`.

  Args:
    dtype: of the network's computations, such as 'bfloat16'.

  Returns:
    The option that enables oneDNN's convolutions, or None on GPUs and TPUs, for other types, and
    where the processor or the version of JAX lacks support.
  """
  if jax.default_backend() != 'cpu' or jax.numpy.dtype(dtype) != jax.numpy.bfloat16:
    return None
  return {_OPTION: True} if jax.__version_info__[:2] >= _FIRST_JAX and has_bfloat16() else None


def without_cache_warning(function: Callable[..., Any]) -> Callable[..., Any]:
  """Return `function` without JAX's warning that it cannot cache a program with calls of oneDNN.

  Such programs are compiled in seconds, so that the persistent cache is not missed.
  """

  @functools.wraps(function)
  def call(*args, **kwargs):
    with warnings.catch_warnings():
      warnings.filterwarnings('ignore', 'Error writing persistent compilation cache entry')
      return function(*args, **kwargs)

  return call
