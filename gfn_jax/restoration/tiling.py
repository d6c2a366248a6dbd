"""Division of images into overlapping windows of one size, which a network sees one at a time."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from gfn_jax.errors import UserError

STEP = 32
"""Sides of windows are multiples of 32, so that the network is compiled for few sizes."""


@dataclasses.dataclass(frozen=True)
class Window:
  """A part of an image.

  Attributes:
    seen: rows and columns that the network sees.
    kept: rows and columns of the result that are kept. Neighbours are cut in the middle of their
      overlap.
  """

  seen: tuple[slice, slice]
  kept: tuple[slice, slice]


def check_tile(tile: int, overlap: int) -> None:
  """Raise unless a tile and an overlap are valid.

  Raises:
    UserError: if `tile` is not a multiple of `STEP`, `overlap` is not a multiple of `STEP / 2`, or
      `overlap` is not smaller than `tile`.
  """
  if tile < STEP or tile % STEP:
    raise UserError(f'tile {tile}: pass a multiple of {STEP}')
  if overlap < 0 or overlap % (STEP // 2):
    raise UserError(f'overlap {overlap}: pass a multiple of {STEP // 2}, or 0')
  if tile <= overlap:
    raise UserError(
      f'tile {tile} is not larger than overlap {overlap}: pass a larger tile or a smaller overlap'
    )


def plan_windows(
  size: tuple[int, int], tile: int, overlap: int, stride: tuple[int, int]
) -> tuple[tuple[int, int], list[Window]]:
  """Divide an image into windows of one size.

  Windows lie within the image unless it is smaller than a window. So the network pads at the
  image's border and nowhere else.

  Args:
    size: height and width of the image, multiples of the strides.
    tile: largest side of a window.
    overlap: smallest number of pixels that neighbours share; each keeps half of them.
    stride: the network's strides, which divide `STEP / 2`. Windows begin at multiples of them.

  Returns:
    Height and width of the windows, and the windows, row by row.
  """
  (height, rows), (width, columns) = (
    _plan_axis(n, tile, overlap, step) for n, step in zip(size, stride, strict=True)
  )
  windows = [
    Window((row_seen, column_seen), (row_kept, column_kept))
    for row_seen, row_kept in rows
    for column_seen, column_kept in columns
  ]
  return (height, width), windows


def _plan_axis(
  size: int, tile: int, overlap: int, stride: int
) -> tuple[int, list[tuple[slice, slice]]]:
  """Return the side of the windows and, for each, the seen and the kept range."""
  count = 1 if size <= tile else -(-(size - overlap) // (tile - overlap))
  side = -(-(size + (count - 1) * overlap) // count)  # the smallest that covers the image
  side += -side % STEP
  last = max(0, size - side)
  starts = [last * i // max(1, count - 1) // stride * stride for i in range(count)]
  stops = [min(start + side, size) for start in starts]
  cuts = [(stop + start) // 2 for stop, start in zip(stops[:-1], starts[1:], strict=True)]
  kept = [slice(*ends) for ends in zip([0, *cuts], [*cuts, size], strict=True)]
  return side, [(slice(*seen), keep) for *seen, keep in zip(starts, stops, kept, strict=True)]


def batches(windows: list[Window], batch_size: int) -> Iterator[list[Window]]:
  """Yield groups of `batch_size` windows; the last one may be smaller."""
  for i in range(0, len(windows), batch_size):
    yield windows[i : i + batch_size]


def cut_out(image: np.ndarray, window: Window, shape: tuple[int, int]) -> np.ndarray:
  """Return the seen part of `[h, w, C]`, with zeros beyond the image, as `[*shape, C]`."""
  part = image[window.seen]
  if part.shape[:2] == shape:
    return part
  padding = [(0, n - m) for n, m in zip(shape, part.shape, strict=False)]
  return np.pad(part, [*padding, (0, 0)])


def put_in(image: np.ndarray, window: Window, restored: np.ndarray, scale: int) -> None:
  """Write the kept part of a restored window to its place in `image`.

  Args:
    image: the result, `[scale * h, scale * w, ...]`. Pixels beyond it are dropped.
    window: the window.
    restored: its result, `scale` times larger than the window.
    scale: the network's scale.
  """
  offsets = [seen.start for seen in window.seen]
  source = tuple(
    slice(scale * (kept.start - offset), scale * (kept.stop - offset))
    for kept, offset in zip(window.kept, offsets, strict=True)
  )
  target = image[tuple(slice(scale * kept.start, scale * kept.stop) for kept in window.kept)]
  target[...] = restored[source][: target.shape[0], : target.shape[1]]
