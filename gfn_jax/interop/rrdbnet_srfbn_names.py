"""Layer names in the authors' PyTorch weights of RRDBNet and SRFBN."""

from gfn_jax.interop.version import Version
from gfn_jax.layers.super_resolution import mean_shift_tensors

_STRIDE_TO_KERNEL = 4  # SRFBN's kernels are 6x6 for 2x, 7x7 for 3x and 8x8 for 4x


def _activated(ours: str, theirs: str) -> dict[str, str]:
  """Return the layers of one of SRFBN's convolutions with a PReLU."""
  return {f'{ours}.conv': f'{theirs}.0', f'{ours}.prelu': f'{theirs}.1'}


VERSIONS_OF_RRDBNET_AND_SRFBN = {
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
