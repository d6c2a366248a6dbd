"""Compare restoring in bfloat16 with restoring in float32, by PSNR and by time.

    python -m benchmarks.restoring_dtype --pairs=GOPRO_Large/test \
      --output=benchmarks/results/restoring_dtype_cpu.json

`change` is the PSNR in bfloat16 minus that in float32, in dB, over the pairs: its mean decides
whether `gfn-restore` takes bfloat16 by itself (`gfn_jax.restoration.dtypes`). `hr` is scored under
protocol gfn. `lr`, and the middle one of `frames`, are compared with the sharp image, reduced.
`difference` compares the pixels of both results. Both types run in turns.

`--write` records the means in the cards of the released weights.
"""

import functools
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from benchmarks import timing
from gfn_jax import Restorer, UserError, imresize
from gfn_jax.cli.runner import run_command
from gfn_jax.evaluation.test_sets import pairs_test_set
from gfn_jax.ops import metrics
from gfn_jax.ops.scores import score
from gfn_jax.restoration.dtypes import MAX_CHANGE
from gfn_jax.restoration.predictor import OUTPUTS
from gfn_jax.system import cpu_bfloat16
from gfn_jax.system.files import write_json
from gfn_jax.weights.cards import card_path
from gfn_jax.weights.pretrained import list_pretrained, load_card, weights_path

PAIRS = flags.DEFINE_string('pairs', None, "Pairs in GOPRO_Large's layout.", required=True)
WEIGHTS = flags.DEFINE_list('weights', None, 'Files or names; default: the released weights.')
NOTE = flags.DEFINE_string('note', '', 'Note for the record, such as other load on the machine.')
OUTPUT = flags.DEFINE_string('output', None, 'JSON file for the figures.')
WRITE = flags.DEFINE_bool('write', False, "Record the mean changes in the weights' cards.")


def main(_):
  """Measure, print and write the figures."""
  pairs = list(pairs_test_set(PAIRS.value, 'blur_gamma').images)
  figures = {}
  for weights in WEIGHTS.value or list_pretrained():
    found = {output: measure(weights, output, pairs) for output in outputs_of(weights)}
    if WRITE.value:
      means = {output: row['change']['mean'] for output, row in found.items()}
      write_json(card_path(weights_path(weights)), load_card(weights) | {'bfloat16': means})
    figures |= {f'{os.fspath(weights)}, {output}': row for output, row in found.items()}
  facts = {'pairs': len(pairs), 'largest change': MAX_CHANGE}
  facts['onednn'] = cpu_bfloat16.compiler_options('bfloat16') is not None
  timing.report(timing.machine(NOTE.value) | facts | {'outputs': figures}, OUTPUT.value)


def outputs_of(weights: str) -> list[str]:
  """Return the outputs of a network."""
  found = []
  for output in OUTPUTS:
    try:
      Restorer.from_pretrained(weights, output=output)
    except UserError:
      continue
    found.append(output)
  return found


def measure(weights: str, output: str, pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Return the changes of PSNR, the differences of pixels and the times of one output."""
  restorers = {
    dtype: Restorer.from_pretrained(weights, output=output, dtype=dtype)
    for dtype in ('float32', 'bfloat16')
  }
  rows, seconds = [], []
  for pair in tqdm(pairs, f'{weights}, {output}', leave=False):
    calls = {dtype: functools.partial(r, pair['lr_blur']) for dtype, r in restorers.items()}
    times = timing.time_in_turns(calls, rounds=1)
    results = {dtype: time.first_result for dtype, time in times.items()}
    rows.append([psnr(results[dtype], output, pair) for dtype in restorers])
    rows[-1].append(np.abs(results['bfloat16'].astype(int) - results['float32']))
    seconds.append(timing.ratio(times['bfloat16'].cpu, times['float32'].cpu))
  exact, rounded, differences = zip(*rows, strict=True)
  changes = [b - a for a, b in zip(exact, rounded, strict=True)]
  return {
    'psnr in float32': round(statistics.fmean(exact), 3),
    'change': {'mean': round(statistics.fmean(changes), 4), 'each': np.round(changes, 4).tolist()},
    'difference of 255': {
      'mean': round(float(np.mean([d.mean() for d in differences])), 3),
      'largest': int(max(d.max() for d in differences)),
    },
    'processor time of float32': timing.digits(statistics.median(seconds)),
  }


def psnr(restored: np.ndarray, output: str, pair: Mapping[str, Any]) -> float:
  """Return the PSNR of a result, in dB."""
  if output == 'hr':
    return score(pair['name'], pair['lr_blur'], restored, pair['hr'], 'gfn')['psnr']
  image = restored[len(restored) // 2] if output == 'frames' else restored
  return metrics.psnr(image, imresize(pair['hr'], 0.25))


if __name__ == '__main__':
  run_command(main)
