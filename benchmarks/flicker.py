"""Measure the flicker of restored videos: changes between frames that the scene does not have.

    python -m benchmarks.flicker --frames=FOLDER --output=results.json

The frames are consecutive ones of a sharp video. Their middle is reduced to a quarter, restored to
its size, and compared with the true frames. Needs `pip install 'gfn_jax[video]' scikit-image`.

Two figures are means of absolute differences between consecutive frames, of 255. `change` compares
pixels at the same place. `flicker` follows the scene: the earlier frame is first moved onto the
later one, by optical flow that is estimated once, from the true frames. `psnr` is the mean over the
frames, in dB. `atadenoise` is FFmpeg's filter, which averages a pixel over five frames.
"""

import statistics
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from skimage.registration import optical_flow_ilk
from skimage.transform import warp
from tqdm import tqdm

from gfn_jax import Restorer, UserError, imresize
from gfn_jax.cli.runner import ArgumentParser, exit_on_user_error
from gfn_jax.images import folders
from gfn_jax.images.videos import pyav
from gfn_jax.ops import metrics
from gfn_jax.system.files import write_json

SCALE = 4
"""Factor of the networks and of the reduction."""


def make_parser() -> ArgumentParser:
  """Return the command's options."""
  parser = ArgumentParser('benchmarks.flicker', __doc__)
  add = parser.add_argument
  add('--frames', required=True, metavar='FOLDER', help='consecutive frames')
  add('--weights', default='gfn', help='a file or the name of released weights')
  add('--count', type=int, default=12, help='number of frames, 2 or more')
  add('--crop', type=int, nargs=2, default=(640, 448), help='width and height of the middle')
  add('--strengths', nargs='*', default=('0.01', '0.02', '0.04'), help='strengths of atadenoise')
  add('--output', metavar='FILE.json', help='file for the figures')
  return parser


def main() -> None:
  """Restore the frames in several ways, and print and write their figures."""
  args = make_parser().parse_args()
  truth = read_frames(args.frames, args.count, args.crop)
  inputs = [imresize(frame, 1 / SCALE) for frame in truth]
  flows = [flow(before, after) for before, after in zip(truth, truth[1:], strict=False)]
  name = args.weights
  results = {'the true frames': truth}
  results['bicubic'] = [imresize(frame, SCALE) for frame in inputs]
  results[name] = _restore(name, inputs)
  results[f'{name}, --ensemble'] = _restore(name, inputs, ensemble=True)
  for text in args.strengths:
    steady = steadied(inputs, float(text))
    results[f'atadenoise {text}, then {name}'] = _restore(name, steady)
    results[f'{name}, then atadenoise {text}'] = steadied(results[name], float(text))
  figures: dict[str, Any] = {'device': jax.devices()[0].device_kind, 'jax': jax.__version__}
  figures |= {'frames': len(truth), 'size': list(truth[0].shape[1::-1]), 'weights': name}
  figures['methods'] = {key: measure(frames, truth, flows) for key, frames in results.items()}
  print(format_table(figures))
  if args.output:
    write_json(args.output, figures)


def read_frames(folder: str, count: int, size: Sequence[int]) -> list[np.ndarray]:
  """Read the middle of the first frames of a folder, `[h, w, 3]` uint8.

  Raises:
    UserError: if there are fewer frames, or they are smaller.
  """
  if count < 2:
    raise UserError(f'--count is at least 2, not {count}')
  width, height = (side // SCALE * SCALE for side in size)
  paths = folders.list_images(folder)[:count]
  if len(paths) < count:
    raise UserError(f'{folder} has {len(paths)} frames, not {count}: pass --count')
  frames = []
  for path in paths:
    image = folders.read_rgb(path)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    if min(top, left) < 0:
      raise UserError(f'{path} is smaller than {width}x{height}: pass --crop')
    frames.append(image[top : top + height, left : left + width])
  return frames


def flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
  """Return where each pixel of a frame was in the frame before, `[2, h, w]`: rows and columns."""
  motion = optical_flow_ilk(after.mean(-1), before.mean(-1), radius=7)
  return motion + np.indices(motion.shape[1:])


def measure(
  frames: Sequence[np.ndarray], truth: Sequence[np.ndarray], flows: Sequence[np.ndarray]
) -> dict[str, float]:
  """Return `change`, `flicker` and `psnr` of frames `[h, w, 3]` uint8."""
  changes, flickers = [], []
  for before, after, places in zip(frames, frames[1:], flows, strict=False):
    before, after = before.astype(np.float32), after.astype(np.float32)
    changes.append(np.abs(after - before).mean())
    moved = [warp(before[..., i], places, mode='constant', cval=np.nan) for i in range(3)]
    flickers.append(np.nanmean(np.abs(after - np.stack(moved, -1))))
  psnr = [metrics.psnr(frame, true) for frame, true in zip(frames, truth, strict=True)]
  return {
    'change': round(float(np.mean(changes)), 3),
    'flicker': round(float(np.mean(flickers)), 3),
    'psnr': round(statistics.fmean(psnr), 2) if min(psnr) < np.inf else None,
  }


def steadied(frames: Sequence[np.ndarray], strength: float) -> list[np.ndarray]:
  """Average frames in time, where they change by little, with FFmpeg's `atadenoise`.

  Args:
    frames: `[h, w, 3]` uint8.
    strength: largest change of a pixel that is averaged, of 1; the limit of sums is ten times that.
  """
  av = pyav()
  height, width, _ = frames[0].shape
  graph = av.filter.Graph()
  source = graph.add_buffer(width=width, height=height, format='yuv444p', time_base='1/25')
  options = ':'.join(f'{i}a={strength}:{i}b={10 * strength}' for i in range(3))
  atadenoise = graph.add('atadenoise', f'{options}:s=5')
  graph.link_nodes(source, atadenoise, graph.add('buffersink')).configure()
  for index, image in enumerate(frames):
    frame = av.VideoFrame.from_ndarray(image).reformat(format='yuv444p')
    frame.pts = index
    graph.vpush(frame)
  graph.vpush(None)
  return [graph.vpull().to_ndarray(format='rgb24') for _ in frames]


def _restore(
  weights: str, frames: Sequence[np.ndarray], ensemble: bool = False
) -> list[np.ndarray]:
  restorer = Restorer.from_pretrained(weights, ensemble=ensemble)
  return [restorer(frame) for frame in tqdm(frames, leave=False)]


def format_table(figures: dict[str, Any]) -> str:
  """Format the figures as a Markdown table with a row per method."""
  lines = ['| | change | flicker | PSNR |', '|---|---|---|---|']
  for method, row in figures['methods'].items():
    psnr = '' if row['psnr'] is None else f'{row["psnr"]:.2f}'
    lines.append(f'| {method} | {row["change"]:.2f} | {row["flicker"]:.2f} | {psnr} |')
  return '\n'.join(lines)


if __name__ == '__main__':
  with exit_on_user_error():
    main()
