import os

import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.models import init_params
from gfn_jax.restore import restore_files
from tests import small


@pytest.fixture(scope='module')
def restorer():
  model = create_model(**small.MODEL)
  params = init_params(model, seed=0)
  return Restorer(model, params)


@pytest.fixture
def photo():
  return skimage.data.astronaut()[40:53, 200:222]  # 13x22: no multiples of 4


def expected(restorer, photo):
  """The contract, in NumPy: /255, the network, clip, round half up."""
  hr = restorer.model.apply({'params': restorer.params}, photo[None].astype(np.float32) / 255).hr
  return np.floor(np.clip(np.asarray(hr[0]), 0, 1) * 255 + 0.5).astype(np.uint8)


def test_all_kinds_of_input_give_the_same(restorer, photo, tmp_path):
  path = tmp_path / 'photo.png'
  Image.fromarray(photo).save(path)
  wanted = expected(restorer, photo)
  assert 0 < wanted.mean() < 255
  inputs = [photo, photo / 255, (photo / 255).astype(np.float32), Image.fromarray(photo)]
  for image in [*inputs, path, str(path)]:
    restored = restorer(image)
    assert restored.shape == (52, 88, 3)
    assert restored.dtype == np.uint8
    assert np.abs(restored.astype(int) - wanted).max() <= 1  # the last bit, as jit fuses
    assert (restored != wanted).mean() < 0.01


def test_grey_is_taken_as_three_equal_channels(restorer, photo, tmp_path):
  grey = Image.fromarray(photo).convert('L')
  grey.save(tmp_path / 'grey.png')
  rgb = np.repeat(np.asarray(grey)[..., None], 3, axis=-1)
  np.testing.assert_array_equal(restorer(tmp_path / 'grey.png'), restorer(rgb))


@pytest.mark.parametrize(
  ('image', 'error', 'message'),
  [
    (np.zeros((4, 4), np.uint8), ValueError, r'\[h, w, 3\], not \(4, 4\)'),
    (np.zeros((4, 4, 4), np.uint8), ValueError, r'not \(4, 4, 4\)'),
    (np.zeros((0, 4, 3), np.uint8), ValueError, r'not \(0, 4, 3\)'),
    (np.zeros((4, 4, 3), np.int32), TypeError, 'not int32'),
    (Image.new('RGBA', (4, 4)), UserError, 'the image is RGBA; convert it to 8-bit RGB'),
    ('nowhere.png', UserError, 'nowhere.png cannot be read'),
  ],
)
def test_bad_input(restorer, image, error, message):
  with pytest.raises(error, match=message):
    restorer(image)


def test_a_folder(restorer, photo, tmp_path, capsys):
  folder, output = tmp_path / 'in', tmp_path / 'out'
  folder.mkdir()
  Image.fromarray(photo).save(folder / 'b.png')
  Image.fromarray(photo[::-1]).save(folder / 'a.bmp')
  (folder / 'notes.txt').write_text('no image')
  paths = restore_files(restorer, folder, str(output))
  assert [os.path.basename(path) for path in paths] == ['a.png', 'b.png']
  assert sorted(path.name for path in output.iterdir()) == ['a.png', 'b.png']
  np.testing.assert_array_equal(np.asarray(Image.open(output / 'b.png')), restorer(photo))
  np.testing.assert_array_equal(np.asarray(Image.open(output / 'a.png')), restorer(photo[::-1]))
  lines = capsys.readouterr().out.splitlines()
  assert [line.split(': ')[1].split(' /')[0] for line in lines] == ['22x13 -> 88x52'] * 2


def test_compiling_is_said_once_for_a_size(restorer, capsys):
  image = np.zeros((5, 7, 3), np.uint8)
  restorer(image)
  Restorer(restorer.model, restorer.params)(image)
  assert capsys.readouterr().err == 'compiling GFN for 7x5\n'


def test_a_file(restorer, photo, tmp_path):
  Image.fromarray(photo).save(tmp_path / 'photo.bmp')
  [path] = restore_files(restorer, tmp_path / 'photo.bmp', str(tmp_path / 'out'))
  assert path == str(tmp_path / 'out' / 'photo.png')
  with Image.open(path) as image:
    assert image.size == (88, 52)


def test_a_turned_photo_is_restored_upright(restorer, photo, tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned clockwise
  Image.fromarray(photo).save(tmp_path / 'turned.png', exif=exif)
  np.testing.assert_array_equal(restorer(tmp_path / 'turned.png'), restorer(np.rot90(photo, -1)))


def test_sources_are_never_overwritten(restorer, photo, tmp_path):
  Image.fromarray(photo).save(tmp_path / 'photo.png')
  before = (tmp_path / 'photo.png').read_bytes()
  with pytest.raises(UserError, match='photo.png would be overwritten; choose another'):
    restore_files(restorer, tmp_path, str(tmp_path))
  assert (tmp_path / 'photo.png').read_bytes() == before


def test_two_sources_of_one_name_are_refused(restorer, photo, tmp_path):
  for name in ('photo.png', 'photo.bmp'):
    Image.fromarray(photo).save(tmp_path / name)
  with pytest.raises(UserError, match='would both become .*photo.png; rename one'):
    restore_files(restorer, tmp_path, str(tmp_path / 'out'))
  assert not (tmp_path / 'out').exists()
