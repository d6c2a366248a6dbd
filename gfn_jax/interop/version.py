"""Tables of layer names that describe one version of the authors' weights."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Version:
  """Layer names in one PyTorch version of a network.

  Attributes:
    layers: our layer names to the authors'. `{i}`, `{j}` and `{k}` stand for the same numbers in
      both. The authors' names may also use sums such as `{i+1}`, and options such as `{blocks}`.
    transposed: our names of the transposed convolutions, with numbers as in `layers`.
    features: the authors' name of a tensor whose first axis is the option `features`.
    blocks: options that count blocks, each with the authors' name of one tensor per block.
    options: options of `create_model` that this version fixes.
    widths: options that follow from output channels, each with a function that computes its value.
      The function receives a function from the authors' layer name to its output channels.
    infer: returns further options, such as the scale, from the authors' tensors.
    asked: options that change the result and do not show in the tensors, where published versions
      differ. An importer asks for them unless `infer` returns them.
    constants: tensors that our network has as constants, unless it has such parameters. Others are
      refused.
    prelus: endings of the authors' names of layers followed by a PReLU, and of those PReLUs. All
      PReLUs share one parameter.
    ignored: endings of tensor names to ignore.
    framework: the authors' framework. Tensors of another than PyTorch are in PyTorch's layout under
      names that only this library uses.
  """

  layers: Mapping[str, str]
  features: str
  blocks: Mapping[str, str]
  transposed: frozenset[str] = frozenset()
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  widths: Mapping[str, Callable[[Callable[[str], int]], int]] = dataclasses.field(
    default_factory=dict
  )
  infer: Callable[[Mapping[str, np.ndarray]], dict[str, Any]] = lambda state: {}
  asked: tuple[str, ...] = ()
  constants: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  prelus: Mapping[str, str] = dataclasses.field(default_factory=dict)
  ignored: tuple[str, ...] = ()
  framework: str = 'PyTorch'


def attention_block(ours: str, theirs: str, attention: str = 'CA') -> dict[str, str]:
  """Return the layers of a channel attention block, by our names.

  Args:
    ours: our name of the block.
    theirs: the authors' name of the block.
    attention: the authors' name of the channel attention in the block.
  """
  return {
    f'{ours}.conv1': f'{theirs}.body.0',
    f'{ours}.conv2': f'{theirs}.body.2',
    f'{ours}.attention.conv1': f'{theirs}.{attention}.conv_du.0',
    f'{ours}.attention.conv2': f'{theirs}.{attention}.conv_du.2',
  }
