"""Plot of PSNR against seconds and parameters, as Figure 4 of the GFN paper."""

import io
import os
from typing import TYPE_CHECKING

from gfn_jax.evaluation.paper_tables import BICUBIC, Table
from gfn_jax.evaluation.table_format import Line, table_lines
from gfn_jax.evaluation.table_results import Results
from gfn_jax.system.files import write_file

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_WIDTH, _HEIGHT, _DPI = 7.0, 2.6, 200  # inches, for each data set; pixels per inch
_MARKERS = 'osD^vP*X<>'
_COLOURS = 10  # number of colours in matplotlib's cycle


def write_plot(path: str | os.PathLike, table: Table, results: Results) -> bool:
  """Draw the measured rows of each data set that has at least two.

  Args:
    path: PNG file, written whole or not at all.
    table: the table.
    results: the measurements.

  Returns:
    True if there was anything to draw.

  Raises:
    ImportError: if matplotlib is missing.
  """
  parts = {}
  for data_set, facts in table.data_sets.items():
    lines = table_lines(table, data_set, results)
    if len([line for line in lines if line.scores]) >= 2:
      parts[facts.title] = lines
  if not parts:
    return False
  png = io.BytesIO()
  draw_plot(parts).savefig(png, format='png')
  write_file(path, png.getvalue())
  return True


def draw_plot(parts: dict[str, list[Line]]) -> 'Figure':
  """Return a figure as wide as a page, with a row of two panels for each data set.

  Args:
    parts: for each title, the lines of a table. Those without scores are left out; bicubic
      interpolation is a dashed line.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  from matplotlib.ticker import LogLocator, NullFormatter

  figure = Figure((_WIDTH, _HEIGHT * len(parts)), dpi=_DPI, layout='constrained')
  FigureCanvasAgg(figure)
  rows = figure.subplots(len(parts), 2, sharey='row', squeeze=False)
  for (left, right), (title, lines) in zip(rows, parts.items(), strict=True):
    for number, line in enumerate(line for line in lines if line.scores):
      style = {
        'color': f'C{number % _COLOURS}',
        'marker': _MARKERS[number % len(_MARKERS)],
        'linestyle': '',
        'label': line.title,
      }
      if 'seconds' in line.measured:
        left.plot(line.measured['seconds'], line.measured['psnr'], **style)
      if line.parameters is not None:
        right.plot(line.parameters / 1e6, line.measured['psnr'], **style)
    for line in lines:
      if line.row == BICUBIC and line.measured:
        for axes in (left, right):
          axes.axhline(line.measured['psnr'], color='grey', linestyle='--', label=line.title)
    left.set_ylabel('PSNR (dB)', fontsize=8)
    for axes, label, unit in ((left, 'seconds', ''), (right, 'parameters', ' M')):
      axes.set_title(title, fontsize=8)
      axes.set_xlabel(label, fontsize=8)
      axes.set_xscale('log')
      axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
      axes.xaxis.set_major_formatter('{x:g}' + unit)
      axes.xaxis.set_minor_formatter(NullFormatter())
      axes.tick_params(labelsize=7)
      axes.grid(alpha=0.3)
    right.legend(fontsize=7, loc='center left', bbox_to_anchor=(1.02, 0.5), frameon=False)
  return figure
