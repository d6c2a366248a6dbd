import copy
import functools
import json
import os
import shutil
import signal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import skimage.data

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.configs import bmdsrnet, cascade, cnlrn
from gfn_jax.data.real_pairs import RealPairs
from gfn_jax.evaluation import evaluate, test_sets
from gfn_jax.evaluation.selection import score_pairs
from gfn_jax.models.base import RestorationModel
from gfn_jax.ops import metrics
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.scores import bicubic
from gfn_jax.system import parallel
from gfn_jax.training import loop, losses, phases
from gfn_jax.training.optimizers import make_optimizer, scale_by_rate
from gfn_jax.training.train_state import TrainState, create_train_state
from gfn_jax.training.train_step import train_step
from gfn_jax.weights.pretrained import load_pretrained
from tests import small


@pytest.fixture(scope='module')
def batch():
  """Eight crops of a photograph, 16x16 at low resolution."""
  photo = skimage.data.astronaut()
  hr = np.stack([photo[64 * i : 64 * (i + 1), 150:214] for i in range(8)])
  lr = np.stack([imresize(x, 0.25) for x in hr])
  return {'lr_blur': np.roll(lr, 1, axis=2), 'lr': lr, 'hr': hr}


def make_step(
  model, lr_weight=0.5, rate=1e-3, hr_weight=1.0, optimizer='adam', initialized=None, **options
):
  rates = {'': optax.constant_schedule(rate)} | options.pop('learning_rates', {})
  if optimizer == 'sgd':
    labels = lambda params: {name: name if name in rates else '' for name in params}
    scales = {name: scale_by_rate(rate) for name, rate in rates.items()}
    tx = optax.chain(optax.scale(-1.0), optax.partition(scales, labels))
  elif optimizer == 'sign':
    tx = optax.with_extra_args_support(optax.sign_sgd(rate))
  else:
    tx = make_optimizer(rates, clip_norm=1.0)
  state = create_train_state(initialized or model, tx, seed=0, ema='ema_decay' in options)
  terms = {name: {'on': name, 'loss': 'mse', 'weight': 1.0} for name in ('hr', 'lr')}
  loss = losses.make_loss(terms, {'hr': hr_weight, 'lr': lr_weight})
  model = model.for_training(parallel.AXIS)
  return state, functools.partial(train_step, model=model, optimizer=tx, loss=loss, **options)


def all_replicas(step, devices):
  def averaged(state, batch):
    return step(state, batch, lambda tree: jax.lax.pmean(tree, parallel.AXIS))

  run = jax.pmap(
    averaged, parallel.AXIS, in_axes=(None, 0), out_axes=0, devices=jax.devices()[:devices]
  )
  return lambda state, batch: jax.device_get(run(state, batch))


def changed_modules(before, after):
  """Which top-level modules have a parameter that did, and one that did not change."""
  moved, kept = set(), set()
  for path, leaf in jax.tree_util.tree_leaves_with_path(
    jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), before, after)
  ):
    (moved if leaf else kept).add(path[0].key)
  return moved, kept


class Step(NamedTuple):
  """Training step whose states are on the host; tests share it, because it compiles for seconds."""

  model: RestorationModel
  before: TrainState
  after: TrainState
  scalars: dict[str, np.ndarray]


def take(model, batch, **options):
  """Take the step of `make_step` on eight devices, as a run does."""
  # Signs as the default: any gradient that is not exactly zero makes a step of full size.
  before, step = make_step(model, **{'optimizer': 'sign'} | options)
  before = jax.device_get(before)
  start = jax.tree.map(jnp.copy, before)
  after, scalars = parallel.parallel_step(step)(start, parallel.shard(batch))
  return Step(model, before, *jax.device_get((after, scalars)))


@pytest.fixture(scope='module')
def gfn_step(batch):
  return take(
    create_model(**small.MODEL, gate_recursions=3),
    batch,
    optimizer='adam',
    lr_weight=0.25,
    rate=0.01,
  )


@pytest.fixture(scope='module')
def gfn_by_hand(gfn_step, batch):
  """Return the loss, its gradient and the parameters after `gfn_step`, by the formulas."""
  images = {key: x.astype(np.float32) / 255 for key, x in batch.items()}

  def loss(params):
    output = gfn_step.model.apply({'params': params}, images['lr_blur'])
    loss_hr = ((output.hr - images['hr']) ** 2).mean()
    return loss_hr + 0.25 * ((output.lr - images['lr']) ** 2).mean()

  params = gfn_step.before.params
  value, grads = jax.device_get(jax.jit(jax.value_and_grad(loss))(params))
  clipped = min(1, 1 / norm_of(grads))

  def first_step(param, gradient):  # the moments are those of this gradient alone
    return param - 0.01 * clipped * gradient / (clipped * np.abs(gradient) + 1e-8)

  return value, grads, jax.tree.map(first_step, params, grads)


def norm_of(tree):
  return np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(tree)))


def test_a_step_changes_every_parameter(gfn_step):
  moved, kept = changed_modules(gfn_step.before.params, gfn_step.after.params)
  assert moved == {'deblur', 'gate', 'reconstruction', 'sr_feature'}
  assert not kept
  assert int(gfn_step.after.step) == 1


def test_losses_and_update_by_hand(gfn_step, gfn_by_hand):
  value, grads, expected = gfn_by_hand
  _, _, after, scalars = gfn_step
  np.testing.assert_allclose(scalars['loss'], value, rtol=1e-5)
  for a, b in zip(jax.tree.leaves(after.params), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-3)
  np.testing.assert_allclose(scalars['grad_norm'], norm_of(grads), rtol=1e-4)


def test_modules_can_have_another_learning_rate_or_none(batch, gfn_step, gfn_by_hand):
  rates = {'deblur': optax.constant_schedule(1e-4), 'gate': optax.constant_schedule(0.0)}
  options = dict(lr_weight=0.25, optimizer='sgd', learning_rates=rates, frozen=['gate'])
  _, before, after, scalars = take(gfn_step.model, batch, **options)
  factors, (_, grads, _) = {'deblur': 1e-4, 'gate': 0}, gfn_by_hand
  for module in before.params:
    leaves = map(jax.tree.leaves, (before.params[module], after.params[module], grads[module]))
    for x, y, gradient in zip(*leaves, strict=True):
      expected = -factors.get(module, 1e-3) * gradient
      np.testing.assert_allclose(y - x, expected, rtol=1e-3, atol=1e-7)
  assert scalars['grad_norm/gate'] == 0 < gfn_step.scalars['grad_norm/gate']


@pytest.fixture(scope='module')
def ungated_step(batch):
  """Take a step of GFN without its gate and without a deblurring loss."""
  model = create_model(**small.MODEL)
  return take(model.clone(gated=False), batch, lr_weight=0.0, initialized=model)


def test_an_ungated_step_changes_everything_but_the_gate(ungated_step):
  _, before, after, scalars = ungated_step
  moved, kept = changed_modules(before.params, after.params)
  assert moved == {'deblur', 'reconstruction', 'sr_feature'}
  assert kept == {'gate', 'deblur'}  # of the latter, what the next test names
  assert float(scalars['grad_norm/gate']) == 0


def test_without_a_deblurring_loss_only_its_image_layers_stand_still(ungated_step):
  _, before, after, _ = ungated_step
  for layer, params in before.params['deblur'].items():
    same = jax.tree.map(np.array_equal, params, after.params['deblur'][layer])
    assert all(jax.tree.leaves(same)) == (layer in ('conv5', 'conv6')), layer


def test_without_the_hr_loss_only_the_deblurring_module_is_trained(batch):
  _, before, after, scalars = take(create_model(**small.MODEL), batch, hr_weight=0.0)
  moved, kept = changed_modules(before.params, after.params)
  assert moved == {'deblur'}
  assert kept == {'gate', 'reconstruction', 'sr_feature'}
  assert 'loss_hr' not in scalars
  np.testing.assert_allclose(scalars['loss'], 0.5 * scalars['loss_lr'], rtol=1e-6)


long = functools.partial(pytest.param, marks=pytest.mark.full)
SIZE = {key: value for key, value in small.MODEL.items() if key != 'name'}


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('gfn_ablation', SIZE | {'variant': 'deblur_first'}),
    long('gfn_ablation', SIZE | {'variant': 'sr_first'}),
    long('gfn_ablation', SIZE | {'variant': 'dual_branch'}),
    long('srresnet', {'features': 4, 'blocks': 1, 'preset': 'srresnet_gfn'}),
    long('srresnet', {'features': 4, 'blocks': 1, 'preset': 'msrresnet'}),
  ],
)
def test_a_step_changes_every_parameter_of_the_other_networks(batch, name, options):
  _, before, after, scalars = take(create_model(name, **options), batch)
  moved, kept = changed_modules(before.params, after.params)
  assert (moved, kept) == (set(before.params), set())
  assert not after.batch_stats
  has_lr = options.get('variant') in ('deblur_first', 'dual_branch')
  assert ('loss_lr' in scalars) == has_lr


def test_batch_statistics_are_those_of_the_whole_batch_on_any_number_of_devices(batch):
  model = create_model('srresnet', preset='srresnet_paper', features=4, blocks=1)
  state, step = make_step(model, optimizer='sgd')
  eight, scalars = all_replicas(step, 8)(state, parallel.shard(batch))
  one, _ = all_replicas(step, 1)(state, one_device(batch))
  for a, b in zip(jax.tree.leaves(eight), jax.tree.leaves(one), strict=True):
    np.testing.assert_allclose(a[0], b[0], rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(a[0], a[-1])
  first = jax.tree.map(lambda x: x[0], eight)
  moved, kept = changed_modules(state.params, first.params)
  assert (moved, kept) == (set(state.params), set())
  moved, kept = changed_modules(state.batch_stats, first.batch_stats)
  assert (moved, kept) == (set(state.batch_stats), set())
  assert moved
  assert 'loss_lr' not in scalars


def one_device(batch):
  return {key: x[None] for key, x in batch.items()}


@pytest.fixture(scope='module')
def sr_branch_state():
  return make_step(create_model(**small.SR_BRANCH), ema_decay=0.9)


@pytest.fixture(scope='module')
def sr_branch_step(sr_branch_state, batch):
  """Return the state after a step on one device, and its scalars."""
  state, step = sr_branch_state
  return all_replicas(step, 1)(state, one_device(batch))


def test_eight_devices_give_the_step_of_one_and_replicas_agree(
  batch, sr_branch_state, sr_branch_step
):
  state, step = sr_branch_state
  eight, scalars = all_replicas(step, 8)(state, parallel.shard(batch))
  one, scalars_one = sr_branch_step
  for a, b in zip(jax.tree.leaves(eight.params), jax.tree.leaves(one.params), strict=True):
    assert all((a[0] == replica).all() for replica in a)
    np.testing.assert_allclose(a[0], b[0], atol=2e-4)  # Adam's first step is lr * sign(gradient)
  # The gradients themselves agree closely.
  for a, b in zip(first_moments(eight), first_moments(one), strict=True):
    np.testing.assert_allclose(a[0], b[0], rtol=1e-3, atol=1e-6)
  np.testing.assert_allclose(scalars['loss'][0], scalars_one['loss'][0], rtol=1e-5)
  moved, kept = changed_modules(state.params, jax.tree.map(lambda x: x[0], eight.params))
  assert (moved, kept) == (set(state.params), set())
  assert 'loss_lr' not in scalars


def first_moments(state):
  """Return Adam's first moments: a tenth of the clipped gradient after one step."""
  return jax.tree.leaves(state.opt_state[1][0].mu)


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(batch, sr_branch_step):
  state, step = make_step(create_model(**small.SR_BRANCH), accumulate=2)
  parts, scalars = all_replicas(step, 1)(state, one_device(batch))
  whole, scalars_whole = sr_branch_step
  for x, y in zip(first_moments(whole), first_moments(parts), strict=True):
    np.testing.assert_allclose(y[0], x[0], rtol=1e-3, atol=1e-6)
    assert np.any(x[0] != 0)
  for key, value in scalars_whole.items():
    np.testing.assert_allclose(scalars[key], value, rtol=1e-4)


def test_the_average_of_the_parameters_follows_them(sr_branch_state, sr_branch_step):
  after, _ = sr_branch_step
  trees = (jax.device_get(sr_branch_state[0].params), after.params, after.ema_params)
  for start, now, average in zip(*map(jax.tree.leaves, trees), strict=True):
    np.testing.assert_allclose(average[0], 0.9 * start + 0.1 * now[0], rtol=1e-5, atol=1e-7)
  first = jax.tree.map(lambda x: x[0], after)
  assert first.eval_variables['params'] is first.ema_params
  plain = first.replace(ema_params={})
  assert plain.eval_variables == {'params': plain.params}


def test_float_batches_are_taken_as_they_are(batch, sr_branch_state, sr_branch_step):
  state, step = sr_branch_state
  floats = {key: (x / 255).astype(np.float32) for key, x in batch.items()}
  from_float = jax.jit(lambda batch: step(state, batch)[1]['loss'])(floats)
  _, from_uint8 = sr_branch_step
  np.testing.assert_allclose(from_float, from_uint8['loss'][0], rtol=1e-5)


@pytest.mark.full
def test_a_run_of_a_network_that_only_deblurs(dataset_dir, tmp_path):
  config = small.config(dataset_dir)
  config.model = {'name': 'cnlrn_deblur', 'features': 4, 'blocks': 1, 'stage_blocks': 1}
  config.loss.lr.loss = 'charbonnier'
  config.loss.edge = {'on': 'lr', 'loss': 'edge', 'weight': 0.05}
  config.phases = {'phase_1': config.phases.phase_1}
  config.phases.phase_1.model = {}
  loop.train_and_evaluate(config, tmp_path)
  rows = read_rows(tmp_path)
  last = [row for row in rows if 'loss' in row][-1]
  terms = 0.5 * (last['loss_lr'] + 0.05 * last['loss_edge'])
  np.testing.assert_allclose(last['loss'], terms, rtol=1e-4)
  assert 'loss_hr' not in last
  assert {'test/input_psnr', 'test/psnr'} <= rows[-1].keys()
  restorer = Restorer.from_pretrained(tmp_path / 'weights.safetensors')
  image = np.random.default_rng(0).integers(256, size=(13, 18, 3), dtype=np.uint8)
  assert restorer(image).shape == (13, 18, 3)
  [image] = test_sets.dataset_test_set(test_sets.run_config(tmp_path), 1).images
  scores = evaluate.evaluate(restorer, [image], config.evaluation.protocol)[0]
  assert scores['psnr'] == pytest.approx(rows[-1]['test/psnr'], abs=0.01)


@pytest.mark.full
def test_a_run_of_a_cascade_one_network_after_the_other(dataset_dir, tmp_path):
  config = small.config(dataset_dir, {'evaluation.every': 0})
  first = {'name': 'cnlrn_deblur', 'features': 4, 'blocks': 1, 'stage_blocks': 1}
  second = {'name': 'srresnet', 'preset': 'msrresnet', 'features': 4, 'blocks': 1}
  config.model = {'name': 'cascade', 'first': first, 'second': second}
  config.phases = cascade.apart(config.phases.phase_1)
  for phase in config.phases.values():
    phase.model = {}
  config.phases.phase_2.module_learning_rates.third = 0.1
  with pytest.raises(UserError, match="Cascade has no module 'third'; it has first, second"):
    loop.train_and_evaluate(config, tmp_path)
  del config.phases.phase_2.module_learning_rates.third
  config.phases.phase_2.crop_size = 65
  with pytest.raises(UserError, match='crop_size 65 is larger than the patches'):
    loop.train_and_evaluate(config, tmp_path)
  assert not list(tmp_path.iterdir())
  config.phases.phase_2.crop_size = 8
  state = loop.train_and_evaluate(config, tmp_path)
  start = create_train_state(create_model(**config.model), optax.identity(), config.training.seed)
  moved, _ = changed_modules(start.params, state.params)
  assert moved == {'first', 'second'}
  rows = read_rows(tmp_path)
  norms = [(row['grad_norm/first'] > 0, row['grad_norm/second'] > 0) for row in rows]
  assert norms == [(True, False)] * 2 + [(False, True)] * 2
  assert [row['learning_rate/first'] == 0 for row in rows] == [False] * 2 + [True] * 2
  restorer = Restorer.from_pretrained(tmp_path / 'weights.safetensors')
  assert restorer(np.zeros((9, 12, 3), np.uint8)).shape == (36, 48, 3)


@pytest.mark.full
def test_a_run_of_cnlrn_as_in_its_config(dataset_dir, tmp_path):
  config = small.config(dataset_dir, {'evaluation.every': 0})
  recipe = cnlrn.get_config()
  config.phases, config.loss, config.optimizer = recipe.phases, recipe.loss, recipe.optimizer
  config.model = {'name': 'cnlrn', **small.CNLRN, 'deblur_head': True, 'use_nonlocal': False}
  for phase in config.phases.values():
    phase.update(epochs=1, crop_size=8)
    phase.schedule.periods = 1
  loop.train_and_evaluate(config, tmp_path)
  rows = read_rows(tmp_path)
  assert [row['grad_norm/nlrn'] > 0 for row in rows] == [False] * 2 + [True] * 2
  deblurring, joint = rows[0], rows[-1]
  assert deblurring['loss'] == deblurring['loss_lr']
  terms = joint['loss_hr'] + 0.1 * joint['loss_gradient']
  np.testing.assert_allclose(joint['loss'], terms, rtol=1e-5)
  rates = [(row['learning_rate'], row['learning_rate/deblur']) for row in rows[::2]]
  np.testing.assert_allclose(rates, [(1e-4, 1e-4), (2e-4, 1e-5)], rtol=1e-5)
  model, params = load_pretrained(tmp_path / 'weights.safetensors')
  params = params['params']
  assert not model.deblur_head
  assert params.keys() == {'conv_first', 'deblur', 'nlrn'}


@pytest.fixture
def bmdsrnet_config(photos_dir):
  """A tiny BMDSRNet for scale 3 on sub-frames of synthetic blur."""
  config, row = small.photos_config(photos_dir), bmdsrnet.get_config('x3,c,small')
  row.model.update(small.BMDSRNET)
  config.model, config.loss = row.model, row.loss
  config.data.update(scale=3, frames=True)
  config.data.motion_blur.camera.frames = 7
  config.phases.phase_1.model = {}
  return config


@pytest.mark.full
def test_a_run_of_bmdsrnet_on_sharp_frames(bmdsrnet_config, tmp_path, monkeypatch):
  (tmp_path / 'vgg19.pth').write_bytes(b'features')
  monkeypatch.setattr(phases.VGG19, 'from_file', lambda path: lambda images: 2 * images)
  bmdsrnet_config.run.perceptual_weights = str(tmp_path / 'vgg19.pth')
  loop.train_and_evaluate(bmdsrnet_config, tmp_path / 'run')
  row = next(row for row in read_rows(tmp_path / 'run') if 'loss' in row)
  terms = row['loss_hr'] + row['loss_frames'] + row['loss_perceptual']
  assert row['loss'] == pytest.approx(terms, rel=1e-5)
  assert 'loss_lr' not in row
  restorer = Restorer.from_pretrained(tmp_path / 'run' / 'weights.safetensors')
  assert restorer(np.zeros((8, 8, 3), np.uint8)).shape == (24, 24, 3)
  (tmp_path / 'vgg19.pth').write_bytes(b'others')
  with pytest.raises(UserError, match='perceptual_weights'):
    loop.train_and_evaluate(bmdsrnet_config, tmp_path / 'run')


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'data.scale': 4}, 'BMDSRNet enlarges by 3, but the LR images of .* are 4 times smaller'),
    ({'run.perceptual_weights': 'vgg19.pth'}, 'vgg19.pth'),
    (
      {'run.perceptual_weights': 'vgg19.pth', 'data.frames': False},
      'perceptual_weights: .* no sharp frames',
    ),
    (
      {'run.perceptual_weights': 'vgg19.pth', 'training.crop_size': 8},
      'perceptual_weights needs crops of 16',
    ),
    (
      {'loss.frames.pair_difference': 'both'},
      "pair_difference is 'both'; choose from absolute, either, signed",
    ),
  ],
)
def test_what_bmdsrnet_cannot_be_trained_with_is_refused(
  bmdsrnet_config, tmp_path, changes, message
):
  bmdsrnet_config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=message):
    loop.train_and_evaluate(bmdsrnet_config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_run_of_another_precision_with_an_average(dataset_dir, tmp_path):
  config = small.config(
    dataset_dir,
    {'training.precision': 'bfloat16', 'training.ema_decay': 0.5, 'training.accumulate': 1},
  )
  config = small.sr_branch(config)
  del config.phases.phase_2
  config.evaluation.every = 0
  state = loop.train_and_evaluate(config, tmp_path)
  assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype('float32')}
  model, params = load_pretrained(tmp_path / 'weights.safetensors')
  params = params['params']
  assert model.dtype == 'bfloat16'
  for module, average in params.items():
    jax.tree.map(np.testing.assert_array_equal, average, state.ema_params[module])


def test_an_unknown_precision_is_refused(dataset_dir, tmp_path):
  with pytest.raises(UserError, match="precision is 'half'; choose from float32, tf32, bfloat16"):
    loop.train_and_evaluate(small.config(dataset_dir, {'training.precision': 'half'}), tmp_path)


@pytest.mark.full
def test_a_small_network_learns_to_beat_bicubic(batch):
  model = create_model('gfn', features=16, deblur_blocks=1, sr_blocks=1, reconstruction_blocks=1)
  state, step = make_step(model, rate=4e-3)
  step = jax.jit(step)  # without a device axis
  for _ in range(150):
    state, _ = step(state, batch)
  restorer = Restorer(model, {'params': state.params})
  restored = np.stack([restorer(x) for x in batch['lr_blur']])
  baseline = np.stack([bicubic(x) for x in batch['lr_blur']])
  assert metrics.psnr(restored, batch['hr']) > metrics.psnr(baseline, batch['hr']) + 1


def read_rows(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def drop_times(row):
  """Leaves what two runs have in common."""
  for key in [key for key in row if key == 'time' or key.startswith('system/')]:
    del row[key]


class Killed(Exception):
  """Ends a run from outside, as a kill would."""


@pytest.fixture
def photos_config(photos_dir, gopro_tree):
  """A run of four steps on photos, with real pairs among them."""
  config = small.photos_config(photos_dir, {'training.batch_size': 16})
  config.data.real_pairs.gopro.update(path=str(gopro_tree / 'train'), share=0.5)
  return small.sr_branch(config)


@pytest.mark.full
def test_real_pairs_without_hr_train_and_are_scored(photos_dir, gopro_tree, tmp_path):
  config = small.photos_config(photos_dir, {'training.batch_size': 16, 'evaluation.every': 4})
  config.model.update(deblur_module='unet', upsampler='pixelshuffledirect')
  pairs = dict(path=str(gopro_tree / 'train'), blur='blur_gamma')
  config.data.real_pairs = {'half': pairs | dict(reduce=2, share=0.5)}
  config.evaluation.test_pairs = {'quarter': pairs | dict(reduce=4), 'unused': dict(path='')}
  with pytest.raises(UserError, match='test_pairs.quarter.path is one of data.real_pairs'):
    loop.train_and_evaluate(config, tmp_path)
  shutil.copytree(gopro_tree / 'train', tmp_path / 'pairs')
  config.evaluation.test_pairs.quarter.path = str(tmp_path / 'pairs')
  loop.train_and_evaluate(config, tmp_path)
  card = json.loads((tmp_path / 'weights.json').read_text())
  facts = card['data']['real_pairs']['half']
  assert facts | {'digest': ''} == {'blur': 'blur_gamma', 'reduce': 2, 'share': 0.5, 'digest': ''}
  scores = card['scores']
  assert {'test/psnr', 'test/bicubic_psnr', 'test/quarter_nearly_sharp_gain'} <= scores.keys()
  rows = [row for row in read_rows(tmp_path) if 'test/quarter_nearly_sharp_gain' in row]
  assert [row['step'] for row in rows] == [4]
  restorer = Restorer.from_pretrained(tmp_path / 'weights.safetensors', output='lr')
  gain = score_pairs(restorer, RealPairs(**pairs, reduce=4).images()).nearly_sharp_gain
  assert scores['test/quarter_nearly_sharp_gain'] == pytest.approx(gain, abs=1e-4)


@pytest.mark.full
def test_the_deblurred_image_alone_is_trained_at_any_scale(photos_dir, tmp_path):
  config = small.photos_config(photos_dir, {'evaluation.every': 4})
  config.data.scale = 2
  with pytest.raises(UserError, match='GFN enlarges by 4, but the LR images .* are 2 times'):
    loop.train_and_evaluate(config, tmp_path)
  config.phases.phase_1.hr_weight = 0.0
  loop.train_and_evaluate(config, tmp_path)
  scores = json.loads((tmp_path / 'weights.json').read_text())['scores']
  assert {'test/psnr', 'test/input_psnr'} <= scores.keys()  # of `lr`


@pytest.mark.full
def test_the_halves_of_a_cascade_are_trained_alone(photos_dir, tmp_path):
  """Super-resolution on sharp images, and deblurring at full size."""
  changes = {'evaluation.every': 4, 'data.clean': True}
  config = small.sr_branch(small.photos_config(photos_dir, changes))
  loop.train_and_evaluate(config, tmp_path / 'sr')
  scores = json.loads((tmp_path / 'sr' / 'weights.json').read_text())['scores']
  blurred = small.sr_branch(small.photos_config(photos_dir, {'evaluation.every': 4}))
  loop.train_and_evaluate(blurred, tmp_path / 'blurred')
  with_blur = json.loads((tmp_path / 'blurred' / 'weights.json').read_text())['scores']
  assert scores['test/bicubic_psnr'] > with_blur['test/bicubic_psnr'] + 1

  config = small.photos_config(photos_dir, {'evaluation.every': 4, 'data.scale': 1})
  config.model = {'name': 'cnlrn_deblur', 'features': 4, 'blocks': 1, 'stage_blocks': 1}
  config.phases.phase_1.model = {}
  loop.train_and_evaluate(config, tmp_path / 'deblur')
  scores = json.loads((tmp_path / 'deblur' / 'weights.json').read_text())['scores']
  assert {'test/psnr', 'test/input_psnr'} <= scores.keys()


@pytest.fixture
def any_config(request, dataset_dir, photos_config):
  """A run of four steps on each source of data."""
  if request.param == 'photos':
    return photos_config
  return small.sr_branch(small.config(dataset_dir))


def kill(*_):
  raise Killed


def terminate(*_):
  os.kill(os.getpid(), signal.SIGTERM)


def press_ctrl_c(*_):
  os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
  ('any_config', 'end', 'steps'),
  [
    ('tfrecords', kill, 2),
    pytest.param('photos', terminate, 3, marks=pytest.mark.full),
    pytest.param('tfrecords', press_ctrl_c, 3, marks=pytest.mark.full),
  ],
  indirect=['any_config'],
)
def test_a_run_that_is_ended_and_continued_equals_an_uninterrupted_one(
  any_config, tmp_path, monkeypatch, end, steps
):
  any_config.update_from_flattened_dict({'run.log_every': 3, 'run.checkpoint_every': 2})
  whole = loop.train_and_evaluate(any_config, tmp_path / 'whole')
  assert int(whole.step) == 4

  calls = []

  def shard(batch, shard=parallel.shard):
    calls.append(batch)
    if len(calls) == 3:
      end()
    return shard(batch)

  with monkeypatch.context() as patch, pytest.raises((Killed, SystemExit)) as ended:
    patch.setattr(parallel, 'shard', shard)
    loop.train_and_evaluate(any_config, tmp_path / 'ended')
  if end is not kill:
    assert ended.value.code == {terminate: 143, press_ctrl_c: 130}[end]
  saved = [int(path.name) for path in (tmp_path / 'ended' / 'checkpoints').iterdir()]
  assert max(saved) == steps
  continued = loop.train_and_evaluate(any_config, tmp_path / 'ended')

  for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(continued), strict=True):
    np.testing.assert_array_equal(a, b)
  rows, expected = read_rows(tmp_path / 'ended'), read_rows(tmp_path / 'whole')
  for row in rows + expected:
    drop_times(row)
  assert rows == expected
  assert [row['step'] for row in rows if 'loss' in row] == [3, 4]
  assert [row['step'] for row in rows if 'test/psnr' in row] == [2, 4]
  cards = [json.loads((tmp_path / run / 'weights.json').read_text()) for run in ('ended', 'whole')]
  assert cards[0] == cards[1]


def test_sigterm_ends_an_evaluation_which_is_made_up_for(dataset_dir, tmp_path, monkeypatch):
  config = small.sr_branch(small.config(dataset_dir))
  before = signal.getsignal(signal.SIGTERM)

  def evaluate_slowly(*_, on_result, **__):
    terminate()
    on_result('name', None, None, None, {})
    raise AssertionError('it goes on')

  with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
    patch.setattr(evaluate, 'evaluate', evaluate_slowly)
    loop.train_and_evaluate(config, tmp_path)
  assert ended.value.code == 143
  assert signal.getsignal(signal.SIGTERM) is before
  assert sorted(path.name for path in (tmp_path / 'checkpoints').iterdir()) == ['1', '2']
  loop.train_and_evaluate(config, tmp_path)
  assert [row['step'] for row in read_rows(tmp_path) if 'test/psnr' in row] == [2, 4]


def test_what_a_run_leaves(dataset_dir, tmp_path):
  config = small.config(dataset_dir)
  state = loop.train_and_evaluate(config, tmp_path, {'batch_size': 8})
  rows = read_rows(tmp_path)
  steps = [row for row in rows if 'loss' in row]
  assert {'loss_hr', 'loss_lr', 'learning_rate', 'grad_norm'} <= set(steps[0])
  speeds = [row.get('system/images_per_second') for row in steps]
  assert speeds[0] is speeds[2] is None  # the compiling ones
  assert speeds[1] > 0 < speeds[3]
  np.testing.assert_allclose(
    steps[0]['loss'], steps[0]['loss_hr'] + 0.5 * steps[0]['loss_lr'], rtol=1e-5
  )
  phases = [config.phases.phase_1, config.phases.phase_2]
  rates = [phase.schedule.learning_rate for phase in phases for _ in range(2)]
  np.testing.assert_allclose([row['learning_rate'] for row in steps], rates, rtol=1e-6)
  assert steps[1]['grad_norm/gate'] == 0 < steps[2]['grad_norm/gate']
  assert list((tmp_path / 'tensorboard').glob('events.*'))
  assert json.loads((tmp_path / 'overrides.json').read_text()) == {'batch_size': 8}
  assert test_sets.run_config(tmp_path)['model']['features'] == 8

  restorer = Restorer.from_pretrained(tmp_path / 'weights.safetensors')
  assert restorer.model.gated
  for a, b in zip(
    jax.tree.leaves(restorer.variables['params']), jax.tree.leaves(state.params), strict=True
  ):
    np.testing.assert_array_equal(a, b)
  card = json.loads((tmp_path / 'weights.json').read_text())
  assert card['step'] == card['scores']['step'] == 4
  assert card['data']['blur_folder'] == 'blur_gamma'

  # Once more does nothing.
  again = loop.train_and_evaluate(config, tmp_path)
  for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.fixture(scope='module')
def ungated_run(dataset_dir, tmp_path_factory):
  """Return the config and the folder of a finished run of the first phase, which is ungated."""
  config = small.config(dataset_dir, {'evaluation.every': 0})
  del config.phases.phase_2
  workdir = tmp_path_factory.mktemp('ungated')
  loop.train_and_evaluate(config, workdir)
  return config, workdir


def test_a_run_is_not_continued_with_other_settings(ungated_run):
  config, workdir = copy.deepcopy(ungated_run)
  config.phases.phase_1.schedule.learning_rate = 0.5
  with pytest.raises(
    UserError,
    match=r'config.phases.phase_1.schedule.learning_rate was .* and is 0.5; .*'
    '--config.run.init_from=.*/weights.safetensors',
  ):
    loop.train_and_evaluate(config, workdir)


@pytest.mark.full
def test_a_finished_run_that_is_extended_equals_a_longer_one(dataset_dir, tmp_path):
  config = small.sr_branch(small.config(dataset_dir, {'evaluation.every': 0}))
  loop.train_and_evaluate(config, tmp_path / 'extended')
  config.phases.phase_2.epochs = 2
  extended = loop.train_and_evaluate(config, tmp_path / 'extended')
  longer = loop.train_and_evaluate(config, tmp_path / 'longer')
  assert int(extended.step) == 6
  for a, b in zip(jax.tree.leaves(extended), jax.tree.leaves(longer), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.full
def test_a_run_is_not_continued_with_other_photos(photos_config, photos_dir, tmp_path):
  loop.train_and_evaluate(photos_config, tmp_path / 'run')
  (tmp_path / 'photos').mkdir()
  for path in photos_dir.iterdir():
    (tmp_path / 'photos' / f'new_{path.name}').write_bytes(path.read_bytes())
  photos_config.data.photos = str(tmp_path / 'photos')
  with pytest.raises(UserError, match=r'3 removed \(a.png, .*\); 3 added \(new_a.png, '):
    loop.train_and_evaluate(photos_config, tmp_path / 'run')
  (tmp_path / 'run' / 'data_files.json').unlink()
  with pytest.raises(UserError, match=r'config.data.photos was .*accept_changed_data=True'):
    loop.train_and_evaluate(photos_config, tmp_path / 'run')
  photos_config.run.accept_changed_data = True
  loop.train_and_evaluate(photos_config, tmp_path / 'run')
  photos_config.run.accept_changed_data = False
  photos_config.data.photos = str(photos_dir)
  (tmp_path / 'run' / 'data_files.json').unlink()
  photos_config.data.motion_blur.camera.frames = 5
  with pytest.raises(UserError, match=r'config.data.motion_blur.camera.frames was 3 and is 5'):
    loop.train_and_evaluate(photos_config, tmp_path / 'run')


@pytest.mark.full
def test_a_run_can_start_from_weights_that_fit_but_for_exceptions(dataset_dir, tmp_path):
  config = small.config(dataset_dir, {'evaluation.every': 0})
  del config.phases.phase_2  # the first is ungated
  loop.train_and_evaluate(config, tmp_path / 'ungated')
  weights = tmp_path / 'ungated' / 'weights.safetensors'
  _, trained = load_pretrained(weights)
  trained = trained['params']

  config.update_from_flattened_dict({'run.init_from': str(weights), 'training.seed': 2})
  config.phases.phase_1.model = {'gated': True}
  config.phases.phase_1.schedule.learning_rate = 0.0  # to see where it starts
  with pytest.raises(UserError, match=r'does not fit GFN: 4 missing \(gate'):
    loop.train_and_evaluate(config, tmp_path / 'gated')
  config.run.init_except = ('gate',)
  state = loop.train_and_evaluate(config, tmp_path / 'gated')
  fresh = create_train_state(create_model(**small.MODEL), optax.identity(), seed=2)
  for module, params in state.params.items():
    expected = fresh.params if module == 'gate' else trained
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(expected[module]), strict=True):
      np.testing.assert_array_equal(a, b)

  # A run that has a checkpoint goes on from there.
  weights.unlink()
  loop.train_and_evaluate(config, tmp_path / 'gated')
  with pytest.raises(UserError, match='no weights at'):
    loop.train_and_evaluate(config, tmp_path / 'other')


def test_ungated_weights_can_be_restored_with(ungated_run):
  _, workdir = ungated_run
  restorer = Restorer.from_pretrained(workdir / 'weights.safetensors')
  assert not restorer.model.gated
  assert restorer(np.zeros((8, 8, 3), np.uint8)).shape == (32, 32, 3)


def test_a_diverging_run_stops_with_the_step_and_the_quantity(dataset_dir, tmp_path):
  config = small.sr_branch(small.config(dataset_dir))
  config.phases.phase_1.schedule.learning_rate = 1e30
  with pytest.raises(UserError, match=r'diverged at step 2: .*loss is (nan|inf)'):
    loop.train_and_evaluate(config, tmp_path)
  assert sorted(path.name for path in (tmp_path / 'checkpoints').iterdir()) == ['1']


def test_a_batch_that_the_devices_cannot_share_is_refused(dataset_dir, tmp_path):
  with pytest.raises(UserError, match='batch_size 12 is not a multiple of the 8 devices'):
    loop.train_and_evaluate(small.config(dataset_dir, {'training.batch_size': 12}), tmp_path)
  assert not list(tmp_path.iterdir())


def test_an_unknown_pixel_loss_is_refused(dataset_dir, tmp_path):
  config = small.config(dataset_dir)
  config.loss.lr.loss = 'l3'
  with pytest.raises(UserError, match="loss.lr.loss is 'l3'; choose from mse, l1, charbonnier"):
    loop.train_and_evaluate(config, tmp_path)


def test_less_data_than_a_batch_is_refused(dataset_dir, tmp_path):
  config = small.config(dataset_dir, {'training.batch_size': 16, 'training.steps_per_epoch': 0})
  with pytest.raises(UserError, match='has 11 train patches, less than a batch of 16'):
    loop.train_and_evaluate(config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_the_initial_state_is_a_function_of_the_seed():
  model = create_model(**small.MODEL)
  optimizer = make_optimizer({'': optax.constant_schedule(1e-3)})
  a, b, c = (create_train_state(model, optimizer, seed) for seed in (1, 1, 2))
  kernels = [x.params['deblur']['conv1']['kernel'] for x in (a, b, c)]
  np.testing.assert_array_equal(kernels[0], kernels[1])
  assert (kernels[0] != kernels[2]).all()
