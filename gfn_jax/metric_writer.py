"""Training logs: `metrics.jsonl` and TensorBoard, without TensorFlow."""

import json
import os
import time
from collections.abc import Mapping

import numpy as np
import tensorboardX

from gfn_jax.files import write_file


class MetricWriter:
  """Writes scalars to `workdir/metrics.jsonl` and, with pictures, to TensorBoard event files.

  Args:
    workdir: the run's folder.
    start_step: where the run starts or continues. Rows of later steps, left by a run that was
      killed after its last checkpoint, are dropped.
    writes: False for the other processes of a run than the first: nothing is written.
  """

  def __init__(self, workdir: str | os.PathLike, start_step: int = 0, writes: bool = True):
    self._writes = writes
    if not writes:
      return
    self._path = os.path.join(workdir, 'metrics.jsonl')
    _drop_after(self._path, start_step)
    self._file = open(self._path, 'a')  # noqa: SIM115 (closed by __exit__)
    folder = os.path.join(workdir, 'tensorboard')
    self._tensorboard = tensorboardX.SummaryWriter(folder, purge_step=start_step + 1)

  def __enter__(self) -> 'MetricWriter':
    return self

  def __exit__(self, *_) -> None:
    if not self._writes:
      return
    self._file.close()
    self._tensorboard.close()

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes one row: the step, the time (seconds since 1970) and the scalars."""
    if not self._writes:
      return
    row = {'step': step, 'time': round(time.time(), 3)} | {k: float(v) for k, v in scalars.items()}
    self._file.write(json.dumps(row) + '\n')
    self._file.flush()
    for key, value in scalars.items():
      self._tensorboard.add_scalar(key, float(value), step)

  def write_image(self, step: int, name: str, image: np.ndarray) -> None:
    """Writes a picture, `[H, W, 3]` uint8, to TensorBoard."""
    if self._writes:
      self._tensorboard.add_image(name, image, step, dataformats='HWC')


def _drop_after(path: str, step: int) -> None:
  if not os.path.exists(path):
    return
  with open(path) as file:
    lines = file.readlines()
  rows = [line for line in lines if line.endswith('\n') and json.loads(line)['step'] <= step]
  write_file(path, ''.join(rows).encode())
