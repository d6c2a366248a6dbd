"""Actions after the steps of a run: logging, evaluation, checkpoints. Each is called as a hook.

A hook is called as `hook(step, state, phase)`, in the order of the loop, before the next batch is
drawn.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from tqdm import tqdm

from gfn_jax.data.datasets import Dataset
from gfn_jax.data.real_pairs import RealPairs
from gfn_jax.evaluation import evaluate, tables
from gfn_jax.evaluation.selection import score_pairs
from gfn_jax.models import create_model, variable_shapes
from gfn_jax.ops.pixels import to_uint8
from gfn_jax.ops.scores import bicubic
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system import parallel
from gfn_jax.system.console import print_message
from gfn_jax.training.checkpoints import Checkpointer
from gfn_jax.training.metric_writer import MetricWriter
from gfn_jax.training.phases import Phase
from gfn_jax.training.preemption import Preempted, Preemption
from gfn_jax.training.step_log import StepLog
from gfn_jax.training.train_state import TrainState
from gfn_jax.weights.pretrained import WEIGHTS_FILE, save_weights


def is_due(step: int, every: int, last_step: int) -> bool:
  """Return whether something happens after a step: every so many steps (0: never) and the last."""
  return bool(every) and (step % every == 0 or step == last_step)


class Logging:
  """Writes the means of the steps' scalars, and moves the progress bar.

  Args:
    log: the scalars.
    writer: where they go.
    bar: the progress bar.
    every: steps between two rows; 0 for 100, or a twentieth of a shorter run.
    last_step: last step of the run.
  """

  def __init__(self, log: StepLog, writer: MetricWriter, bar: tqdm, every: int, last_step: int):
    self._log, self._writer, self._bar = log, writer, bar
    self._every = every or min(100, max(1, last_step // 20))
    self._last_step, self._phase = last_step, 0

  def __call__(self, step: int, state: TrainState, phase: Phase) -> None:
    """Move the bar, and write a row if one is due."""
    if phase.number != self._phase:
      self._phase = phase.number
      self._bar.unpause()  # without the compilation, which would spoil the estimate
      self._bar.set_description(f'phase {phase.number}', refresh=False)
    self._bar.update()
    if is_due(step, self._every, self._last_step):
      means = self._log.means()
      self._writer.write_scalars(step, means)
      self._bar.set_postfix(loss=f'{means["loss"]:.3g}', refresh=False)


class Evaluation:
  """Scores the network on test images and on real pairs.

  Args:
    config: the run's config.
    dataset: its test split is scored.
    test_pairs: real pairs by name, scored as `selection.score_pairs` does.
    writer: where the scores go.
    log: the time of an evaluation is left out of its speed.
    preemption: leaves an evaluation, and what is left is made up for after a restart.
    last_step: last step of the run.

  Attributes:
    scores: the newest scores, with `step`, `protocol` and `images`.
    pending: True if an evaluation was left.
  """

  def __init__(
    self,
    config: Mapping[str, Any],
    dataset: Dataset,
    test_pairs: Mapping[str, RealPairs],
    writer: MetricWriter,
    log: StepLog,
    preemption: Preemption,
    last_step: int,
  ):
    self._settings = config['evaluation']
    self._dataset, self._test_pairs = dataset, test_pairs
    self._writer, self._log, self._preemption = writer, log, preemption
    self._last_step = last_step
    self.scores: dict[str, Any] = {}
    self.pending = False

  def restore(self, progress: Mapping[str, Any]) -> None:
    """Take over the scores of a checkpoint, and whether an evaluation is pending there."""
    self.scores = progress.get('scores', {})
    self.pending = progress.get('pending_evaluation', False)

  def __call__(self, step: int, state: TrainState, phase: Phase) -> None:
    """Evaluate if it is due; before the end of a preempted run, leave it for the next one."""
    if is_due(step, self._settings['every'], self._last_step):
      if self._preemption.agreed:
        self.pending = True
        return
      self._log.flush()
      self.evaluate(step, state, phase)
      self._log.restart()

  def evaluate(self, step: int, state: TrainState, phase: Phase) -> None:
    """Score a state on test images, of which each process takes every n-th."""
    if not (count := self._dataset.num_examples('test')):
      print_message('the dataset has no test images: not evaluating')
      return
    count = min(self._settings['images'] or count, count)
    images = list(parallel.share(self._dataset.images('test', count)))
    output = None if self._dataset.scale == phase.model.scale else 'lr'
    restorer = _restorer(phase, state, output)
    protocol = self._settings['protocol']
    self.pending = True
    try:
      rows = evaluate.evaluate(
        restorer, images, protocol, on_result=self._preemption.leave_evaluation
      )
    except Preempted:
      return
    self.pending = False
    baseline, network = tables.summarize(rows, restorer)
    scalars = {f'test/{key}': network[key] for key in ('psnr', 'ssim')}
    scalars |= {f'test/{baseline["method"]}_{key}': baseline[key] for key in ('psnr', 'ssim')}
    scalars |= self._score_pairs(step, state, phase)
    self.scores = {'step': step, 'protocol': protocol, 'images': len(rows)} | scalars
    self._writer.write_scalars(step, scalars)
    if images and jax.process_index() == 0:
      picture = _side_by_side(restorer, images[0])
      self._writer.write_image(step, f'test/{baseline["method"]}_restored_target', picture)
    print_message(
      f'step {step}: PSNR {network["psnr"]:.2f} dB, {baseline["method"]} {baseline["psnr"]:.2f} dB '
      f'({len(rows)} test images, protocol {protocol})'
    )

  def _score_pairs(self, step: int, state: TrainState, phase: Phase) -> dict[str, float]:
    if not self._test_pairs:
      return {}
    restorer = _restorer(phase, state, 'lr')
    scalars: dict[str, float] = {}
    for name, pairs in self._test_pairs.items():
      scores = score_pairs(restorer, pairs.images())
      print_message(f'step {step}: {name}, deblurred: {scores}')
      scalars |= {f'test/{name}_{key}': value for key, value in scores.scalars().items()}
    return scalars


class Saving:
  """Saves checkpoints and weights, and ends the run when its processes have agreed to.

  Args:
    config: the run's config, for the card of the weights.
    workdir: the run's folder.
    dataset: described in the card.
    checkpointer: saves the states.
    evaluation: its scores belong to a checkpoint.
    writer: is synchronised first, so that a saved step has its rows.
    log: its rows belong to a checkpoint.
    preemption: says when the run ends.
    last_step: last step of the run.
  """

  def __init__(
    self,
    config: Mapping[str, Any],
    workdir: str,
    dataset: Dataset,
    checkpointer: Checkpointer,
    evaluation: Evaluation,
    writer: MetricWriter,
    log: StepLog,
    preemption: Preemption,
    last_step: int,
  ):
    self._config, self._workdir, self._dataset = config, workdir, dataset
    self._checkpointer, self._evaluation, self._writer = checkpointer, evaluation, writer
    self._log, self._preemption, self._last_step = log, preemption, last_step

  def __call__(self, step: int, state: TrainState, phase: Phase) -> None:
    """Save if it is due; after SIGTERM or Ctrl-C, save and exit with its status."""
    ending = bool(self._preemption.agreed) or self._evaluation.pending
    evaluated = is_due(step, self._config['evaluation']['every'], self._last_step)
    due = is_due(step, self._config['run']['checkpoint_every'], self._last_step)
    if due or evaluated or ending or step == self._last_step:
      self._log.flush()
      self.save(step, state, phase)
      self._log.restart()
    if ending:
      self._exit(step)
    self._checkpointer.check()

  def _exit(self, step: int) -> NoReturn:
    self._checkpointer.wait()
    print_message(f'stopped after saving step {step}; the same command continues from there')
    sys.exit(self._preemption.exit_status)

  def make_up(self, step: int, state: TrainState, phase: Phase) -> None:
    """Evaluate and save a state whose evaluation was left by the run that saved it."""
    if self._evaluation.pending and phase.first_step < step <= phase.last_step:
      self._evaluation.evaluate(step, state, phase)
      if self._evaluation.pending:
        self._exit(step)
      self.save(step, state, phase)

  def save(self, step: int, state: TrainState, phase: Phase) -> None:
    """Save a checkpoint, and the weights with their card."""
    scores = self._evaluation.scores
    psnr = scores['test/psnr'] if scores.get('step') == step else None
    progress = {
      'scores': scores,
      'window': self._log.rows,
      'pending_evaluation': self._evaluation.pending,
    }
    self._writer.sync()
    self._checkpointer.save(state, progress, psnr)
    if jax.process_index() == 0:
      self._save_weights(step, state, phase)

  def _save_weights(self, step: int, state: TrainState, phase: Phase) -> None:
    card = {'step': step, 'config': self._config, 'data': self._dataset.metadata}
    card['scores'] = self._evaluation.scores
    variables = state.eval_variables
    used = variable_shapes(create_model(**phase.model_config))  # no gate before it is switched on
    used = {
      name: {module: variables[name][module] for module in tree} for name, tree in used.items()
    }
    path = os.path.join(self._workdir, WEIGHTS_FILE)
    save_weights(path, jax.device_get(used), phase.model_config, card)


def _restorer(phase: Phase, state: TrainState, output: str | None) -> Restorer:
  return Restorer(phase.model, state.eval_variables, output=output, dtype='float32')


def _side_by_side(restorer: Restorer, image: Mapping[str, Any]) -> np.ndarray:
  lr_blur, target = image['lr_blur'], evaluate.target_of(image, restorer)
  before = bicubic(lr_blur, restorer.scale) if restorer.scale > 1 else lr_blur
  images = before, restorer(lr_blur), target
  return np.concatenate([to_uint8(image) for image in images], axis=1)
