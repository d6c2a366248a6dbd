"""A paper's table as Markdown and CSV, with the published number beside each measured one."""

import csv
import dataclasses
import io
from collections.abc import Mapping
from typing import Any

from gfn_jax.evaluation.paper_tables import BICUBIC, METRICS, Table
from gfn_jax.evaluation.table_results import Measurement, Results, Scores, Timing
from gfn_jax.ops.scores import DIGITS

_DIGITS = {**DIGITS, 'seconds': 3}

_COLUMNS = [
  *('data_set', 'row', 'title', 'parameters', 'parameters_paper'),
  *(f'{metric}{source}' for metric in METRICS for source in ('', '_paper')),
  *('protocol', 'test_set', 'images', 'weights', 'steps', 'device', 'date'),
  *('timed_device', 'timed_date'),
]
"""Columns of the CSV file."""


@dataclasses.dataclass(frozen=True)
class Line:
  """Line of a table.

  Attributes:
    row: name of the row.
    title: name of the method.
    parameters: number of parameters; None if nothing is measured.
    printed: number of parameters as the paper prints it.
    measured: measured numbers by metric.
    published: the paper's numbers by metric.
    mark: reason why there are no scores, such as 'not scored'; '' otherwise.
    scores: origin of the measured scores.
    timing: origin of the measured seconds.
  """

  row: str
  title: str
  parameters: int | None = None
  printed: str = ''
  measured: Mapping[str, float] = dataclasses.field(default_factory=dict)
  published: Mapping[str, float] = dataclasses.field(default_factory=dict)
  mark: str = ''
  scores: Scores | None = None
  timing: Timing | None = None


def table_lines(table: Table, data_set: str, results: Results) -> list[Line]:
  """Return the lines of a table on a data set, in the order of its rows.

  Bicubic interpolation comes first unless the table has a row of its own for it. Its scores are
  those that were measured with the first row that has any.
  """
  measurements = results.get(data_set, {})
  scored = [found.scores for found in measurements.values() if found.scores]
  bicubic: dict[str, Any] = {'parameters': 0, 'measured': scored[0].bicubic} if scored else {}
  lines = []
  for name, row in table.rows_of(data_set).items():
    line = Line(name, row.title, printed=row.parameters, published=row.published.get(data_set, {}))
    found = measurements.get(name)
    if name == BICUBIC:
      line = dataclasses.replace(line, **bicubic)
    elif found:
      line = _with_measurement(line, found)
    elif measurements and row.network(data_set) is None:
      line = dataclasses.replace(line, mark='no network')
    if scored and row.network(data_set) and not line.scores:
      line = dataclasses.replace(line, mark='not scored')
    lines.append(line)
  if bicubic and BICUBIC not in table.rows:
    lines.insert(0, Line(BICUBIC, BICUBIC, **bicubic))
  return lines


def _with_measurement(line: Line, found: Measurement) -> Line:
  measured = dict(found.scores.means if found.scores else {})
  if found.timing:
    measured['seconds'] = found.timing.seconds
  return dataclasses.replace(
    line,
    parameters=found.parameters,
    measured=measured,
    scores=found.scores,
    timing=found.timing,
  )


def format_markdown(table: Table, results: Results) -> str:
  """Return the table as Markdown, one part for each data set, with the origin of its numbers."""
  parts = [f'# {table.title}', table.citation]
  if not any(results.values()):
    parts.append("Nothing has been measured: all numbers are the paper's.")
  for data_set, facts in table.data_sets.items():
    lines = table_lines(table, data_set, results)
    parts += [f'## {facts.title}', _grid(lines, table.decimals)]
    if origins := _origins(lines):
      parts.append('\n'.join(f'- {origin}' for origin in origins))
  titles: dict[str, list[str]] = {}
  for row in table.rows.values():
    if row.note:
      titles.setdefault(row.note, []).append(row.title)
  notes = [*table.notes, *(f'{", ".join(names)}: {note}.' for note, names in titles.items())]
  if notes:
    parts.append('\n'.join(f'- {note}' for note in notes))
  return '\n\n'.join(parts) + '\n'


def _grid(lines: list[Line], decimals: Mapping[str, int]) -> str:
  """Return the lines under headings; a column without numbers is left out."""
  titles = [f'{line.title} ({line.mark})' if line.mark else line.title for line in lines]
  counts = ['' if line.parameters is None else f'{line.parameters:,}' for line in lines]
  printed = [line.printed for line in lines]
  columns = {'method': titles, 'parameters': counts, 'parameters (paper)': printed}
  for metric, heading in METRICS.items():
    columns[heading] = [_measured(metric, line.measured.get(metric)) for line in lines]
    columns[f'{heading} (paper)'] = [
      _published(line.published.get(metric), decimals.get(metric)) for line in lines
    ]
  columns = {heading: cells for heading, cells in columns.items() if any(cells)}
  rows = [columns.keys(), *zip(*columns.values(), strict=True)]
  text = [f'| {" | ".join(cell or "-" for cell in row)} |' for row in rows]
  return '\n'.join([text[0], '|---' * len(columns) + '|', *text[1:]])


def _measured(metric: str, value: float | None) -> str:
  return '' if value is None else f'{value:.{_DIGITS[metric]}f}'


def _published(value: float | None, decimals: int | None) -> str:
  """Return a number with the paper's decimals; if they are unknown, with two at least."""
  if value is None:
    return ''
  return max(f'{value:.2f}', str(value), key=len) if decimals is None else f'{value:.{decimals}f}'


def _origins(lines: list[Line]) -> list[str]:
  """Return sentences about the measured numbers, one for all rows with the same origin."""
  found: dict[str, list[str]] = {}
  for line in lines:
    if scores := line.scores:
      *names, last = (METRICS[key] for key in scores.means)
      text = (
        f'{", ".join(names)} and {last}: {scores.images:,} images of '
        f'{scores.inputs.test_set["name"]}, protocol {scores.inputs.protocol}, {scores.device}, '
        f'JAX {scores.jax}, {scores.date}'
      )
      steps = '' if scores.steps is None else f', {scores.steps:,} steps'
      title = f'{line.title} (weights {scores.inputs.weights[:8]}{steps})'
      found.setdefault(text, []).append(title)
  for line in lines:
    if timing := line.timing:
      height, width = timing.inputs.size
      text = (
        f'seconds: forward pass on an image of {width}x{height}, median of {timing.inputs.rounds}, '
        f'{timing.inputs.device}, JAX {timing.inputs.jax}, {timing.date}'
      )
      found.setdefault(text, []).append(line.title)
  return [f'{text}; {", ".join(titles)}.' for text, titles in found.items()]


def format_csv(table: Table, results: Results) -> str:
  """Return all numbers as CSV, one row for each method on each data set."""
  text = io.StringIO(newline='')
  writer = csv.DictWriter(text, _COLUMNS)
  writer.writeheader()
  for data_set in table.data_sets:
    for line in table_lines(table, data_set, results):
      writer.writerow(_csv_row(data_set, line))
  return text.getvalue()


def _csv_row(data_set: str, line: Line) -> dict[str, Any]:
  row: dict[str, Any] = {
    'data_set': data_set,
    'row': line.row,
    'title': line.title,
    'parameters': line.parameters,
  }
  row |= {'parameters_paper': line.printed, **line.measured}
  row |= {f'{metric}_paper': value for metric, value in line.published.items()}
  if scores := line.scores:
    row |= {
      'protocol': scores.inputs.protocol,
      'test_set': scores.inputs.test_set['name'],
      'images': scores.images,
      'weights': scores.inputs.weights,
      'steps': scores.steps,
      'device': scores.device,
      'date': scores.date,
    }
  if timing := line.timing:
    row |= {'timed_device': timing.inputs.device, 'timed_date': timing.date}
  return row
