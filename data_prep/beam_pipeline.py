"""The builders on Apache Beam: the same examples, made on many machines.

Importing this needs the package apache_beam. Workers import it too, under this name.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from etils import epath

from data_prep import degradation
from gfn_jax.errors import UserError

_DIRECT = 'DirectRunner'
_LOCAL = 'FnApiRunner'  # DirectRunner prefers Prism, which it downloads, and is deaf to --direct_*
_COUNTS, _ERROR = 'counts', '.error.txt'


def download_config(runner: str, flags: Sequence[str]) -> dict[str, Any]:
  """What tells TFDS to use Beam so: arguments of `tfds.download.DownloadConfig`.

  Args:
    runner: the name of one of Beam's runners.
    flags: Beam's own options, such as '--direct_num_workers=2'.

  Raises:
    UserError: if Beam does not know the runner, or takes exception to the options.
  """
  complaint = io.StringIO()  # argparse prints and exits
  try:
    with contextlib.redirect_stderr(complaint):
      options = PipelineOptions(list(flags))
      given = options.get_all_options(drop_default=True, retain_unknown_options=True)
      if runner == _DIRECT:
        _refuse_unknown(given)
        runner = _LOCAL
      beam.Pipeline(runner=runner, options=options)
  except SystemExit as error:
    reason = complaint.getvalue().strip().splitlines()[-1].partition('error: ')[2]
    raise UserError(f'beam_options: {reason}') from error
  except (AttributeError, ImportError, ValueError) as error:
    if isinstance(error, UserError):
      raise
    reason = ' '.join(str(error).split())
    raise UserError(f'beam_runner {runner} cannot be used: {reason}') from error
  return {'beam_runner': runner, 'beam_options': options}


def _refuse_unknown(given: Mapping[str, Any]) -> None:
  """Beam's other runners have options that only they themselves know."""
  if unknown := sorted(given.keys() - PipelineOptions([]).get_all_options().keys()):
    raise UserError(f'beam_options: {_DIRECT} has no option --{unknown[0]}')


def examples(
  split: str,
  jobs: Sequence[Any],
  degrade: Callable[[Any], degradation.Degraded],
  scratch: epath.Path,
) -> beam.PTransform:
  """The examples of a split.

  Args:
    split: the split's name.
    jobs: what to read; anything that pickles.
    degrade: makes examples of a job; a module-level function or a `functools.partial` of one.
    scratch: an existing folder; workers leave there what `raise_errors` and `read_counts` read.

  Returns:
    A transform to a collection of (name, example).
  """

  @beam.ptransform_fn
  def transform(pipeline):
    results = (
      pipeline
      | beam.Create(jobs)
      | beam.Reshuffle()  # otherwise a worker may get all of them
      | beam.FlatMap(_examples, degrade, scratch).with_outputs(_COUNTS, main='examples')
    )
    path = _counts_file(split, scratch)
    _ = results[_COUNTS] | beam.CombineGlobally(_sum) | beam.Map(_write_counts, path)
    return results.examples

  return transform()


def _examples(
  job: Any, degrade: Callable[[Any], degradation.Degraded], scratch: epath.Path
) -> Iterator[Any]:
  try:
    result = degrade(job)
  except UserError as error:
    # Runners try again, and return a traceback's text at best: a file is surer.
    message = str(error)
    name = hashlib.sha256(message.encode()).hexdigest()
    (scratch / f'{name}{_ERROR}').write_text(message)
    return
  yield beam.pvalue.TaggedOutput(_COUNTS, (result.windows_seen, len(result.examples)))
  for example in result.examples:
    yield example['name'], example


def _sum(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
  seen, kept = zip((0, 0), *counts, strict=True)
  return sum(seen), sum(kept)


def _counts_file(split: str, scratch: epath.Path) -> epath.Path:
  return scratch / f'{split}.json'


def _write_counts(counts: tuple[int, int], path: epath.Path) -> None:
  path.write_text(json.dumps(counts))


def read_counts(split: str, scratch: epath.Path) -> tuple[int, int]:
  """How many windows the workers have seen and kept."""
  seen, kept = json.loads(_counts_file(split, scratch).read_text())
  return seen, kept


def raise_errors(scratch: epath.Path) -> None:
  """Raises what a worker found wrong, if any did, as a `UserError` of one line."""
  messages = sorted(path.read_text() for path in scratch.glob(f'*{_ERROR}'))
  if messages:
    others = f' (and {len(messages) - 1} more)' if messages[1:] else ''
    raise UserError(f'{messages[0]}{others}')
