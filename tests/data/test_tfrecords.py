import collections
import itertools
import runpy
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from gfn_jax.data import tfrecords
from gfn_jax.errors import UserError

COUNT = 42  # train examples, in files of 5
BATCH = 4
STEPS = COUNT // BATCH  # of a pass, which leaves two examples out
CORNERS = np.array([[0, 1], [2, 3]])


def square(index):
  """A 2x2 image that names its example and shows its symmetry."""
  return (4 * index + CORNERS)[..., None].repeat(3, axis=2).astype(np.uint8)


def enlarged(image):
  return 255 - image.repeat(4, axis=0).repeat(4, axis=1)


def symmetries(image):
  """The eight symmetries of an image, by the rule: mirror, then turn counter-clockwise."""
  return [
    np.rot90(base, turns) for base in (image, image[:, ::-1]) for turns in range(4)
  ]  # fmt: skip


SYMMETRY_OF = {symmetries(CORNERS)[s].tobytes(): s for s in range(8)}


def write_dataset(folder, lr_feature, convert, train, test=3):
  folder.mkdir(exist_ok=True)
  image = tfds.features.Image(shape=(None, None, 3), encoding_format='png')
  features = {'lr_blur': lr_feature, 'lr': lr_feature, 'hr': image, 'name': tfds.features.Text()}
  identity = tfds.core.dataset_info.DatasetIdentity(
    name='patches', version=tfds.core.Version('1.0.0'), data_dir=str(folder), module_name=__name__
  )
  info = tfds.core.DatasetInfo(
    builder=identity,
    features=tfds.features.FeaturesDict(features),
    metadata=tfds.core.MetadataDict(blur_folder='blur_gamma'),
  )
  writer = tfds.core.SequentialWriter(info, max_examples_per_shard=5)

  def example(index):
    small = square(index)
    images = {'lr_blur': convert(small), 'lr': convert(small), 'hr': enlarged(small)}
    return images | {'name': f'é/{index:06d}'}

  for split, count in (('train', train), ('test', test)):
    if count:
      writer.initialize_splits([split])
      writer.add_examples({split: [example(index) for index in range(count)]})
      writer.close_splits([split])
  return folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  image = tfds.features.Image(shape=(None, None, 3), encoding_format='png')
  return write_dataset(tmp_path_factory.mktemp('uint8'), image, lambda x: x, COUNT)


@pytest.fixture(scope='module')
def dataset(folder):
  return tfrecords.TFRecordDataset(folder)


@pytest.fixture
def copy(folder, tmp_path):
  return shutil.copytree(folder, tmp_path / 'copy')


def identify(image):
  """(index, symmetry) of an `lr_blur` or `lr`, `[2, 2, 3]`."""
  index = int(image.min()) // 4
  return index, SYMMETRY_OF[(image[..., 0].astype(int) - 4 * index).tobytes()]


def take(dataset, steps, batch_size=BATCH, seed=0, **options):
  """The first batches as lists of (index, symmetry)."""
  options = {'shuffle_buffer': 16} | options
  batches = itertools.islice(dataset.train_batches(batch_size, seed, **options), steps)
  return [[identify(image) for image in batch['lr_blur']] for batch in batches]


def indices(batches):
  return [index for batch in batches for index, _ in batch]


def test_what_the_dataset_says_of_itself(dataset, folder):
  assert dataset.num_examples('train') == COUNT
  assert dataset.num_examples('test') == 3
  assert dataset.num_examples('validation') == 0
  assert dataset.metadata == {'blur_folder': 'blur_gamma'}
  assert dataset.path == str(folder)
  assert len(list(folder.glob('*train.tfrecord*'))) == 9


def test_batches_hold_the_images_as_stored_all_turned_alike(dataset):
  for batch in itertools.islice(dataset.train_batches(BATCH, 3), STEPS):
    assert batch.keys() == {'lr_blur', 'lr', 'hr'}
    for lr_blur, lr, hr in zip(batch['lr_blur'], batch['lr'], batch['hr'], strict=True):
      index, symmetry = identify(lr_blur)
      np.testing.assert_array_equal(lr_blur, symmetries(square(index))[symmetry], strict=True)
      np.testing.assert_array_equal(lr, lr_blur, strict=True)
      np.testing.assert_array_equal(hr, enlarged(lr_blur), strict=True)


def test_a_pass_takes_no_example_twice_and_the_next_leaves_out_others(dataset):
  batches = take(dataset, 6 * STEPS)
  left_out = set()
  for start in range(0, 6 * STEPS, STEPS):
    seen = indices(batches[start : start + STEPS])
    assert len(seen) == len(set(seen)) == STEPS * BATCH
    left_out |= set(range(COUNT)) - set(seen)
  assert len(left_out) > 2


def test_a_batch_size_that_divides_takes_everything_once(dataset):
  for number in range(2):
    batches = take(dataset, 7, batch_size=6, start_step=7 * number)
    assert sorted(indices(batches)) == list(range(COUNT))


def test_the_order_is_shuffled_anew_in_each_pass(dataset):
  seen = indices(take(dataset, 14, batch_size=6))
  first, second = seen[:COUNT], seen[COUNT:]
  for order, other in ((first, second), (first, range(COUNT)), (second, range(COUNT))):
    assert sum(a == b for a, b in zip(order, other, strict=True)) < 8  # 1 is expected
  # Files are shuffled too: their records come from everywhere though the buffer is small.
  early = indices(take(dataset, 1, batch_size=6, shuffle_buffer=1, seed=2))
  assert max(early) - min(early) > 20


def test_a_seed_gives_one_stream(dataset, folder):
  batches = take(dataset, 2 * STEPS, seed=5)
  assert take(dataset, 2 * STEPS, seed=5) == batches
  assert take(tfrecords.TFRecordDataset(folder), 2 * STEPS, seed=5) == batches
  other = take(dataset, 2 * STEPS, seed=6)
  assert indices(other) != indices(batches)
  assert dict(sum(other[:STEPS], [])) != dict(sum(batches[:STEPS], []))


@pytest.mark.parametrize('start', [1, STEPS - 1, STEPS, STEPS + 3, 2 * STEPS + 1])
def test_a_start_step_continues_the_stream(dataset, start):
  whole = take(dataset, start + 3)
  assert take(dataset, 3, start_step=start) == whole[start:]


def test_skipped_images_are_not_decoded(copy):
  # The first example of a file is damaged where only decoding finds it out.
  dataset = tfrecords.TFRecordDataset(copy)
  order = indices(take(dataset, STEPS))
  late = order[-1]
  damaged = sorted(copy.glob('*train.tfrecord*'))[late // 5]
  records = [record.numpy() for record in tf.data.TFRecordDataset(str(damaged))]
  records[late % 5] = records[late % 5].replace(b'\x89PNG', b'\x89BAD')
  with tf.io.TFRecordWriter(str(damaged)) as writer:
    for record in records:
      writer.write(record)
  assert indices(take(dataset, 1, start_step=STEPS)) != []
  with pytest.raises(UserError, match='is damaged, build it again'):
    take(dataset, STEPS)


@pytest.mark.parametrize('processes', [2, 4])
def test_processes_share_the_global_batches_of_one(dataset, processes):
  start, steps = STEPS - 2, 5  # over the end of a pass
  alone = take(dataset, steps, start_step=start)
  shares = [
    take(dataset, steps, start_step=start, process_index=i, process_count=processes)
    for i in range(processes)
  ]
  for step in range(steps):
    assert all(len(share[step]) == BATCH // processes for share in shares)
    assert sorted(sum((share[step] for share in shares), [])) == sorted(alone[step])


def test_symmetries_are_uniform_and_new_in_each_pass(dataset):
  passes = 20
  batches = take(dataset, passes * STEPS)
  counts = collections.Counter(symmetry for batch in batches for _, symmetry in batch)
  expected = passes * STEPS * BATCH / 8
  chi_squared = sum((counts[s] - expected) ** 2 / expected for s in range(8))
  assert chi_squared < 24.3  # one in a thousand
  of_example = collections.defaultdict(set)
  for index, symmetry in sum(batches, []):
    of_example[index].add(symmetry)
  assert len(of_example) == COUNT
  assert min(len(found) for found in of_example.values()) >= 4


def test_float_images_are_kept_unrounded(tmp_path):
  feature = tfds.features.Tensor(
    shape=(None, None, 3), dtype=np.float32, encoding=tfds.features.Encoding.BYTES
  )
  convert = lambda image: image.astype(np.float32) / 64 - 0.25  # exact; outside [0, 1] too
  folder = write_dataset(tmp_path / 'float', feature, convert, train=8, test=0)
  dataset = tfrecords.TFRecordDataset(tmp_path)
  assert dataset.path == str(folder)  # found below
  (batch,) = itertools.islice(dataset.train_batches(8, 0), 1)
  assert batch['lr_blur'].dtype == batch['lr'].dtype == np.float32
  seen = set()
  for lr_blur, lr, hr in zip(batch['lr_blur'], batch['lr'], batch['hr'], strict=True):
    np.testing.assert_array_equal(lr, lr_blur)
    whole = (lr_blur + 0.25) * 64
    np.testing.assert_array_equal(hr, enlarged(whole.astype(np.uint8)), strict=True)
    seen.add(identify(whole)[0])
  assert seen == set(range(8))


@pytest.mark.parametrize('symmetry', range(8))
def test_apply_symmetry_eagerly_and_inside_tf_data(symmetry):
  image = np.random.default_rng(0).integers(0, 256, (3, 3, 3), np.uint8)
  expected = symmetries(image)[symmetry]
  np.testing.assert_array_equal(tfrecords.apply_symmetry(image, symmetry), expected, strict=True)
  dataset = tf.data.Dataset.from_tensors((image, tf.constant(symmetry)))
  (inside,) = dataset.map(tfrecords.apply_symmetry).as_numpy_iterator()
  np.testing.assert_array_equal(inside, expected, strict=True)


@pytest.mark.parametrize(('limit', 'count'), [(0, 3), (1, 1), (2, 2), (9, 3)])
def test_test_images_come_as_stored(dataset, limit, count):
  images = list(dataset.images(limit=limit))
  assert [image['name'] for image in images] == [f'é/{i:06d}' for i in range(count)]
  for index, image in enumerate(images):
    assert image.keys() == {'name', 'lr_blur', 'lr', 'hr'}
    np.testing.assert_array_equal(image['lr_blur'], square(index), strict=True)
    np.testing.assert_array_equal(image['hr'], enlarged(square(index)), strict=True)


def test_train_images_can_be_looked_at_in_order(dataset):
  assert [image['name'] for image in dataset.images('train')][41] == 'é/000041'


def test_no_such_dataset(tmp_path):
  with pytest.raises(UserError, match=r"no dataset in '.*none': build one with `python -m data_p"):
    tfrecords.TFRecordDataset(tmp_path / 'none')
  with pytest.raises(UserError, match='no dataset in'):
    tfrecords.TFRecordDataset(tmp_path)


def test_several_datasets(folder, tmp_path):
  for name in 'ab':
    shutil.copytree(folder, tmp_path / name)
  with pytest.raises(UserError, match='holds several datasets; name one: .*/a, .*/b$'):
    tfrecords.TFRecordDataset(tmp_path)
  assert tfrecords.TFRecordDataset(tmp_path / 'b').num_examples('train') == COUNT


def test_a_dataset_of_something_else(tmp_path):
  identity = tfds.core.dataset_info.DatasetIdentity(
    name='names', version=tfds.core.Version('1.0.0'), data_dir=str(tmp_path), module_name=__name__
  )
  features = tfds.features.FeaturesDict({'name': tfds.features.Text()})
  writer = tfds.core.SequentialWriter(
    tfds.core.DatasetInfo(builder=identity, features=features), max_examples_per_shard=5
  )
  writer.initialize_splits(['train'])
  writer.add_examples({'train': [{'name': 'a'}]})
  writer.close_splits(['train'])
  with pytest.raises(UserError, match="has no 'lr_blur'; build it with data_prep"):
    tfrecords.TFRecordDataset(tmp_path)


def test_splits_that_are_too_small(dataset):
  with pytest.raises(UserError, match='has 42 train patches, less than a batch of 43'):
    take(dataset, 1, batch_size=43)
  assert sorted(indices(take(dataset, 1, batch_size=42))) == list(range(COUNT))
  with pytest.raises(UserError, match='has no validation images'):
    list(dataset.images('validation'))


def truncate(path):
  path.write_bytes(path.read_bytes()[:-20])


def flip_a_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize('damage', [truncate, flip_a_bit, lambda path: path.unlink()])
def test_damaged_files(copy, damage):
  damage(sorted(copy.glob('*train.tfrecord*'))[-1])
  damage(sorted(copy.glob('*test.tfrecord*'))[-1])
  dataset = tfrecords.TFRecordDataset(copy)
  with pytest.raises(UserError, match=f'^{copy} is damaged, build it again: .+'):
    take(dataset, 2 * STEPS)
  with pytest.raises(UserError, match=f'^{copy} is damaged, build it again: .+'):
    list(dataset.images())


def test_tensorflow_is_kept_away_from_the_gpu(monkeypatch):
  calls = []
  monkeypatch.setattr(tf.config, 'set_visible_devices', lambda *args: calls.append(args))
  runpy.run_path(tfrecords.__file__)
  assert calls == [([], 'GPU')]


def test_crops_of_all_images_show_the_same_place(dataset):
  places = collections.Counter()
  for batch in itertools.islice(dataset.train_batches(BATCH, 0, crop_size=1), 4 * STEPS):
    assert batch['lr_blur'].shape == (BATCH, 1, 1, 3)
    np.testing.assert_array_equal(batch['lr'], batch['lr_blur'])
    np.testing.assert_array_equal(
      batch['hr'], enlarged(batch['lr_blur'].transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    )
    places.update(int(value) % 4 for value in batch['lr_blur'][:, 0, 0, 0])
  assert set(places) == {0, 1, 2, 3}
  assert min(places.values()) > 20  # of 160, 40 each expected


def test_crops_reach_every_corner_and_are_a_function_of_the_seed():
  image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
  images = {'lr_blur': image, 'lr': image + 100, 'hr': enlarged(image)}
  corners = set()
  for seed in range(60):
    crop = tfrecords.random_crop(images, 2, tf.constant([1, seed]))
    again = tfrecords.random_crop(images, 2, tf.constant([1, seed]))
    corner = int(crop['lr_blur'][0, 0, 0])
    y, x = divmod(corner, 4)
    np.testing.assert_array_equal(crop['lr_blur'], image[y : y + 2, x : x + 2])
    np.testing.assert_array_equal(crop['lr'], image[y : y + 2, x : x + 2] + 100)
    np.testing.assert_array_equal(crop['hr'], enlarged(image[y : y + 2, x : x + 2]))
    np.testing.assert_array_equal(again['hr'], crop['hr'])
    corners.add(corner)
  assert corners == {0, 1, 2, 4, 5, 6}


def test_a_crop_larger_than_the_patches_is_refused(dataset_dir):
  dataset = tfrecords.TFRecordDataset(dataset_dir)
  with pytest.raises(UserError, match='crop_size 65 is more than the patches of .* have: 64'):
    next(dataset.train_batches(4, 0, crop_size=65))
  assert next(dataset.train_batches(4, 0, crop_size=64))['lr'].shape == (4, 64, 64, 3)
