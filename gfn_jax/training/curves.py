"""Picture of a run's curves."""

import io
import os
from collections.abc import Mapping, Sequence

from gfn_jax.system.files import write_file

_PANELS = {
  'loss': ('loss', 'loss_'),  # and its terms, 'loss_...'
  'test PSNR (dB)': ('test/psnr', 'test/bicubic_psnr', 'test/input_psnr'),
  'learning rate': ('learning_rate',),  # and those of modules, 'learning_rate/...'
}
_LOGARITHMIC = ('loss', 'learning rate')


def _belongs(key: str, name: str) -> bool:
  """Return whether a scalar is one of a name, or of a prefix that ends in '_'."""
  return key == name or key.startswith(name if name.endswith('_') else f'{name}/')


def write_curves(path: str | os.PathLike, rows: Sequence[Mapping[str, float]]) -> None:
  """Draw losses, PSNR and learning rates over the steps, as far as there are any.

  Args:
    path: PNG file, written whole or not at all.
    rows: rows of `metrics.jsonl`: `step` and some scalars each.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  keys = sorted({key for row in rows for key in row})
  panels = {
    title: [key for name in names for key in keys if _belongs(key, name)]
    for title, names in _PANELS.items()
  }
  panels = {title: names for title, names in panels.items() if names}
  if not panels:
    return
  figure = Figure(figsize=(8, 2.6 * len(panels)), layout='constrained')
  FigureCanvasAgg(figure)
  for axes, (title, names) in zip(
    figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0], panels.items(), strict=True
  ):
    for name in names:
      points = [(row['step'], row[name]) for row in rows if name in row]
      # One point alone is no line.
      axes.plot(*zip(*points, strict=True), marker='.' if len(points) < 50 else '', label=name)
    axes.set_ylabel(title)
    if title in _LOGARITHMIC and any(row.get(name, 0) > 0 for row in rows for name in names):
      axes.set_yscale('log')
    axes.grid(alpha=0.3)
    axes.legend()
  axes.set_xlabel('step')
  png = io.BytesIO()
  figure.savefig(png, format='png', dpi=100)
  write_file(path, png.getvalue())
