import dataclasses

import numpy as np
from PIL import Image

from gfn_jax.evaluation.table_format import table_lines
from gfn_jax.evaluation.table_plot import draw_plot, write_plot
from gfn_jax.evaluation.table_results import Measurement
from tests.evaluation.test_table_results import RESULTS, SCORES, TIMING
from tests.paper_table import TABLE

BETTER = dataclasses.replace(SCORES, means={'psnr': 27.0, 'ssim': 0.8})
MEASURED = {
  'photos': {'narrow': Measurement(1000, SCORES, TIMING), 'wide': Measurement(20_000, BETTER)}
}


def test_the_plot_has_a_point_for_each_measured_row():
  figure = draw_plot({'Photos x4': table_lines(TABLE, 'photos', MEASURED)})
  left, right = figure.axes
  assert [axes.get_xlabel() for axes in figure.axes] == ['seconds', 'parameters']
  assert [axes.get_title() for axes in figure.axes] == ['Photos x4', 'Photos x4']
  assert left.get_ylabel() == 'PSNR (dB)'
  points = [line.get_xydata().tolist() for line in left.lines[:-1]]
  assert points == [[[0.25, 25.5]]]  # the other row has not been timed
  points = {line.get_label(): line.get_xydata().tolist() for line in right.lines[:-1]}
  assert points == {'Narrow': [[0.001, 25.5]], 'Wide': [[0.02, 27.0]]}  # millions
  for axes in figure.axes:
    assert axes.lines[-1].get_ydata() == [23.5, 23.5]  # bicubic interpolation
    assert axes.get_xscale() == 'log'
  figure.canvas.draw()
  ticks = [label.get_text() for label in right.get_xticklabels()]
  assert {'0.001 M', '0.005 M', '0.02 M'} <= set(ticks)
  labels = [text.get_text() for text in right.get_legend().get_texts()]
  assert labels == ['Narrow', 'Wide', 'bicubic']
  styles = [(line.get_color(), line.get_marker()) for line in right.lines[:2]]
  assert styles == [('C0', 'o'), ('C1', 's')]


def test_the_plot_is_a_png_as_wide_as_a_page(tmp_path):
  path = tmp_path / 'table.png'
  assert write_plot(path, TABLE, MEASURED)
  with Image.open(path) as picture:
    assert picture.size == (1400, 520)
    pixels = np.asarray(picture.convert('RGB')).astype(int)
  blue, orange = (31, 119, 180), (255, 127, 14)
  for colour, least in ((blue, 2), (orange, 1)):  # in both panels, and in the legend
    assert (np.abs(pixels - colour).sum(axis=-1) < 10).sum() > least * 50
  assert [file.name for file in tmp_path.iterdir()] == ['table.png']


def test_one_measured_row_is_not_drawn(tmp_path):
  assert not write_plot(tmp_path / 'table.png', TABLE, RESULTS)
  assert not write_plot(tmp_path / 'table.png', TABLE, {})
  assert not list(tmp_path.iterdir())
