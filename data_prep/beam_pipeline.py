"""Apache Beam version of the builders, which makes the same examples on many machines.

Importing this module requires apache_beam. Beam workers import it by this name.
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

from gfn_jax.data_prep import degradation
from gfn_jax.errors import UserError

_DIRECT = 'DirectRunner'
_LOCAL = 'FnApiRunner'  # DirectRunner would download Prism, which ignores --direct_*
_COUNTS, _ERROR = 'counts', '.error.txt'


def download_config(runner: str, flags: Sequence[str]) -> dict[str, Any]:
  """Return arguments of `tfds.download.DownloadConfig` for a build with Beam.

  Args:
    runner: name of a Beam runner.
    flags: Beam options, such as '--direct_num_workers=2'.

  Raises:
    UserError: if the runner is unknown or Beam rejects the options.
  """
  complaint = io.StringIO()  # argparse prints and exits
  try:
    with contextlib.redirect_stderr(complaint):
      options = PipelineOptions(list(flags))
      given = options.get_all_options(drop_default=True, retain_unknown_options=True)
      if runner == _DIRECT:
        _check_options(given)
        runner = _LOCAL
      beam.Pipeline(runner=runner, options=options)
  except SystemExit as error:
    reason = complaint.getvalue().strip().splitlines()[-1].partition('error: ')[2]
    raise UserError(f'beam_options: {reason}') from error
  except (AttributeError, ImportError, ValueError) as error:
    if isinstance(error, UserError):
      raise
    reason = ' '.join(str(error).split())
    raise UserError(f'cannot use beam_runner {runner}: {reason}') from error
  return {'beam_runner': runner, 'beam_options': options}


def _check_options(given: Mapping[str, Any]) -> None:
  """Raise `UserError` for an option that DirectRunner does not have."""
  if unknown := sorted(given.keys() - PipelineOptions([]).get_all_options().keys()):
    raise UserError(f'beam_options: {_DIRECT} has no option --{unknown[0]}')


def examples(
  split: str,
  jobs: Sequence[Any],
  degrade: Callable[[Any], degradation.Degraded],
  scratch: epath.Path,
) -> beam.PTransform:
  """Return the transform that makes the examples of a split.

  Args:
    split: name of the split.
    jobs: picklable inputs.
    degrade: function from a job to its examples, at module level or a `functools.partial` of one.
    scratch: existing folder in which workers store errors and counts, for `raise_errors` and
      `read_counts`.

  Returns:
    A transform to a collection of (name, example).
  """

  @beam.ptransform_fn
  def transform(pipeline):
    results = (
      pipeline
      | beam.Create(jobs)
      | beam.Reshuffle()  # distributes the jobs over the workers
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
    # Runners retry and return at best the text of a traceback, so store the message in a file.
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
  """Return the numbers of windows that the workers have seen and kept."""
  seen, kept = json.loads(_counts_file(split, scratch).read_text())
  return seen, kept


def raise_errors(scratch: epath.Path) -> None:
  """Raise the errors of the workers, if any, as a `UserError` of one line."""
  messages = sorted(path.read_text() for path in scratch.glob(f'*{_ERROR}'))
  if messages:
    others = f' (and {len(messages) - 1} more)' if messages[1:] else ''
    raise UserError(f'{messages[0]}{others}')
