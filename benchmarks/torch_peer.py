"""The peer of the speed benchmarks: GFN in PyTorch, in a process of its own.

PyTorch may need another version of Python than the newest JAX, so `python` is any that has PyTorch
and NumPy. Both networks have the same parameters.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.timing import Measured
from gfn_jax.errors import UserError, install_extra
from gfn_jax.interop.conversion import to_torch
from gfn_jax.models.gfn import GFN

_SCRIPT = pathlib.Path(__file__).parent / 'torch_gfn.py'
_SIZES = ('features', 'deblur_blocks', 'sr_blocks', 'reconstruction_blocks')


class TorchPeer:
  """A process with the network in PyTorch; a context manager, which ends it.

  Args:
    model: the paper's network: gated, without a global skip.
    variables: its variables.
    python: path of a Python that has PyTorch and NumPy.

  Raises:
    ValueError: for other options of the network.
    UserError: if PyTorch is missing, fails or has no such device, or if the images differ by more
      than 1e-4 of the largest value.
  """

  def __init__(self, model: GFN, variables: Any, python: str):
    if not model.gated or model.gate_recursions != 1 or model.global_skip != 'none':
      raise ValueError('the network in PyTorch is gated once and has no global skip')
    self.python = python
    self._folder = tempfile.TemporaryDirectory()
    self._errors = pathlib.Path(self._folder.name, 'errors.txt')
    try:
      with open(self._errors, 'w') as errors:
        self._process = subprocess.Popen(
          [python, str(_SCRIPT), self._folder.name],
          stdin=subprocess.PIPE,
          stdout=subprocess.PIPE,
          stderr=errors,
          text=True,
        )
    except OSError as error:
      self._folder.cleanup()
      raise UserError(f'--peer_python={python}: {error.strerror}') from error
    try:
      self._load(model, variables)
      self._check_same(model, variables)
    except BaseException:
      self.close()
      raise

  def __enter__(self) -> 'TorchPeer':
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def close(self) -> None:
    """End the process and remove its files."""
    self._process.communicate()
    self._folder.cleanup()

  def inference_workloads(self, x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return a workload for each setting of PyTorch that restores images `[B, h, w, 3]`."""
    return self._workloads('make_inference', {'x': x})

  def train_workloads(
    self, batch: Mapping[str, np.ndarray], learning_rate: float
  ) -> dict[str, Callable[[], Any]]:
    """Return a workload for each setting of PyTorch that takes a step of Adam on a batch."""
    return self._workloads('make_train', batch, learning_rate)

  def _workloads(
    self, request: str, inputs: Mapping[str, np.ndarray], *options: float
  ) -> dict[str, Callable[[], Any]]:
    self._write('inputs.npz', inputs)
    for variant in self.variants:
      self._ask(request, variant, 'inputs.npz', *options)
    return {
      variant: lambda variant=variant: Measured(**self._ask('call', variant))
      for variant in self.variants
    }

  def _load(self, model: GFN, variables: Any) -> None:
    device = {'cpu': 'cpu', 'gpu': 'cuda'}.get(jax.default_backend())
    if not device:
      raise UserError(f'PyTorch cannot use {jax.devices()[0]}; pass --nopeer')
    options = {size: getattr(model, size) for size in _SIZES}
    self._write('parameters.npz', to_torch('gfn', variables, **options))
    self.variants = self._ask('load', device, options, 'parameters.npz')
    if isinstance(self.variants, str):
      raise UserError(f'{self.variants}; pass --nopeer')

  def _check_same(self, model: GFN, variables: Any) -> None:
    x = np.random.default_rng(0).random((1, 16, 24, 3), np.float32)
    output = model.clone(precision='highest', dtype='float32').apply(variables, x)
    self._write('x.npz', {'x': x})
    self._ask('restore', 'x.npz', 'result.npz')
    with np.load(os.path.join(self._folder.name, 'result.npz'), allow_pickle=False) as theirs:
      for name in ('hr', 'lr'):
        difference = np.abs(np.asarray(getattr(output, name)) - theirs[name]).max()
        error = difference / np.abs(theirs[name]).max()
        if not error <= 1e-4:
          raise UserError(
            f'the outputs of JAX and PyTorch differ by {error:.1e} of the largest value'
          )

  def _write(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    np.savez(os.path.join(self._folder.name, name), **{k: np.asarray(v) for k, v in arrays.items()})

  def _ask(self, *request: Any) -> Any:
    with contextlib.suppress(BrokenPipeError):  # has ended, as the empty answer tells
      print(json.dumps(request), file=self._process.stdin, flush=True)
    answer = self._process.stdout.readline()
    if not answer:
      reason = self._errors.read_text().strip().rpartition('\n')[2]
      raise UserError(
        f'PyTorch in {self.python} failed: {reason}; {install_extra("benchmark")}, pass '
        '--peer_python=PYTHON, or --nopeer'
      )
    return json.loads(answer)
