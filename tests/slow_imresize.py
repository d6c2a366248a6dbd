"""MATLAB's bicubic `imresize` of a uint8 image, pixel by pixel in rational numbers.

This shares no code with `gfn_jax.ops.imresize`, and rounds only the two results that MATLAB rounds,
so it can serve as its reference. `python tests/slow_imresize.py` rewrites
`tests/fixtures/imresize.npz`.
"""

import functools
import math
import pathlib
from fractions import Fraction

import numpy as np

FIXTURE = pathlib.Path(__file__).parent / 'fixtures' / 'imresize.npz'

CASES = {  # key in the fixture: (scale, border)
  'half_replicate': (Fraction(1, 2), 'replicate'),
  'third_replicate': (Fraction(1, 3), 'replicate'),
  'quarter_replicate': (Fraction(1, 4), 'replicate'),
  'quarter_symmetric': (Fraction(1, 4), 'symmetric'),
  'seven_tenths_symmetric': (Fraction(7, 10), 'symmetric'),
  'double_symmetric': (Fraction(2), 'symmetric'),
}


def keys_cubic(x):
  x = abs(x)
  if x <= 1:
    return (3 * x**3 - 5 * x**2 + 2) / 2
  if x < 2:
    return (-(x**3) + 5 * x**2 - 8 * x + 4) / 2
  return Fraction(0)


def outside(index, size, border):
  """Return the pixel that replaces `index`, which may lie outside the image."""
  if border == 'replicate':
    return min(max(index, 0), size - 1)
  index %= 2 * size
  return index if index < size else 2 * size - 1 - index


@functools.cache
def neighbours(in_size, out_size, scale, border):
  """Return (input pixel, integer weight) of the neighbours of each output pixel, and their sum."""
  stretch = min(scale, Fraction(1))
  result = []
  for place in range(out_size):
    centre = (place + Fraction(1, 2)) / scale - Fraction(1, 2)
    taps = range(math.floor(centre - 2 / stretch), math.ceil(centre + 2 / stretch) + 1)
    weights = [keys_cubic(stretch * (centre - tap)) for tap in taps]
    common = math.lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * common) for weight in weights]
    sources = [outside(tap, in_size, border) for tap in taps]
    result.append((list(zip(sources, whole, strict=True)), sum(whole)))
  return result


def resize_line(line, out_size, scale, border, highest):
  line = [int(value) for value in line]
  result = []
  for pairs, total in neighbours(len(line), out_size, scale, border):
    value = sum(weight * line[source] for source, weight in pairs)
    result.append(min(max((2 * value + total) // (2 * total), 0), highest))  # round halves up
  return result


def slow_imresize(image, scale, border):
  """Resize `[H, W, C]` of an unsigned type by a `Fraction`, or to an output size `(h, w)`."""
  highest = int(np.iinfo(image.dtype).max)
  if isinstance(scale, tuple):
    scales = [Fraction(out, size) for out, size in zip(scale, image.shape, strict=False)]
  else:
    scales = [scale, scale]
  for axis in (0, 1) if scales[0] <= scales[1] else (1, 0):  # MATLAB: the smaller scale first
    out_size = math.ceil(image.shape[axis] * scales[axis])
    resize = lambda line: resize_line(line, out_size, scales[axis], border, highest)  # noqa: B023
    image = np.apply_along_axis(resize, axis, image).astype(image.dtype)
  return image


def write_fixture():
  from skimage import data

  image = data.astronaut()[96:120, 214:234]  # an eye
  outputs = {key: slow_imresize(image, *case) for key, case in CASES.items()}
  np.savez_compressed(FIXTURE, image=image, **outputs)


if __name__ == '__main__':
  write_fixture()
