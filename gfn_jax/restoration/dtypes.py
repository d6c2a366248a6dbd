"""Types of the computation of a restoration: which one the commands take by themselves.

bfloat16 is twice as fast on CPUs that have it, and rounds more. So it is taken where measurements
show no loss, for 8-bit images only. Evaluation and parity compute in the network's own type.
"""

import os

from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system import cpu_bfloat16
from gfn_jax.weights.cards import read_card
from gfn_jax.weights.pretrained import weights_path

MAX_CHANGE = 0.01
"""Largest change of the mean PSNR against float32, in dB, that bfloat16 may cause."""

MIN_PIXELS = 2**19
"""Pixels of input from which bfloat16 is faster than float32 in a new process. Its programs are
compiled in every process; those of float32 come from the persistent cache."""

INTERCHANGEABLE = ('bfloat16', 'float32')
"""Types whose results count as equal if `keeps_result`."""


def keeps_result(weights: str | os.PathLike) -> bool:
  """Return True if bfloat16 is known to keep the results of trained weights.

  `python -m benchmarks.restoring_dtype` measures it for each output of a network. The card of the
  weights has the figures, as `bfloat16`.

  Args:
    weights: a path or a name, as for `load_pretrained`.
  """
  card = read_card(weights_path(weights)) or {}
  changes = card.get('bfloat16')
  if not isinstance(changes, dict) or not changes:
    return False
  return all(isinstance(x, int | float) and abs(x) <= MAX_CHANGE for x in changes.values())


def faster_dtype(weights: str | os.PathLike, pixels: float = float('inf')) -> str | None:
  """Return the type to compute 8-bit images in, or None for the network's own.

  Args:
    weights: see `keeps_result`.
    pixels: pixels that this process restores, if known.

  Returns:
    'bfloat16' if this machine's CPU is faster with it, the result stays the same and the work makes
    up for the compilation.
  """
  fast = pixels >= MIN_PIXELS and computes_bfloat16() and keeps_result(weights)
  return 'bfloat16' if fast else None


def computes_bfloat16() -> bool:
  """Return True if convolutions in bfloat16 are faster here than in float32."""
  return cpu_bfloat16.compiler_options('bfloat16') is not None


def describe(restorer: Restorer) -> str:
  """Return a line that names the types of a restorer's computation."""
  network = type(restorer.model).__name__
  if restorer.dtype_8bit == restorer.dtype:
    return f'{network} computes in {restorer.dtype}'
  return (
    f'{network} computes in {restorer.dtype_8bit}, and in {restorer.dtype} for images of more than '
    f'8 bits (--dtype={restorer.dtype}: for all)'
  )
