import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from flax import traverse_util

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.layers.conv_lstm import ConvLSTM
from gfn_jax.models import BMDSRNet, init_variables, param_count, variable_shapes
from gfn_jax.models.bmdsrnet import VARIANTS
from tests import slow_conv
from tests.loss import restoration_loss
from tests.models.networks import apply, enlarge, gradient, photograph
from tests.small import BMDSRNET

small_model = functools.partial(BMDSRNet, **BMDSRNET)


class FromFrames(BMDSRNet):
  """Its frames are parameters."""

  def make_frames(self, lr_blur, layers):
    b, h, w, _ = lr_blur.shape
    return self.param('frames', nn.initializers.zeros, (b, 7, h, w, 3))


def random_params(model):
  """With biases above zero: of so few channels none should end at a ReLU for all pixels."""
  rng = np.random.default_rng(0)

  def fill(leaf):
    bound = 2 * np.prod(leaf.shape[:-1]) ** -0.5
    low, high = (0, 0.4) if leaf.ndim == 1 else (-bound, bound)
    return rng.uniform(low, high, leaf.shape).astype(np.float32)

  return jax.tree.map(fill, variable_shapes(model)['params'])


# The network by hand, of images `[C, h, w]` in float64.


def conv(x, params, stride=1):
  return slow_conv.conv(x, params['kernel'].transpose(3, 2, 0, 1), params['bias'], stride)


def deconv(x, params):
  """Each pixel adds its copy of the kernel to the 3x3 pixels around twice its place."""
  _, h, w = x.shape
  kernel = params['kernel'][::-1, ::-1]  # PyTorch's is turned by half
  y = np.zeros((kernel.shape[3], 2 * h + 2, 2 * w + 2))
  for i, j in np.ndindex(h, w):
    y[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum('c,yxcf->fyx', x[:, i, j], kernel)
  return y[:, 1:-1, 1:-1] + params['bias'][:, None, None]


def relu(x):
  return np.maximum(x, 0)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def repeat(x, factor):
  return np.kron(x, np.ones((1, factor, factor)))


def shuffle(x, factor):
  c, h, w = x.shape
  x = x.reshape(c // factor**2, factor, factor, h, w).transpose(0, 3, 1, 4, 2)
  return x.reshape(c // factor**2, h * factor, w * factor)


def conv_lstm(cell, hidden, x, params):
  gates = conv(np.concatenate([x, hidden]), params['gates'])
  i, j, f, o = np.split(gates, 4)
  cell = cell * sigmoid(f + 1) + sigmoid(i) * np.tanh(j)
  return cell, np.tanh(cell) * sigmoid(o)


def residual_net(x, params, enlarge=lambda y, _: y, long_skip=False):
  y = before = relu(conv(relu(conv(x, params['conv1'])), params['conv2']))
  block = params['resblock_0']
  y = y + conv(relu(conv(y, block['conv1'])), block['conv2'])
  y = enlarge(y + before if long_skip else y, params)
  y = relu(conv(relu(conv(y, params['conv3'])), params['conv4']))
  return conv(y, params['conv5'])


def recurrent_net(frames, params, scale):
  cells = hiddens = [0] * 7
  for frame in frames:
    y, states = frame, []
    for k in range(7):
      y = relu(conv(y, params['encoder'][f'conv{k + 1}'], stride=2))
      state = (cells[k] + np.zeros_like(y), hiddens[k] + np.zeros_like(y))
      states.append(conv_lstm(*state, y, params['encoder'][f'lstm{k + 1}']))
      y = states[-1][1]
    cells, hiddens = zip(*states, strict=True)
  for k in range(1, 7):
    skip = hiddens[6 - k]
    y = relu(deconv(y, params[f'deconv{k}']))[:, : skip.shape[1], : skip.shape[2]]
    y = relu(conv(np.concatenate([y, skip]), params[f'conv{k}']))
  _, h, w = frames[0].shape
  y = repeat(relu(deconv(y, params['deconv7']))[:, :h, :w], scale)
  return conv(relu(conv(y, params['conv_hr'])), params['conv_last'])


def enlarge_by_repeating(y, _):
  return repeat(y, 4)


def enlarge_by_shuffling(y, params):
  return shuffle(conv(y, params['upconv1']), 3)


def slow_network(x, params):
  """The default: frames, streams and the result."""
  frames = np.split(residual_net(x, params['bmd']), 7)
  core = residual_net(frames[3], params['core'], enlarge_by_repeating)
  streams = [
    recurrent_net(frames, params['recurrent'], 4),
    core,
    recurrent_net(frames[::-1], params['recurrent'], 4),
  ]
  hr = residual_net(np.concatenate(streams), params['fusion'], long_skip=True)
  return frames, streams, hr


def slow_ablation(x, params):
  """With `ABLATION`."""
  frames = np.split(residual_net(x, params['bmd']) + np.tile(x, (7, 1, 1)), 7)
  enlarged = enlarge(x.transpose(1, 2, 0)[None], 3)[0].transpose(2, 0, 1)
  core = residual_net(frames[3], params['core'], enlarge_by_shuffling) + enlarged
  streams = [recurrent_net(frames[:4], params['recurrent'], 3) + enlarged, core]
  hr = residual_net(np.concatenate(streams), params['fusion']) + core
  return frames, streams, hr


ABLATION = {
  'variant': 'f+c',
  'scale': 3,
  'decode': 'center',
  'upsample': 'shuffle',
  'fusion_skip': 'core',
  'global_skip': 'input',
}


@pytest.mark.parametrize(('options', 'slow'), [({}, slow_network), (ABLATION, slow_ablation)])
def test_the_network_by_hand(options, slow):
  x, model = photograph(9, 13), small_model(**options, precision='highest')
  params = random_params(model)
  out = apply(model, params, x)
  frames, streams, hr = slow(x[0].transpose(2, 0, 1).astype(np.float64), params)
  assert hr.shape == (3, 9 * model.scale, 13 * model.scale)
  expected = [hr, *streams, *frames]
  found = [out.hr[0], *(stream[0] for stream in out.hr_stages), *out.frames[0]]
  for image, expected_image in zip(found, expected, strict=True):
    expected_image = expected_image.transpose(1, 2, 0)
    assert expected_image.std() > 1e-4
    np.testing.assert_allclose(image, expected_image, atol=1e-4 * expected_image.std())
  np.testing.assert_array_equal(out.lr, out.frames[:, 3])


def test_a_step_of_the_conv_lstm_by_hand():
  rng = np.random.default_rng(0)
  cell, hidden, x = rng.standard_normal((3, 1, 4, 5, 2), np.float32)
  lstm = ConvLSTM(2, functools.partial(nn.Conv, precision='highest'))
  kernel, bias = rng.standard_normal((3, 3, 4, 8), np.float32), rng.standard_normal(8, np.float32)
  params = {'gates': {'kernel': kernel, 'bias': bias}}
  states, output = jax.jit(lstm.apply)({'params': params}, (cell, hidden), x)
  expected = conv_lstm(*(part[0].transpose(2, 0, 1) for part in (cell, hidden, x)), params)
  for state, expected_state in zip(states, expected, strict=True):
    np.testing.assert_allclose(state[0].transpose(2, 0, 1), expected_state, atol=1e-5)
  np.testing.assert_array_equal(output, states[1])


@pytest.mark.parametrize(
  ('decode', 'seen_forwards', 'seen_backwards'),
  [('last', range(7), range(7)), ('center', range(4), range(3, 7))],
)
def test_what_the_streams_see_and_time_reversed(decode, seen_forwards, seen_backwards):
  model = FromFrames(**BMDSRNET | {'recurrent_features': 2}, decode=decode, scale=2)
  params, x = random_params(model), photograph(16, 16)
  frames = np.random.default_rng(0).random((1, 7, 16, 16, 3), np.float32)
  out = apply(model, params | {'frames': frames}, x)
  forward, core, backward = out.hr_stages
  np.testing.assert_array_equal(out.frames, frames)
  for i in range(7):
    other = frames.copy()
    other[:, i] = 1 - other[:, i]
    changed = apply(model, params | {'frames': other}, x)
    pairs = zip(changed.hr_stages, out.hr_stages, strict=True)
    seen = [i in seen_forwards, i == 3, i in seen_backwards]
    assert [np.abs(a - b).max() > 1e-6 for a, b in pairs] == seen
  reversed_out = apply(model, params | {'frames': frames[:, ::-1]}, x)
  for image, expected in zip(reversed_out.hr_stages, (backward, core, forward), strict=True):
    np.testing.assert_allclose(image, expected, atol=1e-6)
  assert np.abs(forward - backward).max() > 1e-6


MODULES = {'bmd': 789_397, 'core': 779_011, 'recurrent': 1_018_688, 'fusion': 339_331}


@pytest.mark.parametrize(
  ('options', 'modules', 'total'),
  [
    ({}, MODULES, 2_926_427),
    ({'preset': 'table2'}, MODULES | {'recurrent': 41_667_107}, 43_574_846),
    ({'variant': 'f+c'}, MODULES | {'fusion': 337_603}, 2_924_699),
    (
      {'variant': 'f+c', 'preset': 'table2'},
      MODULES | {'recurrent': 41_667_107, 'fusion': 337_603},
      43_573_118,
    ),
    ({'variant': 'c'}, {'bmd': 789_397, 'core': 779_011}, 1_568_408),
    ({'variant': 'srnet'}, {'core': 779_011}, 779_011),
    ({'variant': 'srnet', 'upsample': 'shuffle', 'scale': 2}, {'core': 926_723}, 926_723),
    ({'variant': 'srnet', 'upsample': 'shuffle', 'scale': 3}, {'core': 1_111_363}, 1_111_363),
    ({'variant': 'srnet', 'upsample': 'shuffle', 'scale': 4}, {'core': 1_074_435}, 1_074_435),
  ],
)
def test_parameter_counts(options, modules, total):
  shapes = variable_shapes(create_model('bmdsrnet', **options))['params']
  assert {name: param_count({'params': tree}) for name, tree in shapes.items()} == modules
  assert param_count({'params': shapes}) == total
  assert create_model('bmdsrnet', preset='compact') == BMDSRNet()


def test_the_parts_of_the_recurrent_module_in_the_paper():
  shapes = variable_shapes(create_model('bmdsrnet', preset='table2'))['params']['recurrent']
  encoder = shapes.pop('encoder')
  count = lambda tree, kind: sum(param_count({'params': tree[key]}) for key in tree if kind in key)
  assert count(encoder, 'lstm') == 34_584_448
  assert count(encoder, 'conv') == 2_748_736
  head = {key: shapes.pop(key) for key in ('conv_hr', 'conv_last')}
  assert param_count({'params': head}) == 10_115
  assert param_count({'params': shapes}) == 4_323_808


@pytest.mark.parametrize(
  'variant',
  ['f+c', *(pytest.param(name, marks=pytest.mark.full) for name in VARIANTS if name != 'f+c')],
)
def test_every_parameter_gets_a_gradient_of_the_loss(variant):
  model = small_model(variant=variant, scale=2, recurrent_features=2, features=8)
  sharp = photograph(32, 48)
  batch = {'hr': sharp, 'lr': sharp[:, ::2, ::2]}
  batch['frames'] = np.stack([np.roll(batch['lr'], i, axis=2) for i in range(-3, 4)], axis=1)

  def loss(params):
    output = model.apply({'params': params}, batch['lr'] ** 2)
    return restoration_loss(output, batch, 0.5)[0]

  grads = gradient(loss, random_params(model))
  assert [key for key, value in grads.items() if not np.any(value)] == []
  assert all(np.isfinite(value).all() for value in grads.values())


def without_last_convs(params):
  """Parameters of a network that adds nothing to what skips give."""
  last = {key for key in traverse_util.flatten_dict(params) if {'conv5', 'conv_last'} & {*key}}
  last -= {('recurrent', 'conv5', kind) for kind in ('kernel', 'bias')}
  zero = lambda key, value: np.zeros_like(value) if key in last else value
  return traverse_util.path_aware_map(zero, params)


def test_skips_from_the_input():
  x = photograph(8, 9)
  model = small_model(variant='c', residual_input=True)
  out = apply(model, without_last_convs(random_params(model)), x)
  np.testing.assert_array_equal(out.frames, np.repeat(x[:, None], 7, axis=1))
  np.testing.assert_array_equal(out.hr, 0)
  model = small_model(global_skip='input')
  out = apply(model, without_last_convs(random_params(model)), x)
  np.testing.assert_array_equal(out.frames, np.repeat(x[:, None], 7, axis=1))
  for image in (out.hr, *out.hr_stages):
    np.testing.assert_allclose(image, enlarge(x), atol=1e-6)


@pytest.mark.parametrize(('initialization', 'last'), [('scaled', 0.01), ('he', 2)])
def test_initial_weights(initialization, last):
  model = small_model(features=24, recurrent_features=4, initialization=initialization)

  @jax.jit  # for these parameters alone
  def init():
    params = init_variables(model, seed=0)['params']
    lstm = params['recurrent']['encoder']['lstm7']['gates']['kernel']
    recurrent, core = params['recurrent'], params['core']
    return lstm, recurrent['deconv1'], core['conv2'], core['resblock_0']['conv2']

  gates, *convs = jax.device_get(init())
  assert np.abs(gates).max() == pytest.approx(np.sqrt(6 / (9 * (128 + 256))), rel=1e-3)
  for conv, variance in zip(convs, (8 / (9 * 64), 2 / (9 * 24), last / (9 * 24)), strict=True):
    assert np.std(conv['kernel']) == pytest.approx(np.sqrt(variance), rel=0.05)
    assert not np.any(conv['bias'])


def test_it_restores_photos_of_any_size_whole():
  model, photo = small_model(**ABLATION), skimage.data.astronaut()[100:109, 200:213]
  assert not model.local
  params = random_params(model)
  restorer = Restorer(model, {'params': params})
  assert restorer.scale == 3
  *_, hr = slow_ablation(photo.transpose(2, 0, 1) / 255, params)
  expected = np.clip(hr.transpose(1, 2, 0), 0, 1)
  np.testing.assert_allclose(restorer(photo) / 255, expected, atol=0.51 / 255)


def test_variants_without_for_net_are_local_and_srnet_deblurs_no_image():
  models = {variant: small_model(variant=variant) for variant in VARIANTS}
  assert [variant for variant in VARIANTS if models[variant].local] == ['srnet', 'c']
  params = {'core': random_params(models['c'])['core']}
  with pytest.raises(UserError, match='has no deblurred image'):
    Restorer(models['srnet'], {'params': params}, output='lr')


@pytest.mark.parametrize('variant', ['srnet', 'f+c+b'])
def test_outputs_are_float32_whatever_it_computes_with(variant):
  model = small_model(variant=variant, dtype='bfloat16')
  x = jax.ShapeDtypeStruct((2, 8, 6, 3), jnp.float32)
  out = jax.eval_shape(model.apply, variable_shapes(model), x)
  shapes = {
    'hr': (2, 32, 24, 3),
    'lr': None if variant == 'srnet' else (2, 8, 6, 3),
    'frames': None if variant == 'srnet' else (2, 7, 8, 6, 3),
  }
  for field, shape in shapes.items():
    image = getattr(out, field)
    assert (image and image.shape) == shape
    assert image is None or image.dtype == jnp.float32
  count = {'srnet': 0, 'f+c+b': 3}[variant]
  assert [(stream.shape, stream.dtype) for stream in out.hr_stages] == count * [
    (shapes['hr'], jnp.float32)
  ]


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'features': 0}, 'features must be at least 1, not 0'),
    ({'blocks': 0}, 'blocks must be at least 1, not 0'),
    ({'fusion_blocks': 0}, 'fusion_blocks must be at least 1, not 0'),
    ({'recurrent_features': 0}, 'recurrent_features must be at least 1, not 0'),
    ({'variant': 'b'}, "unknown variant 'b'; choose from"),
    ({'scale': 5}, 'unknown scale 5; choose from 2, 3, 4'),
    ({'decode': 'first'}, "unknown decode 'first'; choose from"),
    ({'upsample': 'bilinear'}, 'unknown upsample .*; choose from'),
    ({'fusion_skip': 'back'}, 'unknown fusion_skip .*; choose from'),
    ({'global_skip': 'deblurred'}, 'unknown global_skip .*; choose from'),
    ({'initialization': 'authors'}, 'unknown initialization .*; choose from'),
    ({'variant': 'srnet', 'residual_input': True}, 'residual_input needs BMDNet'),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'bmdsrnet': {message}"):
    create_model('bmdsrnet', **options)
