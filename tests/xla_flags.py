"""Flags of XLA for tests, of which compiling takes most of the time."""

COMPILE_FAST = '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false'
"""The second, without XLA's own emitters of fusions, saves a third."""
