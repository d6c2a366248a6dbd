import functools
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from etils.epath import gpath, register
from PIL import Image
from skimage import data

from gfn_jax.data import tfrecords
from gfn_jax.data_prep import degradation, lr_gopro
from gfn_jax.errors import UserError
from gfn_jax.ops.imresize import imresize

ROOT = pathlib.Path(__file__).parents[2]


def save(path, image):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.ascontiguousarray(image)).save(path)


def make_tree(root, splits=('train', 'test')):
  """Two training pairs of photographs, the first half flat, and a test pair."""
  coffee, astronaut = data.coffee(), data.astronaut()
  flat = coffee[:260, :512].copy()
  flat[:, :256] = 90
  frames = {
    ('train', 'GOPR0001', '000002'): (flat, coffee[:260, :512]),
    ('train', 'GOPR0002', '000001'): (astronaut[:300, :400], astronaut[10:310, :400]),
    ('test', 'GOPR0003', '000007'): (astronaut[:150, :170], astronaut[5:155, :170]),
  }
  for (split, sequence, frame), (sharp, blur) in frames.items():
    if split in splits:
      save(root / split / sequence / 'sharp' / f'{frame}.png', sharp)
      save(root / split / sequence / 'blur_gamma' / f'{frame}.png', blur)
  return root


def read(folder, split):
  dataset = tfds.builder_from_directory(folder).as_dataset(split=split)
  return {example['name'].decode(): example for example in tfds.as_numpy(dataset)}


def everything_in(folder):
  return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*'))


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
  return make_tree(tmp_path_factory.mktemp('GOPRO_Large'))


@pytest.fixture(scope='module')
def built(tree, tmp_path_factory):
  return lr_gopro.build(tree, tmp_path_factory.mktemp('data'), workers=1)


def test_metadata_and_counts_are_saved(built):
  assert built.parts[-3:] == ('lr_gopro', 'blur_gamma', '1.0.1')
  info = tfds.builder_from_directory(built).info
  assert dict(info.metadata) == {
    'source': 'frames',
    'blur_folder': 'blur_gamma',
    'lr_quantisation': 'uint8',
    'scale': 4,
    'patch_size': 256,
    'stride': 128,
    'frame_scales': [1.0, 0.7, 0.5],
    'min_gradient': 0.005,
    'border': 'symmetric',
    'counts': {
      'train': {'frame_pairs': 2, 'windows_seen': 5, 'windows_dropped': 1, 'windows_kept': 4},
      'test': {'frame_pairs': 1},
    },
  }
  assert lr_gopro.summarise(built) == (
    f'{built}: train 4, test 1 examples; training windows: 5 seen, 1 dropped, 4 kept'
  )


def test_train_records(built):
  examples = read(built, 'train')
  assert sorted(examples) == [
    'GOPR0001/000002_s1.0_y0_x128',
    'GOPR0001/000002_s1.0_y0_x256',
    'GOPR0002/000001_s1.0_y0_x0',
    'GOPR0002/000001_s1.0_y0_x128',
  ]
  example = examples['GOPR0002/000001_s1.0_y0_x128']
  np.testing.assert_array_equal(example['hr'], data.astronaut()[:256, 128:384])
  for key, top in (('lr', 0), ('lr_blur', 10)):
    patch = data.astronaut()[top : top + 256, 128:384] / 255.0
    assert example[key].dtype == np.uint8
    np.testing.assert_array_equal(example[key], degradation.to_uint8(imresize(patch, 0.25)))


def test_test_records(built):
  ((name, example),) = read(built, 'test').items()
  assert name == 'GOPR0003/000007'
  np.testing.assert_array_equal(example['hr'], data.astronaut()[:144, :160])
  assert example['lr'].shape == example['lr_blur'].shape == (36, 40, 3)


@pytest.mark.full
def test_two_workers_give_the_same_records(tree, built, tmp_path):
  other = lr_gopro.build(tree, tmp_path, workers=2)
  for split in ('train', 'test'):
    one, two = read(built, split), read(other, split)
    assert list(one) == list(two)  # in the same order
    for name, example in one.items():
      for key, value in example.items():
        np.testing.assert_array_equal(value, two[name][key])
  assert tfds.builder_from_directory(other).info.metadata['counts'] == {
    'train': {'frame_pairs': 2, 'windows_seen': 5, 'windows_dropped': 1, 'windows_kept': 4},
    'test': {'frame_pairs': 1},
  }


def test_float_lr(tree, built, tmp_path):
  folder = lr_gopro.build(tree, tmp_path, float_lr=True)
  assert folder.parts[-2] == 'blur_gamma_float_lr'
  assert tfds.builder_from_directory(folder).info.metadata['lr_quantisation'] == 'float32'
  exact, rounded = read(folder, 'train'), read(built, 'train')
  assert list(exact) == list(rounded)
  for name, example in exact.items():
    assert example['lr'].dtype == np.float32
    np.testing.assert_array_equal(degradation.to_uint8(example['lr']), rounded[name]['lr'])
    np.testing.assert_array_equal(example['hr'], rounded[name]['hr'])
  patch = data.astronaut()[10:266, 128:384] / 255.0
  np.testing.assert_array_equal(
    exact['GOPR0002/000001_s1.0_y0_x128']['lr_blur'], imresize(patch, 0.25).astype(np.float32)
  )
  assert min(example['lr'].min() for example in exact.values()) < 0  # overshoot
  (test,), (test_rounded,) = (read(path, 'test').values() for path in (folder, built))
  np.testing.assert_array_equal(test['lr_blur'], test_rounded['lr_blur'] / np.float32(255))


def test_hdf5(tmp_path):
  h5py = pytest.importorskip('h5py')
  rng = np.random.default_rng(0)
  sizes = {'data': 64, 'label_db': 64, 'label': 256}
  values = {name: rng.random((2, 3, n, n), np.float32) for name, n in sizes.items()}
  (tmp_path / 'parts').mkdir()
  with h5py.File(tmp_path / 'parts/part1.h5', 'w') as part:
    for name, array in values.items():
      part[name] = array
  folder = lr_gopro.build(tmp_path / 'parts', tmp_path / 'out', source='hdf5', float_lr=True)
  assert folder.parts[-2] == 'hdf5_blur_gamma_float_lr'
  info = tfds.builder_from_directory(folder).info
  assert list(info.splits) == ['train']
  assert info.metadata['source'] == 'hdf5'
  assert info.metadata['counts'] == {
    'train': {'parts': 1, 'windows_seen': 2, 'windows_dropped': 0, 'windows_kept': 2}
  }
  examples = read(folder, 'train')
  np.testing.assert_array_equal(examples['part1/000001']['lr_blur'], values['data'][1].T)


def test_an_existing_data_set_is_left(tree, built, capsys):
  before = {path: path.stat().st_mtime_ns for path in built.iterdir()}
  assert lr_gopro.build(tree, built.parents[2]) == built
  assert f'{built} exists already and is kept' in capsys.readouterr().err
  assert {path: path.stat().st_mtime_ns for path in built.iterdir()} == before


def test_overwrite_replaces_only_after_success(tree, tmp_path):
  manual_dir, data_dir = tmp_path / 'GOPRO_Large', tmp_path / 'out'
  frame = make_tree(manual_dir, ['train']) / 'train/GOPR0002/sharp/000001.png'
  folder = lr_gopro.build(manual_dir, data_dir)
  files = everything_in(data_dir)
  content = frame.read_bytes()
  frame.write_bytes(content[:5000])  # found out only when the frame is decoded
  with pytest.raises(UserError, match='cannot read .*GOPR0002/sharp/000001.png'):
    lr_gopro.build(manual_dir, data_dir, overwrite=True)
  assert everything_in(data_dir) == files
  assert len(read(folder, 'train')) == 4
  frame.write_bytes(content)
  save(manual_dir / 'train/GOPR0002/sharp/000002.png', data.astronaut()[:256, :256])
  save(manual_dir / 'train/GOPR0002/blur_gamma/000002.png', data.astronaut()[:256, :256])
  assert lr_gopro.build(manual_dir, data_dir, overwrite=True) == folder
  assert len(read(folder, 'train')) == 5
  assert everything_in(data_dir) == files


def test_ctrl_c_leaves_nothing(tree, tmp_path, monkeypatch):
  def interrupt(pair, float_lr, scale):
    raise KeyboardInterrupt

  monkeypatch.setattr(degradation, 'degrade_test_pair', interrupt)  # train is already written
  with pytest.raises(KeyboardInterrupt):
    lr_gopro.build(tree, tmp_path)
  assert everything_in(tmp_path) == []


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'source': 'video'}, "source must be one of frames, hdf5, not 'video'"),
    ({'blur_folder': 'sharp'}, "blur_folder must be one of blur_gamma, blur, not 'sharp'"),
    ({'source': 'hdf5', 'blur_folder': 'blur'}, 'parts hold blur_gamma'),
    ({'source': 'hdf5'}, r'holds no \*\.h5 file'),
    ({'blur_folder': 'blur'}, 'blur does not exist; pass --blur_folder=blur_gamma'),
  ],
)
def test_wrong_options(tree, tmp_path, options, message):
  with pytest.raises(UserError, match=message):
    lr_gopro.build(tree, tmp_path, **options)
  assert everything_in(tmp_path) == []


def test_small_frames_alone_are_refused(tmp_path):
  for folder in ('sharp', 'blur_gamma'):
    save(tmp_path / 'in/train/GOPR0001' / folder / '000001.png', data.astronaut()[:200, :200])
  with pytest.raises(UserError, match='in/train gives no training window.*smaller than 256x256'):
    lr_gopro.build(tmp_path / 'in', tmp_path / 'out')
  assert everything_in(tmp_path / 'out') == []


def test_a_data_dir_that_is_a_file(tree, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='cannot write .*file, or read'):
    lr_gopro.build(tree, tmp_path / 'file')


def test_a_damaged_data_set_is_named(tmp_path):
  with pytest.raises(UserError, match='1.0.0 is not a complete data set; --overwrite'):
    lr_gopro.summarise(tmp_path / '1.0.0')


def test_the_command_reports_a_missing_folder_in_one_line(tmp_path):
  command = [sys.executable, '-m', 'data_prep.lr_gopro', f'--data_dir={tmp_path / "out"}']
  missing = tmp_path / 'GOPRO_Large'
  env = os.environ | {'JAX_PLATFORMS': 'cpu'}
  for name in ('TF_CPP_MIN_LOG_LEVEL', 'TF_ENABLE_ONEDNN_OPTS'):  # set by the package
    env.pop(name, None)
  result = subprocess.run(
    [*command, f'--manual_dir={missing}'],
    cwd=ROOT,
    env=env,
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 1
  assert result.stdout == ''
  assert result.stderr == (
    f'error: {missing} does not exist or is empty; pass the folder of the frames\n'
  )
  assert everything_in(tmp_path) == []


def test_beam_needs_its_package(tree, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  monkeypatch.delitem(sys.modules, 'gfn_jax.data_prep.beam_pipeline', raising=False)
  monkeypatch.delattr('gfn_jax.data_prep.beam_pipeline', raising=False)
  with pytest.raises(
    UserError, match=r"^Beam requires apache_beam: pip install 'gfn_jax\[train,beam"
  ):
    lr_gopro.build(tree, tmp_path, beam_runner='DirectRunner')
  with pytest.raises(UserError, match='^beam_options require beam_runner$'):
    lr_gopro.build(tree, tmp_path, beam_options=['--direct_num_workers=2'])
  assert everything_in(tmp_path) == []


@pytest.fixture
def cloud(monkeypatch):
  """A file system in memory whose paths begin with `ram://`, in the place of `gs://`."""
  for table in (gpath._URI_MAP_ROOT, gpath._PREFIX_TO_BACKEND, register._URI_PREFIXES_TO_CLS):
    for key, value in list(table.items()):
      if key and key.startswith('gs'):
        new = value.replace('gs', 'ram') if isinstance(value, str) else value
        monkeypatch.setitem(table, key.replace('gs', 'ram'), new)
  monkeypatch.setattr(gpath, '_URI_PREFIXES', (*gpath._URI_PREFIXES, 'ram://'))
  monkeypatch.setattr(gpath, '_URI_SCHEMES', gpath._URI_SCHEMES | {'ram'})
  monkeypatch.setattr(tf.io.gfile, 'rename', functools.partial(move, tf.io.gfile.rename))
  yield 'ram://bucket'
  tf.io.gfile.rmtree('ram://bucket')


def move(rename, source, target, overwrite=False):
  """As in Google Cloud Storage, whose folders are but beginnings of names: file by file."""
  source, target = os.fspath(source), os.fspath(target)
  if not tf.io.gfile.isdir(source):
    rename(source, target, overwrite)
    return
  tf.io.gfile.makedirs(target)
  for name in tf.io.gfile.listdir(source):
    rename(f'{source}/{name}', f'{target}/{name}')
  tf.io.gfile.rmtree(source)


def test_everything_in_the_cloud(tree, built, cloud):
  for path in tree.rglob('*.png'):
    copy = f'{cloud}/in/{path.relative_to(tree)}'
    tf.io.gfile.makedirs(os.path.dirname(copy))
    tf.io.gfile.copy(str(path), copy)
  folder = lr_gopro.build(f'{cloud}/in', f'{cloud}/out', workers=1)
  assert str(folder) == f'{cloud}/out/lr_gopro/blur_gamma/1.0.1'
  assert lr_gopro.summarise(folder) == lr_gopro.summarise(built).replace(str(built), str(folder))
  ours, theirs = (tfrecords.TFRecordDataset(path) for path in (f'{cloud}/out', built))
  for image, expected in zip(ours.images('train'), theirs.images('train'), strict=True):
    for key, value in expected.items():
      np.testing.assert_array_equal(image[key], value)
  assert next(ours.train_batches(4, 0))['hr'].shape == (4, 256, 256, 3)
  with pytest.raises(UserError, match=f'^{folder} exists and cannot be replaced.*remove it first'):
    lr_gopro.build(f'{cloud}/in', f'{cloud}/out', overwrite=True)


def test_a_failure_in_the_cloud_leaves_no_data_set(tree, cloud):
  for path in tree.rglob('*.png'):
    copy = f'{cloud}/in/{path.relative_to(tree)}'
    tf.io.gfile.makedirs(os.path.dirname(copy))
    with tf.io.gfile.GFile(copy, 'wb') as file:
      file.write(path.read_bytes()[: -1000 if 'test' in copy else None])
  with pytest.raises(UserError, match=f'^cannot read {cloud}/in/test/.*/sharp/000007.png'):
    lr_gopro.build(f'{cloud}/in', f'{cloud}/out')
  assert not tf.io.gfile.glob(f'{cloud}/out/lr_gopro/blur_gamma/*')
  with pytest.raises(UserError, match=f'^cannot read HDF5 files from {cloud}/in; copy them'):
    lr_gopro.build(f'{cloud}/in', f'{cloud}/out', source='hdf5')


def test_all_windows_at_full_size(tree, built, tmp_path):
  folder = lr_gopro.build(tree, tmp_path, windows='full_size')
  assert folder.parts[-2] == 'blur_gamma_full_size'
  metadata = dict(tfds.builder_from_directory(folder).info.metadata)
  assert (metadata['frame_scales'], metadata['min_gradient']) == ([1.0], 0.0)
  assert metadata['counts']['train']['windows_dropped'] == 0
  all_windows, kept = read(folder, 'train'), read(built, 'train')
  assert {name for name in kept if '_s1.0_' in name} < all_windows.keys()
  assert all('_s1.0_' in name for name in all_windows)
  with pytest.raises(UserError, match="windows must be one of gfn, full_size, not 'all'"):
    lr_gopro.build(tree, tmp_path, windows='all')
  with pytest.raises(UserError, match='windows=full_size: omit --source, --float_lr and --scale'):
    lr_gopro.build(tree, tmp_path, windows='full_size', scale=1)


def test_pairs_at_full_size(tree, built, tmp_path):
  folder = lr_gopro.build(tree, tmp_path, scale=1)
  assert folder.parts[-2] == 'x1_blur_gamma'
  assert tfds.builder_from_directory(folder).info.metadata['scale'] == 1
  large, small = read(folder, 'train'), read(built, 'train')
  assert list(large) == list(small)
  for name, example in large.items():
    np.testing.assert_array_equal(example['hr'], small[name]['hr'])
    np.testing.assert_array_equal(example['lr'], example['hr'])
  np.testing.assert_array_equal(
    large['GOPR0002/000001_s1.0_y0_x128']['lr_blur'], data.astronaut()[10:266, 128:384]
  )
  [test] = read(folder, 'test').values()
  assert test['lr_blur'].shape == test['lr'].shape == test['hr'].shape == (144, 160, 3)
  with pytest.raises(UserError, match='scale must be one of 4, 1, not 2'):
    lr_gopro.build(tree, tmp_path, scale=2)
  with pytest.raises(UserError, match='frames at full size are 8-bit PNG files: omit --source'):
    lr_gopro.build(tree, tmp_path, scale=1, float_lr=True)
