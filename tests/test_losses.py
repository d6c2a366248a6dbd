import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from gfn_jax import losses
from gfn_jax.models import RestorationOutput

FIXTURE = pathlib.Path(__file__).parent / 'fixtures' / 'motion_deblur_sr_losses.npz'


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


def test_charbonnier_and_edge_of_the_authors():
  with np.load(FIXTURE) as file:
    a, b, lap_a = (file[key].transpose(0, 2, 3, 1) for key in ('a', 'b', 'lap_a'))
    char, edge = float(file['char']), float(file['edge'])
  assert float(losses.charbonnier(a, b)) == pytest.approx(char, rel=1e-6)
  assert float(losses.edge(a, b)) == pytest.approx(edge, rel=1e-6)
  np.testing.assert_allclose(losses.laplacian(a), lap_a, atol=1e-6)


@pytest.mark.parametrize('size', [(7, 4), (1, 1)])
def test_laplacian_by_hand(size):
  x = np.random.default_rng(0).random((2, *size, 3), np.float32)
  taps = [0.05, 0.25, 0.4, 0.25, 0.05]
  blur = lambda y: ndimage.correlate1d(
    ndimage.correlate1d(y, taps, axis=1, mode='nearest'), taps, axis=2, mode='nearest'
  )
  kept = np.zeros_like(x)
  kept[:, ::2, ::2] = 4 * blur(x)[:, ::2, ::2]
  np.testing.assert_allclose(losses.laplacian(x), x - blur(kept), atol=1e-6)


def test_edge_of_half_precision_is_computed_in_float32():
  a = jnp.asarray(images(0)['hr'], jnp.bfloat16)
  b = images(1)['hr']
  out = losses.edge(a, b)
  assert out.dtype == jnp.float32
  assert float(out) == float(losses.edge(a.astype(jnp.float32), b))


def in_stages():
  """An output with three stages, its batch, and the sums over the stages by hand."""
  batch, predicted = images(0), images(1)
  stages = [images(seed)['lr'] for seed in (2, 3, 4)]
  char = sum(np.mean(np.sqrt((stage - batch['lr']) ** 2 + 1e-6)) for stage in stages)
  edge = sum(float(losses.edge(stage, batch['lr'])) for stage in stages)
  return RestorationOutput(predicted['hr'], stages[2], tuple(stages[:2])), batch, char, edge


@pytest.mark.parametrize('edge_weight', [0.05, 1.0])
def test_the_loss_of_mprnet_sums_over_the_stages(edge_weight):
  output, batch, char, edge = in_stages()
  options = {'lr': 'charbonnier', 'edge_weight': edge_weight}
  loss, terms = losses.restoration_loss(output.replace(hr=None), batch, 1.0, **options)
  assert terms.keys() == {'loss_lr', 'loss_edge'}
  assert float(terms['loss_lr']) == pytest.approx(char, rel=1e-5)
  assert float(terms['loss_edge']) == pytest.approx(edge, rel=1e-5)
  assert float(loss) == pytest.approx(char + edge_weight * edge, rel=1e-5)


@pytest.mark.parametrize(('lr_weight', 'hr_weight'), [(0.5, 1.0), (2.0, 3.0)])
def test_the_loss_of_shoyan_et_al(lr_weight, hr_weight):
  output, batch, char, edge = in_stages()
  squared = np.mean((output.hr - batch['hr']) ** 2)
  options = {'lr': 'charbonnier', 'edge_weight': 0.05}
  loss, terms = losses.restoration_loss(output, batch, lr_weight, hr_weight, **options)
  assert terms.keys() == {'loss_hr', 'loss_lr', 'loss_edge'}
  assert float(terms['loss_hr']) == pytest.approx(squared, rel=1e-5)
  assert float(loss) == pytest.approx(
    hr_weight * squared + lr_weight * (char + 0.05 * edge), rel=1e-5
  )


@pytest.mark.parametrize('lr_weight', [0.5, 0.0, 2.0])
def test_loss_is_the_weighted_sum_of_two_means(lr_weight):
  predicted, batch = images(0), images(1)
  loss, terms = losses.restoration_loss(RestorationOutput(**predicted), batch, lr_weight)
  expected = {key: np.mean((predicted[key] - batch[key]) ** 2) for key in predicted}
  assert terms.keys() == {'loss_hr', 'loss_lr'}
  assert float(terms['loss_hr']) == pytest.approx(expected['hr'], rel=1e-6)
  assert float(terms['loss_lr']) == pytest.approx(expected['lr'], rel=1e-6)
  assert float(loss) == pytest.approx(expected['hr'] + lr_weight * expected['lr'], rel=1e-6)


def test_loss_without_a_deblurred_image():
  predicted, batch = images(0), images(1)
  loss, terms = losses.restoration_loss(RestorationOutput(hr=predicted['hr']), batch, 0.5)
  assert terms.keys() == {'loss_hr'}
  assert float(loss) == float(terms['loss_hr'])
  assert float(loss) == pytest.approx(np.mean((predicted['hr'] - batch['hr']) ** 2), rel=1e-6)


def test_loss_without_the_super_resolved_image():
  predicted, batch = images(0), images(1)
  loss, terms = losses.restoration_loss(RestorationOutput(**predicted), batch, 0.5, hr_weight=0.0)
  assert terms.keys() == {'loss_lr'}
  assert float(loss) == pytest.approx(0.5 * np.mean((predicted['lr'] - batch['lr']) ** 2))


def test_loss_of_a_network_that_only_deblurs():
  predicted, batch = images(0), images(1)
  loss, terms = losses.restoration_loss(RestorationOutput(hr=None, lr=predicted['lr']), batch, 0.5)
  assert terms.keys() == {'loss_lr'}
  assert float(loss) == pytest.approx(0.5 * np.mean((predicted['lr'] - batch['lr']) ** 2))


def test_loss_with_other_pixel_losses():
  predicted, batch = images(0), images(1)
  output = RestorationOutput(**predicted)
  loss, terms = losses.restoration_loss(output, batch, 0.5, 3.0, hr='charbonnier', lr='charbonnier')
  for key in ('hr', 'lr'):
    assert float(terms[f'loss_{key}']) == float(losses.charbonnier(predicted[key], batch[key]))
  assert float(loss) == pytest.approx(float(3 * terms['loss_hr'] + 0.5 * terms['loss_lr']))


def test_gradient_of_loss():
  predicted, batch = images(0), images(1)
  loss = lambda output: losses.restoration_loss(output, batch, 0.5)[0]
  grads = jax.grad(loss)(RestorationOutput(**predicted))
  for key, weight in (('hr', 1.0), ('lr', 0.5)):
    expected = weight * 2 * (predicted[key] - batch[key]) / batch[key].size
    np.testing.assert_allclose(getattr(grads, key), expected, rtol=1e-5, atol=1e-9)
