import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from flax import traverse_util

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.layers.blocks import ChannelAttentionBlock, halve, merge, resize_bilinear, split
from gfn_jax.models import MPRNet, init_variables, param_count, variable_shapes
from gfn_jax.models.mprnet import enlarge
from tests.models.networks import apply, photograph
from tests.small import MPRNET

# Without blocks in the encoders and decoders, but for the skips: that halves the compilation.
small_mprnet = functools.partial(MPRNet, **MPRNET | {'unet_blocks': 0})


@functools.cache
def some_params():
  """Drawn as the network draws them, but compiled for each of their shapes that takes a while."""
  rng = np.random.default_rng(0)

  def fill(leaf):
    bound = np.prod(leaf.shape[:-1]) ** -0.5
    return rng.uniform(-bound, bound, leaf.shape).astype(np.float32)

  return jax.tree.map(fill, variable_shapes(small_mprnet())['params'])


def all_images(out):
  assert out.hr is None
  assert len(out.lr_stages) == 2
  return (*out.lr_stages, out.lr)


def test_parameter_counts():
  shapes = variable_shapes(MPRNet())['params']
  counts = {name: param_count({'params': tree}) for name, tree in shapes.items()}
  shallow = {name: counts.pop(name) for name in list(counts) if name.startswith('shallow')}
  assert shallow == {
    f'shallow{i}_{kind}': count
    for i in (1, 2, 3)
    for kind, count in (('conv', 2_592), ('block', 170_496))
  }
  assert counts == {
    'encoder1': 2_513_664,
    'decoder1': 3_067_776,
    'encoder2': 2_647_296,
    'decoder2': 3_067_776,
    'orsnet': 7_901_184,
    'sam12': 9_792,
    'sam23': 9_792,
    'concat12': 165_888,
    'concat23': 221_184,
    'tail': 3_456,
    'prelu': 1,
  }
  assert param_count({'params': shapes}) == 20_127_073
  assert len(jax.tree.leaves(shapes)) == 262


def test_channel_attention_block_by_hand():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, 4, 5, 6)).astype(np.float32)
  block = ChannelAttentionBlock(6, jnp.abs, reduction=3)
  params = jax.eval_shape(block.init, jax.random.key(0), x)['params']
  params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), params)
  identity = np.zeros((3, 3, 6, 6), np.float32)
  identity[1, 1] = np.eye(6)
  for name, factor in (('conv1', 1), ('conv2', 2)):
    params[name] = {'kernel': factor * identity, 'bias': np.zeros(6, np.float32)}
  y = 2 * np.abs(x)
  first, second = (params['attention'][name] for name in ('conv1', 'conv2'))
  hidden = np.maximum(y.mean((1, 2)) @ first['kernel'][0, 0] + first['bias'], 0)
  assert hidden.shape == (2, 2)
  scores = 1 / (1 + np.exp(-(hidden @ second['kernel'][0, 0] + second['bias'])))
  expected = x + y * scores[:, None, None]
  found = jax.jit(block.apply)({'params': params}, x)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('axis', [1, 2])
def test_split_and_merge(axis):
  x = np.arange(3 * 8 * 4 * 2).reshape(3, 8, 4, 2)
  halves = split(x, axis)
  np.testing.assert_array_equal(halves, np.concatenate(np.split(x, 2, axis)))
  np.testing.assert_array_equal(merge(halves, axis), x)


def test_sizes_change_as_pytorchs_bilinear_interpolation_does():
  x = np.random.default_rng(0).random((2, 6, 8, 3), np.float32)
  mix = np.random.default_rng(1).random((3, 5), np.float32)  # a 1x1 convolution

  @jax.jit
  def resize(x):
    halves, doubles = (halve(x), resize_bilinear(x, 3, 4)), (enlarge(x), resize_bilinear(x, 12, 16))
    return halves, doubles, (enlarge(x @ mix), enlarge(x) @ mix)

  halves, doubles, mixed = resize(x)
  np.testing.assert_allclose(*halves, atol=1e-6)
  np.testing.assert_allclose(*doubles, atol=1e-6)
  np.testing.assert_allclose(*mixed, atol=1e-5)


def test_every_stage_predicts_the_difference_from_the_input():
  x, params = photograph(16, 24), some_params()
  for image in all_images(apply(small_mprnet(), jax.tree.map(np.zeros_like, params), x)):
    np.testing.assert_array_equal(image, x)
  for image in all_images(apply(small_mprnet(), params, x)):
    assert image.dtype == jnp.float32
    assert 1e-3 < np.std(image - x) < 1  # PyTorch's default starts near it


def test_the_first_stage_sees_halves_and_the_last_one_everything():
  x, params = photograph(16, 24), some_params()
  changed = x.copy()
  changed[0, 0, 0] = 1 - changed[0, 0, 0]
  first, second = (all_images(apply(small_mprnet(), params, y)) for y in (x, changed))
  differs = [np.any(a != b, axis=(0, 2, 3)) for a, b in zip(first, second, strict=True)]
  assert differs[0][:8].all() and not differs[0][8:].any()
  assert differs[2].all()


def test_images_of_a_batch_are_independent():
  x, params = photograph(48, 24).reshape(3, 16, 24, 3), some_params()
  together = all_images(apply(small_mprnet(), params, x))
  for i in range(3):
    alone = all_images(apply(small_mprnet(), params, x[i : i + 1]))
    for a, b in zip(together, alone, strict=True):
      np.testing.assert_allclose(a[i], b[0], atol=1e-5)


def test_other_sizes_are_reflected_and_cropped():
  x, params = photograph(9, 20), some_params()
  padded = np.pad(x, ((0, 0), (0, 7), (0, 4), (0, 0)), mode='reflect')
  images, whole = (all_images(apply(small_mprnet(), params, y)) for y in (x, padded))
  for image, expected in zip(images, whole, strict=True):
    assert image.shape == x.shape
    np.testing.assert_allclose(image, expected[:, :9, :20], atol=1e-5)


def test_bfloat16_computes_close_to_float32_and_keeps_float32_at_both_ends():
  model, params, x = small_mprnet(dtype='bfloat16'), some_params(), photograph(16, 24)
  assert {leaf.dtype for leaf in jax.tree.leaves(variable_shapes(model)['params'])} == {
    np.dtype('float32')
  }
  half, full = (all_images(apply(m, params, x)) for m in (model, small_mprnet()))
  for a, b in zip(half, full, strict=True):
    assert a.dtype == jnp.float32
    assert 1e-5 < np.abs(a - b).mean() / np.std(b) < 0.02


@pytest.mark.full
def test_weights_are_drawn_by_pytorchs_default():
  params = init_variables(small_mprnet(unet_step=0, orsnet_step=0), seed=0)['params']  # few shapes
  for key, value in traverse_util.flatten_dict(params, sep='.').items():
    if key == 'prelu.negative_slope':
      assert value == 0.25
      continue
    assert key.endswith('.kernel')
    bound = np.prod(value.shape[:-1]) ** -0.5
    assert 0.7 * bound < np.abs(value).max() <= bound, key
    slack = 5 / np.sqrt(value.size)
    assert value.std() == pytest.approx(bound / np.sqrt(3), rel=slack), key


def test_it_restores_photos_whole():
  model, params = small_mprnet(), some_params()
  photo = skimage.data.astronaut()[100:109, 200:220]
  restorer = Restorer(model, {'params': params}, output='lr')
  assert restorer.scale == 1
  expected = np.clip(apply(model, params, photo[None] / np.float32(255)).lr[0], 0, 1)
  np.testing.assert_allclose(restorer(photo) / 255, expected, atol=0.51 / 255)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'reduction': 0}, 'reduction must be at least 1, not 0'),
    ({'orsnet_blocks': 0}, 'orsnet_blocks must be at least 1, not 0'),
    ({'features': 3}, 'features must be at least reduction, 4, not 3'),
    ({'unet_step': -1}, 'unet_step must be at least 0, not -1'),
    ({'orsnet_step': -1}, 'orsnet_step must be at least 0, not -1'),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'mprnet': {message}"):
    create_model('mprnet', **options)
