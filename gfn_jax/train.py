"""Training: the step first, then the loop around it."""

import functools
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from tqdm import tqdm

from gfn_jax import evaluate, losses, metrics, parallel, schedules
from gfn_jax.checkpoint import Checkpointer
from gfn_jax.errors import UserError
from gfn_jax.metric_writer import MetricWriter
from gfn_jax.models import create_model
from gfn_jax.restore import Restorer, to_float
from gfn_jax.train_state import TrainState
from gfn_jax.weights import param_count, save_weights

RESUME_KEYS = ('batch_size', 'model', 'optimizer', 'phases', 'seed', 'steps_per_epoch')
"""Settings that must not change when a run is continued."""


def train_step(
  state: TrainState,
  batch: Mapping[str, jax.Array],
  *,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  learning_rate: optax.Schedule,
  lr_weight: float,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """One step on this device's share of the batch. Pure; runs under `parallel.parallel_step`.

  Args:
    state: before the step.
    batch: `lr_blur` and `lr` `[B, h, w, 3]`, `hr` `[B, 4h, 4w, 3]`; uint8, or float in [0, 1].
    model: the network of the current phase.
    optimizer: gives the descent direction; the learning rate is applied here.
    learning_rate: of the global step.
    lr_weight: weight of the deblurring loss.

  Returns:
    The state after the step, and scalars: the loss and its terms, the learning rate, the norm of
    the gradient, whole and per top-level module.
  """
  batch = {key: to_float(image) for key, image in batch.items()}

  def loss_fn(params):
    output = model.apply({'params': params}, batch['lr_blur'])
    return losses.gfn_loss(output, batch, lr_weight)

  (loss, terms), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
  loss, terms, grads = jax.lax.pmean((loss, terms, grads), parallel.AXIS)

  rate = learning_rate(state.step)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)

  norms = {f'grad_norm/{module}': optax.global_norm(grad) for module, grad in grads.items()}
  scalars = {'loss': loss, **terms, 'learning_rate': rate, 'grad_norm': optax.global_norm(grads)}
  return TrainState(state.step + 1, params, opt_state), scalars | norms


def make_optimizer(
  b1: float, b2: float, eps: float, clip_norm: float
) -> optax.GradientTransformation:
  """Adam without its learning rate, after clipping by the global norm (`clip_norm` 0: unclipped)."""
  clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
  return optax.chain(clip, optax.scale_by_adam(b1, b2, eps))


def create_train_state(
  model: nn.Module, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
  """The state before the first step."""
  lr_blur = jnp.zeros((1, 16, 16, 3))
  params = jax.jit(model.init)(jax.random.key(seed), lr_blur)['params']
  return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def check_finite(scalars: Mapping[str, np.ndarray], step: int) -> None:
  """Stops a run that has diverged.

  Raises:
    UserError: naming the step and every scalar that is not finite.
  """
  bad = [f'{key} is {value}' for key, value in scalars.items() if not math.isfinite(value)]
  if bad:
    raise UserError(
      f'training diverged at step {step}: {", ".join(bad)}; the checkpoints before it are kept. '
      'Lower the learning rate or optimizer.clip_norm'
    )


def train_and_evaluate(
  config: Mapping[str, Any], workdir: str | os.PathLike, overrides: Mapping[str, Any] | None = None
) -> TrainState:
  """Trains a network through its phases, or continues a run where its last checkpoint is.

  Writes into `workdir`: `config.json` and `overrides.json`, `checkpoints/`, `metrics.jsonl`,
  `tensorboard/`, and `weights.safetensors` with its card, at each evaluation and at the end.

  Args:
    config: as in `configs/gfn.py`.
    workdir: the run's folder, made if needed.
    overrides: what the user changed in the config, for the record.

  Returns:
    The final state.

  Raises:
    UserError: for data that is missing or damaged, a config that does not fit the devices or the
      run in `workdir`, and a run that diverges.
  """
  config = json.loads(json.dumps(config, default=dict))  # plain values from here on
  parallel.check_batch_size(config['batch_size'])
  run = _Run(config, workdir)
  with run.checkpointer:
    state = create_train_state(run.model, run.optimizer, config['seed'])
    restored = run.checkpointer.restore(state)
    state = parallel.replicate(state if restored is None else restored)
    first_step = int(state.step)
    _write_json(os.path.join(workdir, 'config.json'), config)
    _write_json(os.path.join(workdir, 'overrides.json'), dict(overrides or {}))
    logging.info(
      '%s with %s parameters, step %d of %d, on %d %s',
      type(run.model).__name__, f'{param_count(state.params):,}', first_step, run.last_step,
      jax.device_count(), jax.devices()[0].device_kind,
    )  # fmt: skip
    with MetricWriter(workdir, first_step) as run.writer, run.progress_bar(first_step):
      batches = run.batches(first_step)
      for number in range(len(run.phases)):
        state = run.train_phase(number, state, batches)
    run.finish(state)
  return state


class _Run:
  """The fixed parts of one run, and its loop over a phase."""

  def __init__(self, config: dict[str, Any], workdir: str | os.PathLike):
    self.config, self.workdir = config, os.fspath(workdir)
    self.dataset = _open_dataset(config['data_dir'])
    self.steps_per_epoch = config['steps_per_epoch'] or (
      self.dataset.num_examples('train') // config['batch_size']
    )
    self.phases = [config['phases'][name] for name in sorted(config['phases'])]
    self.starts = schedules.phase_starts(self.phases, self.steps_per_epoch)
    self.last_step = self.starts[-1]
    self.learning_rate = schedules.step_decay(self.phases, self.steps_per_epoch)
    self.model = create_model(**config['model'])
    self.optimizer = make_optimizer(**config['optimizer'])
    settings = {key: config[key] for key in RESUME_KEYS}
    self.checkpointer = Checkpointer(workdir, settings, config['keep_checkpoints'])
    self.scores: dict[str, Any] = {}
    self.writer: MetricWriter

  def batches(self, start_step: int) -> Iterator[dict[str, np.ndarray]]:
    return self.dataset.train_batches(
      self.config['batch_size'],
      self.config['seed'],
      start_step=start_step,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      shuffle_buffer=self.config['shuffle_buffer'],
    )

  def progress_bar(self, first_step: int) -> tqdm:
    interval = 0.5 if sys.stderr.isatty() else 30
    self.bar = tqdm(
      total=self.last_step, initial=first_step, unit='step', mininterval=interval, smoothing=0.05
    )
    return self.bar

  def train_phase(self, number: int, state: TrainState, batches: Iterator) -> TrainState:
    start, end = self.starts[number : number + 2]
    step = int(state.step)
    if step >= end:
      return state
    phase = self.phases[number]
    if step == start and phase['reset_optimizer']:
      state = state.replace(opt_state=parallel.replicate(self.optimizer.init(state.params)))
    step_fn = parallel.parallel_step(
      functools.partial(
        train_step,
        model=self.phase_model(number),
        optimizer=self.optimizer,
        learning_rate=self.learning_rate,
        lr_weight=phase['lr_weight'],
      )
    )
    logging.info('phase %d: steps %d to %d, compiling', number + 1, step + 1, end)
    window = _Window(self.config['batch_size'])
    while step < end:
      state, scalars = step_fn(state, parallel.shard(next(batches)))
      step += 1
      window.add(step, scalars)
      self.bar.update()
      self.after_step(number, step, state, window)
    return state

  def after_step(self, number: int, step: int, state: TrainState, window: '_Window') -> None:
    """Logs, evaluates and saves, each at its own cadence, before the next batch is drawn."""

    def due(key: str) -> bool:
      every = self.config[key]
      return bool(every) and (step % every == 0 or step == self.last_step)

    if due('log_every'):
      means = window.means()
      self.writer.write_scalars(step, means)
      self.bar.set_postfix(
        loss=f'{means["loss"]:.3g}', images_per_second=means['images_per_second']
      )
    if due('eval_every'):
      window.flush()
      self.evaluate(number, step, state)
      window.restart()
    if due('checkpoint_every') or step == self.last_step:
      window.flush()
      self.checkpointer.save(state)
      window.restart()

  def phase_model(self, number: int) -> nn.Module:
    return create_model(**(self.config['model'] | self.phases[number]['model']))

  def evaluate(self, number: int, step: int, state: TrainState) -> None:
    limit, protocol = self.config['eval_images'], self.config['protocol']
    if not self.dataset.num_examples('test'):
      logging.warning('the dataset has no test images: not evaluating')
      return
    images = list(self.dataset.images('test', limit))
    restorer = Restorer(self.phase_model(number), state.params)
    bicubic, network = evaluate.summarize(
      evaluate.evaluate(restorer, images, protocol, total=len(images)), restorer
    )
    scalars = {f'test/{key}': network[key] for key in ('psnr', 'ssim')}
    scalars |= {f'test/bicubic_{key}': bicubic[key] for key in ('psnr', 'ssim')}
    self.scores = {'step': step, 'protocol': protocol, 'images': len(images)} | scalars
    self.writer.write_scalars(step, scalars)
    self.writer.write_image(step, 'test/bicubic_restored_hr', _side_by_side(restorer, images[0]))
    logging.info(
      'step %d: PSNR %.2f dB, bicubic %.2f dB (%d test images, protocol %s)',
      step, network['psnr'], bicubic['psnr'], len(images), protocol,
    )  # fmt: skip
    self.save_weights(number, step, state)

  def save_weights(self, number: int, step: int, state: TrainState) -> None:
    if jax.process_index() != 0:
      return
    card = {'step': step, 'data': self.dataset.metadata, 'scores': self.scores}
    model_config = self.config['model'] | self.phases[number]['model']
    path = os.path.join(self.workdir, 'weights.safetensors')
    save_weights(path, jax.device_get(state.params), model_config, card)

  def finish(self, state: TrainState) -> None:
    self.save_weights(len(self.phases) - 1, int(state.step), state)
    logging.info(
      'trained %d steps: %s', int(state.step), os.path.join(self.workdir, 'weights.safetensors')
    )


class _Window:
  """Scalars since the last log, fetched one step late so that the device never waits."""

  def __init__(self, batch_size: int):
    self._batch_size = batch_size
    self._pending: tuple[int, Mapping[str, jax.Array]] | None = None
    self._rows: list[dict[str, float]] = []
    self.restart()

  def add(self, step: int, scalars: Mapping[str, jax.Array]) -> None:
    self.flush()
    self._pending = step, scalars

  def flush(self) -> None:
    """Waits for the newest step, and checks it."""
    if self._pending is None:
      return
    step, scalars = self._pending
    self._pending = None
    row = {key: float(value) for key, value in jax.device_get(scalars).items()}
    check_finite(row, step)
    self._rows.append(row)

  def restart(self) -> None:
    """Leaves what was done meanwhile out of the speed."""
    self._start = time.perf_counter()
    self._timed_rows = len(self._rows)

  def means(self) -> dict[str, float]:
    self.flush()
    steps = len(self._rows) - self._timed_rows
    speed = steps * self._batch_size / (time.perf_counter() - self._start)
    means = {key: float(np.mean([row[key] for row in self._rows])) for key in self._rows[0]}
    self._rows = []
    self.restart()
    return means | {'images_per_second': round(speed, 2)}


def _open_dataset(data_dir: str):
  try:
    from gfn_jax.data.tfrecords import TFRecordDataset
  except ImportError as error:
    raise UserError(
      f"training from TFRecords needs {error.name}: pip install 'gfn_jax[train]'"
    ) from error
  if not data_dir:
    raise UserError('no training data: pass --config.data_dir=DIR, built by data_prep.lr_gopro')
  return TFRecordDataset(data_dir)


def _side_by_side(restorer: Restorer, image: Mapping[str, Any]) -> np.ndarray:
  lr_blur, hr = image['lr_blur'], metrics.to_uint8(image['hr'])
  return np.concatenate([evaluate.bicubic(lr_blur), restorer(lr_blur), hr], axis=1)


def _write_json(path: str, value: Any) -> None:
  with open(path + '.tmp', 'w') as file:
    json.dump(value, file, indent=2)
    file.write('\n')
  os.replace(path + '.tmp', path)
