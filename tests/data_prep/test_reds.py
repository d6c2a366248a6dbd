import io
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from gfn_jax.data import tfrecords
from gfn_jax.data_prep import dvd100, frame_files, reds, reds_tree
from gfn_jax.errors import UserError
from gfn_jax.ops.imresize import imresize

ROOT = pathlib.Path(__file__).parents[2]
SHARP, BLUR, SMALL = 'sharp', 'blur_bicubic/X4', 'sharp_bicubic/X4'
CLIPS = {'train': {'000': 7, '001': 4}, 'val': {'000': 20, '001': 13}}


def photo(index):
  """48x64 pixels of a photograph, others for each index."""
  y, x = divmod(index, 8)
  return np.ascontiguousarray(skimage.data.astronaut()[40 * y :, 50 * x :][:48, :64])


def encoded(image, file_format='PNG'):
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, file_format)
  return buffer.getvalue()


def write_frame(root, part, clip, number, image):
  """The small frames are not those of imresize, to tell which is which."""
  small = image[::4, ::4]
  for kind, content in ((SHARP, image), (BLUR, 255 - small), (SMALL, small)):
    path = root / f'{part}_{kind}' / clip / f'{number:08d}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(content))


def everything_in(folder):
  return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*'))


def contents(folder, split):
  """What the records of a split hold, by key, in stored order."""
  files = sorted(map(str, pathlib.Path(folder).glob(f'*-{split}.tfrecord-*')))
  records = [
    tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(files)
  ]
  return [
    {key: value.bytes_list.value[0] for key, value in record.features.feature.items()}
    for record in records
  ]


@pytest.fixture(scope='module')
def original(tmp_path_factory):
  root = tmp_path_factory.mktemp('REDS')
  numbers = itertools.count()
  for part, clips in CLIPS.items():
    for clip, count in clips.items():
      for number in range(count):
        write_frame(root, part, clip, number, photo(next(numbers)))
  return root


@pytest.fixture
def tree(original, tmp_path):
  return shutil.copytree(original, tmp_path / 'REDS')


@pytest.fixture(scope='module')
def built(original, tmp_path_factory):
  return reds.build(original, tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def dataset(built):
  return tfrecords.TFRecordDataset(built)


def test_records_hold_the_files(original, built):
  for split, part in (('train', 'train'), ('test', 'val')):
    records = contents(built, split)
    names = sorted(record['name'].decode() for record in records)
    if split == 'train':
      numbers = [
        (clip, number) for clip, count in CLIPS['train'].items() for number in range(count)
      ]
    else:
      numbers = [('000', 9), ('000', 19), ('001', 9)]
    assert names == [f'{clip}_{number:08d}' for clip, number in numbers]
    for record in records:
      clip, frame = record['name'].decode().split('_')
      for key, kind in (('hr', SHARP), ('lr_blur', BLUR), ('lr', SMALL)):
        path = original / f'{part}_{kind}' / clip / f'{frame}.png'
        assert record[key] == path.read_bytes()


def test_metadata_and_summary(built, dataset):
  assert built.parts[-2:] == ('reds', '1.0.0')
  assert dataset.metadata == {
    'source': 'REDS',
    'blur_folder': 'blur_bicubic',
    'lr_quantisation': 'uint8',
    'lr_source': {'train': 'files', 'test': 'files'},
    'scale': 4,
    'patch_size': None,
    'smallest_side': 48,
    'border': 'symmetric',
    'shuffle_buffer': 2048,
    'counts': {'train': {'clips': 2, 'frames': 11}, 'test': {'clips': 2, 'frames': 3}},
  }
  assert reds.tfds_build.summarise(built) == f'{built}: train 11, test 3 examples'
  assert 'Nah2019REDS' in json.loads((built / 'dataset_info.json').read_text())['citation']


def test_test_frames_are_read(original, dataset):
  images = {image['name']: image for image in dataset.images()}
  image = images['001_00000009']
  expected = np.array(Image.open(original / f'val_{SHARP}/001/00000009.png'))
  np.testing.assert_array_equal(image['hr'], expected, strict=True)
  np.testing.assert_array_equal(image['lr'], expected[::4, ::4], strict=True)


def test_the_folders_of_the_archives(tree):
  """The archives make `train` and `val`; they may be unpacked one way or the other."""
  for name in ('train_sharp', 'train_blur_bicubic', 'val_sharp_bicubic'):
    outer = tree / name.partition('_')[0]
    outer.mkdir(exist_ok=True)
    (tree / name).rename(outer / name)
  splits = reds_tree.find_splits(epath.Path(tree))
  assert [frame.name for frame in splits['test']] == [
    '000_00000009',
    '000_00000019',
    '001_00000009',
  ]
  assert splits['train'][3] == reds_tree.Frame(
    '000_00000003',
    hr=tree / 'train/train_sharp/000/00000003.png',
    lr_blur=tree / 'train/train_blur_bicubic/X4/000/00000003.png',
    lr=tree / 'train_sharp_bicubic/X4/000/00000003.png',
    size=(48, 64),
  )


def test_without_sharp_bicubic_it_is_made(tree, tmp_path):
  shutil.rmtree(tree / 'train_sharp_bicubic')
  folder = reds.build(tree, tmp_path)
  dataset = tfrecords.TFRecordDataset(folder)
  assert dataset.metadata['lr_source'] == {'train': 'imresize', 'test': 'files'}
  for image in dataset.images('train'):
    np.testing.assert_array_equal(image['lr'], imresize(image['hr'], 0.25), strict=True)
    np.testing.assert_array_equal(image['lr_blur'], 255 - image['hr'][::4, ::4])


def test_a_missing_split_is_left_out_with_a_warning(tree, caplog):
  for kind in ('sharp', 'blur_bicubic', 'sharp_bicubic'):
    shutil.rmtree(tree / f'val_{kind}')
  with caplog.at_level('WARNING', logger='absl'):
    splits = reds_tree.find_splits(epath.Path(tree))
  assert {split: len(frames) for split, frames in splits.items()} == {'train': 11}
  assert caplog.messages == [f'{tree} has no val_sharp: the test split is left out']


def remove(*names):
  return lambda tree: [(tree / name).unlink() for name in names]


def truncate(path):
  path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda t: shutil.rmtree(t / 'train_blur_bicubic'), 'no train_blur_bicubic in {t} or {t}/'),
    (lambda t: shutil.rmtree(t / f'train_{BLUR}'), '{t}/train_blur_bicubic/X4 does not exist'),
    (lambda t: shutil.copytree(t / 'val_sharp', t / 'val/val_sharp'), '{t}/val_sharp and {t}/val/'),
    (lambda t: shutil.rmtree(t / f'train_{SMALL}/001'), '{t}/train_sharp_bicubic/X4/001 does not'),
    (lambda t: shutil.rmtree(t / 'val_sharp/000'), '{t}/val_sharp/000 does not exist; unpack it'),
    (
      remove('train_sharp/000/00000002.png'),
      '{t}/train_sharp/000/00000002.png is missing; unpack it, or remove clip 000 everywhere',
    ),
    (
      remove(f'val_{BLUR}/000/00000019.png'),
      '{t}/val_blur_bicubic/X4/000/00000019.png is missing',
    ),
    (
      remove(*(f'val_{kind}/001/00000004.png' for kind in (SHARP, BLUR, SMALL))),
      '{t}/val_sharp/001/00000004.png is missing',
    ),
    (
      lambda t: write_frame(t, 'train', '000', 99_999_999, photo(0)),
      '{t}/train_sharp/000/00000007.png is missing',
    ),
    (
      lambda t: (t / 'train_sharp/000/a.png').write_bytes(b''),
      '{t}/train_sharp/000/a.png is not a frame',
    ),
    (
      lambda t: (t / f'train_{BLUR}/001/00000001.png').write_bytes(encoded(photo(0)[:8, :16])),
      '{t}/train_blur_bicubic/X4/001/00000001.png is 8x16, not a quarter of {t}/train_sharp/',
    ),
    (
      lambda t: (t / 'train_sharp/001/00000001.png').write_bytes(encoded(photo(0)[..., 0])),
      '{t}/train_sharp/001/00000001.png has 8-bit grey pixels; frames must be 8-bit RGB',
    ),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tree, damage, message):
  damage(tree)
  with pytest.raises(UserError) as caught:
    reds_tree.find_splits(epath.Path(tree))
  assert str(caught.value).startswith(message.format(t=tree))


@pytest.mark.parametrize('inner', ['', 'train', 'REDS'])
def test_each_archive_in_a_folder_of_its_own(tree, tmp_path, inner):
  expected = reds_tree.find_splits(epath.Path(tree))
  for part in ('train', 'val'):
    for kind in ('sharp', 'blur_bicubic', 'sharp_bicubic'):
      name = f'{part}_{kind}'
      target = tmp_path / 'apart' / (inner and name) / (part if inner == 'train' else '') / name
      target.parent.mkdir(parents=True, exist_ok=True)
      shutil.move(tree / name, target)
  (tmp_path / 'apart' / '__MACOSX' / 'train' / 'train_sharp').mkdir(parents=True)
  for path in (tmp_path / 'apart').rglob('00000001.png'):
    path.rename(path.with_suffix('.PNG'))
  found = reds_tree.find_splits(epath.Path(tmp_path / 'apart'))
  for split, frames in expected.items():
    assert [frame.name for frame in found[split]] == [frame.name for frame in frames]
    assert reds_tree.read_frame(found[split][0]).examples[0]['name'] == frames[0].name


def test_folders_of_something_else(tmp_path):
  with pytest.raises(UserError, match='has neither train_sharp nor val_sharp'):
    reds_tree.find_splits(epath.Path(tmp_path))
  (tmp_path / 'train_sharp').mkdir()
  (tmp_path / f'train_{BLUR}').mkdir(parents=True)
  with pytest.raises(UserError, match='train_sharp holds no clip'):
    reds_tree.find_splits(epath.Path(tmp_path))
  for kind in (SHARP, BLUR):
    (tmp_path / f'train_{kind}/000').mkdir()
  with pytest.raises(UserError, match='train_sharp/000 holds no frame'):
    reds_tree.find_splits(epath.Path(tmp_path))
  for number in range(9):
    write_frame(tmp_path / 'other', 'val', '000', number, photo(number))
  with pytest.raises(UserError, match='no clip in .*val_sharp has 10 frames'):
    reds_tree.find_splits(epath.Path(tmp_path / 'other'))


def flip_check_sum(path):
  """Of the pixels, which Pillow does not look at when it decodes."""
  content = bytearray(path.read_bytes())
  content[content.rindex(b'IEND') - 5] ^= 1
  path.write_bytes(content)
  frame_files.read_rgb(path, 'REDS')


@pytest.mark.parametrize('damage', [truncate, flip_check_sum])
@pytest.mark.parametrize('place', [f'val_{SHARP}/001', f'train_{BLUR}/000', f'train_{SMALL}/000'])
def test_damaged_files_are_named_and_nothing_is_left(tree, tmp_path, damage, place):
  path = tree / place / ('00000009.png' if 'val' in place else '00000005.png')
  damage(path)
  with pytest.raises(UserError, match=f'^cannot read {path}: .*; unpack REDS again$'):
    reds.build(tree, tmp_path / 'out')
  assert everything_in(tmp_path / 'out') == []


@pytest.mark.filterwarnings('ignore:label\\(\\) is deprecated:DeprecationWarning')
def test_beam_gives_the_same_records(original, built, tmp_path):
  pytest.importorskip('apache_beam')
  options = ['--direct_num_workers=2', '--direct_running_mode=multi_threading']
  other = reds.build(original, tmp_path, beam_runner='DirectRunner', beam_options=options)
  for split in ('train', 'test'):
    assert contents(other, split) == contents(built, split)
  infos = [tfds.builder_from_directory(path).info for path in (other, built)]
  assert dict(infos[0].metadata) == dict(infos[1].metadata)


def test_overwrite(original, tree, tmp_path, capsys):
  folder = reds.build(original, tmp_path / 'out')
  write_frame(tree, 'train', '001', 4, photo(40))
  assert reds.build(tree, tmp_path / 'out') == folder
  assert f'{folder} exists already' in capsys.readouterr().err
  assert len(contents(folder, 'train')) == 11
  assert reds.build(tree, tmp_path / 'out', overwrite=True) == folder
  assert len(contents(folder, 'train')) == 12


def take(dataset, steps, **options):
  """The first batches of two, as lists of (crop, symmetry)."""
  options = {'seed': 0, 'crop_size': 5} | options
  if 'shuffle_buffer' in options:
    dataset = tfrecords.TFRecordDataset(dataset.path, options.pop('shuffle_buffer'))
  batches = itertools.islice(dataset.train_batches(2, **options), steps)
  return [
    [
      (image.tobytes(), int(symmetry))
      for image, symmetry in zip(batch['hr'], batch['symmetry'], strict=True)
    ]
    for batch in batches
  ]


def corner(crop, frame):
  """Where an LR crop lies in a frame; None if it does not."""
  height, width = crop.shape[:2]
  windows = np.lib.stride_tricks.sliding_window_view(frame, crop.shape)[:, :, 0]
  found = np.argwhere((windows == crop).all((2, 3, 4)))
  return tuple(found[0]) if len(found) else None


def test_crops_show_one_place_of_one_frame(dataset):
  frames = {image['name']: image['lr'] for image in dataset.images('train')}
  passes = 12
  seen = {name: [] for name in frames}
  for batch in itertools.islice(dataset.train_batches(2, 0, crop_size=5), 5 * passes):
    assert batch['lr'].shape == batch['lr_blur'].shape == (2, 5, 5, 3)
    assert batch['hr'].shape == (2, 20, 20, 3)
    np.testing.assert_array_equal(batch['lr'], batch['hr'][:, ::4, ::4])
    np.testing.assert_array_equal(batch['lr_blur'], 255 - batch['lr'])
    for crop in batch['lr']:
      places = {name: corner(crop, frame) for name, frame in frames.items()}
      (name,) = (name for name, place in places.items() if place)
      seen[name].append(places[name])
  assert sum(map(len, seen.values())) == 10 * passes
  assert min(map(len, seen.values())) >= passes - 6  # each pass leaves one of eleven out
  corners = list(itertools.chain.from_iterable(seen.values()))
  assert len(set(corners)) > 40  # of 8 x 12
  assert np.max(corners, 0).tolist() == [7, 11]


def test_a_start_step_and_processes_continue_the_stream(dataset):
  whole = take(dataset, 12)
  assert whole[:5] != whole[5:10]
  for start in (1, 5, 8):
    assert take(dataset, 3, start_step=start) == whole[start : start + 3]
  shares = [
    take(dataset, 7, start_step=2, process_index=index, process_count=2) for index in (0, 1)
  ]
  for step in range(7):
    assert sorted(shares[0][step] + shares[1][step]) == sorted(whole[2 + step])


def test_fewer_frames_are_held_for_shuffling_if_they_are_large(dataset, monkeypatch):
  shuffled = take(dataset, 5)
  assert take(dataset, 5, shuffle_buffer=1) != shuffled
  monkeypatch.setattr(tfrecords, '_SHUFFLE_BYTES', 1)
  assert take(dataset, 5) == take(dataset, 5, shuffle_buffer=1)


def test_whole_frames_have_to_be_cropped(built, dataset):
  with pytest.raises(UserError, match=f'^{built} holds whole frames: set .* to at most 12 LR'):
    next(dataset.train_batches(2, 0))
  with pytest.raises(UserError, match=f'crop_size 13 is larger than the frames of {built}; .* 12$'):
    next(dataset.train_batches(2, 0, crop_size=13))
  with pytest.raises(UserError, match='has 11 train frames, less than a batch of 12'):
    next(dataset.train_batches(12, 0, crop_size=5))
  assert next(dataset.train_batches(2, 0, crop_size=12))['hr'].shape == (2, 48, 48, 3)


# DVD100


@pytest.fixture(scope='module')
def dvd(tmp_path_factory):
  """Frames of 50x66, and a clip that is for training."""
  root = tmp_path_factory.mktemp('DeepVideoDeblurring_Dataset') / 'quantitative_datasets'
  for clip in (*dvd100.CLIPS, 'IMG_0200'):
    for number in dvd100.FRAMES:
      sharp = skimage.data.coffee()[number : number + 50, 100:166]
      for kind, image in (('GT', sharp), ('input', sharp[:, ::-1])):
        path = root / clip / kind / f'{number:05d}.{"png" if kind == "GT" else "jpg"}'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(image, 'PNG' if kind == 'GT' else 'JPEG'))
  return root


@pytest.mark.full
@pytest.mark.end_to_end
def test_the_command_builds_dvd100_with_two_workers(dvd, tmp_path):
  command = [sys.executable, '-m', 'data_prep.reds', '--dataset=dvd100', '--workers=2']
  result = subprocess.run(
    [*command, f'--manual_dir={dvd}', f'--data_dir={tmp_path}'],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=True,
  )
  folder = tmp_path / 'dvd100/1.0.0'
  assert result.stdout == f'{folder}: test 100 examples\n'
  dataset = tfrecords.TFRecordDataset(folder)
  assert dataset.metadata == {
    'source': 'DVD',
    'blur_folder': 'input',
    'lr_quantisation': 'uint8',
    'lr_source': {'test': 'imresize'},
    'shuffle_buffer': 2048,
    'scale': 4,
    'patch_size': None,
    'smallest_side': None,
    'cropped_to_multiple_of': 4,
    'border': 'symmetric',
    'counts': {'test': {'clips': 10, 'frames': 100}},
  }
  images = {image['name']: image for image in dataset.images()}
  assert len(images) == 100
  image = images['720p_240fps_2_00009']
  np.testing.assert_array_equal(image['hr'], skimage.data.coffee()[9:57, 100:164], strict=True)
  blur = np.array(Image.open(dvd / '720p_240fps_2/input/00009.jpg'))[:48, :64]
  np.testing.assert_array_equal(image['lr_blur'], imresize(blur, 0.25), strict=True)
  np.testing.assert_array_equal(image['lr'], imresize(image['hr'], 0.25), strict=True)


def test_dvd100_is_a_hundred_frames_of_ten_clips(dvd):
  for root in (dvd, dvd.parent):
    pairs = dvd100.find_frames(epath.Path(root))
    names = [pair.name for pair in pairs]
    assert len(set(names)) == 100
    assert names[:2] == ['720p_240fps_2_00009', '720p_240fps_2_00019']
    assert names[-1] == 'IMG_0049_00099'
    assert pairs[-1].sharp == dvd / 'IMG_0049/GT/00099.png'
    assert pairs[-1].blur == dvd / 'IMG_0049/input/00099.jpg'


@pytest.fixture
def pair(dvd, tmp_path):
  copies = [
    shutil.copy(dvd / f'IMG_0003/{name}', tmp_path) for name in ('GT/00009.png', 'input/00009.jpg')
  ]
  return dvd100.FramePair('IMG_0003_00009', *map(epath.Path, copies))


def test_what_does_not_fit_in_dvd_is_named(dvd, pair, tmp_path):
  with pytest.raises(UserError, match='has none of the test clips of DVD, such as 720p_240fps_2'):
    dvd100.find_frames(epath.Path(tmp_path))
  shutil.copytree(dvd / 'IMG_0003', tmp_path / 'IMG_0003')
  first = tmp_path / '720p_240fps_2/GT/00009.jpg'
  with pytest.raises(UserError, match=f'^neither {first} nor 00009.png exists; unpack Deep'):
    dvd100.find_frames(epath.Path(tmp_path))
  pair.sharp.write_bytes(encoded(photo(0)))
  with pytest.raises(UserError, match=f'^{pair.blur} is 50x66 but {pair.sharp} is 48x64 .height'):
    dvd100.degrade_pair(pair)
  truncate(pair.blur)
  with pytest.raises(UserError, match=f'^cannot read {pair.blur}: .*; unpack DeepVideo'):
    dvd100.degrade_pair(pair)
  pair.sharp.write_bytes(encoded(photo(0).astype(np.uint16)[..., 0] * 257))
  with pytest.raises(
    UserError, match=f'^{pair.sharp} has 16-bit grey pixels; frames must be 8-bit'
  ):
    dvd100.degrade_pair(pair)


def test_frames_of_another_kind_are_refused(tmp_path):
  path = epath.Path(tmp_path / 'a.jpg')
  path.write_bytes(encoded(photo(0)[..., 0], 'JPEG'))
  with pytest.raises(UserError, match=f'^{path} has 48x64 pixels of mode L; frames must be RGB'):
    frame_files.read_rgb(path, 'REDS')
  path.write_bytes(encoded(photo(0)[:3, :3]))
  pair = dvd100.FramePair('a', path, path)
  with pytest.raises(UserError, match='a.jpg is smaller than 4x4'):
    dvd100.degrade_pair(pair)


def test_another_dataset_is_refused(original, tmp_path):
  with pytest.raises(UserError, match="^dataset must be one of reds, dvd100, not 'gopro'$"):
    reds.build(original, tmp_path, dataset='gopro')
