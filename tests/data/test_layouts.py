import pytest
from PIL import Image

from gfn_jax.data import layouts
from gfn_jax.errors import UserError


def touch(folder, *names):
  folder.mkdir(parents=True, exist_ok=True)
  for name in names:
    Image.new('RGB', (2, 2)).save(folder / name)


def test_pairs_in_the_layout_of_gopro(tmp_path):
  for sequence in ('train/s2', 'train/s1'):
    for kind in ('sharp', 'blur', 'blur_gamma'):
      touch(tmp_path / sequence / kind, '1.png', '2.png')
  touch(tmp_path / 'sharp', 'alone.png')
  pairs = layouts.find_pairs(tmp_path, 'blur')
  names = [(pair.folder, pair.scene, pair.name) for pair in pairs]
  assert names == [(f'train/{s}', s, name) for s in ('s1', 's2') for name in ('1', '2')]
  assert pairs[0].sharp == tmp_path / 'train/s1/sharp/1.png'
  assert pairs[3].blur == tmp_path / 'train/s2/blur/2.png'
  with pytest.raises(UserError, match='s1/blurry does not exist; pass --blur_folder=blur_gamma'):
    layouts.find_pairs(tmp_path / 'train', 'blurry')
  touch(tmp_path / 'train' / 's1' / 'blur', '3.png')
  with pytest.raises(UserError, match=r's1/blur/3.png has no counterpart .*s1/sharp/3.png'):
    layouts.find_pairs(tmp_path, 'blur')


def test_pairs_in_the_folder_itself(tmp_path):
  for kind in ('target', 'input'):
    touch(tmp_path / 'test' / kind, 'b.png', 'a.JPG')
  [a, b] = layouts.find_pairs(tmp_path / 'test', 'blur_gamma')
  assert (a.folder, a.scene, a.name) == ('', 'test', 'a')
  assert b.blur == tmp_path / 'test/input/b.png'


def test_a_folder_without_pairs_is_refused_with_the_layouts(tmp_path):
  touch(tmp_path / 'photos', 'a.png')
  with pytest.raises(UserError, match='photos holds no folders .* sharp and blur or target and in'):
    layouts.find_pairs(tmp_path, 'blur')


def test_two_images_of_one_name_are_refused(tmp_path):
  touch(tmp_path / 'blur', 'a.png')
  touch(tmp_path / 'sharp', 'a.png', 'a.jpg')
  with pytest.raises(UserError, match=r'same name: .*sharp/a.jpg and .*sharp/a.png; remove one'):
    layouts.find_pairs(tmp_path, 'blur')
