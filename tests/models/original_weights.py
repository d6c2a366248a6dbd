"""The original GFN's tensors under their PyTorch names, filled by a formula, as our parameters."""

import zlib

import jax
import numpy as np

_PREFIXES = {
  'deblur': 'deblurMoudle.0',
  'sr_feature': 'srMoudle.0',
  'gate': 'geteMoudle.0',
  'reconstruction': 'reconstructMoudle.0',
}
_DEBLUR_LAYERS = {
  'conv1': 'conv1',
  'conv2': 'conv2.0',
  'conv3': 'conv3.0',
  'deconv1': 'deconv1.0',
  'deconv2': 'deconv2.0',
  'conv4': 'deconv2.2',
  'conv5': 'convout.0',
  'conv6': 'convout.2',
}


def torch_key(path: tuple[str, ...]) -> str:
  """`('deblur', 'resblock1_0', 'conv1', 'kernel')` -> the original's name of that tensor."""
  module, *layer, kind = path
  if len(layer) == 2:  # a residual block
    group, index = layer[0].rsplit('_', 1)
    layer_key = (
      f'{group.replace("resblock", "resBlock")}.{index}.layers.{0 if layer[1] == "conv1" else 2}'
    )
  else:
    layer_key = _DEBLUR_LAYERS[layer[0]] if module == 'deblur' else layer[0]
  return f'{_PREFIXES[module]}.{layer_key}.{"weight" if kind == "kernel" else "bias"}'


def fill(key: str, torch_shape: tuple[int, ...]) -> np.ndarray:
  """The formula of the fixtures: normal numbers seeded by the tensor's name."""
  z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(torch_shape)
  if len(torch_shape) == 4:
    return (z * 0.7 / np.sqrt(np.prod(torch_shape[1:]))).astype(np.float32)
  return (z * 0.02).astype(np.float32)


def original_params(params):
  """`params` of a full-size GFN with every tensor replaced by the formula's."""

  def replace(path, leaf):
    names = tuple(entry.key for entry in path)
    key = torch_key(names)
    if names[-1] == 'bias':
      value = fill(key, leaf.shape)
    elif names[-2].startswith('deconv'):  # (in, out, kh, kw) -> HWIO, flipped
      kh, kw, n_in, n_out = leaf.shape
      value = fill(key, (n_in, n_out, kh, kw)).transpose(2, 3, 0, 1)[::-1, ::-1]
    else:  # (out, in, kh, kw) -> HWIO
      kh, kw, n_in, n_out = leaf.shape
      value = fill(key, (n_out, n_in, kh, kw)).transpose(2, 3, 1, 0)
    assert value.shape == leaf.shape
    return value

  return jax.tree_util.tree_map_with_path(replace, params)
