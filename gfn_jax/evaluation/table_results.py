"""Measured numbers of a paper's table, in a JSON file that can be read back."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from gfn_jax.errors import UserError, first_line
from gfn_jax.evaluation.paper_tables import Table
from gfn_jax.system.files import printable, read_file, write_json

FORMAT = 1
"""Version of the format of the file."""


@dataclasses.dataclass(frozen=True)
class ScoreInputs:
  """Everything that scores depend on, but for rounding.

  Attributes:
    protocol: how images are compared.
    test_set: facts about the images, with their `name`.
    weights: SHA-256 of the weights.
    lpips: SHA-256 of each file of LPIPS.
  """

  protocol: str
  test_set: Mapping[str, Any]
  weights: str
  lpips: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Scores:
  """Mean scores of a network on a test set.

  Attributes:
    inputs: what they depend on.
    means: `psnr`, `ssim` and maybe `lpips`.
    bicubic: the same for bicubic interpolation.
    images: number of images.
    steps: training steps of the weights; None if their card does not say.
    device: kind of the device.
    jax: version of JAX.
    date: day of the measurement, YYYY-MM-DD.
  """

  inputs: ScoreInputs
  means: Mapping[str, float]
  bicubic: Mapping[str, float]
  images: int
  steps: int | None
  device: str
  jax: str
  date: str


@dataclasses.dataclass(frozen=True)
class TimingInputs:
  """Everything that a time depends on, but for other load.

  Attributes:
    size: height and width of the LR image.
    rounds: number of runs.
    device: kind of the device.
    jax: version of JAX.
  """

  size: tuple[int, int]
  rounds: int
  device: str
  jax: str


@dataclasses.dataclass(frozen=True)
class Timing:
  """Time of a network's forward pass.

  Attributes:
    inputs: what it depends on.
    seconds: the median.
    date: day of the measurement, YYYY-MM-DD.
  """

  inputs: TimingInputs
  seconds: float
  date: str


@dataclasses.dataclass(frozen=True)
class Measurement:
  """Measured numbers of a row on a data set.

  Attributes:
    parameters: number of parameters of the network.
    scores: None for a row without weights.
    timing: None if it has not been timed.
  """

  parameters: int
  scores: Scores | None = None
  timing: Timing | None = None


Results = dict[str, dict[str, Measurement]]
"""Measurements by data set and row."""


def write_results(path: str | os.PathLike, name: str, results: Results) -> None:
  """Write the measurements of a table.

  Args:
    path: the JSON file.
    name: name of the table.
    results: the measurements.
  """
  data_sets = {
    data_set: {row: dataclasses.asdict(measurement) for row, measurement in rows.items()}
    for data_set, rows in results.items()
  }
  write_json(path, {'format_version': FORMAT, 'table': name, 'data_sets': data_sets})


def read_results(path: str | os.PathLike, name: str, table: Table) -> Results:
  """Read what `write_results` wrote; without the file, return no measurements.

  Args:
    path: the JSON file.
    name: name of the table.
    table: the table.

  Raises:
    UserError: if the file is damaged, of another version or table, or has other rows.
  """
  file = printable(path)
  try:
    content = json.loads(read_file(path))
    found, version = str(content['table']), content['format_version']
    data_sets = content['data_sets'] if (found, version) == (name, FORMAT) else {}
    results = {
      str(data_set): {str(row): _measurement(entry) for row, entry in rows.items()}
      for data_set, rows in data_sets.items()
    }
  except FileNotFoundError:
    return {}
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'cannot read {file}: {first_line(error)}; delete it') from error
  except (AttributeError, KeyError, TypeError) as error:
    raise UserError(f'cannot read {file}: not the measurements of a table; delete it') from error
  if (found, version) != (name, FORMAT):
    raise UserError(
      f'{file} has the table {found!r} in format {version!r}, not {name!r} in format {FORMAT}; '
      'choose another folder'
    )
  for data_set, rows in results.items():
    known = table.rows_of(data_set) if data_set in table.data_sets else {}
    if unknown := sorted(rows.keys() - known.keys()):
      raise UserError(f'{file}: {name} has no row {unknown[0]!r} on {data_set!r}; delete the file')
  return results


def _measurement(entry: Mapping[str, Any]) -> Measurement:
  """Return a measurement, with the type of each value checked or converted."""
  scores, timing = entry['scores'], entry['timing']
  return Measurement(
    parameters=int(entry['parameters']),
    scores=None if scores is None else _scores(scores),
    timing=None if timing is None else _timing(timing),
  )


def _scores(entry: Mapping[str, Any]) -> Scores:
  inputs = entry['inputs']
  return Scores(
    inputs=ScoreInputs(
      protocol=str(inputs['protocol']),
      test_set={'name': str(inputs['test_set']['name']), **inputs['test_set']},
      weights=str(inputs['weights']),
      lpips=tuple(map(str, inputs['lpips'])),
    ),
    means={str(key): float(value) for key, value in entry['means'].items()},
    bicubic={str(key): float(value) for key, value in entry['bicubic'].items()},
    images=int(entry['images']),
    steps=None if entry['steps'] is None else int(entry['steps']),
    device=str(entry['device']),
    jax=str(entry['jax']),
    date=str(entry['date']),
  )


def _timing(entry: Mapping[str, Any]) -> Timing:
  inputs = entry['inputs']
  height, width = map(int, inputs['size'])
  return Timing(
    inputs=TimingInputs(
      size=(height, width),
      rounds=int(inputs['rounds']),
      device=str(inputs['device']),
      jax=str(inputs['jax']),
    ),
    seconds=float(entry['seconds']),
    date=str(entry['date']),
  )
