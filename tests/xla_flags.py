"""Flags of XLA for tests, which spend most of their time on compilation."""

from importlib import metadata

COMPILE_FAST = '--xla_backend_optimization_level=0'
if tuple(map(int, metadata.version('jax').split('.')[:2])) < (0, 11):
  # Saves a third of the time; later versions do not have the option.
  COMPILE_FAST += ' --xla_cpu_use_fusion_emitters=false'
