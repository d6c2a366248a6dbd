"""Devices that are not here, and what a program compiled for them does."""

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
_FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast'}  # these move nothing


def find_devices(platform: str, topology: str) -> list[Any]:
  """Devices to compile for.

  Raises:
    UserError: if the description cannot be read or the platform's package does not know it.
  """
  if platform == 'cpu':
    return jax.local_devices()[:1]
  jax.config.update('jax_platforms', 'cpu')  # for all but the compilation
  try:
    if platform == 'tpu':
      os.environ['TPU_SKIP_MDS_QUERY'] = '1'  # there is no host to ask
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
  """What the operations of a compiled program read and write.

  Args:
    program: as XLA prints it. Of a loop, one pass is counted.

  Returns:
    By kind, that with the most bytes first: how many, and `gb` of their inputs and outputs.
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
  """Bytes of an array such as `f32[2,3]{1,0}`, or of a tuple of them."""
  arrays = re.findall(r'[a-z]+(\d*)\w*\[([\d,]*)\]', text)  # bits, none for a truth value
  sizes = (math.prod(map(int, filter(None, shape.split(',')))) for _, shape in arrays)
  return sum(int(bits or 8) * size // 8 for (bits, _), size in zip(arrays, sizes, strict=True))
