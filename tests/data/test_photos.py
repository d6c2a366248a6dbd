import itertools
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import UserError
from gfn_jax.configs import defaults
from gfn_jax.data.photo_cache import cut_window
from gfn_jax.data.photos import PhotoDataset
from gfn_jax.data.real_pairs import RealPairs
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.symmetries import apply_traced_symmetry

CAMERA = defaults.camera().to_dict() | {'exposure': (1.0, 1.0)}
NOTHING = (0.0, 0.0)
BLUR = CAMERA | {'frames': 3, 'regions': 0, 'shot_noise': NOTHING, 'read_noise': NOTHING}
OPTIONS = {'motion_blur': {'camera': BLUR}, 'margin': 8, 'photo_scales': (1.0,)}
turn = jax.jit(apply_traced_symmetry)


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
  """Compile the synthesis once instead of for each core. `test_motion_blur` tests two cores."""
  monkeypatch.setattr('os.cpu_count', lambda: 1)


def sources(path, share=0.5, reduce=4, blur='blur_gamma'):
  return {'gopro': {'path': path, 'blur': blur, 'reduce': reduce, 'share': share}}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Five photographs, one of them in a folder of its own."""
  root = tmp_path_factory.mktemp('photos')
  (root / 'more').mkdir()
  sources = {
    'a.png': skimage.data.astronaut()[:100, :140],
    'b.png': skimage.data.chelsea()[:120, :110],
    'c.png': skimage.data.coffee()[:90, :160],
    'd.jpg': skimage.data.rocket()[:128, :128],
    'more/e.png': skimage.data.astronaut()[100:220, 150:280],
  }
  for name, image in sources.items():
    Image.fromarray(image).save(root / name)
  return root


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  """Two pairs in two sequences, in GOPRO_Large's layout: blurred ones are darker."""
  root = tmp_path_factory.mktemp('pairs')
  for sequence, image in (('s1', skimage.data.coffee()), ('s2', skimage.data.chelsea())):
    for kind, divisor in (('sharp', 1), ('blur_gamma', 2)):
      (root / sequence / kind).mkdir(parents=True)
      Image.fromarray(image[:100, :120] // divisor).save(root / sequence / kind / '1.png')
  return root


def first(dataset, count, **options):
  settings = {'crop_size': 16, **options}
  return list(itertools.islice(dataset.train_batches(4, 7, **settings), count))


def assert_same(batches, expected):
  for batch, other in zip(batches, expected, strict=True):
    assert batch.keys() == other.keys()
    for key, value in batch.items():
      np.testing.assert_array_equal(value, other[key])


def test_batches_are_windows_of_the_photos(folder):
  dataset = PhotoDataset(folder, **OPTIONS)
  (batch,) = first(dataset, 1)
  assert batch['photo'].shape == (4, 80, 80, 3)
  assert batch['photo'].dtype == np.uint8
  assert batch['key'].shape == (4, 2)
  assert batch['key'].dtype == np.uint32
  assert len({tuple(key) for key in batch['key']}) == 4


def test_prepare_gives_what_the_step_takes(folder):
  dataset = PhotoDataset(folder, **OPTIONS)
  (batch,) = first(dataset, 1)
  examples = jax.jit(dataset.prepare)(batch)
  assert examples['hr'].shape == (4, 64, 64, 3)
  assert examples['lr_blur'].shape == (4, 16, 16, 3)
  for photo, symmetry, hr in zip(batch['photo'], batch['symmetry'], examples['hr'], strict=True):
    np.testing.assert_array_equal(turn(photo, symmetry)[8:-8, 8:-8], hr)
  assert (np.asarray(examples['lr']) != np.asarray(examples['lr_blur'])).any()


@pytest.mark.parametrize('step', [1, 3])
def test_a_run_that_starts_later_sees_the_same_batches(folder, pairs, step):
  dataset = PhotoDataset(folder, real_pairs=sources(pairs), **OPTIONS)
  assert_same(first(dataset, 2, start_step=step), first(dataset, step + 2)[step:])


def test_processes_share_the_global_batches(folder):
  dataset = PhotoDataset(folder, **OPTIONS)
  for whole, *parts in zip(
    first(dataset, 2),
    *(first(dataset, 2, process_index=i, process_count=2) for i in range(2)),
    strict=True,
  ):
    for key, value in whole.items():
      np.testing.assert_array_equal(value[0::2], parts[0][key])
      np.testing.assert_array_equal(value[1::2], parts[1][key])


SAVE_EXAMPLES = """
import sys
import jax, numpy as np
from gfn_jax.data.photos import PhotoDataset
from tests.data.test_photos import ALL_EFFECTS
assert jax.config.jax_enable_x64
[example] = PhotoDataset(sys.argv[1], **ALL_EFFECTS).images()
np.savez(sys.argv[2], **example)
"""
ALL_EFFECTS = OPTIONS | {
  'motion_blur': {
    'camera': CAMERA
    | {'frames': 7, 'read_noise': (0.01, 0.02), 'sharp_share': 0.1, 'jpeg_share': 0.9},
    'gopro': CAMERA | {'frames': 7, 'gamma': (1.0, 1.0)},
  },
  'held_out': 1,
  'scale': 2,
  'frames': True,
}


@pytest.mark.full
def test_examples_are_the_same_with_64_bits(folder, tmp_path):
  command = [sys.executable, '-c', SAVE_EXAMPLES, folder, tmp_path / 'saved.npz']
  subprocess.run(command, env=os.environ | {'JAX_ENABLE_X64': '1'}, check=True)
  [example] = PhotoDataset(folder, **ALL_EFFECTS).images()
  with np.load(tmp_path / 'saved.npz') as saved:
    assert set(saved) == set(example)
    for key, value in example.items():
      np.testing.assert_array_equal(saved[key], value)


def test_other_seeds_give_other_batches(folder):
  dataset = PhotoDataset(folder, **OPTIONS)
  one, other = (next(dataset.train_batches(4, seed, crop_size=16)) for seed in (0, 1))
  assert (one['photo'] != other['photo']).any()
  assert (one['key'] != other['key']).any()


def write_grey(folder, values, side=80):
  """Write a photo for each grey value, which names it."""
  for value in values:
    Image.new('RGB', (side, side), (value,) * 3).save(folder / f'{value:03}.png')


def greys(dataset, steps, **options):
  """Return the grey values of the photos of some batches, a row for each."""
  return [batch['photo'][:, 40, 40, 0].tolist() for batch in first(dataset, steps, **options)]


def test_every_photo_once_in_a_pass(tmp_path):
  write_grey(tmp_path, (10, 20, 30, 40, 50))
  dataset = PhotoDataset(tmp_path, held_out=1, **OPTIONS)
  assert dataset.num_examples('train') == 4
  assert dataset.steps_per_pass(4) == 1
  orders = greys(dataset, 6)
  assert {frozenset(order) for order in orders} == {frozenset((20, 30, 40, 50))}
  assert len({tuple(order) for order in orders}) > 1


def damage(path, kind):
  if kind == 'body':
    Image.effect_noise((80, 80), 90).convert('RGB').save(path)
    path.write_bytes(path.read_bytes()[:-9000])
  elif kind == 'transparent':
    Image.new('RGBA', (80, 80), (9, 9, 9, 128)).save(path)
  elif kind == 'header':
    path.write_bytes(b'no image')
  else:
    Image.new('RGB', (80, 60)).save(path)


@pytest.mark.parametrize('kind', ['body', 'transparent', 'header', 'small'])
@pytest.mark.parametrize('memory', [4.0, 0.0])
def test_one_bad_photo_gives_way_to_the_others(tmp_path, capfd, kind, memory):
  write_grey(tmp_path, (10, 20, 30, 40))
  damage(tmp_path / 'bad.png', kind)
  dataset = PhotoDataset(tmp_path, memory=memory, **OPTIONS)
  rows = greys(dataset, 5)
  assert {value for row in rows for value in row} == {10, 20, 30, 40}
  assert greys(dataset, 2, start_step=3) == rows[3:]
  again = PhotoDataset(tmp_path, memory=4.0 - memory, **OPTIONS)
  assert greys(again, 2, start_step=3) == rows[3:]
  lines = [line for line in capfd.readouterr().err.splitlines() if 'left out' in line]
  assert len(lines) == 2  # one of each data set
  assert all('bad.png' in line for line in lines)


def test_only_bad_photos_are_refused(tmp_path):
  damage(tmp_path / 'a.png', 'body')
  with pytest.raises(UserError, match='no training photo of .* can be decoded'):
    first(PhotoDataset(tmp_path, **OPTIONS), 1)
  damage(tmp_path / 'a.png', 'small')
  with pytest.raises(UserError, match=r'all 1 photos are smaller .* 64x64 .*a\.png'):
    first(PhotoDataset(tmp_path, **OPTIONS), 1)


def test_bad_photos_are_not_held_out(tmp_path):
  write_grey(tmp_path, (10, 20, 30, 40))
  damage(tmp_path / '000.png', 'body')
  dataset = PhotoDataset(tmp_path, held_out=2, **OPTIONS)
  assert [example['name'] for example in dataset.images()] == ['010', '040']
  assert {value for row in greys(dataset, 4) for value in row} == {20, 30}


@pytest.mark.parametrize(('count', 'held_out'), [(1, 0), (2, 1), (14, 2), (120, 20)])
def test_a_fifth_of_the_photos_is_held_out_by_default(tmp_path, count, held_out):
  write_grey(tmp_path, range(count), side=8)
  dataset = PhotoDataset(tmp_path, held_out=-1, **OPTIONS)
  assert dataset.num_examples('test') == held_out
  assert dataset.num_examples('train') == count - held_out


def test_a_bad_pair_gives_way_to_the_others(folder, tmp_path, capfd):
  for kind in ('sharp', 'blur_gamma'):
    (tmp_path / kind).mkdir()
    write_grey(tmp_path / kind, (10, 20, 30, 40, 50))
  damage(tmp_path / 'sharp' / '010.png', 'header')
  damage(tmp_path / 'blur_gamma' / '030.png', 'transparent')
  for kind in ('sharp', 'blur_gamma'):
    damage(tmp_path / kind / '040.png', 'small')
  dataset = PhotoDataset(folder, real_pairs=sources(tmp_path, share=1.0), **OPTIONS)
  batches = first(dataset, 6)
  values = np.concatenate([batch['real_lr'][:, 0, 0, 0] for batch in batches])
  assert set(values.tolist()) == {20, 50}
  assert_same(first(dataset, 2, start_step=4), batches[4:])
  err = capfd.readouterr().err
  assert all(name in err for name in ('sharp/010.png', 'blur_gamma/030.png', 'sharp/040.png'))
  names = [image['name'] for image in RealPairs(tmp_path, 'blur_gamma', 4).images()]
  assert names == ['020', '040', '050']


def test_examples_take_all_eight_symmetries(tmp_path):
  # A photo of the size of a crop, so that only the symmetry is left.
  image = skimage.data.astronaut()[:64, :64]
  Image.fromarray(image).save(tmp_path / 'a.png')
  dataset = PhotoDataset(tmp_path, **(OPTIONS | {'margin': 0}))
  symmetries = [np.rot90(m, turns) for m in (image, image[:, ::-1]) for turns in range(4)]
  prepare = jax.jit(dataset.prepare)
  examples = np.concatenate([prepare(batch)['hr'] for batch in first(dataset, 12)])
  found = [next(i for i, s in enumerate(symmetries) if (s == e).all()) for e in examples]
  assert set(found) == set(range(8))


def test_windows_are_mirrored_beyond_the_photo():
  photo = np.arange(30, dtype=np.uint8).reshape(5, 6, 1).repeat(3, -1)
  window = cut_window(photo, -2, 3, 6)[..., 0]
  np.testing.assert_array_equal(window, np.pad(photo[..., 0], 3, 'symmetric')[1:7, 6:12])


def test_crops_reach_the_corners_of_the_photo_and_no_further(tmp_path):
  y, x = np.mgrid[:68, :66]
  Image.fromarray(np.stack([y, x, 0 * x], -1).astype(np.uint8)).save(tmp_path / 'a.png')
  dataset = PhotoDataset(tmp_path, **OPTIONS)
  photos_cut = np.concatenate([batch['photo'] for batch in first(dataset, 60)])
  corners = {tuple(map(int, photo[8, 8, :2])) for photo in photos_cut}  # within the margin
  assert corners == {(y, x) for y in range(5) for x in range(3)}


def test_reduced_photos_show_more(tmp_path):
  y, x = np.mgrid[:256, :256]
  gradient = np.stack([x, y, 0 * x], -1).astype(np.uint8)
  Image.fromarray(gradient).save(tmp_path / 'a.png')
  dataset = PhotoDataset(tmp_path, **(OPTIONS | {'photo_scales': (1.0, 0.5), 'margin': 0}))
  windows = np.concatenate([batch['photo'] for batch in first(dataset, 5)])
  steps = np.median(np.abs(np.diff(windows[..., 0].astype(int), axis=2)), axis=(1, 2))
  assert set(steps) == {1, 2}  # pixels of the photo to a pixel of the crop


def test_a_photo_is_reduced_no_further_than_its_size_allows(folder):
  dataset = PhotoDataset(folder, **(OPTIONS | {'photo_scales': (1.0, 0.1)}))
  whole = PhotoDataset(folder, **OPTIONS)
  assert_same(first(dataset, 2), first(whole, 2))


def test_real_pairs_are_mixed_in(folder, pairs):
  dataset = PhotoDataset(folder, real_pairs=sources(pairs), **OPTIONS)
  (batch,) = first(dataset, 1)
  assert len(batch['photo']) == len(batch['real_hr']) == 2
  examples = {key: np.asarray(x) for key, x in jax.jit(dataset.prepare)(batch).items()}
  assert 'has_hr' not in examples  # all have one
  for i, symmetry in enumerate(batch['symmetry']):
    photo = turn(batch['photo'][i], symmetry)
    np.testing.assert_array_equal(examples['hr'][i], photo[8:-8, 8:-8])
  for i, symmetry in enumerate(batch['real_symmetry']):
    hr = batch['real_hr'][i]
    expected = {'hr': hr, 'lr_blur': imresize(hr // 2, 0.25), 'lr': imresize(hr, 0.25)}
    for key in ('hr', 'lr_blur', 'lr'):
      turned = turn(expected[key], symmetry)
      np.testing.assert_array_equal(examples[key][2 + i], turned)


def test_sources_of_real_pairs_are_drawn_by_their_shares(folder, pairs, tmp_path):
  for kind, value in (('sharp', 200), ('blurry', 100)):
    (tmp_path / kind).mkdir()
    Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(tmp_path / kind / 'x.png')
  both = sources(pairs, share=0.25) | {
    'half': {'path': tmp_path, 'blur': 'blurry', 'reduce': 2, 'share': 0.5},
    'unused': {'path': '', 'blur': 'blur', 'reduce': 1, 'share': 0.25},
  }
  dataset = PhotoDataset(folder, real_pairs=both, **OPTIONS)
  has_hr = np.concatenate([batch['real_has_hr'] for batch in first(dataset, 40)])
  assert has_hr.size == 40 * 3
  assert 0.2 < has_hr.mean() < 0.47  # a third
  (batch,) = first(dataset, 1)
  examples = {key: np.asarray(x) for key, x in jax.jit(dataset.prepare)(batch).items()}
  assert examples['has_hr'].tolist() == [True, *batch['real_has_hr']]
  for i in np.flatnonzero(~examples['has_hr']):
    assert (examples['lr'][i] == 200).all()
    assert (examples['lr_blur'][i] == 100).all()
    assert (examples['hr'][i] == 0).all()
  facts = dataset.metadata['real_pairs']
  assert sorted(facts) == ['gopro', 'half']
  assert facts['half']['reduce'] == 2


def test_real_pairs_with_a_share_of_0_are_not_read(folder):
  dataset = PhotoDataset(folder, real_pairs=sources('missing', share=0.0, reduce=2), **OPTIONS)
  (batch,) = first(dataset, 1)
  assert 'real_lr' not in batch
  assert 'has_hr' not in jax.eval_shape(dataset.prepare, batch)
  assert dataset.metadata['real_pairs'] == {}


def test_processes_that_cannot_share_the_real_pairs_are_refused(folder, pairs):
  dataset = PhotoDataset(folder, real_pairs=sources(pairs, share=0.25), **OPTIONS)
  with pytest.raises(UserError, match='1 of the 4 examples .* which 2 processes cannot share'):
    first(dataset, 1, process_count=2)


def test_shares_too_small_for_a_batch_are_refused(folder, pairs):
  dataset = PhotoDataset(folder, real_pairs=sources(pairs, share=0.1), **OPTIONS)
  with pytest.raises(
    UserError, match='share of 0.1, which gives none of 4 examples; raise batch_size'
  ):
    first(dataset, 1)


def test_worlds_are_drawn_by_their_shares(folder):
  still = BLUR | {'sharp_share': 1.0, 'gamma': (1.0, 1.0), 'share': 3.0}
  worlds = {'still': still, 'dark': still | {'exposure': (0.5, 0.5), 'share': 1.0}}
  dataset = PhotoDataset(folder, **(OPTIONS | {'motion_blur': worlds}))
  batches = first(dataset, 20)
  drawn = np.concatenate([batch['world'] for batch in batches])
  assert 0.6 < drawn.mean() < 0.9  # 'dark' is the first by name
  prepare = jax.jit(dataset.prepare)
  for batch in batches[:4]:
    examples = {key: np.asarray(x) for key, x in prepare(batch).items()}
    for i, (photo, symmetry) in enumerate(zip(batch['photo'], batch['symmetry'], strict=True)):
      sharp = np.asarray(turn(photo, symmetry))[8:-8, 8:-8]
      expected = sharp if batch['world'][i] else np.floor(sharp * 0.5 + 0.5)
      np.testing.assert_array_equal(examples['hr'][i], expected)
      np.testing.assert_array_equal(examples['lr'][i], examples['lr_blur'][i])


def test_photos_of_a_list_alone(folder, tmp_path):
  rows = ['name,width,height,held_out', 'a,140,100,0', 'b,110,120,1', 'c,160,90,0', 'd,128,128,0']
  photo_list = tmp_path / 'list.csv'
  photo_list.write_text('\n'.join(rows))
  with pytest.raises(UserError, match=r'more/e'):
    PhotoDataset(folder, photo_list=photo_list, **OPTIONS)
  photo_list.write_text('\n'.join([*rows, 'more/e,130,120,0']))
  dataset = PhotoDataset(folder, photo_list=photo_list, **OPTIONS)
  assert dataset.num_examples('train') == 4
  assert [example['name'] for example in dataset.images('test')] == ['b']


def test_photos_at_half_their_size(tmp_path):
  Image.fromarray(skimage.data.astronaut()).save(tmp_path / 'a.png')
  dataset = PhotoDataset(tmp_path, **(OPTIONS | {'photo_scales': (0.5,), 'scale': 2}))
  half = np.asarray(Image.open(tmp_path / 'a.png').resize((256, 256), Image.Resampling.BICUBIC))
  (batch,) = first(dataset, 1)
  windows = np.lib.stride_tricks.sliding_window_view(half, (32, 32, 3)).reshape(-1, 32, 32, 3)
  for photo in batch['photo']:
    assert (windows == photo[8:-8, 8:-8]).all(axis=(1, 2, 3)).any()


@pytest.mark.parametrize(
  'scale', [1, pytest.param(2, marks=pytest.mark.full), pytest.param(3, marks=pytest.mark.full)]
)
def test_other_scales_and_sharp_frames(folder, scale):
  options = OPTIONS | {'motion_blur': {'camera': BLUR | {'frames': 7}}}
  dataset = PhotoDataset(folder, scale=scale, frames=True, held_out=1, **options)
  (batch,) = first(dataset, 1)
  assert batch['photo'].shape == (4, 16 * scale + 16, 16 * scale + 16, 3)
  examples = jax.jit(dataset.prepare)(batch)
  assert examples['hr'].shape == (4, 16 * scale, 16 * scale, 3)
  assert examples['frames'].shape == (4, 7, 16, 16, 3)
  for i in range(4):
    np.testing.assert_array_equal(examples['frames'][i, 3], examples['lr'][i])
    hr_blur = np.asarray(examples['hr_blur'][i])
    np.testing.assert_array_equal(examples['lr_blur'][i], imresize(hr_blur, 1 / scale))
  (image,) = dataset.images('test')
  assert image['lr_blur'].shape == (64, 64, 3)
  assert image['hr'].shape == (64 * scale, 64 * scale, 3)
  assert image['frames'].shape == (7, 64, 64, 3)
  np.testing.assert_array_equal(image['frames'][3], image['lr'])


def test_real_pairs_have_no_frames(folder, pairs):
  options = OPTIONS | {'motion_blur': {'camera': BLUR | {'frames': 7}}}
  with pytest.raises(UserError, match='real_pairs have no sharp frames: remove them'):
    PhotoDataset(folder, frames=True, real_pairs=sources(pairs), **options)


def test_only_real_pairs(folder, pairs):
  dataset = PhotoDataset(folder, real_pairs=sources(pairs, share=1.0), **OPTIONS)
  (batch,) = first(dataset, 1)
  assert 'photo' not in batch
  assert jax.jit(dataset.prepare)(batch)['lr'].shape == (4, 16, 16, 3)


def test_held_out_photos_are_spread_and_not_trained_on(folder):
  dataset = PhotoDataset(folder, held_out=2, **OPTIONS)
  examples = list(dataset.images('test'))
  assert [example['name'] for example in examples] == ['a', 'e']
  assert dataset.num_examples('train') == 3
  assert dataset.num_examples('test') == 2
  for example in examples:
    assert example['lr_blur'].shape == (64, 64, 3)
    assert example['hr'].shape == (256, 256, 3)
  again = list(PhotoDataset(folder, held_out=2, **OPTIONS).images('test'))
  assert_same(again, examples)
  assert [e['name'] for e in dataset.images('test', limit=1)] == ['a']
  assert [e['name'] for e in dataset.images('train')] == ['b', 'c', 'd']


def test_photos_that_do_not_fit_into_memory_give_the_same_batches(folder, capfd):
  dataset = PhotoDataset(folder, memory=80e3 / 2**30, **OPTIONS)
  assert '1 of 5 photos fit' in capfd.readouterr().err
  assert_same(first(dataset, 2), first(PhotoDataset(folder, **OPTIONS), 2))


def test_the_digest_tells_other_photos(folder, tmp_path):
  Image.fromarray(skimage.data.astronaut()).save(tmp_path / 'a.png')
  one, other = (PhotoDataset(path, **OPTIONS).metadata for path in (folder, tmp_path))
  assert one['photos'] != other['photos']
  assert one['train_photos'] == 5


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'held_out': 5}, 'held_out is 5, but .* has 5 photos'),
    ({'photo_scales': (0.5, 2.0)}, 'photo_scales must be factors above 0 and at most 1'),
    ({'photo_scales': (1.0, 0.0)}, 'photo_scales must be factors above 0'),
    ({'photo_scales': ()}, 'photo_scales must be factors above 0'),
    ({'motion_blur': {'camera': {'frames': 2}}}, 'motion_blur.camera: frames must be odd'),
    ({'motion_blur': {'camera': {'speed': 2}}}, 'motion_blur.camera: .*speed'),
    ({'motion_blur': {'frames': 3}}, 'motion_blur.frames must be the options of a world, not 3'),
    ({'motion_blur': {}}, 'motion_blur needs a world'),
    ({'motion_blur': {'camera': {'share': -1.0}}}, 'motion_blur needs a world'),
    ({'motion_blur': {'a': {'frames': 3}, 'b': {}}}, 'frames and regions must be the same'),
    ({'real_pairs': sources('x', share=1.5)}, 'shares of real_pairs must be 0 or more, with a sum'),
    ({'real_pairs': sources('somewhere')}, 'cannot read somewhere: No such file'),
    ({'real_pairs': {'a': {'path': 'x', 'share': 1, 'size': 2}}}, "a has no option 'size'"),
    ({'scale': 5}, 'unknown scale 5; choose from 1, 2, 3, 4'),
    ({'frames': True}, r'frames=True needs motion_blur.*.frames of at least 7, not 3'),
  ],
)
def test_options_that_make_no_sense_are_refused(folder, changes, message):
  with pytest.raises(UserError, match=message):
    PhotoDataset(folder, **(OPTIONS | changes))


def test_missing_and_unusable_folders_are_refused(tmp_path):
  with pytest.raises(UserError, match='pass --config.data.photos=DIR'):
    PhotoDataset('', **OPTIONS)
  with pytest.raises(UserError, match='no such file or folder'):
    PhotoDataset(tmp_path / 'none', **OPTIONS)
  with pytest.raises(UserError, match='no image in'):
    PhotoDataset(tmp_path, **OPTIONS)
  (tmp_path / 'bad.png').write_bytes(b'no image')
  with pytest.raises(UserError, match='cannot read .*bad.png'):
    PhotoDataset(tmp_path, **OPTIONS)


def test_photos_smaller_than_a_crop_are_left_out_by_name(folder, capfd):
  dataset = PhotoDataset(folder, **OPTIONS)
  dataset.check_crop_size(26)
  next(dataset.train_batches(4, 0, crop_size=26))
  err = capfd.readouterr().err
  assert err.count('2 of 5 photos are smaller than a crop of 104x104') == 1
  assert f'{folder}/a.png, {folder}/c.png' in err


def test_held_out_photos_are_needed_for_test_images(folder):
  with pytest.raises(UserError, match='held out'):
    next(PhotoDataset(folder, **OPTIONS).images('test'))


def test_pairs_of_different_sizes_are_refused(folder, tmp_path):
  for kind, size in (('sharp', 100), ('blur', 90)):
    (tmp_path / kind).mkdir()
    Image.fromarray(skimage.data.astronaut()[:size, :100]).save(tmp_path / kind / 'x.png')
  options = OPTIONS | {'real_pairs': sources(tmp_path, blur='blur')}
  with pytest.raises(UserError, match=r'x.png .*sharp and blurred image differ in size'):
    PhotoDataset(folder, **options)
