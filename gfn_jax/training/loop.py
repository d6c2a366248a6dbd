"""Training from a config: the story, top-down."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from gfn_jax.data.datasets import Dataset
from gfn_jax.evaluation.selection import open_test_pairs
from gfn_jax.models import param_count
from gfn_jax.system import cpu_bfloat16, parallel
from gfn_jax.system.console import print_message, progress_bar
from gfn_jax.training import records
from gfn_jax.training.hooks import Evaluation, Logging, Saving
from gfn_jax.training.metric_writer import MetricWriter
from gfn_jax.training.phases import Phase, make_phases, plain
from gfn_jax.training.preemption import Preemption
from gfn_jax.training.step_log import StepLog, Trace
from gfn_jax.training.train_state import TrainState
from gfn_jax.weights.pretrained import WEIGHTS_FILE

Hook = Callable[[int, TrainState, Phase], None]


@jax.enable_x64(False)  # states and scores are the same under JAX_ENABLE_X64
def train_and_evaluate(
  config: Mapping[str, Any], workdir: str | os.PathLike, overrides: Mapping[str, Any] | None = None
) -> TrainState:
  """Train a network through its phases, or continue a run from its newest checkpoint.

  Writes into `workdir`: `config.json` and `overrides.json`, `checkpoints/`, `metrics.jsonl`,
  `tensorboard/`, and `weights.safetensors` with its card, rewritten at each checkpoint.

  Args:
    config: sections as in `configs/defaults.py`.
    workdir: the run's folder, made if needed; or in a bucket, `gs://...`.
    overrides: what the user changed in the config, for the record.

  Returns:
    The final state.

  Raises:
    UserError: for data that is missing or damaged, a config that does not fit the devices or the
      run in `workdir`, a checkpoint that cannot be written, and a run that diverges.
    SystemExit: with 143 after SIGTERM and 130 after Ctrl-C, once a checkpoint is saved. The same
      call continues there.
  """
  config, workdir = plain(config), os.fspath(workdir)
  training, run, is_first = config['training'], config['run'], jax.process_index() == 0
  parallel.check_batch_size(training['batch_size'], training['accumulate'])
  records.check_format(workdir)
  dataset = records.open_data(config, workdir)
  test_pairs = open_test_pairs(config)
  phases = make_phases(config, dataset, (overrides or {}).keys())
  last_step = phases[-1].last_step
  checkpointer = records.open_checkpoints(config, dataset, workdir)
  preemption = Preemption()
  trace = Trace(os.path.join(workdir, 'tensorboard'), run['profile'] and is_first)

  with checkpointer, preemption, trace:
    state, progress = records.restore_or_initialize(config, dataset, phases[0], checkpointer)
    step = int(state.step)
    records.write(workdir, config, overrides, dataset)
    print_message(
      f'{type(phases[0].model).__name__}, {param_count({"params": state.params}):,} parameters, '
      f'step {step} of {last_step}, on {jax.device_count()} x {jax.devices()[0].device_kind}'
    )
    writer = MetricWriter(workdir, step, writes=is_first)
    with writer, progress_bar(last_step, step, 'step') as bar:
      log = StepLog(training['batch_size'], progress.get('window', ()))
      logging = Logging(log, writer, bar, run['log_every'], last_step)
      evaluation = Evaluation(config, dataset, test_pairs, writer, log, preemption, last_step)
      evaluation.restore(progress)
      saving = Saving(
        config, workdir, dataset, checkpointer, evaluation, writer, log, preemption, last_step
      )
      for phase in phases:
        saving.make_up(step, state, phase)
        if step < phase.last_step:
          hooks = (logging, preemption, evaluation, saving)
          state = train_phase(phase, state, dataset, training, log, trace, hooks)
  print_message(f'trained {last_step} steps: {os.path.join(workdir, WEIGHTS_FILE)}')
  return state


def train_phase(
  phase: Phase,
  state: TrainState,
  dataset: Dataset,
  training: Mapping[str, Any],
  log: StepLog,
  trace: Trace,
  hooks: Iterable[Hook],
) -> TrainState:
  """Train from a state to the end of its phase; return the new state."""
  first_step = int(state.step)
  if first_step == phase.first_step and phase.reset_optimizer:
    opt_state = jax.jit(phase.optimizer.init)(state.params)
    state = state.replace(opt_state=parallel.replicate(opt_state))

  def step_on_device(state, batch, average):  # the batch of `Dataset.train_batches`
    return phase.train_step(state, dataset.prepare(batch), average)

  options = cpu_bfloat16.compiler_options(phase.model_config['dtype'])
  train_step = parallel.parallel_step(step_on_device, options)
  print_message(
    f'phase {phase.number}: steps {first_step + 1} to {phase.last_step}; compiling the first'
  )
  batches = phase.batches(dataset, training['batch_size'], training['seed'], first_step)
  for step in range(first_step + 1, phase.last_step + 1):
    batch = log.time_data(lambda: next(batches))
    trace.before_step(state)
    state, scalars = train_step(state, parallel.shard(batch))
    log.add(step, scalars)
    if step == first_step + 1:  # keep the compilation out of the speed
      log.restart()
    for hook in hooks:
      hook(step, state, phase)
  return state
