import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax import losses
from gfn_jax.models import RestorationOutput


def images(seed):
  rng = np.random.default_rng(seed)
  shapes = {'hr': (2, 8, 12, 3), 'lr': (2, 2, 3, 3)}
  return {key: rng.random(shape, np.float32) for key, shape in shapes.items()}


def test_mse_by_hand():
  prediction = jnp.array([[-1.0, 2.0], [0.5, 1.0]])  # nothing is clipped
  target = jnp.array([[0.0, 0.0], [0.5, 0.0]])
  assert float(losses.mse(prediction, target)) == (1 + 4 + 0 + 1) / 4


def test_charbonnier_by_hand():
  prediction, target = jnp.array([3.0, 0.0]), jnp.array([-1.0, 0.0])
  assert float(losses.charbonnier(prediction, target)) == pytest.approx((4 + 1e-3) / 2, rel=1e-6)
  gradient = jax.grad(losses.charbonnier)(prediction, target)
  np.testing.assert_allclose(gradient, [0.5, 0.0], atol=1e-6)  # finite where they are equal


def test_mse_of_half_precision_is_computed_in_float32():
  prediction = jnp.full((64, 64), 1 + 2**-7, jnp.bfloat16)
  out = losses.mse(prediction, jnp.ones((64, 64)))
  assert out.dtype == jnp.float32
  assert float(out) == 2**-14


@pytest.mark.parametrize('lr_weight', [0.5, 0.0, 2.0])
def test_gfn_loss_is_the_weighted_sum_of_two_means(lr_weight):
  predicted, batch = images(0), images(1)
  loss, terms = jax.jit(losses.gfn_loss)(RestorationOutput(**predicted), batch, lr_weight)
  expected = {key: np.mean((predicted[key] - batch[key]) ** 2) for key in predicted}
  assert terms.keys() == {'loss_hr', 'loss_lr'}
  assert float(terms['loss_hr']) == pytest.approx(expected['hr'], rel=1e-6)
  assert float(terms['loss_lr']) == pytest.approx(expected['lr'], rel=1e-6)
  assert float(loss) == pytest.approx(expected['hr'] + lr_weight * expected['lr'], rel=1e-6)


def test_gfn_loss_without_a_deblurred_image():
  predicted, batch = images(0), images(1)
  loss, terms = losses.gfn_loss(RestorationOutput(hr=predicted['hr']), batch, 0.5)
  assert terms.keys() == {'loss_hr'}
  assert float(loss) == float(terms['loss_hr'])
  assert float(loss) == pytest.approx(np.mean((predicted['hr'] - batch['hr']) ** 2), rel=1e-6)


def test_gfn_loss_without_the_super_resolved_image():
  predicted, batch = images(0), images(1)
  loss, terms = losses.gfn_loss(RestorationOutput(**predicted), batch, 0.5, hr_weight=0.0)
  assert terms.keys() == {'loss_lr'}
  assert float(loss) == pytest.approx(0.5 * np.mean((predicted['lr'] - batch['lr']) ** 2))


def test_gfn_loss_with_another_pixel_loss():
  predicted, batch = images(0), images(1)
  output = RestorationOutput(**predicted)
  loss, terms = losses.gfn_loss(output, batch, 0.5, 3.0, pixel_loss='charbonnier')
  for key in ('hr', 'lr'):
    assert float(terms[f'loss_{key}']) == float(losses.charbonnier(predicted[key], batch[key]))
  assert float(loss) == pytest.approx(float(3 * terms['loss_hr'] + 0.5 * terms['loss_lr']))


def test_gradient_of_gfn_loss():
  predicted, batch = images(0), images(1)
  loss = lambda output: losses.gfn_loss(output, batch, 0.5)[0]
  grads = jax.grad(loss)(RestorationOutput(**predicted))
  for key, weight in (('hr', 1.0), ('lr', 0.5)):
    expected = weight * 2 * (predicted[key] - batch[key]) / batch[key].size
    np.testing.assert_allclose(getattr(grads, key), expected, rtol=1e-5, atol=1e-9)
