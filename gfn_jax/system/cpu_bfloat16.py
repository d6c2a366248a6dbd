"""Convolutions in bfloat16 on CPUs, through oneDNN.

XLA's own convolutions are no faster in bfloat16 on a CPU. An option of JAX 0.12 and later passes
them to oneDNN, which uses the processor's bfloat16 instructions (AVX512_BF16 or AMX). Whole
networks are then twice as fast as in float32 (`benchmarks/results/light_cpu.json`).
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from gfn_jax.system.console import print_message
from gfn_jax.system.ignored_warnings import ignored_warnings

_OPTION = 'xla_cpu_experimental_onednn_custom_call'
_FIRST_JAX = (0, 12)  # JAX 0.10 accepts the option and ignores it
_CPUINFO = pathlib.Path('/proc/cpuinfo')
_FLAGS = {'avx512_bf16', 'amx_bf16'}
_failed: list[Exception] = []  # errors of programs with the option


@functools.cache
def has_bfloat16() -> bool:
  """Return True if this machine's CPU computes in bfloat16; False if it is not x86 Linux."""
  try:
    lines = _CPUINFO.read_text().splitlines()
  except OSError:
    return False
  flags = next((line for line in lines if line.startswith('flags')), '')
  return bool(_FLAGS & set(flags.split()))


def compiler_options(dtype: jax.typing.DTypeLike) -> dict[str, bool] | None:
  """Return the `compiler_options` of `jax.jit` for a network that computes in `dtype`.

  Args:
    dtype: type of the network's computations, such as 'bfloat16'.

  Returns:
    The option that enables oneDNN's convolutions, or None on GPUs and TPUs, for other types, and
    where the processor or the version of JAX lacks support.
  """
  if jax.default_backend() != 'cpu' or jax.numpy.dtype(dtype) != jax.numpy.bfloat16:
    return None
  if jax.__version_info__[:2] < _FIRST_JAX or not has_bfloat16() or not _has_option():
    return None
  return None if _failed else {_OPTION: True}


def give_up(error: Exception) -> bool:
  """Disable oneDNN for the rest of the process after a program failed, with a message.

  Args:
    error: the program's error.

  Returns:
    True if the program may be tried again, without the option; False if it had none.
  """
  if compiler_options('bfloat16') is None:
    return False
  _failed.append(error)
  _report(error)
  return True


def _report(error: Exception) -> None:
  reason = str(error).partition('\n')[0]
  print_message(f'bfloat16 is computed without oneDNN, which is slower: {reason}')


@functools.cache
def _has_option() -> bool:
  """Return True if XLA accepts the experimental option; otherwise print a warning, once."""
  try:
    jax.jit(lambda x: x, compiler_options={_OPTION: True})(0.0)
  except jax.errors.JaxRuntimeError as error:
    _report(error)
    return False
  return True


def without_cache_warning(function: Callable[..., Any]) -> Callable[..., Any]:
  """Return `function` without JAX's warning that programs with oneDNN calls cannot be cached.

  Such programs compile in seconds, so that the persistent cache is not missed.
  """

  @functools.wraps(function)
  def call(*args: Any, **kwargs: Any) -> Any:
    with ignored_warnings('Error writing persistent compilation cache entry'):
      return function(*args, **kwargs)

  return call
