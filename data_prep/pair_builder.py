"""What the TFDS builders have in common: jobs are done in order, in processes or with Beam."""

import abc
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
import tqdm
from etils import epath

from data_prep import degradation, workers
from gfn_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Inputs:
  """What a split is made from.

  Attributes:
    jobs: what to read; anything that pickles.
    degrade: makes examples of a job; a module-level function or a `functools.partial` of one.
    facts: for the metadata, under `counts`.
  """

  jobs: Sequence[Any]
  degrade: Callable[[Any], degradation.Degraded]
  facts: Mapping[str, Any]


class PairBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A builder of `lr_blur`, `lr`, `hr` and `name`; the metadata must have `counts`, a dict.

  `data_prep.building.build` wraps it for users: it leaves nothing half-built behind.
  """

  url_infos = {}  # nothing is downloaded; TFDS's own look-up needs a package it does not require

  def __init__(self, *, num_workers: int = 1, beam_scratch: epath.Path | None = None, **kwargs):
    """Makes the builder.

    Args:
      num_workers: processes that read the images; 0 or 1 means this process alone.
      beam_scratch: an existing folder for Apache Beam's workers; gives a build with Beam, as the
        `DownloadConfig` says, instead of `num_workers`.
      **kwargs: for `tfds.core.DatasetBuilder`.
    """
    super().__init__(**kwargs)
    self._num_workers = num_workers
    self._beam_scratch = beam_scratch
    self._inputs: dict[str, Inputs] = {}

  @abc.abstractmethod
  def _find_inputs(self, folder: epath.Path) -> dict[str, Inputs]:
    """Finds and checks what is in `folder`: the inputs of each split."""

  @staticmethod
  def none_kept(folder: epath.Path) -> str:
    """What to tell the user if what is in `folder` gives no example."""
    return f'{folder} gives no example'

  def _windows(self, split: str, seen: int, kept: int) -> dict[str, int]:
    """What to record of the windows that were seen, and the examples that were kept."""
    del split, seen, kept
    return {}

  def _split_generators(self, dl_manager):
    folder = epath.Path(dl_manager.manual_dir)
    self._inputs = self._find_inputs(folder)
    return {split: self._generate_examples(split, folder) for split in self._inputs}

  def _generate_examples(self, split: str, folder: epath.Path):
    """(name, example) of a split: an iterator, or a Beam transform."""
    if not self._beam_scratch:
      return self._iterate_examples(split, folder)
    from data_prep import beam_pipeline

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
    """TFDS calls this when Beam has finished."""
    from data_prep import beam_pipeline

    beam_pipeline.raise_errors(self._beam_scratch)
    for split in self._inputs:
      self._set_counts(split, *beam_pipeline.read_counts(split, self._beam_scratch))

  def _set_counts(self, split: str, seen: int, kept: int) -> None:
    facts = self._inputs[split].facts
    self.info.metadata['counts'][split] = {**facts, **self._windows(split, seen, kept)}
