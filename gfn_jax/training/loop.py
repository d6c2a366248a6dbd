"""Training: the step first, then the loop around it."""

import functools
import json
import os
import sys
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.evaluation import evaluate
from gfn_jax.evaluation.selection import open_test_pairs, score_pairs
from gfn_jax.models import as_variables, create_model, init_params, param_count, param_shapes
from gfn_jax.models.variables import from_variables
from gfn_jax.ops import metrics
from gfn_jax.restoration.restorer import Restorer, to_float
from gfn_jax.system import cpu_bfloat16, parallel
from gfn_jax.system.files import file_sha256, make_folder, printable, write_json
from gfn_jax.training import losses, schedules
from gfn_jax.training.checkpoints import Checkpointer
from gfn_jax.training.metric_writer import MetricWriter
from gfn_jax.training.optimizers import make_optimizer
from gfn_jax.training.perceptual import MIN_SIDE, VGG19
from gfn_jax.training.preemption import TERMINATED, Terminated, Termination
from gfn_jax.training.step_log import StepLog, Trace
from gfn_jax.training.train_state import TrainState
from gfn_jax.weights.pretrained import init_params_from, save_weights

RESUME_KEYS = (
  'accumulate',
  'batch_size',
  'crop_size',
  'ema_decay',
  'frames',
  'held_out',
  'loss',
  'margin',
  'model',
  'motion_blur',
  'optimizer',
  'phases',
  'photo_scales',
  'precision',
  'scale',
  'seed',
  'shuffle_buffer',
  'steps_per_epoch',
)
"""Settings that must not change when a run is continued, where a config has them."""

PRECISIONS = {
  'float32': ('float32', 'highest'),
  'tf32': ('float32', 'tensorfloat32'),
  'bfloat16': ('bfloat16', None),
}
"""The type and the precision of the network's computations, by the names that configs use.
Parameters, loss and optimiser are float32 always."""

WEIGHTS_FILE = 'weights.safetensors'
"""The newest weights in a run's folder."""


def train_step(
  state: TrainState,
  batch: Mapping[str, jax.Array],
  *,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  learning_rate: optax.Schedule,
  loss: Callable[..., tuple[jax.Array, dict[str, jax.Array]]],
  module_learning_rates: Mapping[str, optax.Schedule] = types.MappingProxyType({}),
  frozen: Collection[str] = (),
  accumulate: int = 1,
  ema_decay: float = 0.0,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """One step on this device's share of the batch. Pure; runs under `parallel.parallel_step`.

  Args:
    state: before the step.
    batch: `lr_blur` and `lr` `[B, h, w, 3]`, `hr` `[B, s * h, s * w, 3]`, maybe `frames`
      `[B, 7, h, w, 3]`; uint8, or float in [0, 1]; maybe `has_hr` `[B]` bool.
    model: the network of the current phase.
    optimizer: gives the descent direction; the learning rate is applied here.
    learning_rate: of the global step.
    loss: of a model's output and the batch, and its terms: `losses.restoration_loss` with options.
    module_learning_rates: of the top-level modules that have one of their own.
    frozen: top-level modules that stay as they are, and have no gradient.
    accumulate: into how many parts the batch is divided, to go through the network one after the
      other; the gradient is their mean, that of the whole batch, in less memory.
    ema_decay: of the moving average of the parameters, if the state has one.

  Returns:
    The state after the step, and scalars: the loss and its terms, the learning rate, the norm of
    the gradient, whole and per top-level module.
  """
  batch = {key: x if x.dtype == bool else to_float(x) for key, x in batch.items()}

  def loss_fn(params, batch_stats, part):
    params = params | {module: jax.lax.stop_gradient(params[module]) for module in frozen}
    variables = {'params': params, 'batch_stats': batch_stats}
    output, changed = model.apply(variables, part['lr_blur'], mutable=['batch_stats'])
    value, terms = loss(output, part)
    return value, (terms, changed.get('batch_stats', {}))

  def gradient(batch_stats, part):
    of_part = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch_stats, part)
    (value, (terms, batch_stats)), grads = of_part
    return batch_stats, (value, terms, grads)

  batch_stats, means = _mean_over_parts(gradient, state.batch_stats, batch, accumulate)
  value, terms, grads = jax.lax.pmean(means, parallel.AXIS)

  rate = learning_rate(state.step)
  rates = {module: of_step(state.step) for module, of_step in module_learning_rates.items()}
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)

  def descend(path, param, update):
    return param - rates.get(path[0].key, rate) * update

  params = jax.tree_util.tree_map_with_path(descend, state.params, updates)
  ema_params = state.ema_params
  if ema_params:
    ema_params = optax.incremental_update(params, ema_params, 1 - ema_decay)

  norms = {f'grad_norm/{module}': optax.tree.norm(grad) for module, grad in grads.items()}
  scalars = {'loss': value, **terms, 'learning_rate': rate, 'grad_norm': optax.tree.norm(grads)}
  scalars |= {f'learning_rate/{module}': rate for module, rate in rates.items()}
  state = TrainState(state.step + 1, params, opt_state, batch_stats, ema_params)
  return state, scalars | norms


def _mean_over_parts(
  function: Callable[..., tuple[Any, Any]], carry: Any, batch: Mapping[str, jax.Array], parts: int
) -> tuple[Any, Any]:
  """The mean of what `function(carry, part)` gives, beside what it carries on, part by part."""
  if parts == 1:
    return function(carry, batch)
  split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), dict(batch))
  first = jax.tree.map(lambda x: x[0], split)
  zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(function, carry, first)[1])

  def add(carry, part):
    carry, total = carry
    carry, values = function(carry, part)
    return (carry, jax.tree.map(jnp.add, total, values)), None

  # XLA's CPU backend is slow in the body of a loop.
  unroll = parts if jax.default_backend() == 'cpu' else 1
  (carry, total), _ = jax.lax.scan(add, (carry, zeros), split, unroll=unroll)
  return carry, jax.tree.map(lambda x: x / parts, total)


def loss_options(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config's options of `losses.restoration_loss`, but those that each phase has.

  Raises:
    UserError: for a name that is none, or a file of `perceptual_weights` that cannot be read.
  """
  options = dict(config['loss'])
  known = {
    'hr': losses.PIXEL_LOSSES,
    'lr': losses.PIXEL_LOSSES,
    'pair_difference': losses.PAIR_DIFFERENCES,
  }
  for key, names in known.items():
    if key in options and options[key] not in names:
      raise UserError(f'loss.{key} is {options[key]!r}; there are {", ".join(names)}')
  if weights := config.get('perceptual_weights'):
    options['perceptual'] = VGG19.from_file(weights)
  return options


def create_train_state(
  model: nn.Module, optimizer: optax.GradientTransformation, seed: int, ema: bool = False
) -> TrainState:
  """The state before the first step, a function of the seed; with `ema`, it has an average too."""
  params, batch_stats = as_variables(init_params(model, seed)).values()
  opt_state = jax.jit(optimizer.init)(params)
  ema_params = jax.tree.map(jnp.copy, params) if ema else {}
  return TrainState(jnp.zeros((), jnp.int32), params, opt_state, batch_stats, ema_params)


def all_params(state: TrainState) -> dict[str, Any]:
  """A state's parameters, averaged if it has an average, with `batch_stats` if it has any."""
  params = state.ema_params or state.params
  return from_variables({'params': params, 'batch_stats': state.batch_stats})


def train_and_evaluate(
  config: Mapping[str, Any], workdir: str | os.PathLike, overrides: Mapping[str, Any] | None = None
) -> TrainState:
  """Trains a network through its phases, or continues a run where its last checkpoint is.

  Writes into `workdir`: `config.json` and `overrides.json`, `checkpoints/`, `metrics.jsonl`,
  `tensorboard/`, and `weights.safetensors` with its card, anew with each checkpoint.

  Args:
    config: as in `configs/gfn.py`.
    workdir: the run's folder, made if needed; or in a bucket, `gs://...`.
    overrides: what the user changed in the config, for the record.

  Returns:
    The final state.

  Raises:
    UserError: for data that is missing or damaged, a config that does not fit the devices or the
      run in `workdir`, a checkpoint that cannot be written, and a run that diverges.
    SystemExit: with 143 after SIGTERM, which saves a checkpoint first: the same call goes on there.
  """
  config = json.loads(json.dumps(config, default=dict))  # plain values from here on
  parallel.check_batch_size(config['batch_size'], config['accumulate'])
  run = _Run(config, workdir)
  is_first = jax.process_index() == 0
  if is_first:
    make_folder(workdir)
  with run.checkpointer, run.termination, run.trace:
    state = parallel.replicate(run.restore_or_initialize())
    first_step = int(state.step)
    if is_first:
      write_json(os.path.join(workdir, 'config.json'), config)
      write_json(os.path.join(workdir, 'overrides.json'), dict(overrides or {}))
    _say(
      f'{type(run.model).__name__}, {param_count(state.params):,} parameters, step {first_step} of '
      f'{run.last_step}, on {jax.device_count()} x {jax.devices()[0].device_kind}'
    )
    writer = MetricWriter(workdir, first_step, writes=is_first)
    with writer as run.writer, run.progress_bar(first_step):
      for number in range(len(run.phases)):
        state = run.train_phase(number, state)
  _say(f'trained {run.last_step} steps: {os.path.join(workdir, WEIGHTS_FILE)}')
  return state


class _Run:
  """The fixed parts of one run, and its loop over a phase."""

  def __init__(self, config: dict[str, Any], workdir: str | os.PathLike):
    self.config, self.workdir = config, os.fspath(workdir)
    self.dataset = evaluate.open_dataset(config)
    self.test_pairs = open_test_pairs(config.get('test_pairs', {}), config.get('real_pairs', {}))
    steps_per_pass = self.dataset.steps_per_pass(config['batch_size'])
    self.steps_per_epoch = config['steps_per_epoch'] or steps_per_pass
    self.phases = [config['phases'][name] for name in sorted(config['phases'])]
    self.starts = schedules.phase_starts(self.phases, self.steps_per_epoch)
    self.last_step = self.starts[-1]
    for number in range(len(self.phases)):  # all now, and not when a phase begins
      self.dataset.check_crop_size(self.crop_size(number))
    self.model = create_model(**config['model'])
    self.learning_rate = schedules.learning_rate(self.phases, self.steps_per_epoch)
    self.module_learning_rates = {
      module: schedules.learning_rate(self.phases, self.steps_per_epoch, module)
      for module in self.modules_with_rates()
    }
    if config['precision'] not in PRECISIONS:
      raise UserError(f'precision is {config["precision"]!r}; there are {", ".join(PRECISIONS)}')
    self.check_scale()
    if config.get('perceptual_weights'):
      self.check_perceptual()
    self.loss_options = loss_options(config)
    self.optimizer = make_optimizer(**config['optimizer'])
    settings = {key: config[key] for key in RESUME_KEYS if key in config}
    settings['data'] = self.dataset.metadata
    if weights := config.get('perceptual_weights'):
      settings['perceptual_weights'] = file_sha256(weights)
    self.checkpointer = Checkpointer(workdir, settings, config['keep_checkpoints'])
    self.termination = Termination()
    self.log = StepLog(config['batch_size'])
    is_first = jax.process_index() == 0
    self.trace = Trace(os.path.join(workdir, 'tensorboard'), config['profile'] and is_first)
    self.scores: dict[str, Any] = {}  # of the last evaluation
    self.owes_evaluation = False  # it was left to terminate
    self.writer: MetricWriter

  def check_scale(self) -> None:
    """Refuses data for networks that enlarge by another factor."""
    trains_hr = any(phase['hr_weight'] for phase in self.phases)
    if trains_hr and self.model.scale not in (1, self.dataset.scale):
      raise UserError(
        f'{type(self.model).__name__} enlarges by {self.model.scale}, but the LR images of '
        f'{printable(self.dataset.path)} are {self.dataset.scale} times smaller than the HR ones'
      )

  def check_perceptual(self) -> None:
    """Refuses a perceptual loss where there is nothing to compare, or too little."""
    if not self.dataset.has_frames:
      raise UserError(
        f'perceptual_weights are of no use: {printable(self.dataset.path)} gives no sharp frames'
      )
    sizes = [self.crop_size(number) for number in range(len(self.phases))]
    if any(0 < size < MIN_SIDE for size in sizes):
      raise UserError(
        f'perceptual_weights needs crops of {MIN_SIDE}x{MIN_SIDE} or more, not {min(sizes)}'
      )

  def modules_with_rates(self) -> list[str]:
    """The modules that have a learning rate of their own in some phase."""
    modules = set().union(*(phase.get('module_learning_rates', {}) for phase in self.phases))
    if modules and (unknown := sorted(modules - set(param_shapes(self.model)))):
      raise UserError(
        f'module_learning_rates: {type(self.model).__name__} has no module {unknown[0]!r}, but '
        f'{", ".join(sorted(param_shapes(self.model)))}'
      )
    return sorted(modules)

  def restore_or_initialize(self) -> TrainState:
    """The newest checkpoint's state, or that of a run that starts: with `init_from`, if given."""
    ema = bool(self.config['ema_decay'])
    state = create_train_state(self.model, self.optimizer, self.config['seed'], ema)
    if (restored := self.checkpointer.restore(state)) is not None:
      state, progress = restored
      self.scores, self.log.rows = progress['scores'], progress['window']
      self.owes_evaluation = progress['owes_evaluation']
    elif weights := self.config['init_from']:
      exceptions = self.config['init_except']
      params = init_params_from(weights, self.model, all_params(state), exceptions)
      state = state.replace(**as_variables(params))
      state = state.replace(ema_params=jax.tree.map(jnp.copy, state.params) if ema else {})
    return state

  def crop_size(self, number: int) -> int:
    """Of a phase that has its own, or the config's."""
    return self.phases[number].get('crop_size', self.config['crop_size'])

  def batches(self, number: int, start_step: int) -> Iterator[dict[str, np.ndarray]]:
    """This process's shares of a phase's batches from a step on."""
    buffer = {key: self.config[key] for key in ('shuffle_buffer',) if key in self.config}
    return self.dataset.train_batches(
      self.config['batch_size'],
      self.config['seed'],
      start_step=start_step,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      crop_size=self.crop_size(number),
      **buffer,
    )

  def progress_bar(self, first_step: int) -> tqdm:
    interval = 0.5 if sys.stderr.isatty() else 30
    self.bar = tqdm(
      total=self.last_step,
      initial=first_step,
      unit='step',
      mininterval=interval,
      smoothing=0.05,
      disable=jax.process_index() > 0,
    )
    return self.bar

  def train_phase(self, number: int, state: TrainState) -> TrainState:
    start, end = self.starts[number : number + 2]
    step = int(state.step)
    if self.owes_evaluation and start < step <= end:
      self.evaluate(number, step, state)
      self.save(number, step, state)
    if step >= end:
      return state
    phase = self.phases[number]
    if step == start and phase['reset_optimizer']:
      opt_state = jax.jit(self.optimizer.init)(state.params)
      state = state.replace(opt_state=parallel.replicate(opt_state))
    options = cpu_bfloat16.compiler_options(self.model_config(number)['dtype'])
    step_fn = parallel.parallel_step(self.step(number), options)
    _say(f'phase {number + 1}: steps {step + 1} to {end}; compiling the first')
    compiled, batches = False, self.batches(number, step)
    while step < end:
      stop = np.full(jax.local_device_count(), self.termination.requested, np.float32)
      batch = self.log.time_data(lambda: next(batches))
      self.trace.before_step(state)
      state, scalars = step_fn(state, parallel.shard(batch | {'stop': stop}))
      step += 1
      self.log.add(step, scalars)
      if not compiled:  # keep the compilation out of the speed
        self.log.restart()
        compiled = True
      self.bar.update()
      self.after_step(number, step, state)
    return state

  def step(self, number: int) -> Callable[..., Any]:
    """`train_step` of a phase, on batches as the dataset gives them.

    A process that is to terminate tells so in `stop`, so that all learn of it after the same step.
    """
    phase = self.phases[number]
    loss = functools.partial(
      losses.restoration_loss,
      lr_weight=phase['lr_weight'],
      hr_weight=phase['hr_weight'],
      **self.loss_options,
    )
    rates = phase.get('module_learning_rates', {})
    fixed = dict(
      model=self.phase_model(number),
      optimizer=self.optimizer,
      learning_rate=self.learning_rate,
      module_learning_rates=self.module_learning_rates,
      frozen=[module for module, rate in rates.items() if rate == 0],
      loss=loss,
      accumulate=self.config['accumulate'],
      ema_decay=self.config['ema_decay'],
    )

    def step(state, batch):
      batch = dict(batch)
      stop = jax.lax.pmax(batch.pop('stop')[0], parallel.AXIS)
      state, scalars = train_step(state, self.dataset.prepare(batch), **fixed)
      return state, scalars | {'stop': stop}

    return step

  def after_step(self, number: int, step: int, state: TrainState) -> None:
    """Logs, evaluates and saves, each at its own cadence, before the next batch is drawn."""

    def due(key: str) -> bool:
      every = self.config[key]
      return bool(every) and (step % every == 0 or step == self.last_step)

    if due('log_every'):
      means = self.log.means()
      self.writer.write_scalars(step, means)
      self.bar.set_postfix(loss=f'{means["loss"]:.3g}', refresh=False)
    if due('eval_every'):
      self.log.flush()
      self.evaluate(number, step, state)
      self.log.restart()
      self.log.stop |= self.owes_evaluation
    if due('checkpoint_every') or due('eval_every') or step == self.last_step or self.log.stop:
      self.log.flush()
      self.save(number, step, state)
      self.log.restart()
    if self.log.stop:
      self.checkpointer.wait()
      _say(f'terminated after step {step}, which is saved: the same command goes on from there')
      sys.exit(TERMINATED)
    self.checkpointer.check()

  def save(self, number: int, step: int, state: TrainState) -> None:
    """Writes a checkpoint, and the weights."""
    psnr = self.scores['test/psnr'] if self.scores.get('step') == step else None
    progress = {'scores': self.scores, 'window': self.log.rows}
    progress['owes_evaluation'] = self.owes_evaluation
    self.writer.sync()  # first: a saved step has its rows
    self.checkpointer.save(state, progress, psnr)
    self.save_weights(number, step, state)

  def model_config(self, number: int) -> dict[str, Any]:
    """`name` and options of the network of a phase."""
    dtype = PRECISIONS[self.config['precision']][0]
    return self.config['model'] | self.phases[number]['model'] | {'dtype': dtype}

  def phase_model(self, number: int) -> nn.Module:
    _, precision = PRECISIONS[self.config['precision']]
    return create_model(**self.model_config(number), precision=precision)

  def evaluate(self, number: int, step: int, state: TrainState) -> None:
    """Scores the state on test images, of which each process takes every n-th."""
    if not (count := self.dataset.num_examples('test')):
      _say('the dataset has no test images: not evaluating')
      return
    count = min(self.config['eval_images'] or count, count)
    images = list(parallel.share(self.dataset.images('test', count)))
    model, params = self.phase_model(number), all_params(state)
    output = None if self.dataset.scale == model.scale else 'lr'
    restorer = Restorer(model, params, output=output, dtype='float32')
    protocol = self.config['protocol']
    self.owes_evaluation = True
    try:
      rows = evaluate.evaluate(restorer, images, protocol, on_result=self.leave)
    except Terminated:
      return
    self.owes_evaluation = False
    baseline, network = evaluate.summarize(rows, restorer)
    scalars = {f'test/{key}': network[key] for key in ('psnr', 'ssim')}
    scalars |= {f'test/{baseline["method"]}_{key}': baseline[key] for key in ('psnr', 'ssim')}
    self.scores = {'step': step, 'protocol': protocol, 'images': len(rows)} | scalars
    if self.test_pairs:
      restorer_of_lr = Restorer(model, params, output='lr', dtype='float32')
    for name, pairs in self.test_pairs.items():
      scores = score_pairs(restorer_of_lr, pairs.images())
      _say(f'step {step}: {name}, deblurred: {scores}')
      scalars |= {f'test/{name}_{key}': value for key, value in scores.scalars().items()}
    self.scores |= scalars
    self.writer.write_scalars(step, scalars)
    if jax.process_index() == 0:
      picture = _side_by_side(restorer, images[0])
      self.writer.write_image(step, f'test/{baseline["method"]}_restored_target', picture)
    _say(
      f'step {step}: PSNR {network["psnr"]:.2f} dB, {baseline["method"]} {baseline["psnr"]:.2f} dB '
      f'({len(rows)} test images, protocol {protocol})'
    )

  def leave(self, *_) -> None:
    """Leaves an evaluation if this process should end; one of several waits for the next step."""
    if self.termination.requested and jax.process_count() == 1:
      raise Terminated

  def save_weights(self, number: int, step: int, state: TrainState) -> None:
    if jax.process_index() != 0:
      return
    card = {'step': step, 'config': self.config, 'data': self.dataset.metadata}
    card['scores'] = self.scores
    model_config = self.model_config(number)
    used = param_shapes(create_model(**model_config))  # not the gate, before it is switched on
    params = jax.device_get({module: all_params(state)[module] for module in used})
    save_weights(os.path.join(self.workdir, WEIGHTS_FILE), params, model_config, card)


def _side_by_side(restorer: Restorer, image: Mapping[str, Any]) -> np.ndarray:
  lr_blur, target = image['lr_blur'], evaluate.target_of(image, restorer)
  before = evaluate.bicubic(lr_blur, restorer.scale) if restorer.scale > 1 else lr_blur
  images = before, restorer(lr_blur), target
  return np.concatenate([metrics.to_uint8(image) for image in images], axis=1)


def _say(line: str) -> None:
  """Prints a line above the progress bar."""
  if jax.process_index() == 0:
    tqdm.write(line, file=sys.stderr)
