"""Layer names in the authors' PyTorch weights of super-resolution networks."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gfn_jax.interop.version import Version, attention_block
from gfn_jax.layers.super_resolution import mean_shift_tensors

_UPSAMPLE = r'(tail\.0|upsample)\.[0-9]+\.weight'  # the authors' and BasicSR's

_STRIDE_TO_KERNEL = 4  # SRFBN's kernels are 6x6 for 2x, 7x7 for 3x and 8x8 for 4x

_RES_SCALES = {64: 1.0, 256: 0.1}
"""Factors of EDSR's published networks by their number of features. Weights do not hold it."""


def _infer_scale(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Return the scale: the product of the factors of all pixel shuffles."""
  kernels = [
    array for name, array in state.items() if re.fullmatch(_UPSAMPLE, name) and np.ndim(array) == 4
  ]
  if not kernels:
    return {}  # the missing tensors are reported
  factors = [math.isqrt(array.shape[0] // max(1, array.shape[1])) for array in kernels]
  return {'scale': math.prod(factors)}


def _infer_edsr(state: Mapping[str, np.ndarray], first: str) -> dict[str, Any]:
  """Return the scale, and `res_scale` if there is a published network as wide as this one."""
  features = state[first].shape[0]
  res_scale = {'res_scale': _RES_SCALES[features]} if features in _RES_SCALES else {}
  return _infer_scale(state) | res_scale


def _infer_rcan(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Return the scale, and `trained_mean_shift` if the mean shift is not the constant."""
  trained = any(
    name in state
    and state[name].shape == constant.shape
    and not np.allclose(state[name], constant, rtol=1e-6, atol=1e-6)
    for name, constant in mean_shift_tensors().items()
  )
  return _infer_scale(state) | ({'trained_mean_shift': True} if trained else {})


_TAIL = {
  'upsample.conv1': 'tail.0.0',
  'upsample.conv2': 'tail.0.2',
  'conv_last': 'tail.1',
}

_EDSR = (
  Version(
    layers={
      'conv_first': 'head.0',
      'resblock_{i}.conv1': 'body.{i}.body.0',
      'resblock_{i}.conv2': 'body.{i}.body.2',
      'conv_mid': 'body.{blocks}',
      **_TAIL,
    },
    features='head.0.weight',
    blocks={'blocks': 'body.{i}.body.0.weight'},
    infer=lambda state: _infer_edsr(state, 'head.0.weight'),
    asked=('res_scale',),
    constants=mean_shift_tensors(),
  ),
  Version(  # BasicSR
    layers={
      'conv_first': 'conv_first',
      'resblock_{i}.conv{j}': 'body.{i}.conv{j}',
      'conv_mid': 'conv_after_body',
      'upsample.conv1': 'upsample.0',
      'upsample.conv2': 'upsample.2',
      'conv_last': 'conv_last',
    },
    features='conv_first.weight',
    blocks={'blocks': 'body.{i}.conv1.weight'},
    infer=lambda state: _infer_edsr(state, 'conv_first.weight'),
    asked=('res_scale',),
  ),
)

_RCAN = Version(
  layers={
    'sub_mean': 'sub_mean',
    'add_mean': 'add_mean',
    'conv_first': 'head.0',
    **attention_block('group_{i}.rcab_{j}', 'body.{i}.body.{j}', 'body.3'),
    'group_{i}.conv': 'body.{i}.body.{blocks}',
    'conv_mid': 'body.{groups}',
    **_TAIL,
  },
  features='head.0.weight',
  blocks={
    'groups': 'body.{i}.body.0.body.0.weight',
    'blocks': 'body.0.body.{i}.body.0.weight',
  },
  widths={
    'reduction': lambda width: width('head.0') // max(1, width('body.0.body.0.body.3.conv_du.0')),
  },
  infer=_infer_rcan,
  constants=mean_shift_tensors(),
)


def _activated(ours: str, theirs: str) -> dict[str, str]:
  """Return the layers of one of SRFBN's convolutions with a PReLU."""
  return {f'{ours}.conv': f'{theirs}.0', f'{ours}.prelu': f'{theirs}.1'}


SR_VERSIONS = {
  'edsr': _EDSR,
  'edsr_baseline': _EDSR,
  'rcan': (_RCAN,),
  'han': (
    dataclasses.replace(
      _RCAN,
      layers={
        **_RCAN.layers,
        'layer_attention': 'la',
        'layer_conv': 'last_conv',
        'channel_spatial_attention': 'csa',
        'channel_spatial_attention.conv': 'csa.conv',
        'fuse': 'last',
      },
    ),
  ),
  'rrdbnet': (
    Version(  # xinntao/ESRGAN
      layers={
        'conv_first': 'conv_first',
        'rrdb_{i}.dense{j}.conv{k}': 'RRDB_trunk.{i}.RDB{j}.conv{k}',
        'conv_mid': 'trunk_conv',
        'upconv{i}': 'upconv{i}',
        'conv_hr': 'HRconv',
        'conv_last': 'conv_last',
      },
      features='trunk_conv.weight',
      blocks={'blocks': 'RRDB_trunk.{i}.RDB1.conv1.weight'},
      widths={'growth': lambda width: width('RRDB_trunk.0.RDB1.conv1')},
    ),
    Version(  # the same network before its layers had names
      layers={
        'conv_first': 'model.0',
        'rrdb_{i}.dense{j}.conv{k}': 'model.1.sub.{i}.RDB{j}.conv{k}.0',
        'conv_mid': 'model.1.sub.{blocks}',
        'upconv1': 'model.3',
        'upconv2': 'model.6',
        'conv_hr': 'model.8',
        'conv_last': 'model.10',
      },
      features='model.0.weight',
      blocks={'blocks': 'model.1.sub.{i}.RDB1.conv1.0.weight'},
      widths={'growth': lambda width: width('model.1.sub.0.RDB1.conv1.0')},
    ),
    Version(  # BasicSR
      layers={
        'conv_first': 'conv_first',
        'rrdb_{i}.dense{j}.conv{k}': 'body.{i}.rdb{j}.conv{k}',
        'conv_mid': 'conv_body',
        'upconv{i}': 'conv_up{i}',
        'conv_hr': 'conv_hr',
        'conv_last': 'conv_last',
      },
      features='conv_body.weight',
      blocks={'blocks': 'body.{i}.rdb1.conv1.weight'},
      widths={'growth': lambda width: width('body.0.rdb1.conv1')},
    ),
  ),
  'srfbn': (
    Version(
      layers={
        **_activated('conv_first', 'conv_in'),
        **_activated('conv_reduce', 'feat_in'),
        **_activated('block.fuse_in', 'block.compress_in'),
        **_activated('block.up{i}', 'block.upBlocks.{i}'),
        **_activated('block.down{i}', 'block.downBlocks.{i}'),
        **_activated('block.fuse_lr{i}', 'block.uptranBlocks.{i}'),
        **_activated('block.fuse_hr{i}', 'block.downtranBlocks.{i}'),
        **_activated('block.fuse_out', 'block.compress_out'),
        **_activated('reconstruction.up', 'out'),
        'reconstruction.conv_last': 'conv_out.0',
      },
      transposed=frozenset({'block.up{i}.conv', 'reconstruction.up.conv'}),
      features='out.0.weight',
      blocks={'groups': 'block.upBlocks.{i}.0.weight'},
      infer=lambda state: {'scale': state['out.0.weight'].shape[-1] - _STRIDE_TO_KERNEL},
      constants=mean_shift_tensors(),
    ),
  ),
}
"""PyTorch versions of each network with public weights."""
