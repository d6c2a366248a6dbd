"""Reading of the HDF5 training parts that the GFN authors' MATLAB generator writes.

Each `*.h5` part has float32 datasets `data` (lr_blur), `label_db` (lr) and `label` (hr). MATLAB is
column-major, so h5py returns them as [N, C, W, H].
"""

import dataclasses

import numpy as np
from etils import epath

from gfn_jax.data_prep import degradation
from gfn_jax.errors import UserError, install_extra
from gfn_jax.ops.pixels import to_uint8

_HR_SIZE = degradation.PATCH_SIZE
_LR_SIZE = degradation.PATCH_SIZE // degradation.SCALE
_SIZES = {'data': _LR_SIZE, 'label_db': _LR_SIZE, 'label': _HR_SIZE}
_LIMITS = {'data': (-0.5, 1.5), 'label_db': (-0.5, 1.5), 'label': (0.0, 1.0)}  # LR may overshoot
_SLICE = 32  # examples per read, about 30 MB


@dataclasses.dataclass(frozen=True)
class PartSlice:
  """Examples `start` to `stop` (exclusive) of the part at `path`."""

  path: epath.Path
  start: int
  stop: int


def find_slices(folder: epath.Path) -> list[PartSlice]:
  """List the slices to read, in order, and check the datasets without reading their values.

  Args:
    folder: folder of the authors' `*.h5` files.

  Returns:
    Slices that cover every example of every part.

  Raises:
    UserError: if there is no file, a file is not HDF5, or a dataset is missing or has the wrong
      shape or type. The message names file and dataset.
  """
  parts = sorted(p for p in folder.glob('*.h5') if not p.name.startswith('.'))
  if not parts:
    raise UserError(f"{folder} holds no *.h5 file; put the GFN authors' generated parts there")
  return [
    PartSlice(path, start, min(start + _SLICE, count))
    for path, count in ((path, _check_part(path)) for path in parts)
    for start in range(0, count, _SLICE)
  ]


def _open(path: epath.Path):
  try:
    import h5py  # optional
  except ImportError as error:
    raise UserError(f'--source=hdf5 requires h5py: {install_extra("train")}') from error
  try:
    return h5py.File(path, 'r')
  except OSError as error:
    raise UserError(f'{path} is not a complete HDF5 file; copy or generate it again') from error


def _check_part(path: epath.Path) -> int:
  counts = {}
  with _open(path) as part:
    for name, size in _SIZES.items():
      if name not in part or not hasattr(part[name], 'shape'):
        raise UserError(f"{path} has no dataset '{name}'; generate the part again")
      shape, dtype = part[name].shape, part[name].dtype
      if len(shape) != 4 or shape[1:] != (3, size, size) or dtype.kind != 'f':
        raise UserError(
          f"{path}: dataset '{name}' is {dtype} {shape}, not float (N, 3, {size}, {size}); "
          'generate the part again'
        )
      counts[name] = shape[0]
  for name, count in counts.items():
    if count != counts['data'] or not count:
      raise UserError(
        f"{path}: dataset '{name}' holds {count} examples and 'data' {counts['data']}; "
        'generate the part again'
      )
  return counts['data']


def read_slice(piece: PartSlice, float_lr: bool) -> degradation.Degraded:
  """Read the examples of a slice.

  Args:
    piece: the slice to read.
    float_lr: keep the LR images unquantised as float32; otherwise round them to 8 bits.

  Returns:
    Examples named `<part>/<number>`. All are kept, because the parts are already filtered.

  Raises:
    UserError: if values cannot be read, are not finite or are out of range. The message names file
      and dataset.
  """
  with _open(piece.path) as part:
    images = {name: _read_images(part[name], piece, name) for name in _SIZES}
  examples = [
    degradation.make_example(
      f'{piece.path.stem}/{piece.start + i:06d}',
      lr_blur=images['data'][i],
      lr=images['label_db'][i],
      hr=to_uint8(images['label'][i]),
      float_lr=float_lr,
    )
    for i in range(piece.stop - piece.start)
  ]
  return degradation.Degraded(examples, len(examples))


def _read_images(dataset, piece: PartSlice, name: str) -> np.ndarray:
  where = f"{piece.path}: dataset '{name}', examples {piece.start} to {piece.stop - 1}"
  try:
    values = dataset[piece.start : piece.stop]
  except OSError as error:
    raise UserError(f'cannot read {where}; copy or generate the part again') from error
  low, high = _LIMITS[name]
  # Negated, so that NaN fails too.
  if not (values.min() >= low - 1e-6 and values.max() <= high + 1e-6):
    raise UserError(f'{where}: values are not finite numbers in [0, 1]; generate the part again')
  return values.transpose(0, 3, 2, 1)  # [N, C, W, H] -> [N, H, W, C]
