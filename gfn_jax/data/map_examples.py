"""Synthesis of a batch, one example after the other on each core of a CPU."""

import itertools
import operator
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_MAX_LOOPS = 8  # each takes a second to compile


def map_examples(
  function: Callable[[Any], dict[str, jax.Array]], examples: Any
) -> dict[str, jax.Array]:
  """Apply a function that synthesizes one example to a batch, as `jax.vmap` does.

  On CPUs, each core makes one example after the other. A photo then stays in the cache through all
  sub-frames, and noise and motion are computed only for the examples that have them.

  Args:
    function: maps one example's part of `examples` to images.
    examples: pytree of arrays `[B, ...]`.
  """
  if jax.default_backend() != 'cpu':
    return jax.vmap(function)(examples)
  size = len(jax.tree.leaves(examples)[0])
  loops = min(size, os.cpu_count() or 1, _MAX_LOOPS)  # XLA runs each on one core, side by side
  bounds = [size * i // loops for i in range(loops + 1)]
  slices = itertools.starmap(slice, itertools.pairwise(bounds))
  parts = [jax.tree.map(operator.itemgetter(place), examples) for place in slices]
  made = [jax.lax.map(function, part) for part in parts]
  return jax.tree.map(lambda *images: jnp.concatenate(images), *made)
