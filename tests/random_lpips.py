"""Random weights of LPIPS under PyTorch's names."""

import functools

import numpy as np

CONVS = {  # index in the features of torchvision's AlexNet: kernel shape, stride, padding
  0: ((64, 3, 11, 11), 4, 2),
  3: ((192, 64, 5, 5), 1, 2),
  6: ((384, 192, 3, 3), 1, 1),
  8: ((256, 384, 3, 3), 1, 1),
  10: ((256, 256, 3, 3), 1, 1),
}


@functools.cache
def alexnet():
  """Return weights as in torchvision's checkpoint."""
  rng = np.random.default_rng(0)
  state = {'classifier.6.bias': np.zeros(1000, np.float32)}
  for index, (shape, *_) in CONVS.items():
    kernel = rng.standard_normal(shape, np.float32)
    state[f'features.{index}.weight'] = kernel * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    state[f'features.{index}.bias'] = np.float32(0.1) * rng.standard_normal(shape[0], np.float32)
  return state


@functools.cache
def linear():
  """Return weights as in v0.1/alex.pth of lpips."""
  rng = np.random.default_rng(1)
  channels = [shape[0] for shape, *_ in CONVS.values()]
  return {
    f'lin{k}.model.1.weight': rng.random((1, count, 1, 1), np.float32)
    for k, count in enumerate(channels)
  }


def together():
  """Return all weights as in the state of `lpips.LPIPS()`."""
  state = {'scaling_layer.shift': np.zeros((1, 3, 1, 1), np.float32)}
  for k, index in enumerate(CONVS):
    for kind in ('weight', 'bias'):
      state[f'net.slice{k + 1}.{index}.{kind}'] = alexnet()[f'features.{index}.{kind}']
    for name in (f'lin{k}', f'lins.{k}'):
      state[f'{name}.model.1.weight'] = linear()[f'lin{k}.model.1.weight']
  return state
