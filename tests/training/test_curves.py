import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from gfn_jax.training.curves import write_curves


@pytest.fixture
def drawn(monkeypatch):
  """The figures that are saved."""
  figures = []
  savefig = matplotlib.figure.Figure.savefig

  def save(figure, *args, **options):
    figures.append(figure)
    savefig(figure, *args, **options)

  monkeypatch.setattr(matplotlib.figure.Figure, 'savefig', save)
  return figures


def test_curves_have_the_values_of_the_rows(tmp_path, drawn):
  rows = [
    {'step': 1, 'loss': 0.5, 'loss_hr': 0.4, 'learning_rate': 1e-3, 'system/step_seconds': 1.0},
    {'step': 2, 'loss': 0.25, 'loss_hr': 0.2, 'learning_rate': 1e-4},
    {'step': 2, 'test/psnr': 20.0, 'test/bicubic_psnr': 19.0},
    {'step': 4, 'test/psnr': 22.0, 'test/bicubic_psnr': 19.0},
  ]
  write_curves(tmp_path / 'curves.png', rows)
  lines = {line.get_label(): line for axes in drawn[0].axes for line in axes.lines}
  assert lines.keys() == {'loss', 'loss_hr', 'learning_rate', 'test/psnr', 'test/bicubic_psnr'}
  np.testing.assert_array_equal(lines['loss'].get_xydata(), [[1, 0.5], [2, 0.25]])
  np.testing.assert_array_equal(lines['test/psnr'].get_xydata(), [[2, 20], [4, 22]])
  scales = [axes.get_yscale() for axes in drawn[0].axes]
  assert scales == ['log', 'linear', 'log']
  with Image.open(tmp_path / 'curves.png') as image:
    assert np.asarray(image).std() > 10
  assert [path.name for path in tmp_path.iterdir()] == ['curves.png']


def test_only_what_there_is_gets_a_panel(tmp_path, drawn):
  write_curves(tmp_path / 'curves.png', [{'step': 1, 'loss': 0.5}])
  assert len(drawn[0].axes) == 1


def test_zeros_are_on_no_logarithmic_scale(tmp_path, drawn):
  write_curves(tmp_path / 'curves.png', [{'step': 1, 'loss': 0.5, 'learning_rate': 0.0}])
  assert [axes.get_yscale() for axes in drawn[0].axes] == ['log', 'linear']


def test_nothing_is_drawn_of_nothing(tmp_path):
  write_curves(tmp_path / 'curves.png', [{'step': 1, 'other': 0.5}])
  assert not list(tmp_path.iterdir())


def test_every_term_of_the_losses_is_drawn(tmp_path, drawn):
  terms = ['loss_hr', 'loss_gradient', 'loss_lr', 'loss_edge', 'loss_frames', 'loss_perceptual']
  write_curves(tmp_path / 'curves.png', [{'step': 1, **{term: 0.5 for term in terms}}])
  assert {line.get_label() for line in drawn[0].axes[0].lines} == set(terms)
