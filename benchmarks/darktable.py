"""Compare photos that darktable's tiles make with a package with those of `Restorer`.

    .venv-onnx/bin/python -m benchmarks.darktable --packages=upscale-gfn.dtmodel --photos=PHOTO

Run this in the environment of `make onnx`. darktable's conversion between linear light and sRGB is
left out: it is undone at the end.
"""

import json
import os

import numpy as np
from absl import flags

from benchmarks.darktable_tiles import load_network, read_package, restore_in_tiles
from gfn_jax import Restorer
from gfn_jax.cli.runner import run_command
from gfn_jax.images.reading import read_photo
from gfn_jax.system.files import write_json

PACKAGES = flags.DEFINE_list('packages', None, 'Files of gfn-export, .dtmodel.', required=True)
PHOTOS = flags.DEFINE_list('photos', None, 'Files of photos.', required=True)
WEIGHTS = flags.DEFINE_string('weights', 'gfn', 'The weights of the packages.')
SIDE = flags.DEFINE_integer('side', 600, 'Largest side of the part of a photo that is restored.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')

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


if __name__ == '__main__':
  run_command(main)
