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
from etils import epath
from PIL import Image

from gfn_jax.data_prep import koehler_tree, lr_koehler
from gfn_jax.errors import UserError
from gfn_jax.evaluation import test_sets
from gfn_jax.images.folders import read_rgb
from gfn_jax.ops.imresize import imresize

ROOT = pathlib.Path(__file__).parents[2]
IMAGES = list(itertools.product(range(1, 5), range(1, 13)))
# The folders of the archives and others, each for one scene.
LAYOUTS = {
  1: 'Image1/Kernel{trajectory}',
  2: 'GroundTruth',
  3: 'GroundTruth_pngs_Image3/Image3/Kernel{trajectory}',
  4: 'GroundTruth4_{trajectory}',
}


def photo(scene, trajectory, shift=0):
  """48x64 pixels of a photograph, others for each scene and trajectory."""
  y, x = 100 * (scene - 1) + 3 * shift, 36 * (trajectory - 1)
  return np.ascontiguousarray(skimage.data.astronaut()[y : y + 48, x : x + 64])


def blurred(scene, trajectory):
  frames = [photo(scene, trajectory, shift).astype(np.float64) for shift in range(3)]
  return np.mean(frames, 0).astype(np.uint8)


def blurred_path(root, scene, trajectory):
  return root / f'BlurryImages/Blurry{scene}_{trajectory}.png'


def frame_path(root, scene, trajectory, frame):
  folder = LAYOUTS[scene].format(trajectory=trajectory)
  return root / folder / f'GroundTruth{scene}_{trajectory}_{frame}.png'


def save(path, image):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image).save(path)


def everything_in(folder):
  return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*'))


@pytest.fixture(scope='module')
def original(tmp_path_factory):
  """All images, with frames 1 and 2; the fourth scene has 2 and 10 instead."""
  root = tmp_path_factory.mktemp('KOEHLER')
  for scene, trajectory in IMAGES:
    save(blurred_path(root, scene, trajectory), blurred(scene, trajectory))
    for shift, frame in enumerate((2, 10) if scene == 4 else (1, 2)):
      save(frame_path(root, scene, trajectory, frame), photo(scene, trajectory, shift))
  (root / 'Image1/Kernel1/._GroundTruth1_1_1.png').write_bytes(b'of another system')
  (root / 'GroundTruth/GroundTruth1.png').write_bytes(b'another name')
  return root


@pytest.fixture
def tree(original, tmp_path):
  return shutil.copytree(original, tmp_path / 'KOEHLER')


@pytest.fixture(scope='module')
def built(original, tmp_path_factory):
  return lr_koehler.build(original, tmp_path_factory.mktemp('data'))


def test_the_blurred_images_are_reduced_as_matlab_reduces_them(built):
  assert built.parts[-2:] == ('lr_koehler', '1.0.0')
  names = [f'Blurry{scene}_{trajectory}.png' for scene, trajectory in IMAGES]
  assert everything_in(built / 'lr_blur') == sorted(names)
  for scene, trajectory in ((1, 1), (2, 11), (4, 12)):
    lr_blur = read_rgb(built / f'lr_blur/Blurry{scene}_{trajectory}.png')
    reduced = imresize(blurred(scene, trajectory) / 255, 0.25)
    expected = np.floor(np.clip(reduced, 0, 1) * 255 + 0.5 + 1e-6).astype(np.uint8)
    np.testing.assert_array_equal(lr_blur, expected, strict=True)


def test_the_frames_are_links_by_number(original, built):
  for scene, trajectory in IMAGES:
    folder = built / f'hr/Blurry{scene}_{trajectory}'
    frames = (2, 10) if scene == 4 else (1, 2)
    assert everything_in(folder) == [f'{frame:03d}.png' for frame in frames]
    for frame in frames:
      path = frame_path(original, scene, trajectory, frame)
      assert (folder / f'{frame:03d}.png').readlink() == path


def test_metadata_and_summary(built):
  assert json.loads((built / 'metadata.json').read_text()) == {
    'source': 'Koehler',
    'lr_quantisation': 'uint8',
    'scale': 4,
    'border': 'symmetric',
    'counts': {'images': 48, 'references': 96},
  }
  assert lr_koehler.summarise(built) == f'{built}: 48 images, 96 reference frames'


def test_it_is_a_test_set(built):
  test_set = test_sets.folder_test_set(built / 'lr_blur', built / 'hr', limit=2)
  assert test_set.count == 2
  assert len(test_set.facts['files']) == 64  # a digest
  assert {key: value for key, value in test_set.facts.items() if key != 'files'} == {
    'input_dir': str(built / 'lr_blur'),
    'target_dir': str(built / 'hr'),
    'references': 4,
    'best_reference': 'highest PSNR',
  }
  first, second = test_set.images
  assert (first['name'], second['name']) == ('Blurry1_1', 'Blurry1_10')
  references = list(second['references'])
  assert [reference.name for reference in references] == ['001', '002']
  for shift, reference in enumerate(references):
    np.testing.assert_array_equal(reference.pixels, photo(1, 10, shift), strict=True)


def test_another_number_of_frames_is_a_warning(original, caplog):
  with caplog.at_level('WARNING', logger='absl'):
    koehler_tree.find_shots(epath.Path(original))
  assert caplog.messages == [
    '48 of 48 images do not have the 197 to 200 reference frames of the archives: Blurry1_1.png '
    'has 2'
  ]


def test_copies_replace_links(tree, tmp_path):
  folder = lr_koehler.build(tree, tmp_path / 'out', copy=True)
  shutil.rmtree(tree)
  assert not any(path.is_symlink() for path in folder.rglob('*'))
  np.testing.assert_array_equal(read_rgb(folder / 'hr/Blurry4_12/010.png'), photo(4, 12, 1))


def test_an_existing_test_set_is_kept_unless_it_is_overwritten(tree, tmp_path, capsys):
  folder = lr_koehler.build(tree, tmp_path / 'out')
  save(frame_path(tree, 1, 1, 3), photo(1, 1, 2))
  assert lr_koehler.build(tree, tmp_path / 'out') == folder
  assert f'{folder} exists already and is kept; --overwrite' in capsys.readouterr().err
  assert lr_koehler.summarise(folder).endswith(' 96 reference frames')
  assert lr_koehler.build(tree, tmp_path / 'out', overwrite=True) == folder
  assert lr_koehler.summarise(folder).endswith(' 97 reference frames')
  assert everything_in(tmp_path / 'out')[:2] == ['lr_koehler', 'lr_koehler/1.0.0']


def flip_check_sum(path):
  """Change the check sum of the pixels, which reading the header does not reveal."""
  content = bytearray(path.read_bytes())
  content[content.rindex(b'IEND') - 5] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize(
  'place', ['BlurryImages/Blurry4_12.png', 'GroundTruth/GroundTruth2_9_2.png']
)
def test_a_damaged_file_is_named_and_what_was_there_is_kept(tree, tmp_path, place):
  content = (tree / place).read_bytes()
  flip_check_sum(tree / place)
  message = f'^cannot read {tree / place}: .*; unpack the archives of Koehler et al. again$'
  with pytest.raises(UserError, match=message):
    lr_koehler.build(tree, tmp_path / 'out')
  assert everything_in(tmp_path / 'out') == []
  (tree / place).write_bytes(content)
  folder = lr_koehler.build(tree, tmp_path / 'out')
  files = everything_in(tmp_path / 'out')
  flip_check_sum(tree / place)
  with pytest.raises(UserError, match=message):
    lr_koehler.build(tree, tmp_path / 'out', overwrite=True)
  assert everything_in(tmp_path / 'out') == files
  assert lr_koehler.summarise(folder).endswith(': 48 images, 96 reference frames')


def test_ctrl_c_leaves_nothing(original, tmp_path, monkeypatch):
  def interrupt(shot):
    if shot.name == 'Blurry2_1':
      raise KeyboardInterrupt
    return b''

  monkeypatch.setattr(koehler_tree, 'reduce_shot', interrupt)
  with pytest.raises(KeyboardInterrupt):
    lr_koehler.build(original, tmp_path)
  assert everything_in(tmp_path) == []


def remove(*names):
  return lambda tree: [(tree / name).unlink() for name in names]


def add(name, image):
  return lambda tree: save(tree / name, image)


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (
      remove('BlurryImages/Blurry3_12.png'),
      '{t} holds no Blurry3_12.png; unpack BlurryImages.zip there',
    ),
    (
      remove('GroundTruth/GroundTruth2_5_1.png', 'GroundTruth/GroundTruth2_5_2.png'),
      '{t} holds no reference frame of Blurry2_5.png, such as GroundTruth2_5_1.png; unpack '
      'GroundTruth_pngs_Image2.zip there',
    ),
    (
      add('b/blurry01_01.PNG', photo(1, 1)),
      '{t}/BlurryImages/Blurry1_1.png and {t}/b/blurry01_01.PNG have the same numbers; remove one',
    ),
    (
      add('GroundTruth1_1_002.png', photo(1, 1)),
      '{t}/GroundTruth1_1_002.png and {t}/Image1/Kernel1/GroundTruth1_1_2.png have the same',
    ),
    (
      add('Blurry5_1.png', photo(1, 1)),
      '{t}/Blurry5_1.png: the scenes are 1 to 4, and the trajectories 1 to 12; remove it',
    ),
    (add('GroundTruth/GroundTruth1_13_1.png', photo(1, 1)), '{t}/GroundTruth/GroundTruth1_13_1'),
    (
      add('Image1/Kernel7/GroundTruth1_7_2.png', photo(1, 7)[:, :-4]),
      '{t}/Image1/Kernel7/GroundTruth1_7_2.png is 48x60 but {t}/BlurryImages/Blurry1_7.png is 48x',
    ),
    (
      add('BlurryImages/Blurry1_1.png', photo(1, 1)[:-1]),
      '{t}/BlurryImages/Blurry1_1.png is 47x64 (height x width), which 4 does not divide; unpack',
    ),
    (
      add('BlurryImages/Blurry1_1.png', photo(1, 1)[..., 0]),
      '{t}/BlurryImages/Blurry1_1.png has 8-bit grey pixels; frames must be 8-bit RGB',
    ),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tree, tmp_path, damage, message):
  damage(tree)
  with pytest.raises(UserError) as caught:
    lr_koehler.build(tree, tmp_path / 'out')
  assert str(caught.value).startswith(message.format(t=tree))
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'out').exists()


def test_folders_of_something_else(tmp_path):
  with pytest.raises(UserError, match=f'^{tmp_path}/none does not exist; pass the folder of the'):
    lr_koehler.build(tmp_path / 'none', tmp_path / 'out')
  with pytest.raises(UserError, match=f'^{tmp_path} holds no Blurry1_1.png; unpack BlurryImages'):
    lr_koehler.build(tmp_path, tmp_path / 'out')
  with pytest.raises(UserError, match='^data_dir must be a folder of this machine, not gs://b/c$'):
    lr_koehler.build(tmp_path, 'gs://b/c')
  with pytest.raises(UserError, match=f'^{tmp_path} is not a complete test set; --overwrite'):
    lr_koehler.summarise(tmp_path)


@pytest.mark.end_to_end
def test_the_command_with_two_workers(original, built, tmp_path):
  command = [sys.executable, '-m', 'data_prep.lr_koehler', '--workers=2']
  result = subprocess.run(
    [*command, f'--manual_dir={original}', f'--data_dir={tmp_path}'],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  folder = tmp_path / 'lr_koehler/1.0.0'
  assert result.stdout == f'{folder}: 48 images, 96 reference frames\n'
  assert everything_in(folder) == everything_in(built)
  for path in (built / 'lr_blur').iterdir():
    assert (folder / 'lr_blur' / path.name).read_bytes() == path.read_bytes()
