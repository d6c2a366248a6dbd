"""Flags of XLA for tests, of which compiling takes most of the time."""

from importlib import metadata

COMPILE_FAST = '--xla_backend_optimization_level=0'
if tuple(map(int, metadata.version('jax').split('.')[:2])) < (0, 12):
  # Without XLA's own emitters of fusions, which later versions cannot switch off, a third less.
  COMPILE_FAST += ' --xla_cpu_use_fusion_emitters=false'
