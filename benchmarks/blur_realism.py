"""Compare synthetic blur with the real blur of pairs, on the same sharp frames.

    python -m benchmarks.blur_realism --pairs=GOPRO_Large/train
    python -m benchmarks.blur_realism --world=reds --pairs=REDS_quarter/train --blur_name=blur \
      --reduce=1 --output=benchmarks/results/blur_realism_reds_quarter

Every patch of a sharp frame is compared with the same patch of the blurred frame, and with blur
made from it under the ranges of a world of configs/gfn_open.py. To tune a world, edit its function
there and run again. Use training pairs only.

Synthetic blur includes exposure and noise, as in training: they are part of the ranges. The noise
in the sharp frame affects both PSNRs; `noise` is measured on the blurred frame.
"""

import functools
import io
import math
import os
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from scipy import stats
from tqdm import tqdm

import gfn_jax
from gfn_jax.cli.runner import run_command
from gfn_jax.configs import gfn_open
from gfn_jax.data import layouts
from gfn_jax.data.blur_options import MotionBlur
from gfn_jax.data.motion_blur import synthesize
from gfn_jax.errors import UserError
from gfn_jax.images import folders
from gfn_jax.ops import metrics
from gfn_jax.system.files import write_file, write_json

WORLD = flags.DEFINE_enum('world', 'gopro', gfn_open.WORLDS, 'World of configs/gfn_open.py.')
PAIRS = flags.DEFINE_string(
  'pairs', None, 'Folder with sibling folders sharp/ and BLUR_NAME/ at any depth.', required=True
)
BLUR_NAME = flags.DEFINE_string('blur_name', 'blur_gamma', 'Name of the folders of blurred frames.')
REDUCE = flags.DEFINE_integer(
  'reduce',
  4,
  'Size of the files relative to LR images: 4 for GOPRO_Large, 2 and 1 for frames reduced to 1/2 '
  'and 1/4.',
  lower_bound=1,
)
OUTPUT = flags.DEFINE_string(
  'output', 'benchmarks/results/blur_realism', 'Path of the .json and the .png, without extension.'
)
SEED = flags.DEFINE_integer('seed', 0, 'Seed of the synthetic blur.')
REPEATS = flags.DEFINE_integer('repeats', 4, 'Synthetic blurs of each patch.', lower_bound=1)

FULL = 4  # the ranges are in pixels of files that are 4 times larger than LR images
IN_PIXELS = ('translation', 'region_translation', 'region_edge', 'focal_length')
FLAT = 1.0  # standard deviation in 8-bit levels, below which a patch shows no blur
MAX_PSNR = 58.9  # dB, from rounding to 8 bits; keeps the PSNR of equal patches finite
PERCENTILES = (5, 25, 50, 75, 95)
GOALS = {25: 1.5, 50: 1.0, 75: 1.5}  # dB between the percentiles of PSNR
UNITS = {
  'psnr': 'dB, blur to sharp',
  'brightness': '8-bit levels, mean of the blur minus mean of the sharp patch',
  'gradient_ratio': 'mean |gradient|, blur / sharp',
  'gradient_kurtosis': "of the blur's gradients",
  'anisotropy': 'dB, amplitude of the spectrum ratio along its angle, twice per turn',
  'noise': '8-bit levels, standard deviation in the blur',
}

GRADIENTS = np.geomspace(0.25, 256, 21)  # edges of the histogram, 8-bit levels per pixel
BANDS = 16  # of frequencies up to 0.5 cycles per pixel
FREQUENCIES = (np.arange(BANDS) + 0.5) / (2 * BANDS)


def main(_):
  """Measure, write both files, and print the figures."""
  figure_type = _figure_type()  # fail before measuring
  side, margin = patch_size(REDUCE.value)
  options = file_options(WORLD.value, REDUCE.value)

  @jax.jit
  def make(key: jax.Array, window: jax.Array) -> tuple[jax.Array, jax.Array]:
    example = synthesize(key, window, options, margin)
    return example['hr'], example['hr_blur']  # XLA drops the LR images and their JPEG

  pairs = layouts.find_pairs(PAIRS.value, BLUR_NAME.value)
  real, synthetic = [], []
  for pair in tqdm(pairs, unit='pair'):
    for window, blur in patches(pair.sharp, pair.blur, side, margin):
      real.append(statistics(window[margin:-margin, margin:-margin], blur))
      for _ in range(REPEATS.value):
        key = jax.random.fold_in(jax.random.key(SEED.value), len(synthetic))
        synthetic.append(statistics(*jax.device_get(make(key, window))))
  if not real:
    raise UserError(f'all frames in {PAIRS.value} are flat; pass frames with texture')
  real, synthetic = _stack(real), _stack(synthetic)
  report = {
    'world': WORLD.value,
    'reduce': REDUCE.value,
    'patches': len(real['psnr']),
    'frames': len(pairs),
    'patch_size': side,
    'blur_name': BLUR_NAME.value,
    'repeats': REPEATS.value,
    'seed': SEED.value,
    **compare(real, synthetic),
    'ranges': ranges(WORLD.value),
    'gfn_jax': gfn_jax.__version__,
    'jax': jax.__version__,
    'device': jax.devices()[0].device_kind,
  }
  os.makedirs(os.path.dirname(OUTPUT.value) or '.', exist_ok=True)
  write_json(f'{OUTPUT.value}.json', report)
  figure = plot(figure_type(figsize=(12, 7.5), layout='constrained'), real, synthetic)
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', dpi=100)
  write_file(f'{OUTPUT.value}.png', buffer.getvalue())
  print_figures(report)


def ranges(world: str) -> dict:
  """Return the ranges of a world, in pixels of files at 4 times the size of LR images."""
  values = getattr(gfn_open, world)().to_dict()
  del values['share']
  return values


def file_options(world: str, reduce: int) -> MotionBlur:
  """Return the options of a world for files that are `reduce` times larger than LR images."""
  values = ranges(world)
  factor = reduce / FULL
  for name in IN_PIXELS:
    value = values[name]
    many = isinstance(value, tuple)
    values[name] = tuple(factor * v for v in value) if many else factor * value
  return MotionBlur(**values)


def patch_size(reduce: int) -> tuple[int, int]:
  """Return the side of a patch and the margin around it, in pixels of the files."""
  return (256, 32) if reduce >= FULL else (128, 16)


def _figure_type() -> type:
  try:
    from matplotlib.figure import Figure
  except ImportError as error:
    raise UserError("the plot needs matplotlib: pip install -e '.[benchmark]'") from error
  return Figure


def patches(
  sharp_path: str, blur_path: str, side: int, margin: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yield patches of a regular grid: sharp ones with the margin, blurred ones without."""
  sharp, blur = folders.read_rgb(sharp_path), folders.read_rgb(blur_path)
  least = side + 2 * margin
  if sharp.shape != blur.shape or min(sharp.shape[:2]) < least:
    raise UserError(
      f'{sharp_path} and {blur_path} must have the same size, {least} pixels a side or more'
    )
  for y in _grid(sharp.shape[0], side, margin):
    for x in _grid(sharp.shape[1], side, margin):
      window = sharp[y - margin : y + side + margin, x - margin : x + side + margin]
      if luminance(window).std() >= FLAT:
        yield window, blur[y : y + side, x : x + side]


def _grid(length: int, side: int, margin: int) -> np.ndarray:
  """Return the starts of the fewest patches that cover everything within the margins."""
  count = math.ceil((length - 2 * margin) / side)
  return np.linspace(margin, length - margin - side, count).round().astype(int)


class Bins(NamedTuple):
  """Frequency bins of the spectrum of a square patch, each `[side, side]`.

  Attributes:
    angle: direction in radians.
    band: index of the band; `BANDS` and above lie in the corners.
    middle: True where the anisotropy is measured.
    corners: True where the power is mostly noise.
    window: weights of the pixels.
  """

  angle: np.ndarray
  band: np.ndarray
  middle: np.ndarray
  corners: np.ndarray
  window: np.ndarray


@functools.cache
def bins(side: int) -> Bins:
  """Return the bins of patches of `side` x `side` pixels."""
  fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing='ij')  # cycles / pixel
  frequency = np.hypot(fx, fy)
  return Bins(
    angle=np.arctan2(fy, fx),
    band=(frequency * 2 * BANDS).astype(int),
    middle=(frequency > 1 / 32) & (frequency < 1 / 4),
    corners=np.minimum(abs(fx), abs(fy)) > 0.42,
    window=np.outer(np.hanning(side), np.hanning(side)),
  )


def luminance(image: np.ndarray) -> np.ndarray:
  """Return the Rec. 601 luma of `[H, W, 3]` uint8, `[H, W]` in 8-bit levels."""
  return image @ np.array([0.299, 0.587, 0.114])


def statistics(sharp: np.ndarray, blur: np.ndarray) -> dict[str, np.ndarray]:
  """Return the figures of `UNITS`, two histograms of gradients and the `spectrum` (dB)."""
  where = bins(len(sharp))
  sharp_steps, blur_steps = gradients(sharp), gradients(blur)
  sharp_power, blur_power = power(sharp), power(blur)
  ratio = 10 * np.log10(blur_power / sharp_power)
  return {
    'psnr': min(metrics.psnr(blur, sharp), MAX_PSNR),
    'brightness': blur.mean() - sharp.mean(),
    'gradient_ratio': abs(blur_steps).mean() / abs(sharp_steps).mean(),
    'gradient_kurtosis': stats.kurtosis(blur_steps, fisher=False),
    'anisotropy': 2 * abs(np.mean(ratio[where.middle] * np.exp(2j * where.angle[where.middle]))),
    # The power of noise is distributed exponentially: its median is ln 2 times its mean.
    'noise': np.sqrt(np.median(blur_power[where.corners]) / np.log(2)),
    'histogram': histogram(blur_steps),
    'sharp_histogram': histogram(sharp_steps),
    'spectrum': 10 * np.log10(radial(blur_power) / radial(sharp_power)),
  }


def gradients(image: np.ndarray) -> np.ndarray:
  """Return luminance differences of neighbours along rows and columns, in levels per pixel."""
  values = luminance(image)
  return np.concatenate([np.diff(values, axis=axis).ravel() for axis in (0, 1)])


def histogram(steps: np.ndarray) -> np.ndarray:
  """Return fractions of the gradients by magnitude; the outer bins include all beyond them."""
  magnitudes = np.clip(abs(steps), GRADIENTS[0], GRADIENTS[-1])
  return np.histogram(magnitudes, GRADIENTS)[0] / steps.size


def power(image: np.ndarray) -> np.ndarray:
  """Return the power spectrum of the luminance in levels^2: v for noise of variance v."""
  window = bins(len(image)).window
  values = luminance(image)
  spectrum = np.fft.fft2((values - values.mean()) * window)
  return abs(spectrum) ** 2 / (window**2).sum()


def radial(spectrum: np.ndarray) -> np.ndarray:
  """Return the mean power in each of the `BANDS`."""
  band = bins(len(spectrum)).band.ravel()
  return np.bincount(band, spectrum.ravel())[:BANDS] / np.bincount(band)[:BANDS]


def _stack(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
  return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def compare(real: dict[str, np.ndarray], synthetic: dict[str, np.ndarray]) -> dict:
  """Return percentiles over the patches, and a comparison with `GOALS`."""
  report = {}
  for name, unit in UNITS.items():
    a, b = (np.percentile(x[name], PERCENTILES) for x in (real, synthetic))
    rows = {'real': a, 'synthetic': b, 'difference': b - a}
    report[name] = {'unit': unit} | {
      row: dict(zip(PERCENTILES, values.round(2).tolist(), strict=True))
      for row, values in rows.items()
    }
  difference = report['psnr']['difference']
  report['psnr_within_goal'] = {p: abs(difference[p]) <= GOALS[p] for p in GOALS}
  report['spectrum'] = {
    'unit': 'dB, blur / sharp, per band of frequency',
    'frequency': FREQUENCIES.round(3).tolist(),  # cycles per pixel
  }
  for row, values in {'real': real, 'synthetic': synthetic}.items():
    quartiles = np.percentile(values['spectrum'], list(GOALS), axis=0).round(1).tolist()
    report['spectrum'][row] = dict(zip(GOALS, quartiles, strict=True))
  return report


def print_figures(report: dict):
  """Print a table of percentiles for each of `UNITS`."""
  print(f'{"percentile":12}' + ''.join(f'{p:>8}' for p in PERCENTILES))
  for name, unit in UNITS.items():
    print(f'\n{name}: {unit}')
    for row in ('real', 'synthetic', 'difference'):
      print(f'{row:12}' + ''.join(f'{value:8.2f}' for value in report[name][row].values()))
  met = all(report['psnr_within_goal'].values())
  print(f'\nPSNR is {"" if met else "not "}within the goals: {GOALS} dB at these percentiles')


def plot(figure, real: dict[str, np.ndarray], synthetic: dict[str, np.ndarray]):
  """Draw both kinds of blur on a matplotlib figure, and return it."""
  axes = figure.subplots(2, 3)
  shown = {'real blur': (real, 'tab:blue'), 'synthetic blur': (synthetic, 'tab:orange')}
  for label, (values, color) in shown.items():
    look = {'label': label, 'color': color}
    axes[0, 0].ecdf(values['psnr'], **look)
    axes[0, 1].ecdf(values['gradient_ratio'], **look)
    axes[0, 2].stairs(values['histogram'].mean(0), GRADIENTS, **look)
    low, middle, high = np.percentile(values['spectrum'], list(GOALS), axis=0)
    axes[1, 0].plot(FREQUENCIES, middle, **look)
    axes[1, 0].fill_between(FREQUENCIES, low, high, color=color, alpha=0.2, linewidth=0)
    axes[1, 1].ecdf(values['anisotropy'], **look)
    axes[1, 2].ecdf(values['noise'], **look)
  sharp = real['sharp_histogram'].mean(0)
  axes[0, 2].stairs(sharp, GRADIENTS, label='sharp', color='tab:gray', linestyle='--')
  axes[0, 1].set_xlim(0, 1.5)
  axes[0, 2].set_xscale('log')
  _describe(axes[0, 0], 'Distance of blurred from sharp', 'PSNR of a patch, dB')
  _describe(axes[0, 1], 'Remaining edge strength', 'mean |gradient|, blur / sharp')
  _describe(
    axes[0, 2], 'Gradients', '|gradient| of luminance, levels per pixel', 'fraction of pixels'
  )
  _describe(
    axes[1, 0], 'Spectrum: median and quartiles', 'frequency, cycles per pixel', 'blur / sharp, dB'
  )
  _describe(axes[1, 1], 'Directionality of the blur', 'anisotropy of the spectrum ratio, dB')
  _describe(axes[1, 2], 'Noise of the blurred patch', 'standard deviation, 8-bit levels')
  return figure


def _describe(axis, title: str, x: str, y: str = 'fraction of patches below'):
  axis.set(title=title, xlabel=x, ylabel=y)
  axis.grid(alpha=0.3)
  axis.legend(frameon=False)


if __name__ == '__main__':
  run_command(main)
