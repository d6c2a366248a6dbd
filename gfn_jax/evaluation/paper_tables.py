"""Tables of papers: test sets, rows and published numbers.

A module of `configs/tables/` that describes one has `TABLE`, a `Table`, and `get_config(variant)`,
which returns the config that trains the network of a row.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gfn_jax.ops.protocols import PROTOCOLS

METRICS = {'psnr': 'PSNR', 'ssim': 'SSIM', 'lpips': 'LPIPS', 'seconds': 'seconds'}
"""Metrics in the order of the columns, with their headings."""

BICUBIC = 'bicubic'
"""Name of the row of bicubic interpolation. It is measured with every other row."""


@dataclasses.dataclass(frozen=True)
class DataSet:
  """Test set of a table.

  Attributes:
    title: name of the data set, such as 'LR-GOPRO x4'.
    timed_size: height and width of the LR image that the forward pass is timed on.
  """

  title: str
  timed_size: tuple[int, int] = (180, 320)


@dataclasses.dataclass(frozen=True)
class Row:
  """Method of a table.

  Attributes:
    title: name of the method in the paper.
    published: the paper's numbers by data set and metric, keys of `METRICS`.
    model: arguments of `create_model`, for the network that the paper evaluates. None without one.
    models: the same by data set, for a method that has a network for each, such as for x2 and x3.
    parameters: number of parameters as the paper prints it, such as '12M'.
    note: a fact about this row, such as a mistake of the paper; no capital, no full stop.
  """

  title: str
  published: Mapping[str, Mapping[str, float]]
  model: Mapping[str, Any] | None = None
  models: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
  parameters: str = ''
  note: str = ''

  def network(self, data_set: str) -> Mapping[str, Any] | None:
    """Return the arguments of `create_model` for a data set; None if there is no network."""
    return self.models.get(data_set, self.model)

  def variant(self, name: str, data_set: str) -> str:
    """Return the variant of the table's config that trains the network: 'ROW' or 'ROW,DATA_SET'."""
    return f'{name},{data_set}' if data_set in self.models else name


@dataclasses.dataclass(frozen=True)
class Table:
  """Table of a paper.

  Attributes:
    title: what the table compares.
    citation: the paper and the number of the table.
    protocol: how images are compared, a key of `PROTOCOLS`.
    data_sets: the test sets by name.
    rows: the methods by name, in the order of the paper.
    notes: facts about the paper's numbers, a sentence each.
    decimals: decimals of the paper's numbers by metric. Other metrics have as many as are not 0, at
      least two.
  """

  title: str
  citation: str
  protocol: str
  data_sets: Mapping[str, DataSet]
  rows: Mapping[str, Row]
  notes: tuple[str, ...] = ()
  decimals: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if self.protocol not in PROTOCOLS:
      raise ValueError(f'unknown protocol {self.protocol!r}')
    if unknown := self.decimals.keys() - METRICS.keys():
      raise ValueError(f'decimals: unknown metric {min(unknown)!r}')
    for name, row in self.rows.items():
      if unknown := (row.published.keys() | row.models.keys()) - self.data_sets.keys():
        raise ValueError(f'{name}: unknown data set {min(unknown)!r}')
      if unknown := {key for values in row.published.values() for key in values} - METRICS.keys():
        raise ValueError(f'{name}: unknown metric {min(unknown)!r}')

  def rows_of(self, data_set: str) -> dict[str, Row]:
    """Return the rows that have a network or published numbers for a data set."""
    return {
      name: row
      for name, row in self.rows.items()
      if row.network(data_set) is not None or data_set in row.published
    }
