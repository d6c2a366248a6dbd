"""What the speed benchmarks share: work in turns, ratios, and a record of where it ran."""

import dataclasses
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.system.files import write_json


@dataclasses.dataclass
class Seconds:
  """How long one kind of work took.

  Attributes:
    first: the first call, which compiles.
    first_result: what it gave.
    wall: each further call.
    cpu: the same in the time of this process's processors, all its threads together.
  """

  first: float = 0.0
  first_result: Any = None
  wall: list[float] = dataclasses.field(default_factory=list)
  cpu: list[float] = dataclasses.field(default_factory=list)


def time_in_turns(works: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Seconds]:
  """Calls each work once, then all in turns, so that what else the machine does meets all alike.

  Args:
    works: each returns when it is done.
    rounds: timed calls of each.
  """
  seconds = {name: Seconds() for name in works}
  for number in tqdm(range(1 + rounds)):
    for name, work in works.items():
      wall, cpu = time.perf_counter(), time.process_time()
      result = work()
      wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
      if number:
        seconds[name].wall.append(wall)
        seconds[name].cpu.append(cpu)
      else:
        seconds[name].first, seconds[name].first_result = wall, result
  return seconds


def summarize(
  seconds: Mapping[str, Seconds], platform: str, flops: float, matmul_side: int
) -> dict[str, dict[str, Any]]:
  """Medians for each work, and how ours compare with the peers and with plain matrix products.

  Args:
    seconds: of works named 'jax...', 'torch...' and, for each of ours, 'matmul jax...'.
    platform: as JAX names it; processor time is told for CPUs only.
    flops: floating-point operations of a work.
    matmul_side: of the matrices.

  Returns:
    By work: `seconds`, `first_call`, on CPUs `cpu_seconds`, `tflops`; of ours `times`, by peer,
    which is below 1 where ours takes less time, `cpu_times`, and `share_of_matmul`, the speed as a
    part of a matrix product's.
  """
  summary = {}
  peers = [name for name in seconds if name.startswith('torch')]
  for name, ours in seconds.items():
    is_matmul = name.startswith('matmul')
    work_flops = 2 * matmul_side**3 if is_matmul else flops
    row = {'seconds': statistics.median(ours.wall), 'first_call': ours.first}
    row['tflops'] = work_flops / row['seconds'] / 1e12
    if platform == 'cpu':
      row['cpu_seconds'] = statistics.median(ours.cpu)
    summary[name] = {key: digits(value) for key, value in row.items()}
    if not name.startswith('jax'):
      continue
    matmul = ratio(seconds[f'matmul {name}'].wall, ours.wall)
    summary[name]['share_of_matmul'] = digits(matmul * flops / (2 * matmul_side**3))
    summary[name]['times'] = {p: digits(ratio(ours.wall, seconds[p].wall)) for p in peers}
    if platform == 'cpu':
      summary[name]['cpu_times'] = {p: digits(ratio(ours.cpu, seconds[p].cpu)) for p in peers}
  return summary


def ratio(numerators: list[float], denominators: list[float]) -> float:
  """The median over the rounds of the ratio within a round."""
  return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def digits(value: float) -> float:
  """A figure with three significant digits."""
  return float(f'{value:.3g}')


def matmul_side(platform: str) -> int:
  """Of matrices that keep the device busy for long enough."""
  return 2048 if platform == 'cpu' else 8192


def parse_size(text: str) -> tuple[int, int]:
  """'320x180' to 320 and 180."""
  try:
    width, height = map(int, text.split('x'))
  except ValueError:
    raise UserError(f'size {text!r}: pass WIDTHxHEIGHT, such as 320x180') from None
  if min(width, height) < 4 or width % 4 or height % 4:
    raise UserError(f'size {text!r}: the peer takes multiples of 4')
  return width, height


def machine(note: str) -> dict[str, Any]:
  """Where it ran, with which versions, and what else was going on."""
  versions = {'jax': jax.__version__}
  for package in ('jaxlib', 'flax', 'torch'):
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  device = jax.local_devices()[0]
  return {
    'device': f'1 x {device.device_kind}',
    'cpus': len(os.sched_getaffinity(0)),
    'load_average': [round(load, 1) for load in os.getloadavg()],
    'note': note,
    'versions': versions,
  }


def report(figures: dict[str, Any], output: str | None) -> None:
  """Prints the figures, and writes them if a file is named."""
  print(json.dumps(figures, indent=2))
  if output:
    write_json(output, figures)
