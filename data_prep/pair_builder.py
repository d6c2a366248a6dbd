"""Base class of the TFDS builders, which process jobs in order, in processes or with Beam."""

import abc
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
import tqdm
from etils import epath

from gfn_jax.data_prep import degradation, workers
from gfn_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Inputs:
  """Inputs of a split.

  Attributes:
    jobs: picklable inputs.
    degrade: function from a job to its examples, at module level or a `functools.partial` of one.
    facts: entries for the metadata, under `counts`.
  """

  jobs: Sequence[Any]
  degrade: Callable[[Any], degradation.Degraded]
  facts: Mapping[str, Any]


class PairBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Builder of `lr_blur`, `lr`, `hr` and `name`. Its metadata must have a dictionary `counts`.

  Call `gfn_jax.data_prep.tfds_build.build` to build it without leaving partial results.
  """

  url_infos = {}  # no downloads; the look-up of TFDS would need another package

  def __init__(self, *, num_workers: int = 1, beam_scratch: epath.Path | None = None, **kwargs):
    """Initialise the builder.

    Args:
      num_workers: number of processes that read images; 0 or 1 uses only the current one.
      beam_scratch: existing folder for the workers of Apache Beam. If given, the build uses Beam as
        configured by the `DownloadConfig`, and ignores `num_workers`.
      **kwargs: arguments of `tfds.core.DatasetBuilder`.
    """
    super().__init__(**kwargs)
    self._num_workers = num_workers
    self._beam_scratch = beam_scratch
    self._inputs: dict[str, Inputs] = {}

  @abc.abstractmethod
  def _find_inputs(self, folder: epath.Path) -> dict[str, Inputs]:
    """Find and check the inputs of each split in `folder`."""

  @staticmethod
  def none_kept(folder: epath.Path) -> str:
    """Return the error message for a `folder` that gives no example."""
    return f'{folder} gives no example'

  def _windows(self, split: str, seen: int, kept: int) -> dict[str, int]:
    """Return metadata entries for the numbers of windows seen and examples kept."""
    del split, seen, kept
    return {}

  def _split_generators(self, dl_manager):
    folder = epath.Path(dl_manager.manual_dir)
    self._inputs = self._find_inputs(folder)
    return {split: self._generate_examples(split, folder) for split in self._inputs}

  def _generate_examples(self, split: str, folder: epath.Path):
    """Return the (name, example) pairs of a split, as an iterator or a Beam transform."""
    if not self._beam_scratch:
      return self._iterate_examples(split, folder)
    from gfn_jax.data_prep import beam_pipeline

    inputs = self._inputs[split]
    return beam_pipeline.examples(split, inputs.jobs, inputs.degrade, self._beam_scratch)

  def _iterate_examples(
    self, split: str, folder: epath.Path
  ) -> Iterator[tuple[str, degradation.Example]]:
    seen = kept = 0
    jobs = self._inputs[split].jobs
    results = workers.map_in_order(self._inputs[split].degrade, jobs, self._num_workers)
    for result in tqdm.tqdm(results, desc=split, total=len(jobs), unit=' inputs', mininterval=1):
      seen += result.windows_seen
      kept += len(result.examples)
      yield from ((example['name'], example) for example in result.examples)
    if not kept:
      raise UserError(self.none_kept(folder))
    self._set_counts(split, seen, kept)
    tqdm.tqdm.write(f'{split}: {kept} examples; shuffling and writing them', file=sys.stderr)

  def _process_pipeline_result(self, pipeline_result) -> None:
    """Raise errors and record counts; TFDS calls this when Beam has finished."""
    from gfn_jax.data_prep import beam_pipeline

    beam_pipeline.raise_errors(self._beam_scratch)
    for split in self._inputs:
      self._set_counts(split, *beam_pipeline.read_counts(split, self._beam_scratch))

  def _set_counts(self, split: str, seen: int, kept: int) -> None:
    facts = self._inputs[split].facts
    self.info.metadata['counts'][split] = {**facts, **self._windows(split, seen, kept)}
