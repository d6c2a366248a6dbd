"""Windows of equal size that cover an image, so that a network sees no more than one at a time."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from gfn_jax.errors import UserError

STEP = 32
"""Sides of windows are multiples of it: few sizes, and so few programs to compile."""


@dataclasses.dataclass(frozen=True)
class Window:
  """A part of an image, and the part of that which it contributes to the result.

  Attributes:
    seen: rows and columns that the network sees.
    kept: rows and columns that are kept, those farthest from where the window cuts the image.
  """

  seen: tuple[slice, slice]
  kept: tuple[slice, slice]


def check_tile(tile: int, overlap: int) -> None:
  """Checks the two options.

  Raises:
    UserError: if `tile` is no multiple of `STEP`, `overlap` none of `STEP / 2`, or not smaller.
  """
  if tile < STEP or tile % STEP:
    raise UserError(f'tile {tile}: pass a multiple of {STEP}')
  if overlap < 0 or overlap % (STEP // 2):
    raise UserError(f'overlap {overlap}: pass a multiple of {STEP // 2}, or 0')
  if tile <= overlap:
    raise UserError(
      f'tile {tile} is not larger than overlap {overlap}: pass another tile or overlap'
    )


def plan_windows(
  size: tuple[int, int], tile: int, overlap: int, stride: int
) -> tuple[tuple[int, int], list[Window]]:
  """Divides an image into windows of one size.

  A window lies within the image, where the image is not smaller than the window; then what the
  network does at the image's border happens at the border and nowhere else.

  Args:
    size: height and width of the image, multiples of `stride`.
    tile: largest side of a window.
    overlap: pixels that neighbours share, at least; each keeps its half of them.
    stride: of the network; windows begin at multiples of it. Divides `STEP / 2`.

  Returns:
    Height and width of the windows, and the windows, row by row.
  """
  (height, rows), (width, columns) = (_plan_axis(n, tile, overlap, stride) for n in size)
  windows = [
    Window((row_seen, column_seen), (row_kept, column_kept))
    for row_seen, row_kept in rows
    for column_seen, column_kept in columns
  ]
  return (height, width), windows


def _plan_axis(
  size: int, tile: int, overlap: int, stride: int
) -> tuple[int, list[tuple[slice, slice]]]:
  """The side of the windows and, for each, what it sees and what is kept."""
  count = 1 if size <= tile else -(-(size - overlap) // (tile - overlap))
  side = -(-(size + (count - 1) * overlap) // count)  # the least that suffices
  side += -side % STEP
  last = max(0, size - side)
  starts = [last * i // max(1, count - 1) // stride * stride for i in range(count)]
  stops = [min(start + side, size) for start in starts]
  cuts = [(stop + start) // 2 for stop, start in zip(stops[:-1], starts[1:], strict=True)]
  kept = [slice(*ends) for ends in zip([0, *cuts], [*cuts, size], strict=True)]
  return side, [(slice(*seen), keep) for *seen, keep in zip(starts, stops, kept, strict=True)]


def batches(windows: list[Window], batch_size: int) -> Iterator[list[Window]]:
  """Groups of `batch_size` windows; the last can be smaller."""
  for i in range(0, len(windows), batch_size):
    yield windows[i : i + batch_size]


def cut_out(image: np.ndarray, window: Window, shape: tuple[int, int]) -> np.ndarray:
  """What a window sees of `[h, w, C]`, with zeros beyond the image, as `[*shape, C]`."""
  part = image[window.seen]
  if part.shape[:2] == shape:
    return part
  padding = [(0, n - m) for n, m in zip(shape, part.shape, strict=False)]
  return np.pad(part, [*padding, (0, 0)])


def put_in(image: np.ndarray, window: Window, restored: np.ndarray, scale: int) -> None:
  """Writes what is kept of a restored window, `scale` times larger, to its place in `image`.

  What lies beyond the image is dropped.
  """
  offsets = [seen.start for seen in window.seen]
  source = tuple(
    slice(scale * (kept.start - offset), scale * (kept.stop - offset))
    for kept, offset in zip(window.kept, offsets, strict=True)
  )
  target = image[tuple(slice(scale * kept.start, scale * kept.stop) for kept in window.kept)]
  target[...] = restored[source][: target.shape[0], : target.shape[1]]
