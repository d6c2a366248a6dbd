"""Is the synthetic blur like real blur? Compares both on the sharp frames of real pairs.

    python -m benchmarks.blur_realism --pairs=GOPRO_Large/train

Every patch of a sharp frame is compared with the same patch of the blurred frame, and with blur
that the library makes from it under the ranges of configs/gfn_photos.py. To tune the ranges, edit
`motion_blur()` there and run again. Only training pairs are for that.

Synthetic blur is taken as training sees it, with exposure and noise: they are part of the ranges.
The noise in the sharp frame is in both PSNRs; what the blurred frame has is the last figure.
"""

import io
import math
import os
from collections.abc import Iterator

import jax
import numpy as np
from absl import flags
from scipy import stats
from tqdm import tqdm

import gfn_jax
from configs import gfn_photos
from gfn_jax import metrics
from gfn_jax.data import folders
from gfn_jax.data.motion_blur import MotionBlur, synthesize
from gfn_jax.errors import UserError, run_command
from gfn_jax.files import write_file, write_json

PAIRS = flags.DEFINE_string(
  'pairs', None, 'Folder with, at any depth, sharp/ and BLUR_NAME/ side by side.', required=True
)
BLUR_NAME = flags.DEFINE_string('blur_name', 'blur_gamma', 'Of the folders of blurred frames.')
OUTPUT = flags.DEFINE_string(
  'output', 'benchmarks/results/blur_realism', 'Path of the .json and the .png, without extension.'
)
SEED = flags.DEFINE_integer('seed', 0, 'Of the synthetic blur.')
REPEATS = flags.DEFINE_integer('repeats', 4, 'Synthetic blurs of each patch.', lower_bound=1)

SIDE, MARGIN = 256, 32  # pixels, as in training
FLAT = 1.0  # 8-bit levels: patches of a smaller standard deviation show no blur
PERCENTILES = (5, 25, 50, 75, 95)
GOALS = {25: 1.5, 50: 1.0, 75: 1.5}  # dB between the percentiles of PSNR
UNITS = {
  'psnr': 'dB, blur to sharp',
  'gradient_ratio': 'mean |gradient|, blur / sharp',
  'gradient_kurtosis': "of the blur's gradients",
  'anisotropy': 'dB, amplitude of the spectrum ratio along its angle, twice per turn',
  'noise': '8-bit levels, standard deviation in the blur',
}

GRADIENTS = np.geomspace(0.25, 256, 21)  # edges of the histogram, 8-bit levels per pixel
BANDS = 16  # of frequencies up to 0.5 cycles per pixel
FREQUENCIES = (np.arange(BANDS) + 0.5) / (2 * BANDS)

_FY, _FX = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing='ij')  # cycles / pixel
_FREQUENCY, _ANGLE = np.hypot(_FX, _FY), np.arctan2(_FY, _FX)
_BAND = (_FREQUENCY * 2 * BANDS).astype(int)  # BANDS and above: the corners
_MIDDLE = (_FREQUENCY > 1 / 32) & (_FREQUENCY < 1 / 4)
_CORNERS = np.minimum(abs(_FX), abs(_FY)) > 0.42  # what is there is mostly noise
_WINDOW = np.outer(np.hanning(SIDE), np.hanning(SIDE))


def main(_):
  """Measures, writes both files, and prints the figures."""
  figure_type = _figure_type()  # first: nothing is measured in vain
  options = MotionBlur(**gfn_photos.motion_blur())
  make = jax.jit(lambda key, window: synthesize(key, window, options, MARGIN))
  pairs = folders.sharp_and_blurred(PAIRS.value, BLUR_NAME.value)
  real, synthetic = [], []
  for _, sharp_path, blur_path in tqdm(pairs, unit='pair'):
    for window, blur in patches(sharp_path, blur_path):
      real.append(statistics(window[MARGIN:-MARGIN, MARGIN:-MARGIN], blur))
      for _ in range(REPEATS.value):
        key = jax.random.fold_in(jax.random.key(SEED.value), len(synthetic))
        made = jax.device_get(make(key, window))
        synthetic.append(statistics(made['hr'], made['hr_blur']))
  if not real:
    raise UserError(f'all frames in {PAIRS.value} are flat')
  real, synthetic = _stack(real), _stack(synthetic)
  report = {
    'patches': len(real['psnr']),
    'frames': len(pairs),
    'patch_size': SIDE,
    'blur_name': BLUR_NAME.value,
    'repeats': REPEATS.value,
    'seed': SEED.value,
    **compare(real, synthetic),
    'motion_blur': dict(gfn_photos.motion_blur()),
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


def _figure_type() -> type:
  try:
    from matplotlib.figure import Figure
  except ImportError as error:
    raise UserError("the plot needs matplotlib: pip install -e '.[benchmark]'") from error
  return Figure


def patches(sharp_path: str, blur_path: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Patches of a regular grid over the frame: sharp with the margin, and blurred without."""
  sharp, blur = folders.read_rgb(sharp_path), folders.read_rgb(blur_path)
  if sharp.shape != blur.shape or min(sharp.shape[:2]) < SIDE + 2 * MARGIN:
    least = SIDE + 2 * MARGIN
    raise UserError(
      f'{sharp_path} and {blur_path} must be of one size, {least} pixels a side or more'
    )
  for y in _grid(sharp.shape[0]):
    for x in _grid(sharp.shape[1]):
      window = sharp[y - MARGIN : y + SIDE + MARGIN, x - MARGIN : x + SIDE + MARGIN]
      if luminance(window).std() >= FLAT:
        yield window, blur[y : y + SIDE, x : x + SIDE]


def _grid(length: int) -> np.ndarray:
  """Where patches start: as few as cover everything within the margins."""
  count = math.ceil((length - 2 * MARGIN) / SIDE)
  return np.linspace(MARGIN, length - MARGIN - SIDE, count).round().astype(int)


def luminance(image: np.ndarray) -> np.ndarray:
  """Rec. 601 luma of `[H, W, 3]` uint8, `[H, W]` in 8-bit levels."""
  return image @ np.array([0.299, 0.587, 0.114])


def statistics(sharp: np.ndarray, blur: np.ndarray) -> dict[str, np.ndarray]:
  """The figures of `UNITS` for a patch, and `histogram`, `sharp_histogram` and `spectrum` (dB)."""
  sharp_steps, blur_steps = gradients(sharp), gradients(blur)
  sharp_power, blur_power = power(sharp), power(blur)
  ratio = 10 * np.log10(blur_power / sharp_power)
  return {
    'psnr': metrics.psnr(blur, sharp),
    'gradient_ratio': abs(blur_steps).mean() / abs(sharp_steps).mean(),
    'gradient_kurtosis': stats.kurtosis(blur_steps, fisher=False),
    'anisotropy': 2 * abs(np.mean(ratio[_MIDDLE] * np.exp(2j * _ANGLE[_MIDDLE]))),
    # The power of noise is distributed exponentially: its median is ln 2 times its mean.
    'noise': np.sqrt(np.median(blur_power[_CORNERS]) / np.log(2)),
    'histogram': histogram(blur_steps),
    'sharp_histogram': histogram(sharp_steps),
    'spectrum': 10 * np.log10(radial(blur_power) / radial(sharp_power)),
  }


def gradients(image: np.ndarray) -> np.ndarray:
  """Differences of the luminance of neighbours, along rows and columns, levels per pixel."""
  values = luminance(image)
  return np.concatenate([np.diff(values, axis=axis).ravel() for axis in (0, 1)])


def histogram(steps: np.ndarray) -> np.ndarray:
  """Fractions of the gradients by magnitude; the outer bins hold all that is beyond, too."""
  magnitudes = np.clip(abs(steps), GRADIENTS[0], GRADIENTS[-1])
  return np.histogram(magnitudes, GRADIENTS)[0] / steps.size


def power(image: np.ndarray) -> np.ndarray:
  """Power spectrum of the luminance, levels^2: white noise of variance v has v everywhere."""
  values = luminance(image)
  spectrum = np.fft.fft2((values - values.mean()) * _WINDOW)
  return abs(spectrum) ** 2 / (_WINDOW**2).sum()


def radial(spectrum: np.ndarray) -> np.ndarray:
  """Mean power in each of the `BANDS`."""
  sums = np.bincount(_BAND.ravel(), spectrum.ravel())[:BANDS]
  return sums / np.bincount(_BAND.ravel())[:BANDS]


def _stack(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
  return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def compare(real: dict[str, np.ndarray], synthetic: dict[str, np.ndarray]) -> dict:
  """Percentiles over the patches, side by side, and whether those of PSNR meet `GOALS`."""
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
  """A table of percentiles for each of `UNITS`."""
  print(f'{"percentile":12}' + ''.join(f'{p:>8}' for p in PERCENTILES))
  for name, unit in UNITS.items():
    print(f'\n{name}: {unit}')
    for row in ('real', 'synthetic', 'difference'):
      print(f'{row:12}' + ''.join(f'{value:8.2f}' for value in report[name][row].values()))
  met = all(report['psnr_within_goal'].values())
  print(f'\nPSNR is {"" if met else "not "}within the goals: {GOALS} dB at these percentiles')


def plot(figure, real: dict[str, np.ndarray], synthetic: dict[str, np.ndarray]):
  """Draws both side by side on a matplotlib figure, and returns it."""
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
  _describe(axes[0, 0], 'How far blur is from sharp', 'PSNR of a patch, dB')
  _describe(axes[0, 1], 'How much of the edges is left', 'mean |gradient|, blur / sharp')
  _describe(
    axes[0, 2], 'Gradients', '|gradient| of luminance, levels per pixel', 'fraction of pixels'
  )
  _describe(
    axes[1, 0], 'Spectrum: median and quartiles', 'frequency, cycles per pixel', 'blur / sharp, dB'
  )
  _describe(axes[1, 1], 'How directed the blur is', 'anisotropy of the spectrum ratio, dB')
  _describe(axes[1, 2], 'Noise of the blurred patch', 'standard deviation, 8-bit levels')
  return figure


def _describe(axis, title: str, x: str, y: str = 'fraction of patches below'):
  axis.set(title=title, xlabel=x, ylabel=y)
  axis.grid(alpha=0.3)
  axis.legend(frameon=False)


if __name__ == '__main__':
  run_command(main)
