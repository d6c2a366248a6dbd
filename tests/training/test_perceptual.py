import functools

import jax
import numpy as np
import pytest
import safetensors.numpy
import skimage.data

from gfn_jax import UserError
from gfn_jax.interop import save_torch_checkpoint
from gfn_jax.training.perceptual import VGG19
from tests.slow_conv import conv

# Output channels of the convolutions, at the index among torchvision's `features`; poolings.
LAYERS = {0: 64, 2: 64, 4: 'pool', 5: 128, 7: 128, 9: 'pool', 10: 256, 12: 256, 14: 256, 16: 256}
LAYERS |= {18: 'pool', 19: 512, 21: 512, 23: 512, 25: 512, 27: 'pool'}
LAYERS |= {28: 512, 30: 512, 32: 512, 34: 512}


def empty_state():
  state, inputs = {}, 3
  for index, channels in LAYERS.items():
    if channels != 'pool':
      state[f'features.{index}.weight'] = np.zeros((channels, inputs, 3, 3), np.float32)
      state[f'features.{index}.bias'] = np.zeros(channels, np.float32)
      inputs = channels
  return state


@functools.cache
def random_state():
  rng = np.random.default_rng(0)
  state = {'classifier.6.bias': np.zeros(1000, np.float32)}
  for key, zeros in empty_state().items():
    values = rng.standard_normal(zeros.shape, np.float32)
    deviation = 0.1 if key.endswith('bias') else np.sqrt(2 / np.prod(zeros.shape[1:]))
    state[key] = values * np.float32(deviation)
  return state


def photograph(height, width):
  """`[h, w, 3]` in [0, 1]."""
  return skimage.data.astronaut()[100 : 100 + height, 200 : 200 + width].astype(np.float32) / 255


def slow_features(image):
  """`[h, w, 3]` to `[h', w', 512]`, in float64."""
  mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
  x, state = ((image - mean) / deviation).transpose(2, 0, 1), random_state()
  for index, channels in LAYERS.items():
    if channels == 'pool':
      c, h, w = x.shape
      x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2).max(axis=(2, 4))
    else:
      x = conv(x, state[f'features.{index}.weight'], state[f'features.{index}.bias'])
      x = x if index == 34 else np.maximum(x, 0)
  return x.transpose(1, 2, 0)


def test_the_features_of_a_photograph():
  image = photograph(35, 17)
  features = VGG19(random_state(), precision='highest')
  found = features(image[None])
  # Traced only: the parameters are 80 MB of constants, which compile for seconds.
  assert jax.eval_shape(features, image[None]).shape == found.shape
  expected = slow_features(image)[None]
  assert found.shape == (1, 2, 1, 512)
  assert expected.min() < -0.1  # before a ReLU
  np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())


def test_a_case_with_a_closed_form(tmp_path):
  """The first channel is red, and the last convolution turns its sign."""
  state = empty_state()
  for index, channels in LAYERS.items():
    if channels != 'pool':
      state[f'features.{index}.weight'][0, 0, 1, 1] = -1 if index == 34 else 1
  save_torch_checkpoint(tmp_path / 'vgg19.pth', state)
  image = photograph(32, 48)
  features = VGG19.from_file(tmp_path / 'vgg19.pth')(image[None])
  red = np.maximum((image[..., 0] - 0.485) / 0.229, 0)
  largest = red.reshape(2, 16, 3, 16).max(axis=(1, 3))
  assert largest.min() > 0
  np.testing.assert_allclose(features[0, ..., 0], -largest, rtol=1e-5)
  np.testing.assert_array_equal(features[..., 1:], 0)


def test_tensors_that_are_not_its_own(tmp_path):
  with pytest.raises(
    UserError,
    match=r'for VGG19: 32 missing \(features.0.bias, .*, \.\.\.\); pass .*, vgg19-dcbb9e9d.pth',
  ):
    VGG19({})
  with pytest.raises(UserError, match=r'1 unexpected \(features.1.weight\)'):  # normalised
    VGG19(empty_state() | {'features.1.weight': np.ones(64)})
  path = tmp_path / 'alexnet.safetensors'
  safetensors.numpy.save_file({'features.0.weight': np.zeros((64, 3, 11, 11))}, path)
  message = r'features.0.weight \[64, 3, 11, 11\], expected \[64, 3, 3, 3\]'
  with pytest.raises(UserError, match=message):
    VGG19.from_file(path)
  with pytest.raises(UserError, match='missing.pth does not exist'):
    VGG19.from_file(tmp_path / 'missing.pth')


@pytest.mark.parametrize(
  ('image', 'error', 'message'),
  [
    (np.zeros((16, 16, 3), np.float32), ValueError, r'\[B, h, w, 3\] images'),
    (np.zeros((1, 16, 16, 4), np.float32), ValueError, r'\[B, h, w, 3\] images'),
    (np.zeros((1, 16, 15, 3), np.float32), ValueError, 'sides at least 16, not'),
    (np.zeros((1, 16, 16, 3), np.uint8), TypeError, 'floats in .0, 1., not uint8'),
  ],
)
def test_images_that_it_does_not_take(image, error, message):
  with pytest.raises(error, match=message):
    VGG19(empty_state())(image)
