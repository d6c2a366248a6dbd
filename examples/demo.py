"""Restore two photographs with the released weights, and show the motion in a third.

`make demo` runs this script. The first photograph is sharp and gets synthetic blur, so that the
gain can be measured in decibels. The second has real blur: a clock, taken with a moving camera. Its
blur is 30 pixels long, so the photograph is reduced to 1/4 first. The third also gets synthetic
blur, so that its sharp sub-frames are known.

The photographs are scikit-image's: `astronaut` (NASA, public domain), `clock` and `chelsea` (Stéfan
van der Walt, CC0).
"""

import os
from collections.abc import Sequence

import jax
import numpy as np
from absl import flags
from PIL import Image, ImageDraw

import gfn_jax
from gfn_jax.cli.runner import run_command
from gfn_jax.data.blur_options import MotionBlur
from gfn_jax.data.motion_blur import synthesize
from gfn_jax.images.animations import write_animation
from gfn_jax.images.folders import read_rgb
from gfn_jax.models import param_count
from gfn_jax.ops import metrics
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.scores import bicubic
from gfn_jax.weights.pretrained import load_card

DIR = flags.DEFINE_string('dir', 'demo', 'Folder for the pictures.')

# Camera motion of 16 pixels.
SHAKE = MotionBlur(translation=(16.0, 16.0), rotation=(0.0, 0.5), regions=0)
# Camera motion of 6 pixels, and motion of a region by 10 pixels.
MOVING_CAT = MotionBlur(translation=(6.0, 6.0), region_translation=(10.0, 10.0))
DETAIL = (320, 240)  # width and height of the shown part
PHOTOS = os.path.join(os.path.dirname(__file__), 'photos')


def main(_):
  """Restore, compare, and write `before_after.png` and `frames.gif`."""
  restorer = gfn_jax.Restorer.from_pretrained('gfn')
  cards = {name: load_card(name) for name in ('gfn', 'bmdsrnet')}
  os.makedirs(DIR.value, exist_ok=True)

  example = synthesize(jax.random.key(0), read_photo('astronaut'), SHAKE)
  astronaut, hr = np.asarray(example['lr_blur']), np.asarray(example['hr'])
  taken = read_photo('clock')  # [300, 400, 3]
  clock = imresize(taken, 0.25)

  rows = []
  for name, lr_blur in (('astronaut', astronaut), ('clock', clock)):
    rows.append({'input, bicubic x4': bicubic(lr_blur), 'restored': restorer(lr_blur)})
    Image.fromarray(lr_blur).save(os.path.join(DIR.value, f'{name}_input.png'))
    Image.fromarray(rows[-1]['restored']).save(os.path.join(DIR.value, f'{name}_restored.png'))
  scores = [
    '{}: {psnr:.2f} dB / {ssim:.4f}'.format(key, **metrics.evaluate_pair(image, hr, 'gfn'))
    for key, image in rows[0].items()
  ]
  rows[0]['original'], rows[1]['as it was taken'] = hr, taken
  Image.fromarray(hr).save(os.path.join(DIR.value, 'astronaut_original.png'))
  picture = os.path.join(DIR.value, 'before_after.png')
  before_after(rows).save(picture)

  frames = os.path.join(DIR.value, 'frames.gif')
  write_animation(frames, what_moved(read_photo('chelsea')))

  print(
    f'\nGFN with {param_count(restorer.variables):,} parameters, step {cards["gfn"]["step"]:,}.\n'
    'The astronaut has synthetic blur; PSNR / SSIM, protocol gfn:\n  ' + '\n  '.join(scores) + '\n'
    'The clock has real blur, so no sharp photograph exists to compare with.\n'
    f'Before and after: {picture}\n'
    f'Motion during an exposure, restored by BMDSRNet: {frames}\n\n'
    + '\n'.join(f'The weights {name}: {card["data"]["licence"]}' for name, card in cards.items())
  )


def read_photo(name: str) -> np.ndarray:
  """Return a photograph of the folder beside this script, `[H, W, 3]` uint8."""
  return read_rgb(os.path.join(PHOTOS, f'{name}.webp'))


def what_moved(photo: np.ndarray) -> np.ndarray:
  """Blur a photograph, and return blurred, restored and true frames side by side.

  A blurred image does not determine the direction of time, so the true frames are shown in the
  order that fits better.

  Args:
    photo: `[H, W, 3]` uint8.

  Returns:
    `[7, h, w, 3]` uint8.
  """
  example = synthesize(jax.random.key(0), photo, MOVING_CAT, scale=2, frames=True)
  lr_blur, targets = np.asarray(example['lr_blur']), np.asarray(example['frames'])
  frames = gfn_jax.Restorer.from_pretrained('bmdsrnet', output='frames')(lr_blur)
  targets = max(targets, targets[::-1], key=lambda order: metrics.psnr(frames, order))
  columns = {
    'blurred': np.broadcast_to(lr_blur, frames.shape),
    'restored frames': frames,
    'true frames': targets,
  }
  labels = Image.new('RGB', (len(columns) * lr_blur.shape[1], 20), 'white')
  for i, label in enumerate(columns):
    ImageDraw.Draw(labels).text((lr_blur.shape[1] * i + 6, 4), label, fill='black')
  heading = np.broadcast_to(labels, (len(frames), *labels.size[::-1], 3))
  return np.concatenate([heading, np.concatenate([*columns.values()], axis=2)], axis=1)


def before_after(rows: Sequence[dict[str, np.ndarray]]) -> Image.Image:
  """Arrange the centres of images under their labels, with a row for each photograph."""
  width, height = DETAIL
  picture = Image.new('RGB', (3 * width, len(rows) * (height + 20)), 'white')
  draw = ImageDraw.Draw(picture)
  for i, row in enumerate(rows):
    for j, (label, image) in enumerate(row.items()):
      x, y = (image.shape[1] - width) // 2, (image.shape[0] - height) // 2
      detail = image[y : y + height, x : x + width]
      picture.paste(Image.fromarray(detail), (width * j, (height + 20) * i + 20))
      draw.text((width * j + 6, (height + 20) * i + 4), label, fill='black')
  return picture


if __name__ == '__main__':
  run_command(main)
