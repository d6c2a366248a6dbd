"""Compare folders of photos and a video, from file to file, with the network alone.

    python -m benchmarks.folders --output=benchmarks/results/folders_cpu.json

The same images are restored in turns: from arrays to arrays, in a folder of JPEGs, in a folder of
PNGs, and as the frames of a video (H.264 in MP4). `rate` is the images per second over those of the
network alone. `cpu_times` is the processor time over that of the network alone, and `busy_cores`
the processor time over the time. Needs `pip install 'gfn_jax[video]' scikit-image`.
"""

import os
import statistics
import tempfile
from typing import Any

import numpy as np
import skimage.data
from absl import flags
from PIL import Image

from benchmarks import timing
from gfn_jax import Restorer
from gfn_jax.cli.runner import run_command
from gfn_jax.images import folders
from gfn_jax.images.videos import pyav
from gfn_jax.restoration.files import restore_files
from gfn_jax.restoration.plan import plan_jobs
from gfn_jax.restoration.video import restore_video
from gfn_jax.weights.pretrained import load_card

WEIGHTS = flags.DEFINE_string('weights', 'gfn', 'A .safetensors file or a released name.')
DTYPE = flags.DEFINE_string('dtype', None, "Type of the computation; default: the network's.")
PHOTOS = flags.DEFINE_string('photos', None, 'Folder of photos; default: those of scikit-image.')
COUNT = flags.DEFINE_integer('count', 12, 'Number of photos, and of frames.', lower_bound=1)
SIZE = flags.DEFINE_string('size', '320x180', 'Width and height of the photos.')
ROUNDS = flags.DEFINE_integer('rounds', 4, 'Timed rounds.', lower_bound=1)
NOTE = flags.DEFINE_string('note', '', 'Note for the record, such as other load on the machine.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')

ALONE = 'network alone'


def main(_):
  """Measure, print and write the figures."""
  restorer = Restorer.from_pretrained(WEIGHTS.value, dtype=DTYPE.value)
  with tempfile.TemporaryDirectory() as folder:
    images = make_photos(timing.parse_size(SIZE.value), COUNT.value)
    for extension in ('jpg', 'png'):
      os.mkdir(f'{folder}/{extension}')
      for i, image in enumerate(images):
        Image.fromarray(image).save(f'{folder}/{extension}/{i:04d}.{extension}', quality=95)
    make_video(f'{folder}/clip.mp4', images)
    workloads = {
      ALONE: lambda: [restorer(image) for image in images],
      'JPEG': lambda: restore_folder(restorer, f'{folder}/jpg', f'{folder}/restored_jpg'),
      'PNG': lambda: restore_folder(restorer, f'{folder}/png', f'{folder}/restored_png'),
      'H.264': lambda: restore_video(
        restorer, f'{folder}/clip.mp4', f'{folder}/restored.mp4', settings={}, overwrite=True
      ),
    }
    seconds = timing.time_in_turns(workloads, ROUNDS.value)
  facts = {
    'weights': WEIGHTS.value,
    'sha256': load_card(WEIGHTS.value)['sha256'],
    'dtype': restorer.model.dtype,
    'size': SIZE.value,
    'images': len(images),
    'rounds': ROUNDS.value,
  }
  timing.report(timing.machine(NOTE.value) | facts | {'results': summarize(seconds)}, OUTPUT.value)


def make_photos(size: tuple[int, int], count: int) -> list[np.ndarray]:
  """Return photos `[h, w, 3]` of a size, which move by some pixels when they repeat."""
  if PHOTOS.value:
    sources = [folders.read_rgb(path) for path in folders.list_images(PHOTOS.value)[:count]]
  else:
    sources = [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee()]
  sources = [np.asarray(Image.fromarray(image).resize(size)) for image in sources]
  repeats = -(-count // len(sources))
  return [np.roll(image, 2 * i, axis=1) for image in sources for i in range(repeats)][:count]


def make_video(path: str, images: list[np.ndarray]) -> None:
  """Write images as the frames of an H.264 video."""
  av = pyav()
  with av.open(path, 'w') as output:
    height, width, _ = images[0].shape
    stream = output.add_stream('libx264', 25, width=width, height=height, pix_fmt='yuv420p')
    for image in images:
      output.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
    output.mux(stream.encode(None))


def restore_folder(restorer: Restorer, source: str, target: str) -> None:
  """Restore a folder, again if it is restored."""
  outcome = restore_files(restorer, plan_jobs(source, target), overwrite=True)
  assert not outcome.failures, outcome.failures


def summarize(seconds: dict[str, timing.Seconds]) -> dict[str, dict[str, Any]]:
  """Return the images per second, and both ratios to the network alone."""
  alone = seconds[ALONE]
  return {
    name: {
      'images_per_second': timing.digits(COUNT.value / statistics.median(ours.wall)),
      'rate': timing.digits(timing.ratio(alone.wall, ours.wall)),
      'cpu_times': timing.digits(timing.ratio(ours.cpu, alone.cpu)),
      'busy_cores': timing.digits(timing.ratio(ours.cpu, ours.wall)),
    }
    for name, ours in seconds.items()
  }


if __name__ == '__main__':
  run_command(main)
