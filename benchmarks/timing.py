"""Timing in turns, ratios and a record of the machine, for the speed benchmarks."""

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
  """Durations of a workload in seconds.

  Attributes:
    first: wall time of the first call, which compiles.
    first_result: result of the first call.
    wall: wall time of each further call.
    cpu: processor time of each further call, summed over all threads of this process.
  """

  first: float = 0.0
  first_result: Any = None
  wall: list[float] = dataclasses.field(default_factory=list)
  cpu: list[float] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Measured:
  """Times and result of a workload that ran in another process.

  Attributes:
    wall: its wall time in seconds.
    cpu: its processor time in seconds.
    result: its result.
  """

  wall: float
  cpu: float
  result: Any


def time_in_turns(workloads: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Seconds]:
  """Call each workload once, then all in turns, so that other load affects all alike.

  Args:
    workloads: functions that return when the device has finished.
    rounds: number of timed calls of each.
  """
  seconds = {name: Seconds() for name in workloads}
  for number in tqdm(range(1 + rounds)):
    for name, workload in workloads.items():
      wall, cpu = time.perf_counter(), time.process_time()
      result = workload()
      wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
      if isinstance(result, Measured):
        wall, cpu, result = result.wall, result.cpu, result.result
      if number:
        seconds[name].wall.append(wall)
        seconds[name].cpu.append(cpu)
      else:
        seconds[name].first, seconds[name].first_result = wall, result
  return seconds


def summarize(
  seconds: Mapping[str, Seconds], platform: str, flops: float, matmul_side: int
) -> dict[str, dict[str, Any]]:
  """Return medians, and ratios of JAX to PyTorch and to plain matrix products.

  Args:
    seconds: durations of workloads named 'jax...', 'torch...' and, for each of JAX, 'matmul
      jax...'.
    platform: JAX's name of the platform; processor time is reported on CPUs only.
    flops: floating-point operations of a workload.
    matmul_side: side of the matrices.

  Returns:
    For each workload `seconds`, `first_call`, `tflops`, and on CPUs `cpu_seconds`. Workloads of JAX
    also have `times`, the ratio to each of PyTorch, below 1 if JAX is faster; on CPUs the same as
    `cpu_times`; and `share_of_matmul`, the speed relative to a matrix product.
  """
  summary = {}
  peers = [name for name in seconds if name.startswith('torch')]
  for name, ours in seconds.items():
    is_matmul = name.startswith('matmul')
    workload_flops = 2 * matmul_side**3 if is_matmul else flops
    row = {'seconds': statistics.median(ours.wall), 'first_call': ours.first}
    row['tflops'] = workload_flops / row['seconds'] / 1e12
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
  """Return the median over the rounds of the ratio within a round."""
  return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def digits(value: float) -> float:
  """Round a figure to three significant digits."""
  return float(f'{value:.3g}')


def matmul_side(platform: str) -> int:
  """Return the side of matrices that are large enough to time."""
  return 2048 if platform == 'cpu' else 8192


def parse_size(text: str) -> tuple[int, int]:
  """Parse a width and height such as '320x180'."""
  try:
    width, height = map(int, text.split('x'))
  except ValueError:
    raise UserError(f'size {text!r}: pass WIDTHxHEIGHT, such as 320x180') from None
  if min(width, height) < 4 or width % 4 or height % 4:
    raise UserError(f'size {text!r}: PyTorch requires multiples of 4')
  return width, height


def machine(note: str) -> dict[str, Any]:
  """Return the device, the load of the machine and the versions, for the record."""
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
  """Print the figures, and write them if `output` is set."""
  print(json.dumps(figures, indent=2))
  if output:
    write_json(output, figures)
