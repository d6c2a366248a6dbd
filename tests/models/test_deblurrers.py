"""Training of the networks that only deblur, in float32 and bfloat16."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from gfn_jax import create_model
from gfn_jax.models import variable_shapes
from gfn_jax.training import losses
from gfn_jax.training.train_state import TrainState
from gfn_jax.training.train_step import train_step
from tests.models.networks import apply, photograph, pyramid, random_params

NETWORKS = {
  'deepdeblur': {'features': 4, 'blocks': 1},
  'dmphn': {'features': 4, 'levels': 2},
  'deblurgan': {'features': 4, 'blocks': 1},
}


def make_step(model, loss):
  optimizer = optax.with_extra_args_support(optax.trace(decay=0.0))  # keeps the gradient
  # With small biases, so that no ReLU is zero for all pixels.
  params = jax.tree.map(lambda leaf: leaf if leaf.ndim > 1 else leaf / 100, random_params(model))
  state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), {}, {})
  terms = losses.make_loss({'lr': {'on': 'lr', 'loss': loss, 'weight': 1.0}}, {})
  return state, jax.jit(functools.partial(train_step, model=model, loss=terms, optimizer=optimizer))


@pytest.mark.parametrize('name', NETWORKS)
def test_every_parameter_gets_a_gradient(name):
  model = create_model(name, **NETWORKS[name])
  sharp = np.roll(photograph(16, 32), 3, axis=2).reshape(2, 16, 16, 3)
  batch = {'lr_blur': photograph(16, 32).reshape(2, 16, 16, 3), 'lr': sharp, 'hr': sharp}
  state, step = make_step(model, 'mse')
  after, scalars = jax.device_get(step(state, batch))

  output = apply(model, state.params, batch['lr_blur'])
  images = zip((*output.lr_pyramid, output.lr), (*pyramid(model, sharp), sharp), strict=True)
  expected = sum(np.mean((image - target) ** 2) for image, target in images)
  assert float(scalars['loss_lr']) == pytest.approx(float(expected), rel=1e-5)

  flat = traverse_util.flatten_dict(after.opt_state.trace, sep='.')
  if name == 'deblurgan':  # normalisations subtract these biases
    without = {key for key in flat if key.endswith('.bias')} - {'conv_last.bias'}
    assert max(np.abs(flat.pop(key)).max() for key in without) < 1e-6
  assert all(np.isfinite(value).all() for value in flat.values())
  assert {key for key, value in flat.items() if not np.any(value)} == set()


@pytest.mark.parametrize('name', NETWORKS)
def test_bfloat16_computes_close_to_float32_and_keeps_float32_at_both_ends(name):
  model, x = create_model(name, **NETWORKS[name]), photograph(16, 32).reshape(2, 16, 16, 3)
  params, half = random_params(model), model.clone(dtype='bfloat16')
  assert {leaf.dtype for leaf in jax.tree.leaves(variable_shapes(half))} == {np.dtype('float32')}
  images = zip(*(jax.tree.leaves(apply(m, params, x)) for m in (half, model)), strict=True)
  for image, expected in images:
    assert image.dtype == jnp.float32
    assert 1e-5 < np.abs(image - expected).mean() / np.std(expected) < 0.03


def test_a_cascade_is_trained_on_the_pyramid_of_its_first_network():
  deblur = {'name': 'deepdeblur', **NETWORKS['deepdeblur']}
  enlarge = {'name': 'srresnet', 'features': 2, 'blocks': 1}
  x = photograph(16, 16)
  model = create_model('cascade', first=deblur, second=enlarge)
  state, step = make_step(model, 'l1')
  _, scalars = jax.eval_shape(step, state, {'lr_blur': x, 'lr': x})
  assert 'loss_lr' in scalars
  for image, expected in zip(pyramid(model, x), pyramid(model.first, x), strict=True):
    np.testing.assert_array_equal(image, expected)
  assert create_model('cascade', first=enlarge, second=deblur).pyramid(x) == ()
