import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import UserError
from gfn_jax.evaluation.test_sets import open_test_set, pairs_test_set
from gfn_jax.images import folders
from gfn_jax.ops.imresize import imresize


def write_pair(root, sharp, blur, folder='blur_gamma'):
  for kind, image in (('sharp', sharp), (folder, blur)):
    (root / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(root / kind / '1.png')


@pytest.fixture
def pairs(tmp_path):
  """Two scenes of photographs whose sides are no multiples of 4."""
  for number, name in enumerate(('b', 'a')):
    sharp = skimage.data.coffee()[number : number + 35, :42]
    write_pair(tmp_path / 'GOPRO' / name, sharp, sharp[::-1].copy())
  return tmp_path / 'GOPRO'


@pytest.mark.parametrize('scale', [2, 4])
def test_pairs_are_reduced_as_the_test_images_of_lr_gopro(pairs, scale):
  test_set = pairs_test_set(pairs, 'blur_gamma', scale)
  images = list(test_set.images)
  assert test_set.count == len(images) == 2
  assert [(image['scene'], image['name']) for image in images] == [('a', '1'), ('b', '1')]
  blur = folders.read_rgb(pairs / 'a' / 'blur_gamma' / '1.png')
  h, w = 35 // scale * scale, 42 // scale * scale
  np.testing.assert_array_equal(images[0]['lr_blur'], imresize(blur[:h, :w], 1 / scale))
  np.testing.assert_array_equal(images[0]['hr'], skimage.data.coffee()[1 : 1 + h, :w])
  assert images[0]['lr_blur'].dtype == np.uint8
  assert test_set.facts['name'] == f'{pairs.parent.name}/GOPRO (blur_gamma)'
  assert test_set.facts['scale'] == scale


def test_the_facts_change_with_the_files(pairs):
  before = pairs_test_set(pairs, 'blur_gamma').facts
  assert open_test_set(str(pairs), 4, 'blur_gamma').facts == before
  Image.fromarray(skimage.data.coffee()[:40, :44]).save(pairs / 'a' / 'sharp' / '1.png')
  assert pairs_test_set(pairs, 'blur_gamma').facts['files'] != before['files']


def test_a_folder_with_training_images_is_refused(gopro_tree):
  with pytest.raises(UserError, match=rf'holds training images, too; pass {gopro_tree}/test$'):
    pairs_test_set(gopro_tree, 'blur_gamma')


def test_two_folders_are_paired_by_name(pairs, tmp_path):
  lr, hr = pairs / 'a' / 'blur_gamma', pairs / 'a' / 'sharp'
  test_set = open_test_set(f'{lr}:{hr}', 4, '')
  [image] = test_set.images
  np.testing.assert_array_equal(image['lr_blur'], folders.read_rgb(lr / '1.png'))
  assert test_set.facts['name'] == 'a/blur_gamma and a/sharp'
  assert str(tmp_path) not in str(test_set.facts)


def test_folders_of_references_are_described(pairs, tmp_path):
  lr = pairs / 'a' / 'blur_gamma'
  for name in ('first', 'second'):
    (tmp_path / 'hr' / '1').mkdir(parents=True, exist_ok=True)
    Image.fromarray(skimage.data.coffee()[:140, :168]).save(tmp_path / 'hr' / '1' / f'{name}.png')
  test_set = open_test_set(f'{lr}:{tmp_path}/hr', 4, '')
  [image] = test_set.images
  assert [reference.name for reference in image['references']] == ['first', 'second']
  facts = {key: test_set.facts[key] for key in ('references', 'best_reference')}
  assert facts == {'references': 2, 'best_reference': 'highest PSNR'}
  assert str(tmp_path) not in str(test_set.facts)


def test_a_folder_with_a_colon_is_one_folder(pairs, tmp_path):
  path = pairs.rename(tmp_path / '12:30')
  assert open_test_set(str(path), 4, 'blur_gamma').count == 2


def test_a_built_data_set_is_its_test_split(dataset_dir):
  test_set = open_test_set(str(dataset_dir), 4, '')
  [image] = test_set.images
  assert image['lr_blur'].shape == (32, 48, 3)
  assert test_set.count == 1
  assert test_set.facts['name'] == 'lr_gopro/blur_gamma/1.0.1'
  assert test_set.facts['blur_folder'] == 'blur_gamma'


@pytest.mark.parametrize(
  ('path', 'blur_name', 'message'),
  [
    (
      'none',
      'blur_gamma',
      'no such folder: .*none; pass a dataset of gfn-prepare, a ',
    ),
    ('GOPRO/a/sharp', 'blur_gamma', '.*/a/sharp holds no folders of sharp and blurred images'),
    ('GOPRO', 'blur', '.*/a/blur does not exist; pass --blur_folder=blur_gamma'),
    ('GOPRO/a/sharp:none', '', 'no such file or folder: none'),
  ],
)
def test_what_is_no_test_set_is_one_line(pairs, tmp_path, path, blur_name, message):
  with pytest.raises(UserError, match=f'^{message}'):
    open_test_set(f'{tmp_path}/{path}', 4, blur_name)
