import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from skimage import data

from gfn_jax.data_prep import gopro_tree
from gfn_jax.errors import UserError


def save(path, image):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image).save(path)


@pytest.fixture
def split(tmp_path):
  photo = np.ascontiguousarray(data.astronaut()[:40, :60])
  for sequence in ('GOPR0002', 'GOPR0001'):
    for frame in ('000010', '000002'):
      for folder in ('sharp', 'blur_gamma'):
        save(tmp_path / 'train' / sequence / folder / f'{frame}.png', photo)
  return tmp_path / 'train'


def png(width, height, bits, colour, body=b''):
  def chunk(kind, content):
    sum_ = zlib.crc32(kind + content)
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', sum_)

  header = struct.pack('>IIBBBBB', width, height, bits, colour, 0, 0, 0)
  end = chunk(b'IDAT', zlib.compress(body)) + chunk(b'IEND', b'')
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + end


def test_pairs_are_sorted_and_matched_by_name(split):
  (split / 'GOPR0001/sharp/._000002.png').write_bytes(b'left by macOS')
  (split / '.DS_Store').write_bytes(b'')
  (split / '__MACOSX' / 'GOPR0001').mkdir(parents=True)
  pairs = gopro_tree.find_pairs(split, 'blur_gamma')
  assert [pair.name for pair in pairs] == [
    'GOPR0001/000002', 'GOPR0001/000010', 'GOPR0002/000002', 'GOPR0002/000010',
  ]  # fmt: skip
  assert pairs[1].sharp == split / 'GOPR0001/sharp/000010.png'
  assert pairs[1].blur == split / 'GOPR0001/blur_gamma/000010.png'


@pytest.mark.parametrize(
  ('sharp', 'blur', 'names'),
  [
    ('train/target', 'train/input', ['1', '2']),
    ('train/sharp', 'train/blur', ['1', '2']),
    ('train/sharp/images', 'train/blur/images', ['1', '2']),
    ('train/sharp/s1', 'train/blur/s1', ['s1/1', 's1/2']),
    ('train/s1/GT', 'train/s1/input', ['s1/1', 's1/2']),
    ('train/s1/sharp/images', 'train/s1/blur', ['s1/1', 's1/2']),
    ('GOPRO_Large/train/s1/sharp', 'GOPRO_Large/train/s1/blur', ['s1/1', 's1/2']),
  ],
)
def test_layouts_that_people_have(tmp_path, sharp, blur, names):
  for number, extension in ((1, 'PNG'), (2, 'jpg')):
    save(tmp_path / sharp / f'{number}.{extension}', np.full((40, 60, 3), 200, np.uint8))
    save(tmp_path / blur / f'{number}.{extension}', np.full((40, 60, 3), 100, np.uint8))
  (tmp_path / '__MACOSX' / 'train').mkdir(parents=True)
  splits = gopro_tree.find_splits(tmp_path, 'blur')
  assert [pair.name for pair in splits['train']] == names
  for pair in splits['train']:
    images = gopro_tree.read_pair(pair)
    assert [image.mean() for image in images] == pytest.approx([200, 100], abs=2)


def test_the_input_of_mprnet_is_read_in_the_place_of_blur_gamma_with_a_warning(tmp_path, caplog):
  for kind in ('target', 'input'):
    save(tmp_path / 'train' / kind / '1.png', np.zeros((40, 60, 3), np.uint8))
  with caplog.at_level('WARNING', logger='absl'):
    gopro_tree.find_pairs(tmp_path / 'train', 'blur_gamma')
  assert 'train/input is read as blur_gamma' in caplog.text


def test_a_folder_without_pairs_is_named(split):
  (split / 'GOPR0003').mkdir()
  with pytest.raises(UserError, match='GOPR0003 holds no folders of sharp and blurred images'):
    gopro_tree.find_pairs(split, 'blur_gamma')


def test_reads_sharp_then_blur(split):
  first = split / 'GOPR0001/blur_gamma/000002.png'
  save(first, np.full((40, 60, 3), 7, np.uint8))
  sharp, blur = gopro_tree.read_pair(gopro_tree.find_pairs(split, 'blur_gamma')[0])
  np.testing.assert_array_equal(sharp, data.astronaut()[:40, :60])
  np.testing.assert_array_equal(blur, np.full((40, 60, 3), 7))


def test_a_missing_split_is_left_out_with_a_warning(split, caplog):
  with caplog.at_level('WARNING', logger='absl'):
    splits = gopro_tree.find_splits(split.parent, 'blur_gamma')
  assert {name: len(pairs) for name, pairs in splits.items()} == {'train': 4}
  assert [record.getMessage() for record in caplog.records] == [
    f'{split.parent / "test"} does not exist: the test split is left out'
  ]


def test_no_split_at_all(tmp_path):
  with pytest.raises(UserError, match='has neither train nor test; pass the GOPRO_Large folder'):
    gopro_tree.find_splits(tmp_path, 'blur_gamma')


def test_no_sequence(tmp_path):
  with pytest.raises(UserError, match='holds no folders of sharp and blurred images'):
    gopro_tree.find_pairs(tmp_path, 'blur_gamma')


def test_an_empty_sequence(split):
  for path in (split / 'GOPR0002/sharp').iterdir():
    path.unlink()
  with pytest.raises(UserError, match='GOPR0002/sharp holds no frame'):
    gopro_tree.find_pairs(split, 'blur_gamma')


def test_a_missing_blur_folder_names_the_one_that_is_there(split):
  with pytest.raises(
    UserError, match='GOPR0001/blur does not exist; pass --blur_folder=blur_gamma'
  ):
    gopro_tree.find_pairs(split, 'blur')


@pytest.mark.parametrize(('removed', 'left'), [('sharp', 'blur_gamma'), ('blur_gamma', 'sharp')])
def test_an_unpaired_frame(split, removed, left):
  (split / 'GOPR0002' / removed / '000010.png').unlink()
  with pytest.raises(UserError) as error:
    gopro_tree.find_pairs(split, 'blur_gamma')
  frame = split / 'GOPR0002'
  assert str(error.value) == (
    f'{frame / left / "000010.png"} has no counterpart {frame / removed / "000010.png"}; '
    'restore that file or remove this one'
  )


def test_two_sizes_in_a_pair(split):
  save(split / 'GOPR0002/blur_gamma/000010.png', np.zeros((40, 61, 3), np.uint8))
  with pytest.raises(UserError, match='000010.png is 40x61 but .*sharp/000010.png is 40x60'):
    gopro_tree.find_pairs(split, 'blur_gamma')


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (png(60, 40, 8, 0), 'has 8-bit grey pixels; frames must be 8-bit RGB'),
    (png(60, 40, 8, 6), 'has 8-bit RGB with alpha pixels'),
    (png(60, 40, 8, 3), 'has 8-bit palette pixels'),
    (png(60, 40, 16, 2), 'has 16-bit RGB pixels'),
    (png(60, 40, 8, 2)[:20], 'is truncated or not a PNG file'),
    (b'\xff\xd8\xff\xe0 a photo from a phone, renamed', 'is truncated or not a PNG file'),
    (png(2**31 - 1, 2**31 - 1, 8, 2), 'has an invalid size of 2147483647x2147483647'),
    (png(0, 40, 8, 2), 'has an invalid size of 40x0'),
  ],
)
def test_a_frame_of_another_kind(split, content, message):
  path = split / 'GOPR0002/sharp/000010.png'
  path.write_bytes(content)
  with pytest.raises(UserError) as error:
    gopro_tree.find_pairs(split, 'blur_gamma')
  assert str(error.value).startswith(f'{path} {message}')


def test_a_frame_cut_short_after_its_header(split):
  path = split / 'GOPR0001/sharp/000002.png'
  path.write_bytes(path.read_bytes()[:2000])
  pair = gopro_tree.find_pairs(split, 'blur_gamma')[0]
  with pytest.raises(UserError) as error:
    gopro_tree.read_pair(pair)
  assert str(error.value).startswith(f'cannot read {path}: ')
  assert '\n' not in str(error.value)
