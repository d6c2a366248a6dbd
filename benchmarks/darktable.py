"""Compare photos that darktable's tiles make with a package with those of `Restorer`.

    .venv-onnx/bin/python -m benchmarks.darktable --packages=upscale-gfn.dtmodel --photos=PHOTO

Run this in the environment of `make onnx`. The tiles are written from the documents that
docs/darktable.md names. darktable's conversion between linear light and sRGB is left out: it is
undone at the end.
"""

import json
import os
import zipfile

import numpy as np
from absl import flags

from gfn_jax import Restorer
from gfn_jax.cli.runner import run_command
from gfn_jax.images.reading import read_photo
from gfn_jax.system.files import write_json

PACKAGES = flags.DEFINE_list('packages', None, 'Files of gfn-export, .dtmodel.', required=True)
PHOTOS = flags.DEFINE_list('photos', None, 'Files of photos.', required=True)
WEIGHTS = flags.DEFINE_string('weights', 'gfn', 'The weights of the packages.')
SIDE = flags.DEFINE_integer('side', 600, 'Largest side of the part of a photo that is restored.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')

OVERLAPS = {1: 64, 4: 16}
"""Pixels that darktable drops at each side of a tile, by scale."""

BORDER = 48
"""Pixels at the borders of the input that are counted apart: darktable mirrors the photo there."""


def main(_):
  """Restore the photos, and print and write how far darktable's differ from ours."""
  figures = [compare(package, photo) for package in PACKAGES.value for photo in PHOTOS.value]
  print(json.dumps(figures, indent=2))
  if OUTPUT.value:
    write_json(OUTPUT.value, figures)


def compare(package, photo):
  """Return the differences for one package and one photo, in units of 8 bits."""
  name, config, files = read_package(package)
  output = 'hr' if config['task'] == 'upscale' else 'lr'
  [content] = (content for file, content in files.items() if file.endswith('.onnx'))
  [tile] = config['attributes']['input_sizes']
  pixels = read_photo(photo).pixels[: SIDE.value, : SIDE.value]
  restorer = Restorer.from_pretrained(WEIGHTS.value, output=output, tile=None)
  restored = restore_in_tiles(load_network(content), pixels / np.float32(255), tile, restorer.scale)
  restored = np.floor(restored * 255 + 0.5).astype(np.uint8)
  difference = np.abs(restored.astype(int) - restorer(pixels)).max(-1)
  border = restorer.scale * BORDER
  inside = difference[border:-border, border:-border]
  return {
    'package': name,
    'photo': os.path.basename(photo),
    'size': 'x'.join(map(str, pixels.shape[1::-1])),
    'tile': tile,
    'largest': int(difference.max()),
    'largest_inside': int(inside.max()),
    'share_inside_above_1': round(float((inside > 1).mean()), 5),
  }


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


if __name__ == '__main__':
  run_command(main)
