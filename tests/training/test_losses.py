import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from gfn_jax import UserError
from gfn_jax.models import RestorationOutput
from gfn_jax.training import losses
from tests.loss import restoration_loss

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'


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
  with np.load(FIXTURES / 'motion_deblur_sr_losses.npz') as file:
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


def test_l1_by_hand():
  assert float(losses.l1(jnp.array([3.0, 0.5]), jnp.array([-1.0, 1.0]))) == (4 + 0.5) / 2
  out = losses.l1(jnp.full((64, 64), 1 + 2**-7, jnp.bfloat16), jnp.ones((64, 64)))
  assert (out.dtype, float(out)) == (jnp.float32, 2**-7)


def test_gradient_of_the_authors():
  with np.load(FIXTURES / 'cnlrn_gradloss.npz') as file:
    a, b = (file[key].transpose(0, 2, 3, 1) for key in 'ab')
    assert float(losses.gradient(a, b)) == pytest.approx(float(file['loss']), rel=1e-6)


@pytest.mark.parametrize('size', [(7, 4), (1, 1)])
def test_gradient_by_hand(size):
  a, b = np.random.default_rng(0).random((2, 2, *size, 3), np.float32)
  channels = [channel for image in np.moveaxis(a - b, -1, 1) for channel in image]
  directions = [[ndimage.sobel(x, axis, mode='constant') for x in channels] for axis in (0, 1)]
  expected = sum(np.mean(np.abs(direction)) for direction in directions)
  assert float(losses.gradient(a, b)) == pytest.approx(expected, rel=1e-5)
  half = losses.gradient(jnp.asarray(a, jnp.bfloat16), b)
  assert half.dtype == jnp.float32
  rounded = np.asarray(jnp.asarray(a, jnp.bfloat16), np.float32)
  assert float(half) == pytest.approx(float(losses.gradient(rounded, b)), rel=1e-6)


@pytest.mark.parametrize(('hr_weight', 'gradient_weight'), [(1.0, 0.1), (2.0, 0.5)])
def test_the_loss_of_cnlrn(hr_weight, gradient_weight):
  output, batch = RestorationOutput(hr=images(0)['hr']), images(1)
  absolute = np.mean(np.abs(output.hr - batch['hr']))
  sobel = float(losses.gradient(output.hr, batch['hr']))
  options = {'hr': 'l1', 'gradient_weight': gradient_weight}
  loss, terms = restoration_loss(output, batch, 0.0, hr_weight, **options)
  assert terms.keys() == {'loss_hr', 'loss_gradient'}
  assert float(terms['loss_hr']) == pytest.approx(absolute, rel=1e-5)
  assert float(terms['loss_gradient']) == sobel
  assert float(loss) == pytest.approx(hr_weight * (absolute + gradient_weight * sobel), rel=1e-5)


def test_the_loss_of_cnlrns_deblurring_network_alone():
  output, batch = RestorationOutput(**images(0)), images(1)
  options = {'hr': 'l1', 'lr': 'l1', 'gradient_weight': 0.1}
  loss, terms = restoration_loss(output, batch, 1.0, 0.0, **options)
  assert terms.keys() == {'loss_lr'}
  assert float(loss) == pytest.approx(np.mean(np.abs(output.lr - batch['lr'])), rel=1e-5)


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
  loss, terms = restoration_loss(output.replace(hr=None), batch, 1.0, **options)
  assert terms.keys() == {'loss_lr', 'loss_edge'}
  assert float(terms['loss_lr']) == pytest.approx(char, rel=1e-5)
  assert float(terms['loss_edge']) == pytest.approx(edge, rel=1e-5)
  assert float(loss) == pytest.approx(char + edge_weight * edge, rel=1e-5)


def test_the_loss_of_a_network_that_deblurs_from_coarse_to_fine():
  """Each image is compared with the target as the network's pyramid reduces it."""
  target, lr, half, quarter = (
    np.random.default_rng(seed).random((2, 8 // n, 12 // n, 3), np.float32)
    for seed, n in enumerate((1, 1, 2, 4))
  )
  strided = lambda image: (image[:, ::4, ::4], image[:, ::2, ::2])  # SRN's
  output = RestorationOutput(hr=None, lr=lr, lr_pyramid=(quarter, half))
  terms = losses.make_loss({'lr': {'on': 'lr', 'loss': 'mse', 'weight': 2.0}}, {})
  loss, values = losses.restoration_loss(output, {'lr': target}, terms, strided)
  expected = sum(
    np.mean((image - target[:, ::n, ::n]) ** 2) for image, n in ((lr, 1), (half, 2), (quarter, 4))
  )
  assert float(values['loss_lr']) == pytest.approx(expected, rel=1e-5)
  assert float(loss) == pytest.approx(2 * expected, rel=1e-5)
  with pytest.raises(ValueError, match='shorter'):
    losses.restoration_loss(output, {'lr': target}, terms)  # no pyramid
  assert losses.restoration_loss(output, {}, ())[1] == {}


@pytest.mark.parametrize(('lr_weight', 'hr_weight'), [(0.5, 1.0), (2.0, 3.0)])
def test_the_loss_of_shoyan_et_al(lr_weight, hr_weight):
  output, batch, char, edge = in_stages()
  squared = np.mean((output.hr - batch['hr']) ** 2)
  options = {'lr': 'charbonnier', 'edge_weight': 0.05}
  loss, terms = restoration_loss(output, batch, lr_weight, hr_weight, **options)
  assert terms.keys() == {'loss_hr', 'loss_lr', 'loss_edge'}
  assert float(terms['loss_hr']) == pytest.approx(squared, rel=1e-5)
  assert float(loss) == pytest.approx(
    hr_weight * squared + lr_weight * (char + 0.05 * edge), rel=1e-5
  )


@pytest.mark.parametrize('lr_weight', [0.5, 0.0, 2.0])
def test_loss_is_the_weighted_sum_of_two_means(lr_weight):
  predicted, batch = images(0), images(1)
  loss, terms = restoration_loss(RestorationOutput(**predicted), batch, lr_weight)
  expected = {key: np.mean((predicted[key] - batch[key]) ** 2) for key in predicted}
  assert terms.keys() == {'loss_hr', 'loss_lr'} - ({'loss_lr'} if lr_weight == 0 else set())
  for key, term in terms.items():
    assert float(term) == pytest.approx(expected[key.removeprefix('loss_')], rel=1e-6)
  assert float(loss) == pytest.approx(expected['hr'] + lr_weight * expected['lr'], rel=1e-6)


def test_loss_without_a_deblurred_image():
  predicted, batch = images(0), images(1)
  loss, terms = restoration_loss(RestorationOutput(hr=predicted['hr']), batch, 0.5)
  assert terms.keys() == {'loss_hr'}
  assert float(loss) == float(terms['loss_hr'])
  assert float(loss) == pytest.approx(np.mean((predicted['hr'] - batch['hr']) ** 2), rel=1e-6)


def test_loss_without_the_super_resolved_image():
  predicted, batch = images(0), images(1)
  loss, terms = restoration_loss(RestorationOutput(**predicted), batch, 0.5, hr_weight=0.0)
  assert terms.keys() == {'loss_lr'}
  assert float(loss) == pytest.approx(0.5 * np.mean((predicted['lr'] - batch['lr']) ** 2))


def test_loss_of_a_network_that_only_deblurs():
  predicted, batch = images(0), images(1)
  loss, terms = restoration_loss(RestorationOutput(hr=None, lr=predicted['lr']), batch, 0.5)
  assert terms.keys() == {'loss_lr'}
  assert float(loss) == pytest.approx(0.5 * np.mean((predicted['lr'] - batch['lr']) ** 2))


@pytest.mark.parametrize('pixel_loss', ['mse', 'charbonnier'])
def test_examples_without_hr_add_nothing_to_its_losses(pixel_loss):
  predicted, batch = images(0), images(1)
  count = len(batch['hr'])
  mask = np.arange(count) % 2 == 0
  options = {'hr': pixel_loss, 'gradient_weight': 0.5}

  def loss(hr):
    output = RestorationOutput(hr=hr, lr=predicted['lr'])
    return restoration_loss(output, batch | {'has_hr': mask}, 0.5, **options)

  value, terms = loss(predicted['hr'])
  of_some = [
    losses.IMAGE_LOSSES[pixel_loss](predicted['hr'][i], batch['hr'][i]) for i in mask.nonzero()[0]
  ]
  assert float(terms['loss_hr']) == pytest.approx(float(sum(of_some)) / count, rel=1e-5)
  edges = [losses.gradient(predicted['hr'][[i]], batch['hr'][[i]]) for i in mask.nonzero()[0]]
  assert float(terms['loss_gradient']) == pytest.approx(float(sum(edges)) / count, rel=1e-5)
  assert float(terms['loss_lr']) == pytest.approx(np.mean((predicted['lr'] - batch['lr']) ** 2))
  grads = np.asarray(jax.grad(lambda hr: loss(hr)[0])(predicted['hr']))
  assert (grads[~mask] == 0).all()
  assert (np.abs(grads[mask]).sum(axis=(1, 2, 3)) > 0).all()
  everything = restoration_loss(
    RestorationOutput(**predicted), batch | {'has_hr': np.ones(count, bool)}, 0.5, **options
  )
  plain = restoration_loss(RestorationOutput(**predicted), batch, 0.5, **options)
  assert float(everything[0]) == pytest.approx(float(plain[0]), rel=1e-5)


def test_loss_with_other_pixel_losses():
  predicted, batch = images(0), images(1)
  output = RestorationOutput(**predicted)
  loss, terms = restoration_loss(output, batch, 0.5, 3.0, hr='charbonnier', lr='charbonnier')
  for key in ('hr', 'lr'):
    assert float(terms[f'loss_{key}']) == float(losses.charbonnier(predicted[key], batch[key]))
  assert float(loss) == pytest.approx(float(3 * terms['loss_hr'] + 0.5 * terms['loss_lr']))


def test_gradient_of_loss():
  predicted, batch = images(0), images(1)
  loss = lambda output: restoration_loss(output, batch, 0.5)[0]
  grads = jax.grad(loss)(RestorationOutput(**predicted))
  for key, weight in (('hr', 1.0), ('lr', 0.5)):
    expected = weight * 2 * (predicted[key] - batch[key]) / batch[key].size
    np.testing.assert_allclose(getattr(grads, key), expected, rtol=1e-5, atol=1e-9)


def videos(seed):
  return np.random.default_rng(seed).random((2, 7, 2, 3, 3), np.float32)


def pair_loss(frames, targets, difference):
  """The centre and three pairs, as in the paper."""
  total = np.mean(np.abs(frames[:, 3] - targets[:, 3]))
  for i in range(3):
    a, b, c, d = frames[:, i], frames[:, 6 - i], targets[:, i], targets[:, 6 - i]
    total += np.mean(np.abs((a + b) - (c + d)))
    total += np.mean(np.abs(difference(a - b) - difference(c - d)))
  return total


@pytest.mark.parametrize(('kind', 'difference'), [('absolute', np.abs), ('signed', np.positive)])
def test_the_loss_of_frames_and_time_reversed(kind, difference):
  frames, targets = videos(0), videos(1)
  loss = losses.frame_loss(frames, targets, kind)
  assert float(loss) == pytest.approx(pair_loss(frames, targets, difference), rel=1e-5)
  assert float(losses.frame_loss(targets, targets, kind)) == 0
  backwards = float(losses.frame_loss(targets[:, ::-1], targets, kind))
  assert (backwards == 0) == (kind == 'absolute')
  once_around = targets.copy()
  once_around[:, [0, 6]] = targets[:, [6, 0]]
  assert (float(losses.frame_loss(once_around, targets, kind)) == 0) == (kind == 'absolute')
  # But no frame goes to another pair.
  assert float(losses.frame_loss(np.roll(targets, 1, axis=1), targets, kind)) > 0.1


def test_each_image_may_run_either_way_as_a_whole():
  frames, targets = videos(0), videos(1)
  loss = functools.partial(losses.frame_loss, pair_difference='either')
  of_images = [
    min(pair_loss(frames[i : i + 1], way, np.positive) for way in (one, one[:, ::-1]))
    for i, one in enumerate(np.split(targets, len(targets)))
  ]
  assert float(loss(frames, targets)) == pytest.approx(np.mean(of_images), rel=1e-5)
  assert float(loss(targets[:, ::-1], targets)) == 0
  mixed = np.concatenate([targets[:1, ::-1], targets[1:]])
  assert float(loss(mixed, targets)) == 0
  in_part = targets.copy()
  in_part[..., 2] = targets[:, ::-1, ..., 2]  # blue backwards
  assert float(losses.frame_loss(in_part, targets)) == 0
  assert float(loss(in_part, targets)) > 0.1


def test_wrong_options_of_the_loss_of_frames():
  with pytest.raises(ValueError, match="pair_difference must be one of .*, not 'squared'"):
    losses.frame_loss(videos(0), videos(1), 'squared')
  with pytest.raises(ValueError, match='an odd number of frames is compared'):
    losses.frame_loss(videos(0)[:, :6], videos(1)[:, :6])
  with pytest.raises(ValueError, match='an odd number of frames is compared'):
    losses.frame_loss(videos(0), videos(1)[:, :5])


def test_the_loss_of_bmdsrnet():
  batch, frames = images(0) | {'frames': videos(0)}, videos(1)
  streams = [images(seed)['hr'] for seed in (1, 2, 3, 4)]
  output = RestorationOutput(streams[3], frames[:, 3], (), tuple(streams[:3]), frames)
  options = {'lr_weight': 3.0, 'frames_weight': 0.5}
  loss, terms = restoration_loss(output, batch, **options, perceptual=lambda x: x**2)
  expected = {
    'loss_hr': sum(np.mean((stream - batch['hr']) ** 2) for stream in streams),
    'loss_frames': pair_loss(frames, batch['frames'], np.abs),
    'loss_perceptual': np.mean(np.abs(frames[:, 3] ** 2 - batch['frames'][:, 3] ** 2)),
  }
  assert terms.keys() == expected.keys()
  for key, value in expected.items():
    assert float(terms[key]) == pytest.approx(value, rel=1e-5)
  in_all = terms['loss_hr'] + 0.5 * (terms['loss_frames'] + terms['loss_perceptual'])
  assert float(loss) == pytest.approx(float(in_all))
  _, terms = restoration_loss(output, batch, **options, pair_difference='signed')
  assert terms.keys() == {'loss_hr', 'loss_frames'}
  signed = pair_loss(frames, batch['frames'], np.positive)
  assert float(terms['loss_frames']) == pytest.approx(signed, rel=1e-5)


def test_the_loss_of_bmdsrnet_where_only_the_frame_in_the_middle_is_known():
  batch, frames = images(0), videos(1)
  streams = [images(seed)['hr'] for seed in (1, 2)]
  output = RestorationOutput(streams[1], frames[:, 3], (), tuple(streams[:1]), frames)
  loss, terms = restoration_loss(output, batch, 3.0, lr='l1', gradient_weight=0.1)
  assert terms.keys() == {'loss_hr', 'loss_gradient', 'loss_lr'}
  gradient = sum(float(losses.gradient(stream, batch['hr'])) for stream in streams)
  assert float(terms['loss_gradient']) == pytest.approx(gradient, rel=1e-6)
  expected = np.mean(np.abs(frames[:, 3] - batch['lr']))
  assert float(terms['loss_lr']) == pytest.approx(expected, rel=1e-6)
  in_all = terms['loss_hr'] + 0.1 * terms['loss_gradient'] + 3 * terms['loss_lr']
  assert float(loss) == pytest.approx(float(in_all))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'on': 'hd'}, "loss.edges.on is 'hd'; choose from hr, lr, frames"),
    ({'loss': 'l3'}, "loss.edges.loss is 'l3'; choose from mse, l1, charbonnier, edge, gradient"),
    ({'on': 'frames'}, "loss.edges.loss is 'edge'; choose from frames, perceptual"),
    ({'size': 3}, "loss.edges has no option 'size'"),
  ],
)
def test_wrong_terms(changes, message):
  with pytest.raises(UserError, match=message):
    losses.make_loss({'edges': {'on': 'lr', 'loss': 'edge', 'weight': 1.0} | changes}, {})
