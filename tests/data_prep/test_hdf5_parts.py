import numpy as np
import pytest

from gfn_jax.data_prep import hdf5_parts
from gfn_jax.errors import UserError

h5py = pytest.importorskip('h5py')

SIZES = {'data': 64, 'label_db': 64, 'label': 256}


def arrays(count=2):
  """Datasets as the authors' MATLAB code leaves them for h5py: [N, C, W, H]."""
  rng = np.random.default_rng(0)
  values = {
    name: rng.integers(0, 256, (count, 3, size, size)).astype(np.float32) / 255
    for name, size in SIZES.items()
  }
  values['data'][0, 0, 0, 0] = -0.125  # the LR images overshoot
  return values


def write(path, values):
  with h5py.File(path, 'w') as part:
    for name, array in values.items():
      part[name] = array


def test_slices_cover_every_part_in_order(tmp_path, monkeypatch):
  monkeypatch.setattr(hdf5_parts, '_SLICE', 2)
  write(tmp_path / 'part2.h5', arrays(1))
  write(tmp_path / 'part1.h5', arrays(5))
  slices = hdf5_parts.find_slices(tmp_path)
  assert [(piece.path.name, piece.start, piece.stop) for piece in slices] == [
    ('part1.h5', 0, 2), ('part1.h5', 2, 4), ('part1.h5', 4, 5), ('part2.h5', 0, 1),
  ]  # fmt: skip


def test_images_are_transposed_and_lr_is_kept(tmp_path):
  values = arrays(3)
  write(tmp_path / 'part1.h5', values)
  piece = hdf5_parts.PartSlice(tmp_path / 'part1.h5', 1, 3)
  result = hdf5_parts.read_slice(piece, float_lr=True)
  assert result.windows_seen == 2
  assert [example['name'] for example in result.examples] == ['part1/000001', 'part1/000002']
  example = result.examples[1]
  np.testing.assert_array_equal(example['lr_blur'][5, 9], values['data'][2, :, 9, 5])
  np.testing.assert_array_equal(example['lr'], values['label_db'][2].T)
  assert example['hr'].dtype == np.uint8
  np.testing.assert_array_equal(example['hr'] / np.float32(255), values['label'][2].T)


def test_lr_is_clipped_and_rounded_to_8_bit(tmp_path):
  values = arrays(1)
  write(tmp_path / 'part1.h5', values)
  (piece,) = hdf5_parts.find_slices(tmp_path)
  (example,) = hdf5_parts.read_slice(piece, float_lr=False).examples
  lr_blur = example['lr_blur']
  assert lr_blur.dtype == np.uint8
  assert lr_blur[0, 0, 0] == 0
  np.testing.assert_array_equal(lr_blur[1:], np.round(values['data'][0].T * 255)[1:])


def test_no_part(tmp_path):
  with pytest.raises(UserError, match=r'holds no \*\.h5 file'):
    hdf5_parts.find_slices(tmp_path)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'label': None}, "has no dataset 'label'"),
    ({'data': np.zeros((2, 64, 64, 3), np.float32)}, r"dataset 'data' is float32 \(2, 64, 64, 3\)"),
    ({'label': np.zeros((2, 3, 128, 128), np.float32)}, r"'label' is .*, not float \(N, 3, 256, "),
    ({'label_db': np.zeros((2, 3, 64, 64), np.uint8)}, "dataset 'label_db' is uint8"),
    (
      {'label_db': np.zeros((3, 3, 64, 64), np.float32)},
      "'label_db' holds 3 examples and 'data' 2",
    ),
    (
      {name: np.zeros((0, 3, size, size), 'f4') for name, size in SIZES.items()},
      'holds 0 examples',
    ),
  ],
)
def test_datasets_that_do_not_fit(tmp_path, changes, message):
  values = {name: array for name, array in (arrays() | changes).items() if array is not None}
  write(tmp_path / 'part1.h5', values)
  with pytest.raises(UserError, match=f'part1.h5.* {message}|part1.h5: {message}'):
    hdf5_parts.find_slices(tmp_path)


@pytest.mark.parametrize(
  ('name', 'value'),
  [('data', np.nan), ('label_db', np.inf), ('label', 255.0), ('label', -0.01), ('data', 3.0)],
)
def test_values_that_are_no_images(tmp_path, name, value):
  values = arrays()
  values[name][1, 2, 3, 4] = value
  write(tmp_path / 'part1.h5', values)
  (piece,) = hdf5_parts.find_slices(tmp_path)
  with pytest.raises(UserError, match=f"part1.h5: dataset '{name}', examples 0 to 1: values are"):
    hdf5_parts.read_slice(piece, float_lr=False)


def test_a_part_cut_short(tmp_path):
  path = tmp_path / 'part1.h5'
  write(path, arrays())
  path.write_bytes(path.read_bytes()[:100_000])
  with pytest.raises(UserError, match='part1.h5 is not a complete HDF5 file'):
    hdf5_parts.find_slices(tmp_path)
