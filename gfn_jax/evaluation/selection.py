"""Scores of deblurred images on real pairs, in groups by the blur of the input.

The mean over all pairs would hide the gain on heavy blur and the loss on sharp images.
"""

import dataclasses
import os
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gfn_jax.data.real_pairs import RealPairs
from gfn_jax.errors import UserError
from gfn_jax.ops import metrics
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system import parallel

BLURRED = 30.0
"""Inputs below this PSNR, dB, count as blurred."""

SHARP = 36.0
"""Inputs above this PSNR, dB, count as sharp: a network must not change them."""


@dataclasses.dataclass(frozen=True)
class PairScores:
  """Scores on pairs at LR size; PSNR over all pixels and channels of 8-bit images.

  Attributes:
    blurred: number of blurred pairs.
    gain: mean gain in PSNR over their inputs, dB.
    nearly_sharp: number of pairs between `BLURRED` and `SHARP`.
    nearly_sharp_gain: mean gain in PSNR of these, dB.
    sharp: number of sharp pairs.
    sharp_change: largest RMS difference between an output and its sharp input, from 0 to 255.
  """

  blurred: int
  gain: float
  nearly_sharp: int
  nearly_sharp_gain: float
  sharp: int
  sharp_change: float

  def scalars(self) -> dict[str, float]:
    """Return the scores by name, without those of empty groups."""
    values = {}
    if self.blurred:
      values['gain'] = self.gain
    if self.nearly_sharp:
      values['nearly_sharp_gain'] = self.nearly_sharp_gain
    if self.sharp:
      values['sharp_change'] = self.sharp_change
    return values

  def __str__(self) -> str:
    parts = []
    if self.blurred:
      parts.append(f'{self.gain:+.2f} dB ({self.blurred} blurred)')
    if self.nearly_sharp:
      parts.append(f'{self.nearly_sharp_gain:+.2f} dB ({self.nearly_sharp} nearly sharp)')
    if self.sharp:
      parts.append(f'changed by {self.sharp_change:.2f} of 255 at most ({self.sharp} sharp)')
    return ', '.join(parts)


def open_test_pairs(config: Mapping[str, Any]) -> dict[str, RealPairs]:
  """Open the folders of real pairs that a run is scored on.

  Args:
    config: a run's config. `evaluation.test_pairs` has the arguments of `RealPairs` for each name;
      names without a `path` are left out.

  Raises:
    UserError: as `RealPairs`, or if a folder is one of `data.real_pairs`.
  """
  sources = config['evaluation'].get('test_pairs', {})
  pairs = {name: RealPairs(**source) for name, source in sources.items() if source['path']}
  trained = config['data'].get('real_pairs', {})
  paths = {os.path.realpath(source['path']) for source in trained.values() if source['path']}
  for name in pairs:
    if os.path.realpath(sources[name]['path']) in paths:
      raise UserError(
        f'evaluation.test_pairs.{name}.path is one of data.real_pairs: test on other pairs'
      )
  return pairs


def score_pairs(restorer: Restorer, images: Iterable[Mapping[str, Any]]) -> PairScores:
  """Score a network's deblurred images.

  Several processes call it together; each scores its share of the images.

  Args:
    restorer: a network with `output='lr'`.
    images: `lr_blur` and `lr` `[h, w, 3]` uint8, as `RealPairs.images` gives them.
  """
  rows = []
  for image in parallel.share(images):
    lr_blur, lr = image['lr_blur'], image['lr']
    restored = restorer(lr_blur)
    before, after = metrics.psnr(lr_blur, lr), metrics.psnr(restored, lr)
    change = float(np.sqrt(np.mean((restored.astype(np.float64) - lr_blur) ** 2)))
    rows.append((before, after - before, change))
  rows = [row for share in parallel.gather(rows) for row in share]
  blurred = [gain for before, gain, _ in rows if before < BLURRED]
  nearly_sharp = [gain for before, gain, _ in rows if BLURRED <= before <= SHARP]
  sharp = [change for before, _, change in rows if before > SHARP]
  return PairScores(
    blurred=len(blurred),
    gain=statistics.fmean(blurred or [0.0]),
    nearly_sharp=len(nearly_sharp),
    nearly_sharp_gain=statistics.fmean(nearly_sharp or [0.0]),
    sharp=len(sharp),
    sharp_change=max(sharp, default=0.0),
  )
