"""Compilation for absent devices, and the memory traffic of compiled programs."""

import math
import os
import re
from collections import Counter
from typing import Any

import jax
from jax.experimental import topologies

from benchmarks import timing
from gfn_jax.errors import UserError
from gfn_jax.system.files import read_file

_LINE = re.compile(r'\s+(?:ROOT )?%(\S+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)(?:, |$)')
_FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast'}  # without memory traffic


def find_devices(platform: str, topology: str) -> list[Any]:
  """Return the devices to compile for.

  Args:
    platform: 'cpu', 'cuda' or 'tpu'.
    topology: name of a TPU topology, or file with the description of a GPU.

  Raises:
    UserError: if the file cannot be read, or the platform's package rejects the topology.
  """
  if platform == 'cpu':
    return jax.local_devices()[:1]
  jax.config.update('jax_platforms', 'cpu')  # for everything but the compilation
  try:
    if platform == 'tpu':
      os.environ['TPU_SKIP_MDS_QUERY'] = '1'  # no TPU host can be queried
      return topologies.get_topology_desc(topology, platform).devices
    config = read_file(topology).decode()
    os.environ['JAX_SKIP_CUDA_CONSTRAINTS_CHECK'] = '1'
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_gpu_autotune_level=0'
    options = dict(topology='1 x 1 x 1', target_config=config)
    return topologies.get_topology_desc('', platform, **options).devices
  except (OSError, RuntimeError, NotImplementedError, ValueError) as error:
    reason = str(error).partition('\n')[0]
    raise UserError(f'cannot compile for {platform} {topology!r}: {reason}') from error


def summarize(program: str) -> dict[str, dict[str, float]]:
  """Count the operations of a compiled program and the bytes that they read and write.

  Args:
    program: text of the program from XLA. A loop is counted as one iteration.

  Returns:
    `count` and `gb` of inputs and outputs, by kind of operation in descending order of bytes.
  """
  types, counts, moved = {}, Counter(), Counter()
  entry = program[program.index('\nENTRY') :].splitlines()[1:]
  for name, result, operation, operands in map(
    re.Match.groups, filter(None, map(_LINE.match, entry))
  ):
    types[name] = result
    if operation not in _FREE:
      kind = re.sub(r'[.\d]+$', '', name)
      counts[kind] += 1
      inputs = (types[operand] for operand in re.findall(r'%([^\s,)]+)', operands))
      moved[kind] += sum(map(type_bytes, [result, *inputs]))
  return {
    kind: {'count': counts[kind], 'gb': timing.digits(size / 1e9)}
    for kind, size in moved.most_common()
  }


def type_bytes(text: str) -> int:
  """Return the bytes of an array such as `f32[2,3]{1,0}`, or of a tuple of arrays."""
  arrays = re.findall(r'[a-z]+(\d*)\w*\[([\d,]*)\]', text)  # the bits are absent for pred
  sizes = (math.prod(map(int, filter(None, shape.split(',')))) for _, shape in arrays)
  return sum(int(bits or 8) * size // 8 for (bits, _), size in zip(arrays, sizes, strict=True))
