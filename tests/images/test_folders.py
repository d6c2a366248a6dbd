import errno
import os
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image
from skimage import data

from gfn_jax.errors import UserError
from gfn_jax.images import folders
from gfn_jax.images.reading import Photo
from gfn_jax.images.writing import write_photo


def photograph():
  return np.ascontiguousarray(data.astronaut()[:20, :30])


def touch(folder, *names):
  folder.mkdir(exist_ok=True)
  for name in names:
    (folder / name).write_bytes(b'')
  return folder


def test_images_are_listed_by_name_whatever_their_extension(tmp_path):
  touch(tmp_path, 'b.png', 'a.JPG', 'c.tiff', 'c.txt', 'd.Jpeg', 'e.webp', 'f.bmp', 'g.npz', 'png')
  names = [os.path.relpath(path, tmp_path) for path in folders.list_images(tmp_path)]
  assert names == ['a.JPG', 'b.png', 'c.tiff', 'd.Jpeg', 'e.webp', 'f.bmp']
  assert folders.list_images(str(tmp_path)) == folders.list_images(tmp_path)


def test_only_files_that_are_not_hidden_are_listed(tmp_path):
  touch(tmp_path, 'a.png', '.a.tmp.png', '._a.jpg')
  touch(tmp_path / 'folder.png', 'b.png')
  touch(tmp_path / '.trash', 'c.png')
  (tmp_path / 'broken.png').symlink_to(tmp_path / 'none')
  os.mkfifo(tmp_path / 'fifo.png')
  (tmp_path / 'link.png').symlink_to(tmp_path / 'a.png')
  names = [os.path.relpath(path, tmp_path) for path in folders.list_images(tmp_path)]
  assert names == ['a.png', 'broken.png', 'link.png']
  names = [os.path.relpath(path, tmp_path) for path in folders.list_images(tmp_path, True)]
  assert names == ['a.png', 'broken.png', 'folder.png/b.png', 'link.png']


def test_images_below_a_folder_are_listed_too(tmp_path):
  touch(tmp_path, 'b.png')
  touch(tmp_path / 'a', 'z.jpg', 'notes.txt')
  touch(tmp_path / 'c', 'a.png')
  names = [os.path.relpath(path, tmp_path) for path in folders.list_images(tmp_path, True)]
  assert names == ['a/z.jpg', 'b.png', 'c/a.png']


def test_linked_folders_are_read_once(tmp_path):
  touch(tmp_path / 'photos', '1.png')
  touch(tmp_path / 'photos' / 'a', '2.png')
  touch(tmp_path / 'other', '3.png')
  touch(tmp_path / 'other' / 'z', '4.png')
  for link, target in {
    'photos/alias': 'photos/a',  # which is read as itself
    'photos/self': 'photos',
    'photos/a/other': 'other',
    'other/back': 'photos',
    'other/z/up': 'other',
  }.items():
    (tmp_path / link).symlink_to(tmp_path / target)
  found = folders.find_files(tmp_path / 'photos')
  names = [os.path.relpath(path, tmp_path / 'photos') for path in found.images]
  assert names == ['1.png', 'a/2.png', 'a/other/3.png', 'a/other/z/4.png']
  assert found.others == {'read already (linked folder)': 4}
  assert folders.list_images(tmp_path / 'photos', recursive=True) == found.images
  assert folders.find_files(tmp_path / 'photos', skip=tmp_path / 'other').images == [
    str(tmp_path / 'photos' / name) for name in names[:2]
  ]


def test_everything_in_a_folder_is_found_or_counted(tmp_path):
  touch(tmp_path, 'a.JFIF', 'b.jpe', 'c.MOV', 'd.txt', 'e.TXT', 'f', '.g.png', 'h.he\nic')
  touch(tmp_path / '.hidden', 'i.png')
  touch(tmp_path / 'sub', 'j.avi')
  os.mkfifo(tmp_path / 'k.png')
  (tmp_path / 'l.png').symlink_to('nowhere')
  (tmp_path / 'm').symlink_to('nowhere')
  found = folders.find_files(tmp_path)
  assert [os.path.basename(path) for path in found.images] == ['a.JFIF', 'b.jpe', 'l.png']
  assert [os.path.basename(path) for path in found.videos] == ['c.MOV', 'j.avi']
  assert found.others == {
    '.he\\nic': 1,
    '.txt': 2,
    'hidden': 2,
    'linked to nothing': 1,
    'not a regular file': 1,
    'without extension': 1,
  }
  assert [os.path.basename(path) for path in folders.find_files(tmp_path, False).videos] == [
    'c.MOV'
  ]


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('extension', ['jpg', 'png', 'webp', 'tif'])
def test_the_size_in_the_header_is_that_of_the_image(tmp_path, orientation, extension):
  path = tmp_path / f'a.{extension}'
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = orientation
  Image.fromarray(photograph()).save(path, exif=exif)
  height, width, _ = folders.read_rgb(path).shape
  assert folders.image_size(path) == (width, height)
  assert (height == 30) == (orientation >= 5)


def test_the_size_of_no_image(tmp_path):
  (tmp_path / 'a.png').write_bytes(b'text')
  with pytest.raises(UserError, match=r'cannot read .*a.png: unsupported format \(text\)'):
    folders.image_size(tmp_path / 'a.png')


def test_the_size_is_read_without_decoding(tmp_path, monkeypatch):
  for name in ('a.png', 'a.jpg', 'a.tif'):
    Image.fromarray(photograph()).save(tmp_path / name)
  monkeypatch.setattr(Image.Image, 'load', None)
  for name in ('a.png', 'a.jpg', 'a.tif'):
    assert folders.image_size(tmp_path / name) == (30, 20)


def test_a_file_stands_for_itself(tmp_path):
  touch(tmp_path, 'photo')
  os.mkfifo(tmp_path / 'fifo')
  for name in ('photo', 'fifo'):  # reading it says what is wrong
    assert folders.list_images(tmp_path / name) == [str(tmp_path / name)]


def test_nothing_to_list(tmp_path):
  with pytest.raises(UserError, match='no such file or folder: .*/none$'):
    folders.list_images(tmp_path / 'none')
  touch(tmp_path, 'notes.txt')
  with pytest.raises(UserError, match=f'no image in {tmp_path}; extensions are .png, .jpg'):
    folders.list_images(tmp_path)


def test_stem():
  assert folders.stem('a.b/c/IMG.0001.jpeg') == 'IMG.0001'


def test_pairs_are_made_by_name_and_sorted(tmp_path):
  inputs = touch(tmp_path / 'in', '2.png', '10.png', '1.jpg')
  targets = touch(tmp_path / 'out', '1.png', '2.PNG', '10.tif', 'readme.md')
  assert folders.pair_images(inputs, targets) == [
    ('1', str(inputs / '1.jpg'), str(targets / '1.png')),
    ('10', str(inputs / '10.png'), str(targets / '10.tif')),
    ('2', str(inputs / '2.png'), str(targets / '2.PNG')),
  ]


@pytest.mark.parametrize(
  ('lr', 'hr', 'name'),
  [
    ('0001x4.png', '0001.png', '0001'),
    ('0001_x2.jpg', '0001.PNG', '0001'),
    ('baby_LRBI_x4.png', 'baby_HR_x4.png', 'baby'),
    ('img_001_SRF_4_LR.png', 'img_001_SRF_4_HR.png', 'img_001'),
    ('a-bicubic.png', 'a.png', 'a'),
    ('matrix4.png', 'matrix4.png', 'matrix4'),
  ],
)
def test_names_of_benchmarks_are_paired(tmp_path, lr, hr, name):
  inputs = touch(tmp_path / 'in', lr)
  targets = touch(tmp_path / 'out', hr)
  assert folders.pair_images(inputs, targets) == [(name, str(inputs / lr), str(targets / hr))]


def test_endings_that_tell_images_apart_are_kept(tmp_path):
  inputs = touch(tmp_path / 'in', 'a.png', 'ax4.png')
  targets = touch(tmp_path / 'out', 'a.png')
  with pytest.raises(UserError, match=r'without a counterpart .*: .*ax4\.png$'):
    folders.pair_images(inputs, targets)


def test_every_image_without_a_partner_is_named(tmp_path):
  inputs = touch(tmp_path / 'in', '1.png', '2.png', '3.png')
  targets = touch(tmp_path / 'out', '2.png', '4.png')
  with pytest.raises(UserError) as error:
    folders.pair_images(inputs, targets)
  assert str(error.value) == (
    'files without a counterpart of the same name: '
    f'{inputs / "1.png"}, {inputs / "3.png"}, {targets / "4.png"}'
  )


@pytest.mark.parametrize('side', ['in', 'out'])
def test_two_images_of_one_name(tmp_path, side):
  for folder in ('in', 'out'):
    touch(tmp_path / folder, '1.png')
  touch(tmp_path / side, '1.jpg')
  with pytest.raises(
    UserError, match=f'two images have the same name: .*/{side}/1.jpg and .*{side}/1.png'
  ):
    folders.pair_images(tmp_path / 'in', tmp_path / 'out')


def test_images_are_paired_with_folders_of_their_names(tmp_path):
  inputs = touch(tmp_path / 'in', '2.png', '10.jpg')
  targets = touch(tmp_path / 'out', 'readme.md')
  for name in ('10', '2', '.trash'):
    (targets / name).mkdir()
  assert folders.pair_folders(inputs, targets) == [
    ('10', str(inputs / '10.jpg'), str(targets / '10')),
    ('2', str(inputs / '2.png'), str(targets / '2')),
  ]
  (targets / '3').mkdir()
  (inputs / '2.png').rename(inputs / '4.png')
  with pytest.raises(UserError) as error:
    folders.pair_folders(inputs, targets)
  assert str(error.value) == (
    'files without a counterpart of the same name: '
    f'{inputs / "4.png"}, {targets / "2"}, {targets / "3"}'
  )


def test_a_folder_of_folders_holds_no_image(tmp_path):
  touch(tmp_path, 'readme.md', '.a.png')
  (tmp_path / '.trash').mkdir()
  assert not folders.holds_only_folders(tmp_path)
  assert not folders.holds_only_folders(tmp_path / 'readme.md')
  assert not folders.holds_only_folders(tmp_path / 'none')
  touch(tmp_path / 'folder.png', 'b.png')
  assert folders.holds_only_folders(tmp_path)
  touch(tmp_path, 'c.PNG')
  assert not folders.holds_only_folders(tmp_path)


@pytest.mark.parametrize('extension', ['png', 'bmp', 'tiff'])
def test_rgb_is_read_as_it_is(tmp_path, extension):
  Image.fromarray(photograph()).save(tmp_path / f'x.{extension}')
  read = folders.read_rgb(tmp_path / f'x.{extension}')
  np.testing.assert_array_equal(read, photograph(), strict=True)


def test_grey_becomes_rgb(tmp_path):
  grey = photograph()[..., 1]
  Image.fromarray(grey).save(tmp_path / 'x.png')
  expected = np.stack([grey, grey, grey], axis=-1)
  np.testing.assert_array_equal(folders.read_rgb(tmp_path / 'x.png'), expected, strict=True)


def test_jpeg_is_read(tmp_path):
  Image.fromarray(photograph()).save(tmp_path / 'x.jpg', quality=95, subsampling=0)
  read = folders.read_rgb(tmp_path / 'x.jpg')
  assert np.abs(read.astype(int) - photograph()).mean() < 3


@pytest.mark.parametrize('mode', ['1', 'P', 'CMYK', 'RGBA', 'LA'])
def test_other_modes_become_rgb(tmp_path, mode):
  image = Image.fromarray(photograph()).convert(mode)
  image.save(tmp_path / 'x.tif')
  expected = np.asarray(image.convert('RGB'))
  np.testing.assert_array_equal(folders.read_rgb(tmp_path / 'x.tif'), expected, strict=True)


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P'])
def test_transparency_is_refused_by_name(tmp_path, mode):
  image = Image.fromarray(photograph()).convert(mode)
  if mode == 'P':
    image.info['transparency'] = image.getpixel((3, 4))
  else:
    image.putpixel((3, 4), (*image.getpixel((3, 4))[:-1], 254))
  image.save(tmp_path / 'x.png')
  with pytest.raises(
    UserError, match=f'^{tmp_path}/x.png has transparency; place it on a background'
  ):
    folders.read_rgb(tmp_path / 'x.png')


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('extension', ['png', 'tif'])
def test_16_bits_become_8(tmp_path, channels, extension):
  values = np.arange(2**16, dtype=np.uint16).reshape(256, 256, 1).repeat(channels, -1)
  write_photo(tmp_path / f'x.{extension}', Photo(values))
  expected = np.round(values / 257).astype(np.uint8)
  expected = np.broadcast_to(expected, (256, 256, 3))
  read = folders.read_rgb(tmp_path / f'x.{extension}')
  np.testing.assert_array_equal(read, expected, strict=True)


@pytest.mark.parametrize('extension', ['png', 'jpg', 'bmp', 'webp', 'tif'])
def test_truncated_files(tmp_path, extension):
  path = tmp_path / f'x.{extension}'
  Image.fromarray(photograph()).save(path)
  content = path.read_bytes()
  for size in (0, 5, len(content) // 2):
    path.write_bytes(content[:size])
    with pytest.raises(UserError, match=f'cannot read .*x.{extension}: .+'):
      folders.read_rgb(path)


def test_files_that_are_no_images(tmp_path):
  (tmp_path / 'x.png').write_text('hello')
  os.mkfifo(tmp_path / 'fifo.png')
  for path in [*(tmp_path / name for name in ('x.png', 'none.png', 'fifo.png')), tmp_path]:
    with pytest.raises(UserError, match=f'cannot read {path}: .+'):
      folders.read_rgb(path)


def test_a_png_whose_header_is_too_short(tmp_path):
  chunk = b'IHDR' + bytes(5)
  header = b'\x89PNG\r\n\x1a\n' + (5).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
  (tmp_path / 'x.png').write_bytes(header)
  with pytest.raises(UserError, match='cannot read .*x.png: .*no header'):
    folders.read_rgb(tmp_path / 'x.png')


def test_write_png_is_lossless_and_leaves_nothing_else(tmp_path):
  path = tmp_path / 'x.png'
  path.write_bytes(b'an older image')
  folders.write_png(path, photograph())
  np.testing.assert_array_equal(folders.read_rgb(path), photograph(), strict=True)
  assert os.listdir(tmp_path) == ['x.png']


def test_a_write_that_fails_leaves_the_old_image(tmp_path, monkeypatch):
  path = tmp_path / 'x.png'
  folders.write_png(path, photograph())
  before = path.read_bytes()

  def full_disk(*_):
    raise OSError('no space left on device')

  monkeypatch.setattr(os, 'replace', full_disk)
  with pytest.raises(OSError, match='no space left'):
    folders.write_png(path, photograph() // 2)
  assert path.read_bytes() == before


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
  (tmp_path / 'closed').mkdir()
  Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / 'a.png')
  scandir = os.scandir

  def refuse(path):
    if os.path.basename(path) == 'closed':
      raise PermissionError(errno.EACCES, 'Permission denied', path)
    return scandir(path)

  monkeypatch.setattr(os, 'scandir', refuse)
  assert len(folders.list_images(tmp_path)) == 1
  with pytest.raises(UserError, match='closed: Permission denied'):
    folders.list_images(tmp_path, recursive=True)
