"""Convolutions in bfloat16 on CPUs, through oneDNN.

XLA's own convolutions gain nothing from bfloat16 on a CPU. With an option that JAX 0.12 brought,
XLA hands them to oneDNN, which uses the processor's instructions for it (AVX512_BF16 or AMX): whole
networks are twice as fast as in float32 (`benchmarks/results/light_cpu.json`).
"""

import functools
import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

import jax

_OPTION = 'xla_cpu_experimental_onednn_custom_call'
_FIRST_JAX = (0, 12)  # JAX 0.10 accepts the option and ignores it
_CPUINFO = pathlib.Path('/proc/cpuinfo')
_FLAGS = {'avx512_bf16', 'amx_bf16'}


@functools.cache
def has_bfloat16() -> bool:
  """Return True if this machine's CPU computes in bfloat16; always False outside Linux on x86."""
  try:
    lines = _CPUINFO.read_text().splitlines()
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
  if jax.__version_info__[:2] < _FIRST_JAX or not has_bfloat16() or not _has_option():
    return None
  return {_OPTION: True}


@functools.cache
def _has_option() -> bool:
  """Return True if XLA takes the option, which is experimental and may go; else say so once."""
  try:
    jax.jit(lambda x: x, compiler_options={_OPTION: True})(0.0)
  except jax.errors.JaxRuntimeError as error:
    reason = str(error).partition('\n')[0]
    print(f'bfloat16 without oneDNN, which is slower: {reason}', file=sys.stderr)
    return False
  return True


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
