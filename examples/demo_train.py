"""Run the whole pipeline on a few photographs: degrade, build TFRecords, train, evaluate, restore.

`make demo-train` runs this script, in about ten minutes on two CPU cores. The network is small and
trains on four photographs for a few minutes, so its scores do not represent GFN.
"""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import skimage.data
from absl import app, flags
from PIL import Image, ImageDraw
from scipy import ndimage

DIR = flags.DEFINE_string('dir', 'demo_train', 'Folder for all files of the demonstration.')

TEST_PHOTO = 'coffee'  # not used in training
TRAIN_PHOTOS = {
  'astronaut': skimage.data.astronaut,
  'chelsea': skimage.data.chelsea,
  'motorcycle': lambda: skimage.data.stereo_motorcycle()[0],
  'rocket': skimage.data.rocket,
}
GAMMA = 2.2
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def camera_shake(sharp: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Average a photo, `[H, W, 3]` uint8, along a short smooth random path, in linear light."""
  linear = (sharp / 255.0) ** GAMMA
  velocity = rng.uniform(-1, 1, 2)
  path = [np.zeros(2)]
  for _ in range(14):
    velocity = velocity + rng.normal(0, 0.25, 2)
    path.append(path[-1] + velocity)
  path -= np.mean(path, axis=0)
  frames = [ndimage.shift(linear, (*offset, 0), order=1, mode='mirror') for offset in path]
  blurred = np.clip(np.mean(frames, axis=0), 0, 1) ** (1 / GAMMA)
  return np.floor(blurred * 255 + 0.5).astype(np.uint8)


def write_frames(root: str) -> None:
  """Write the photos and their blurred versions in GOPRO_Large's layout.

  Each training photo is written six times, with different blur and another order of the colour
  channels, because four photographs do not contain enough colours.
  """
  rng = np.random.default_rng(0)
  for name, load in TRAIN_PHOTOS.items():
    for number, channels in enumerate(itertools.permutations(range(3))):
      sharp = load()[:512, :640, list(channels)]
      write_pair(os.path.join(root, 'train', name), number, sharp, rng)
  write_pair(os.path.join(root, 'test', TEST_PHOTO), 0, skimage.data.coffee(), rng)


def write_pair(folder: str, number: int, sharp: np.ndarray, rng: np.random.Generator) -> None:
  """Write a sharp frame and its blurred version into the folder of a sequence."""
  for kind, image in (('sharp', sharp), ('blur_gamma', camera_shake(sharp, rng))):
    os.makedirs(os.path.join(folder, kind), exist_ok=True)
    Image.fromarray(image).save(os.path.join(folder, kind, f'{number:06d}.png'))


def run(*command: str) -> None:
  """Print and run one of the project's commands, and exit if it fails."""
  print('\n$ python ' + ' '.join(command), flush=True)
  status = subprocess.run([sys.executable, *command], cwd=ROOT).returncode
  if status:
    sys.exit(f'error: the command failed with status {status}')


def before_after(lr_blur: Image.Image, restored: Image.Image, hr: Image.Image) -> Image.Image:
  """Show the centre of a photo side by side: the input enlarged, restored, and the original."""
  w, h = hr.size
  box = (w // 2 - 160, h // 2 - 120, w // 2 + 160, h // 2 + 120)
  columns = {'input, bicubic x4': lr_blur.resize(hr.size, Image.Resampling.BICUBIC)}
  columns |= {'restored': restored, 'original': hr}
  picture = Image.new('RGB', (3 * 320, 240 + 20), 'white')
  draw = ImageDraw.Draw(picture)
  for i, (label, image) in enumerate(columns.items()):
    picture.paste(image.crop(box), (320 * i, 20))
    draw.text((320 * i + 6, 4), label, fill='black')
  return picture


def main(_):
  """Run the demonstration."""
  home = os.path.abspath(DIR.value)
  frames, tfds, workdir = (os.path.join(home, name) for name in ('frames', 'tfds', 'workdir'))
  write_frames(frames)
  run('-m', 'gfn_jax.data_prep.lr_gopro', f'--manual_dir={frames}', f'--data_dir={tfds}')
  run(
    'run_train.py',
    '--config=configs/gfn_small.py',
    f'--workdir={workdir}',
    f'--config.data.data_dir={tfds}',
  )
  run('run_eval.py', f'--workdir={workdir}')

  results = os.path.join(workdir, 'eval')
  test_name = f'{TEST_PHOTO}/000000'
  hr = Image.open(os.path.join(frames, 'test', TEST_PHOTO, 'sharp', '000000.png'))
  restored = Image.open(os.path.join(results, 'images', test_name + '.png'))
  hr = hr.crop((0, 0, *restored.size))
  blur = Image.open(os.path.join(frames, 'test', TEST_PHOTO, 'blur_gamma', '000000.png'))
  lr_blur = blur.crop((0, 0, *restored.size)).resize(
    (hr.width // 4, hr.height // 4), Image.Resampling.BICUBIC
  )
  picture = os.path.join(home, 'before_after.png')
  before_after(lr_blur, restored, hr).save(picture)

  with open(os.path.join(results, 'summary.json')) as file:
    bicubic, network = json.load(file)['methods']
  gain = network['psnr'] - bicubic['psnr']
  print(
    f'\nThe network has {network["parameters"]:,} parameters and was trained for minutes on '
    f'{len(TRAIN_PHOTOS)} photographs.\nOn a photograph outside the training set, it reaches '
    f'{network["psnr"]:.2f} dB, {abs(gain):.2f} dB {"above" if gain > 0 else "below"} bicubic '
    f'enlargement ({bicubic["psnr"]:.2f} dB), protocol gfn.\nBefore and after: {picture}'
  )


if __name__ == '__main__':
  app.run(main)
