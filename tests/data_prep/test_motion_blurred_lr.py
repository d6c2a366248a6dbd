import io
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
from fractions import Fraction

import jax
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from gfn_jax.data import tfrecords
from gfn_jax.data_prep import frame_tree, frame_windows, motion_blurred_lr, tfds_build
from gfn_jax.data_prep.motion_blurred_lr_builder import MotionBlurredLrConfig
from gfn_jax.errors import UserError
from tests.slow_imresize import neighbours

ROOT = pathlib.Path(__file__).parents[2]
PATCH = 8  # LR
KEYS = ('lr_blur', 'lr', 'hr', 'frames')


def frame(place, number):
  """50x65 pixels of a photograph, two pixels further for each number."""
  left = 100 * place + 2 * number
  return np.ascontiguousarray(skimage.data.coffee()[40 : 40 + 50, left : left + 65])


def encoded(image, file_format='PNG'):
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, file_format)
  return buffer.getvalue()


def write_sequence(folder, place, numbers, name='{:06d}.png'):
  folder.mkdir(parents=True)
  for number in numbers:
    file_format = 'PNG' if name.endswith('.png') else 'JPEG'
    (folder / name.format(number)).write_bytes(encoded(frame(place, number), file_format))


def write_tree(root):
  """15 frames, 7 and 8: two windows, one and one."""
  write_sequence(root / 'train/GOPR0001', 0, range(98, 113))
  write_sequence(root / 'train/GOPR0002', 1, range(7))
  write_sequence(root / 'test/GOPR0003', 2, range(1, 9))
  return root


def everything_in(folder):
  return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*'))


def shrink(image, scale):
  """MATLAB's bicubic of an image in [0, 1], by matrices of rational numbers, rounded at the end."""
  for axis in (0, 1):
    size = image.shape[axis]
    matrix = np.zeros((size // scale, size))
    for row, (pairs, total) in enumerate(
      neighbours(size, size // scale, Fraction(1, scale), 'symmetric')
    ):
      for source, weight in pairs:
        matrix[row, source] += weight / total
    image = np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis)
  return np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def expected(place, numbers, scale, gamma=None):
  """The images of a window, whole, from its definition."""
  sharp = np.stack([frame(place, number)[:48, :60] for number in numbers])
  light = (sharp / 255) ** (gamma or 1)
  blurred = np.mean(light, 0) ** (1 / (gamma or 1))
  frames = np.stack([shrink(image / 255, scale) for image in sharp])
  return {'hr': sharp[3], 'lr_blur': shrink(blurred, scale), 'lr': frames[3], 'frames': frames}


def images(folder, split):
  found = tfrecords.TFRecordDataset(folder).images(split)
  return {image.pop('name'): image for image in found}


def assert_same(found, wanted, tolerance=0):
  """Sums in another order may round otherwise: by one, and rarely."""
  for key in KEYS:
    assert found[key].dtype == np.uint8
    assert found[key].shape == wanted[key].shape
    error = np.abs(found[key].astype(int) - wanted[key])
    assert error.max() <= 1
    assert np.mean(error > 0) <= tolerance


@pytest.fixture(scope='module')
def original(tmp_path_factory):
  return write_tree(tmp_path_factory.mktemp('GOPRO_Large_all'))


@pytest.fixture
def tree(original, tmp_path):
  return shutil.copytree(original, tmp_path / 'GOPRO_Large_all')


@pytest.fixture(scope='module')
def built(original, tmp_path_factory):
  return motion_blurred_lr.build(original, tmp_path_factory.mktemp('data'), patch_size=PATCH)


@pytest.fixture(scope='module')
def thirds(original, tmp_path_factory):
  """Whole frames at scale 3, in linear light, of windows that overlap."""
  options = {'scale': 3, 'gamma': 2.2, 'stride': 4, 'patch_size': 0}
  return motion_blurred_lr.build(original, tmp_path_factory.mktemp('data'), **options)


def test_patches_are_cut_of_the_shrunk_frames(built):
  found = images(built, 'train')
  windows = {
    'GOPR0001/000101': (0, range(98, 105)),
    'GOPR0001/000108': (0, range(105, 112)),
    'GOPR0002/000003': (1, range(7)),
  }
  corners = list(itertools.product((0, 4), (0, 7)))  # of 12 x 15
  assert sorted(found) == sorted(
    f'{name}_y{4 * y}_x{4 * x}' for name in windows for y, x in corners
  )
  for name, (place, numbers) in windows.items():
    whole = expected(place, numbers, 4)
    for y, x in corners:
      patch = found[f'{name}_y{4 * y}_x{4 * x}']
      wanted = {
        'hr': whole['hr'][4 * y : 4 * y + 32, 4 * x : 4 * x + 32],
        **{key: whole[key][..., y : y + 8, x : x + 8, :] for key in ('lr_blur', 'lr', 'frames')},
      }
      assert_same(patch, wanted)
      np.testing.assert_array_equal(patch['lr'], patch['frames'][3])


def test_test_frames_are_whole(built):
  ((name, image),) = images(built, 'test').items()
  assert name == 'GOPR0003/000004'
  assert image['hr'].shape == (48, 60, 3)
  assert_same(image, expected(2, range(1, 8), 4))


def test_scale_3_in_linear_light_every_fourth_frame(thirds):
  found = images(thirds, 'train')
  assert sorted(found) == [
    *(f'GOPR0001/{number:06d}' for number in (101, 105, 109)),
    'GOPR0002/000003',
  ]
  wanted = expected(0, range(102, 109), 3, gamma=2.2)
  assert wanted['frames'].shape == (7, 16, 20, 3)
  assert_same(found['GOPR0001/000105'], wanted, tolerance=1e-3)
  plain = expected(0, range(102, 109), 3)['lr_blur']
  assert np.mean(found['GOPR0001/000105']['lr_blur'] != plain) > 0.1


def test_the_blur_is_not_rounded_before_it_is_shrunk():
  frames = np.random.default_rng(0).integers(0, 256, (7, 48, 48, 3), np.uint8)
  mean = frames.mean(0) / 255
  np.testing.assert_allclose(frame_windows.average(list(frames)), mean, rtol=1e-12)
  np.testing.assert_array_equal(frame_windows.shrink(mean, 4), shrink(mean, 4))
  rounded = np.floor(mean * 255 + 0.5) / 255
  assert (shrink(rounded, 4) != shrink(mean, 4)).any()


def test_averages_in_linear_light():
  black, white = (np.full((2, 2, 3), value, np.uint8) for value in (0, 255))
  blurred = frame_windows.average([black, white, white, white], 2.0)
  np.testing.assert_allclose(blurred, 0.75**0.5, rtol=1e-12)
  np.testing.assert_allclose(frame_windows.average([black] * 3 + [white]), 0.25, rtol=1e-12)


@pytest.mark.parametrize('size', [5, 8, 64])
@pytest.mark.parametrize('length', [64, 65, 128, 180, 199])
def test_the_fewest_patches_cover_evenly(length, size):
  corners = frame_windows.patch_corners(length, length + 1, size)
  rows, columns = (sorted(set(line)) for line in zip(*corners, strict=True))
  assert corners == list(itertools.product(rows, columns))
  for starts, side in ((rows, length), (columns, length + 1)):
    assert len(starts) == -(-side // size)
    assert (starts[0], starts[-1]) == (0, side - size)
    steps = np.diff(starts)
    assert not len(steps) or steps.max() <= min(size, steps.min() + 1)


def test_metadata_and_summary(built, thirds):
  assert built.parts[-3:] == ('motion_blurred_lr', f'x4_patch{PATCH}', '1.0.0')
  assert tfds_build.summarise(built) == f'{built}: train 12, test 1 examples'
  dataset = tfrecords.TFRecordDataset(built)
  assert (dataset.scale, dataset.has_frames) == (4, True)
  assert dataset.metadata == {
    'source': 'frames',
    'gamma': None,
    'stride': 7,
    'lr_quantisation': 'uint8',
    'scale': 4,
    'patch_size': 32,
    'smallest_side': 48,
    'cropped_to_multiple_of': 12,
    'border': 'symmetric',
    'test_sequences': [],
    'shuffle_buffer': 2048,
    'counts': {
      'train': {'sequences': 2, 'windows': 3},
      'test': {'sequences': 1, 'windows': 1},
    },
  }
  assert thirds.parts[-2] == 'x3_gamma2.2_stride4_patch0'
  other = tfrecords.TFRecordDataset(thirds)
  assert (other.scale, other.has_frames) == (3, True)
  changes = {'gamma': 2.2, 'stride': 4, 'scale': 3, 'patch_size': None}
  counts = {'train': {'sequences': 2, 'windows': 4}, 'test': {'sequences': 1, 'windows': 1}}
  assert other.metadata == dataset.metadata | changes | {'counts': counts}


def test_no_two_configs_share_a_folder():
  options = {
    'scale': (2, 4),
    'gamma': (None, 2.2, 2.2000001),
    'stride': (1, 7),
    'patch_size': (0, 128),
    'test_sequences': ((), ('a',), ('a', 'b')),
  }
  configs = [
    MotionBlurredLrConfig(**dict(zip(options, values, strict=True)))
    for values in itertools.product(*options.values())
  ]
  assert len({config.name for config in configs}) == len(configs) == 72
  assert MotionBlurredLrConfig().name == 'x4'
  one, same = (MotionBlurredLrConfig(test_sequences=names) for names in (('b', 'a', 'b'), 'ab'))
  assert one == same


def test_training_turns_all_images_alike(built):
  dataset = tfrecords.TFRecordDataset(built)
  stored = {patch['lr'].tobytes(): patch for patch in images(built, 'train').values()}
  turns = [
    lambda image, mirrored=mirrored, turn=turn: np.rot90(
      image[..., ::-1, :] if mirrored else image, turn, (-3, -2)
    )
    for mirrored in (False, True)
    for turn in range(4)
  ]
  seen = set()
  for batch in itertools.islice(dataset.train_batches(4, 0), 12):
    assert batch.keys() == {*KEYS, 'symmetry'}
    assert batch['frames'].shape == (4, 7, PATCH, PATCH, 3)
    prepared = jax.device_get(jax.jit(dataset.prepare)(batch))
    assert prepared.keys() == set(KEYS)
    for i in range(4):
      patch = stored[batch['lr'][i].tobytes()]
      (turn,) = (turn for turn in range(8) if (turns[turn](patch['lr']) == prepared['lr'][i]).all())
      for key in KEYS:
        np.testing.assert_array_equal(batch[key][i], patch[key])
        np.testing.assert_array_equal(prepared[key][i], turns[turn](patch[key]))
      seen.add(turn)
  assert seen == set(range(8))


def test_crops_of_whole_frames_show_one_place(thirds):
  dataset = tfrecords.TFRecordDataset(thirds)
  stored = list(images(thirds, 'train').values())
  places = set()
  for batch in itertools.islice(dataset.train_batches(2, 0, crop_size=6), 12):
    assert batch['hr'].shape == (2, 18, 18, 3)
    for i in range(2):
      (place,) = (
        (n, y, x)
        for n, y, x in itertools.product(range(len(stored)), range(11), range(15))
        if (stored[n]['frames'][:, y : y + 6, x : x + 6] == batch['frames'][i]).all()
      )
      places.add(place)
      n, y, x = place
      for key, scale in (('lr_blur', 1), ('lr', 1), ('hr', 3)):
        rows, columns = (slice(scale * start, scale * (start + 6)) for start in (y, x))
        np.testing.assert_array_equal(batch[key][i], stored[n][key][rows, columns])
  assert len(places) > 15
  with pytest.raises(UserError, match='set --config.training.crop_size to at most 16 LR'):
    next(dataset.train_batches(2, 0))


def contents(folder, split):
  """What the records of a split hold, by key, in stored order."""
  files = sorted(map(str, pathlib.Path(folder).glob(f'*-{split}.tfrecord-*')))
  records = [
    tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(files)
  ]
  return [
    {key: list(value.bytes_list.value) for key, value in record.features.feature.items()}
    for record in records
  ]


@pytest.mark.filterwarnings('ignore:label\\(\\) is deprecated:DeprecationWarning')
def test_beam_gives_the_same_records(original, built, tmp_path):
  pytest.importorskip('apache_beam')
  other = motion_blurred_lr.build(
    original,
    tmp_path,
    patch_size=PATCH,
    beam_runner='DirectRunner',
    beam_options=['--direct_num_workers=2', '--direct_running_mode=multi_threading'],
  )
  for split in ('train', 'test'):
    assert contents(other, split) == contents(built, split)
  infos = [tfds.builder_from_directory(path).info for path in (other, built)]
  assert dict(infos[0].metadata) == dict(infos[1].metadata)


def test_damage_is_named(original, built, tmp_path):
  """A frame that only decoding finds damaged leaves nothing; a damaged record is named."""
  tree = shutil.copytree(original, tmp_path / 'in')
  path = tree / 'train/GOPR0001/000107.png'
  path.write_bytes(path.read_bytes()[:-30])
  with pytest.raises(UserError, match=f'^cannot read {path}: .*; unpack the frames again$'):
    motion_blurred_lr.build(tree, tmp_path / 'out', patch_size=PATCH)
  assert everything_in(tmp_path / 'out') == []
  copy = shutil.copytree(built, tmp_path / 'copy')
  dataset = tfrecords.TFRecordDataset(copy)
  (path,) = copy.glob('*train.tfrecord*')
  records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
  example = tf.train.Example.FromString(records[5])
  frames = example.features.feature['frames'].bytes_list.value
  frames[2] = frames[2][: len(frames[2]) // 2]
  records[5] = example.SerializeToString()
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in records:
      writer.write(record)
  for read in (lambda: list(dataset.images('train')), lambda: next(dataset.train_batches(12, 0))):
    with pytest.raises(UserError, match=f'^{path}: record 5 is damaged .*; copy the dataset again'):
      read()


# What is found in folders.


def move(source, target):
  return lambda root: (root / source).rename(root / target)


def rewrite(name, content):
  return lambda root: (root / name).write_bytes(content)


def flatten(root):
  for path in (*root.glob('train/*'), *root.glob('test/*')):
    path.rename(root / path.name)
  for split in ('train', 'test'):
    (root / split).rmdir()


def test_sequences_are_found_in_order(tree):
  (tree / 'train/.hidden').mkdir()
  (tree / 'train/GOPR0001/Thumbs.db').write_bytes(b'')
  (tree / 'train/GOPR0001/.000001.png').write_bytes(b'')
  splits = frame_tree.find_splits(epath.Path(tree))
  assert {split: [s.name for s in found] for split, found in splits.items()} == {
    'train': ['GOPR0001', 'GOPR0002'],
    'test': ['GOPR0003'],
  }
  sequence = splits['train'][0]
  assert sequence.size == (50, 65)
  assert [int(path.stem) for path in sequence.frames] == list(range(98, 113))


def test_frames_are_sorted_by_number_not_by_name(tmp_path):
  write_sequence(tmp_path / 'clip', 0, range(5, 15), 'frame{}.JPG')
  (sequence,) = frame_tree.find_splits(epath.Path(tmp_path))['train']
  assert [path.name for path in sequence.frames] == [f'frame{n}.JPG' for n in range(5, 15)]
  assert sequence.size == (50, 65)
  for stride, names in ((1, ['8', '9', '10', '11']), (2, ['8', '10']), (3, ['8', '11']), (9, '8')):
    windows = frame_tree.windows(sequence, stride)
    assert [window.name for window in windows] == [f'clip/frame{name}' for name in names]
  assert windows[0].frames == sequence.frames[:7]


def test_a_missing_split_is_left_out_with_a_warning(tree, caplog):
  shutil.rmtree(tree / 'test')
  with caplog.at_level('WARNING', logger='absl'):
    splits = frame_tree.find_splits(epath.Path(tree))
  assert list(splits) == ['train']
  assert caplog.messages == [f'{tree}/test does not exist: the test split is left out']


@pytest.mark.parametrize(
  ('names', 'splits'),
  [
    ((), {'train': ['GOPR0001', 'GOPR0002', 'GOPR0003']}),
    (('GOPR0002',), {'train': ['GOPR0001', 'GOPR0003'], 'test': ['GOPR0002']}),
    (('GOPR0003', 'GOPR0001', 'GOPR0002'), {'test': ['GOPR0001', 'GOPR0002', 'GOPR0003']}),
  ],
)
def test_sequences_can_be_named_for_testing(tree, names, splits):
  flatten(tree)
  (tree / 'notes').mkdir()
  (tree / 'notes/readme.txt').write_text('no frame')
  found = frame_tree.find_splits(epath.Path(tree), names)
  assert {split: [s.name for s in sequences] for split, sequences in found.items()} == splits


def test_names_for_testing_that_do_not_fit(tree):
  with pytest.raises(UserError, match=f'^{tree}/train exists, so test_sequences must be empty'):
    frame_tree.find_splits(epath.Path(tree), ['GOPR0001'])
  flatten(tree)
  with pytest.raises(UserError, match="has no sequence 'GOPR4'; choose from GOPR0001, GOPR0002"):
    frame_tree.find_splits(epath.Path(tree), ['GOPR0001', 'GOPR4'])


CLIP = 'train/GOPR0001'
GREY = frame(0, 0)[..., 0]
CLAIM = encoded(frame(0, 0), 'JPEG').replace(b'\x00\x32\x00\x41', b'\xff\xff\xff\xff')  # its size


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda t: (t / CLIP / '000101.png').unlink(), 'frames are missing between {c}/000100.png'),
    (move(f'{CLIP}/000112.png', f'{CLIP}/99.png'), '{c}/000099.png and {c}/99.png have the same '),
    (move(f'{CLIP}/000112.png', f'{CLIP}/b112.png'), '{c}/000111.png and {c}/b112.png differ in'),
    (move(f'{CLIP}/000112.png', f'{CLIP}/000112.jpg'), '{c}/000111.png and {c}/000112.jpg differ'),
    (move(f'{CLIP}/000112.png', f'{CLIP}/last.png'), '{c}/last.png: the name of a frame ends in'),
    (
      rewrite(f'{CLIP}/000103.png', encoded(frame(0, 0)[:48])),
      '{c}/000103.png is 48x65 but {c}/000098.png is 50x65 (height x width)',
    ),
    (rewrite(f'{CLIP}/000098.png', encoded(GREY)), '{c}/000098.png has 8-bit grey pixels; frames'),
    (rewrite(f'{CLIP}/000098.png', b'text'), '{c}/000098.png is truncated or not a PNG file'),
    (lambda t: (t / 'test/GOPR0003/000001.png').unlink() or
     (t / 'test/GOPR0003/000002.png').unlink(), '{t}/test/GOPR0003 holds 6 frames, fewer'),
    (lambda t: (t / 'test/GOPR0004').mkdir(), '{t}/test/GOPR0004 holds no frame (PNG or JPEG)'),
    (lambda t: shutil.rmtree(t / 'test/GOPR0003'), '{t}/test holds no folder; put the frames of e'),
    (move(CLIP, 'train/a\n\udcff'), '{t}/train/a\\n\\udcff/000098.png has unprintable'),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tree, tmp_path, damage, message):
  damage(tree)
  with pytest.raises(UserError) as caught:
    motion_blurred_lr.build(tree, tmp_path / 'out', patch_size=PATCH)
  assert str(caught.value).startswith(message.format(t=tree, c=tree / CLIP))
  assert everything_in(tmp_path / 'out') == []


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (encoded(GREY, 'JPEG'), '{} is a JPEG of mode L; frames must be 8-bit RGB'),
    (encoded(frame(0, 0)), 'cannot read {}: .*; unpack the frames again'),
    (encoded(frame(0, 0), 'JPEG')[:20], 'cannot read {}: .*; unpack the frames again'),
    (CLAIM, '{} has an invalid size of 65535x65535; unpack the frames again'),
  ],
)
def test_jpeg_files_that_do_not_fit_are_named(tmp_path, content, message):
  write_sequence(tmp_path / 'clip', 0, range(7), '{:05d}.jpg')
  path = tmp_path / 'clip/00004.jpg'
  path.write_bytes(content)
  with pytest.raises(UserError, match=f'^{message.format(path)}$'):
    frame_tree.find_splits(epath.Path(tmp_path))


def test_folders_of_something_else(tmp_path):
  with pytest.raises(UserError, match='has neither train nor test, nor any folder of frames'):
    frame_tree.find_splits(epath.Path(tmp_path))
  write_sequence(tmp_path / 'clip', 0, range(7))
  with pytest.raises(UserError, match='clip holds frames itself; pass its parent'):
    frame_tree.find_splits(epath.Path(tmp_path / 'clip'))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'scale': 5}, r'^scale must be one of \(2, 3, 4\), not 5$'),
    ({'stride': 0}, '^stride must be 1 or more, not 0$'),
    ({'gamma': 0.0}, r'^gamma must be positive, not 0\.0$'),
    ({'gamma': float('nan')}, '^gamma must be positive, not nan$'),
    ({'patch_size': -1}, r'^patch_size must be 0 \(whole frames\) or more, not -1$'),
    ({}, '000098.png is 50x65 .height x width., cropped to .* 12 smaller than 512x512; pass a sm'),
    ({'patch_size': 13}, 'smaller than 52x52; pass a smaller patch_size$'),
  ],
)
def test_wrong_options(original, tmp_path, options, message):
  with pytest.raises(UserError, match=message):
    motion_blurred_lr.build(original, tmp_path, **options)
  assert everything_in(tmp_path) == []


def test_tiny_test_frames_are_refused(tree, tmp_path):
  for path in tree.glob('test/*/*'):
    path.write_bytes(encoded(frame(0, 0)[:11]))
  with pytest.raises(UserError, match='GOPR0003/000001.png is 11x65 .* 12x12; remove the sequence'):
    motion_blurred_lr.build(tree, tmp_path / 'out', patch_size=PATCH)


@pytest.mark.full
@pytest.mark.end_to_end
def test_the_command_with_two_workers(original, tmp_path):
  flags = ['--patch_size=8', '--scale=2', '--stride=8', '--test_sequences=GOPR0002', '--workers=2']
  result = subprocess.run(
    [sys.executable, '-m', 'data_prep.motion_blurred_lr', *flags]
    + [f'--manual_dir={original / "train"}', f'--data_dir={tmp_path}'],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=True,
  )
  (folder,) = (tmp_path / 'motion_blurred_lr').glob('*/1.0.0')
  assert folder.parent.name.startswith('x2_stride8_patch8_test-')
  # 15 frames: windows at 0 and 8; 24x30 pixels: 3 x 4 patches
  assert result.stdout == f'{folder}: train 24, test 1 examples\n'
  assert 'config' not in result.stderr
  metadata = tfrecords.TFRecordDataset(folder).metadata
  assert metadata['test_sequences'] == ['GOPR0002']
  ((name, image),) = images(folder, 'test').items()
  assert name == 'GOPR0002/000003'
  assert_same(image, expected(1, range(7), 2))
