"""Restoration of an image with a package in the tiles of darktable.

The tiles are written from the documents that docs/darktable.md names.
"""

import json
import zipfile

import numpy as np

OVERLAPS = {1: 64, 4: 16}
"""Pixels that darktable drops at each side of a tile, by scale."""


def read_package(path):
  """Return the id, the fields of `config.json`, and all files by their names in the folder."""
  with zipfile.ZipFile(path) as package:
    names = package.namelist()
    folder = names[0].partition('/')[0]  # darktable takes the id from the first entry
    files = {name.removeprefix(f'{folder}/'): package.read(name) for name in names}
  assert all(name.startswith(f'{folder}/') for name in names)
  return folder, json.loads(files['config.json']), files


def _mirrored(start, count, side):
  """Return `count` indices from `start`; those outside are mirrored once, then clipped."""
  index = np.abs(np.arange(start, start + count))
  index = np.where(index >= side, 2 * side - 2 - index, index)
  return np.clip(index, 0, side - 1)


def restore_in_tiles(restore, image, tile, scale):
  """Restore an image in square tiles, of which the middle is kept.

  Args:
    restore: maps a tile `[tile, tile, 3]` to one `scale` times larger.
    image: `[h, w, 3]` float32, sRGB in [0, 1].
    tile: side of the tiles.
    scale: factor between the image and the result.

  Returns:
    `[scale * h, scale * w, 3]`.
  """
  overlap, (height, width, _) = OVERLAPS[scale], image.shape
  step, cut = tile - 2 * overlap, scale * overlap
  restored = np.full((scale * height, scale * width, 3), np.nan, np.float32)
  for y in range(0, height, step):
    rows = _mirrored(y - overlap, tile, height)
    for x in range(0, width, step):
      columns = _mirrored(x - overlap, tile, width)
      middle = restore(image[rows][:, columns])[cut:-cut, cut:-cut]
      part = restored[scale * y : scale * (y + step), scale * x : scale * (x + step)]
      part[...] = middle[: part.shape[0], : part.shape[1]]
  return restored


def load_network(content):
  """Return an ONNX file of one tile as a function for `restore_in_tiles`."""
  import onnxruntime

  session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
  [source] = (value.name for value in session.get_inputs())

  def restore(tile):
    [planes] = session.run(None, {source: np.moveaxis(tile, 2, 0)[np.newaxis]})
    return np.clip(np.moveaxis(planes[0], 0, 2), 0, 1)

  return restore
