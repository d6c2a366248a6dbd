"""Score weights on degradations that they were not trained on, beside bicubic enlargement.

    python -m benchmarks.degradations --weights=gfn --output=results.json

The degradations are motion of several lengths, defocus, noise, JPEG and clipped highlights, on
three photographs of scikit-image.
"""

import functools
import io
from collections.abc import Callable

import jax
import numpy as np
import skimage.data
from absl import flags
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from gfn_jax import Restorer
from gfn_jax.cli.runner import run_command
from gfn_jax.data.blur_options import MotionBlur
from gfn_jax.data.motion_blur import degrade, synthesize
from gfn_jax.ops import metrics
from gfn_jax.ops.pixels import to_uint8
from gfn_jax.ops.scores import bicubic
from gfn_jax.system.files import file_sha256, write_json
from gfn_jax.weights.pretrained import weights_path

WEIGHTS = flags.DEFINE_string('weights', 'gfn', 'A .safetensors file or a released name.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')

Example = dict[str, np.ndarray]
PHOTOS = {
  'astronaut': lambda: skimage.data.astronaut()[:400],
  'coffee': lambda: skimage.data.coffee(),
  'page (text)': lambda: np.stack([skimage.data.page()[:188, :384]] * 3, axis=-1),
}


def main(_):
  """Degrade and restore the photos, then print and write the scores."""
  restorer = Restorer.from_pretrained(WEIGHTS.value)
  rows = []
  for kind, make in tqdm(degradations().items()):
    for name, load in PHOTOS.items():
      example = make(load())
      scores = {'degradation': kind, 'photo': name}
      for method, restore in (('bicubic', bicubic), ('restored', restorer)):
        pair = metrics.evaluate_pair(restore(example['lr_blur']), example['hr'], 'gfn')
        scores[method] = {key: round(value, 4) for key, value in pair.items()}
      rows.append(scores)
  print_table(rows)
  if OUTPUT.value:
    facts = {'protocol': 'gfn', 'sha256': file_sha256(weights_path(WEIGHTS.value))}
    write_json(OUTPUT.value, facts | {'rows': rows})


def degradations() -> dict[str, Callable[[np.ndarray], Example]]:
  """Return the degradations by name: functions from `[H, W, 3]` uint8 to an example."""
  noise = dict(shot_noise=(1e-3, 1e-3), read_noise=(0.01, 0.01))
  return {
    'none but the reduction': functools.partial(moved, extent=0.0),
    'motion of 6 pixels': functools.partial(moved, extent=6.0),
    'motion of 12 pixels': functools.partial(moved, extent=12.0),
    'motion of 24 pixels': functools.partial(moved, extent=24.0),
    'motion of 40 pixels': functools.partial(moved, extent=40.0),
    'motion of 12 pixels, noise': functools.partial(moved, extent=12.0, **noise),
    'motion of 12 pixels, JPEG 50': compressed,
    'motion of 24 pixels, highlights clipped': functools.partial(
      moved, extent=24.0, exposure=(4.0, 4.0)
    ),
    'defocus of radius 4': functools.partial(defocused, radius=4),
    'defocus of radius 8': functools.partial(defocused, radius=8),
  }


def moved(photo: np.ndarray, extent: float, **options) -> Example:
  """Blur a photo by a camera motion of `extent` pixels."""
  still = dict.fromkeys(('rotation', 'tilt', 'zoom'), (0.0, 0.0))
  motion = MotionBlur(translation=(extent, extent), wobble=0.2, regions=0, **still, **options)
  return jax.device_get(synthesize(jax.random.key(int(extent)), photo, motion))


def compressed(photo: np.ndarray) -> Example:
  """Blur a photo as `moved` by 12 pixels, and store the input as a JPEG of quality 50."""
  example = moved(photo, 12.0)
  buffer = io.BytesIO()
  Image.fromarray(example['lr_blur']).save(buffer, 'JPEG', quality=50)
  return example | {'lr_blur': np.asarray(Image.open(buffer))}


def defocused(photo: np.ndarray, radius: int) -> Example:
  """Average a photo over a disk of `radius` pixels, in linear light."""
  y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
  disk = (x**2 + y**2 <= radius**2).astype(float)
  light = (photo / 255) ** 2.2
  blur = ndimage.convolve(light, disk[..., None] / disk.sum(), mode='nearest') ** (1 / 2.2)
  return jax.device_get(degrade(photo, to_uint8(blur)))


def print_table(rows: list[dict]) -> None:
  """Print PSNR as a Markdown table with a row per degradation and a column per photo."""
  print('| degradation | ' + ' | '.join(PHOTOS) + ' |\n|---' + '|---' * len(PHOTOS) + '|')
  for kind in dict.fromkeys(row['degradation'] for row in rows):
    cells = [
      f'{row["bicubic"]["psnr"]:.2f} -> {row["restored"]["psnr"]:.2f}'
      for row in rows
      if row['degradation'] == kind
    ]
    print(f'| {kind} | ' + ' | '.join(cells) + ' |')


if __name__ == '__main__':
  run_command(main)
