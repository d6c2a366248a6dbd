import collections
import functools
import itertools
import os
import runpy
import shutil
import subprocess
import sys

import jax
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


PNG = tfds.features.Image(shape=(None, None, 3), encoding_format='png')


def tensor(dtype, encoding):
  return tfds.features.Tensor(shape=(None, None, 3), dtype=dtype, encoding=encoding)


FEATURES = {  # as the builder stores 8-bit images
  'lr_blur': tensor(np.uint8, 'bytes'),
  'lr': tensor(np.uint8, 'bytes'),
  'hr': tensor(np.uint8, 'zlib'),
  'name': tfds.features.Text(),
}


def example(index, convert=lambda image: image):
  small = square(index)
  images = {'lr_blur': convert(small), 'lr': convert(small), 'hr': enlarged(small)}
  return images | {'name': f'é/{index:06d}'}


def write_dataset(folder, examples, facts=(('patch_size', 8),), **features):
  """Writes lists of examples, per split, in files of five."""
  folder.mkdir(exist_ok=True)
  identity = tfds.core.dataset_info.DatasetIdentity(
    name='patches', version=tfds.core.Version('1.0.0'), data_dir=str(folder), module_name=__name__
  )
  info = tfds.core.DatasetInfo(
    builder=identity,
    features=tfds.features.FeaturesDict(FEATURES | features),
    metadata=tfds.core.MetadataDict(facts, blur_folder='blur_gamma'),
  )
  writer = tfds.core.SequentialWriter(info, max_examples_per_shard=5)
  for split in examples:
    writer.initialize_splits([split])
    writer.add_examples({split: examples[split]})
    writer.close_splits([split])
  return folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  examples = {'train': map(example, range(COUNT)), 'test': map(example, range(3))}
  return write_dataset(tmp_path_factory.mktemp('uint8'), examples)


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


def prepared(dataset, steps, batch_size=BATCH, seed=0, **options):
  """The first batches, augmented."""
  if 'shuffle_buffer' in options:
    dataset = tfrecords.TFRecordDataset(dataset.path, options.pop('shuffle_buffer'))
  batches = itertools.islice(dataset.train_batches(batch_size, seed, **options), steps)
  return (jax.device_get(PREPARE(batch)) for batch in batches)


PREPARE = jax.jit(functools.partial(tfrecords.TFRecordDataset.prepare, None))


def take(dataset, steps, batch_size=BATCH, seed=0, **options):
  """The first batches as lists of (index, symmetry)."""
  batches = prepared(dataset, steps, batch_size, seed, **options)
  return [[identify(image) for image in batch['lr_blur']] for batch in batches]


def indices(batches):
  return [index for batch in batches for index, _ in batch]


PASSES = 20


@pytest.fixture(scope='module')
def stream(dataset):
  """Return the batches of seed 0, shared because each call of `take` builds a pipeline."""
  return take(dataset, PASSES * STEPS)


FACTS = {'blur_folder': 'blur_gamma', 'patch_size': 8}


def test_what_the_dataset_says_of_itself(dataset, folder):
  assert dataset.num_examples('train') == COUNT
  assert dataset.num_examples('test') == 3
  assert dataset.num_examples('validation') == 0
  assert dataset.metadata == FACTS | {'shuffle_buffer': 2048}
  assert (dataset.scale, dataset.has_frames) == (4, False)
  assert dataset.path == str(folder)
  assert len(list(folder.glob('*train.tfrecord*'))) == 9


def test_batches_hold_the_images_as_stored_and_their_symmetry(dataset):
  for batch in itertools.islice(dataset.train_batches(BATCH, 3), STEPS):
    assert batch.keys() == {'lr_blur', 'lr', 'hr', 'symmetry'}
    assert batch['symmetry'].dtype == np.int32
    assert set(batch['symmetry']) <= set(range(8))
    for lr_blur, lr, hr in zip(batch['lr_blur'], batch['lr'], batch['hr'], strict=True):
      np.testing.assert_array_equal(lr_blur, square(identify(lr_blur)[0]), strict=True)
      np.testing.assert_array_equal(lr, lr_blur, strict=True)
      np.testing.assert_array_equal(hr, enlarged(lr_blur), strict=True)


def test_preparing_turns_all_images_of_an_example_alike(dataset):
  for batch in prepared(dataset, STEPS):
    assert batch.keys() == {'lr_blur', 'lr', 'hr'}
    for lr_blur, lr, hr in zip(batch['lr_blur'], batch['lr'], batch['hr'], strict=True):
      index, symmetry = identify(lr_blur)
      np.testing.assert_array_equal(lr_blur, symmetries(square(index))[symmetry], strict=True)
      np.testing.assert_array_equal(lr, lr_blur, strict=True)
      np.testing.assert_array_equal(hr, enlarged(lr_blur), strict=True)


def test_a_pass_takes_no_example_twice_and_the_next_leaves_out_others(stream):
  left_out = set()
  for start in range(0, 6 * STEPS, STEPS):
    seen = indices(stream[start : start + STEPS])
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


def test_a_seed_gives_one_stream(dataset, folder, stream):
  batches = stream[: 2 * STEPS]
  assert take(dataset, 2 * STEPS) == batches
  assert take(tfrecords.TFRecordDataset(folder), 2 * STEPS) == batches
  other = take(dataset, 2 * STEPS, seed=6)
  assert indices(other) != indices(batches)
  assert dict(sum(other[:STEPS], [])) != dict(sum(batches[:STEPS], []))


@pytest.mark.parametrize('start', [1, STEPS - 1, STEPS, STEPS + 3, 2 * STEPS + 1])
def test_a_start_step_continues_the_stream(dataset, stream, start):
  assert take(dataset, 3, start_step=start) == stream[start : start + 3]


def rewrite(path, change):
  """Replace the records of a file by what `change` returns for their list."""
  records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in change(records):
      writer.write(record)


def replace(number, record):
  return lambda records: [*records[:number], record, *records[number + 1 :]]


def serialized(features=None, **values):
  """A record as the builder writes it, with other values."""
  features = tfds.features.FeaturesDict(features or FEATURES)
  serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())
  encoded = features.encode_example({key: (example(0) | values)[key] for key in features})
  return serializer.serialize_example(encoded)


def test_skipped_images_are_not_decoded(copy):
  # One example is damaged where only decoding finds it out; the next pass does not begin with it.
  dataset = tfrecords.TFRecordDataset(copy, shuffle_buffer=16)
  order = indices(take(dataset, STEPS))
  shard, number = divmod(order[-1], 5)
  path = sorted(copy.glob('*train.tfrecord*'))[shard]
  rewrite(path, replace(number, b'no example'))
  assert take(dataset, 1, start_step=STEPS)
  assert indices(take(dataset, STEPS - 1)) == order[:-BATCH]
  with pytest.raises(UserError, match=f'^{path}: record {number} is damaged .*; copy the'):
    take(dataset, 1, start_step=STEPS - 1)


@pytest.mark.parametrize('processes', [2, 4])
def test_processes_share_the_global_batches_of_one(dataset, stream, processes):
  start, steps = STEPS - 2, 5  # over the end of a pass
  alone = stream[start : start + steps]
  shares = [
    take(dataset, steps, start_step=start, process_index=i, process_count=processes)
    for i in range(processes)
  ]
  for step in range(steps):
    assert all(len(share[step]) == BATCH // processes for share in shares)
    assert sorted(sum((share[step] for share in shares), [])) == sorted(alone[step])


def test_symmetries_are_uniform_and_new_in_each_pass(stream):
  counts = collections.Counter(symmetry for batch in stream for _, symmetry in batch)
  expected = PASSES * STEPS * BATCH / 8
  chi_squared = sum((counts[s] - expected) ** 2 / expected for s in range(8))
  assert chi_squared < 24.3  # one in a thousand
  of_example = collections.defaultdict(set)
  for index, symmetry in sum(stream, []):
    of_example[index].add(symmetry)
  assert len(of_example) == COUNT
  assert min(len(found) for found in of_example.values()) >= 4


def test_float_images_are_kept_unrounded(tmp_path):
  convert = lambda image: image.astype(np.float32) / 64 - 0.25  # exact; outside [0, 1] too
  examples = {'train': [example(index, convert) for index in range(8)]}
  lr = tensor(np.float32, 'bytes')
  folder = write_dataset(tmp_path / 'float', examples, lr_blur=lr, lr=lr)
  dataset = tfrecords.TFRecordDataset(tmp_path)
  assert dataset.path == str(folder)  # found below
  (batch,) = prepared(dataset, 1, batch_size=8)
  assert batch['lr_blur'].dtype == batch['lr'].dtype == np.float32
  seen = set()
  for lr_blur, lr, hr in zip(batch['lr_blur'], batch['lr'], batch['hr'], strict=True):
    np.testing.assert_array_equal(lr, lr_blur)
    whole = (lr_blur + 0.25) * 64
    np.testing.assert_array_equal(hr, enlarged(whole.astype(np.uint8)), strict=True)
    seen.add(identify(whole)[0])
  assert seen == set(range(8))


def test_datasets_of_png_files_are_read_too(stream, tmp_path):
  # The builder wrote them until version 1.0.1.
  examples = {'train': map(example, range(COUNT))}
  folder = write_dataset(tmp_path, examples, lr_blur=PNG, lr=PNG, hr=PNG)
  assert take(tfrecords.TFRecordDataset(folder), STEPS) == stream[:STEPS]


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
  with pytest.raises(UserError, match=r"no dataset in '.*none': build one with `gfn-prepare"):
    tfrecords.TFRecordDataset(tmp_path / 'none')
  with pytest.raises(UserError, match='no dataset in'):
    tfrecords.TFRecordDataset(tmp_path)


def test_several_datasets(folder, tmp_path):
  for name in 'ab':
    shutil.copytree(folder, tmp_path / name)
  with pytest.raises(UserError, match='holds several datasets; choose from .*/a, .*/b$'):
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
  with pytest.raises(UserError, match="has no 'lr_blur'; build it with gfn-prepare"):
    tfrecords.TFRecordDataset(tmp_path)


def test_splits_that_are_too_small(dataset):
  with pytest.raises(UserError, match='has 42 train patches, less than a batch of 43'):
    take(dataset, 1, batch_size=43)
  assert sorted(indices(take(dataset, 1, batch_size=42))) == list(range(COUNT))
  with pytest.raises(UserError, match='has no validation images'):
    list(dataset.images('validation'))


TRAIN_FILE, TEST_FILE = 'patches-train.tfrecord-00008', 'patches-test.tfrecord-00000'
AGAIN = r'; copy the dataset again, or build it with --overwrite \(docs/datasets\.md\)$'


def starts(path):
  """Where the records of a file begin."""
  lengths = [16 + len(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
  return np.cumsum([0, *lengths[:-1]])


def flip(number, offset):
  """Flips one bit, `offset` bytes after the beginning of a record."""

  def change(path):
    content = bytearray(path.read_bytes())
    content[starts(path)[number] + offset] ^= 1
    path.write_bytes(content)

  return change


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda path: path.unlink(), ' is missing'),
    (lambda path: path.write_bytes(b''), ' has 0 records, not 2'),
    (lambda path: path.write_bytes(path.read_bytes()[:-20]), ': record 1 is .*damaged.*'),
    (lambda path: path.write_bytes(path.read_bytes()[:100]), ': record 0 is .*damaged.*'),
    (lambda path: rewrite(path, lambda records: records[:1]), ' has 1 records, not 2'),
    (lambda path: rewrite(path, lambda records: records + records[:1]), ' has 3 records, not 2'),
  ],
)  # fmt: skip
@pytest.mark.parametrize('when', ['before opening', 'after opening'])
def test_missing_and_surplus_records(copy, damage, message, when):
  path = copy / TRAIN_FILE
  if when == 'before opening':
    damage(path)
    with pytest.raises(UserError, match=f'^{path}{message}{AGAIN}'):
      tfrecords.TFRecordDataset(copy)
    return
  dataset = tfrecords.TFRecordDataset(copy)
  damage(path)
  for read in (lambda: take(dataset, 2 * STEPS), lambda: list(dataset.images('train'))):
    with pytest.raises(UserError, match=f'^{path}{message}{AGAIN}'):
      read()
  assert len(list(dataset.images('test'))) == 3


def test_a_file_that_cannot_be_read(copy):
  path = copy / TRAIN_FILE
  dataset = tfrecords.TFRecordDataset(copy)
  path.unlink()
  path.mkdir()
  with pytest.raises(UserError, match=f'^cannot read {path}: .*Is a directory'):
    take(dataset, 2 * STEPS)
  with pytest.raises(UserError, match=f'^cannot read {path}: .*Is a directory'):
    tfrecords.TFRecordDataset(copy)


@pytest.mark.parametrize(
  ('number', 'offset'),
  # Length, its check sum, content, its check sum.
  [(1, 0), (1, 9), pytest.param(0, 100, marks=pytest.mark.full), (1, 100), (1, -2)],
)
def test_a_flipped_bit(copy, number, offset):
  path = copy / TRAIN_FILE
  if offset < 0:
    offset += int(np.diff([*starts(path), path.stat().st_size])[number])
  flip(number, offset)(path)
  dataset = tfrecords.TFRecordDataset(copy)  # not read yet
  message = rf'^{path}: record {number} is damaged \(.*record at \d+.*\){AGAIN}'
  with pytest.raises(UserError, match=message):
    take(dataset, 2 * STEPS)
  with pytest.raises(UserError, match=message):
    list(dataset.images('train'))


SMALLER = {'lr_blur': square(0)[:1], 'lr': square(0)[:1], 'hr': enlarged(square(0)[:1])}


@pytest.mark.parametrize(
  ('record', 'reason'),
  [
    (serialized(lr_blur=enlarged(square(0))), r'.*\[8,8,3\] .*\[2,2,3\]'),
    (serialized(**SMALLER), r'.*\[1,2,3\] .*\[2,2,3\]'),
    (serialized(FEATURES | {'hr': PNG}), '.+'),
    (serialized({'name': tfds.features.Text()}), '.*(lr_blur|lr|hr)'),
    (serialized().replace(b'x\x9c', b'xxx'), '.+'),
    (b'no example', '.+'),
  ],
)  # fmt: skip
def test_records_of_something_else(copy, record, reason):
  path = copy / TRAIN_FILE
  dataset = tfrecords.TFRecordDataset(copy)
  rewrite(path, replace(1, record))
  message = rf'^{path}: record 1 is damaged \({reason}.*\){AGAIN}'
  with pytest.raises(UserError, match=message):
    take(dataset, 2 * STEPS)
  with pytest.raises(UserError, match=message):
    list(dataset.images('train'))


@pytest.mark.parametrize('key', ['lr', 'hr'])
def test_test_images_that_do_not_fit_together(tmp_path, key):
  images = [example(0), example(1) | {key: example(1)[key][:-1]}]
  dataset = tfrecords.TFRecordDataset(write_dataset(tmp_path, {'test': images}))
  path = tmp_path / TEST_FILE
  message = rf'^{path}: record 1 is damaged \({key} is .*, lr_blur 2x2.*{AGAIN}'
  with pytest.raises(UserError, match=message):
    list(dataset.images())
  assert len(list(dataset.images(limit=1))) == 1


@pytest.mark.parametrize(
  ('change', 'reason'),
  [
    ({'lr': enlarged(square(0))}, 'hr is not 4 times as large as lr'),
    ({'lr_blur': square(0)[:1]}, 'hr is not 4 times as large as lr_blur'),
    (SMALLER, 'hr is too small'),
  ],
)
def test_whole_frames_that_do_not_fit_together(tmp_path, change, reason):
  facts = {'patch_size': None, 'smallest_side': 8}
  frames = [example(0), example(1) | change]
  dataset = tfrecords.TFRecordDataset(write_dataset(tmp_path, {'train': frames}, facts))
  path = tmp_path / 'patches-train.tfrecord-00000'
  with pytest.raises(UserError, match=rf'^{path}: record 1 is damaged \({reason}\){AGAIN}'):
    next(dataset.train_batches(2, 0, crop_size=1))


@pytest.mark.parametrize('facts', [{}, {'patch_size': None}])
def test_metadata_without_a_size(tmp_path, facts):
  write_dataset(tmp_path, {'train': [example(0)]}, facts)
  with pytest.raises(UserError, match='the metadata of .* lack patch_size; build it with'):
    tfrecords.TFRecordDataset(tmp_path)


@pytest.mark.parametrize(
  ('name', 'change'),
  [
    ('features.json', lambda text: '{'),
    ('metadata.json', lambda text: text[:-3]),
    ('metadata.json', lambda text: '"facts"'),
    ('dataset_info.json', lambda text: text.replace('{FILEFORMAT}', '{FILUFORMAT}')),
  ],
)
def test_damaged_metadata(copy, name, change):
  path = copy / name
  assert change(text := path.read_text()) != text
  path.write_text(change(text))
  with pytest.raises(UserError, match=f'^{copy} is not a complete dataset{AGAIN}'):
    tfrecords.TFRecordDataset(copy)


def test_a_declared_shape_that_is_no_patch(copy):
  path = copy / 'features.json'
  assert (text := path.read_text()).count('"-1"') > 1
  path.write_text(text.replace('"-1"', '"105"', 1))
  with pytest.raises(
    UserError, match=rf'^{copy} is damaged \(.* declared as \(105, None, 3\).*{AGAIN}'
  ):
    tfrecords.TFRecordDataset(copy)


def test_a_file_without_an_end_is_not_read(copy):
  for path in sorted(copy.iterdir()):
    content = path.read_bytes()
    path.unlink()
    for make in (os.mkfifo, lambda path: path.symlink_to('/dev/zero')):
      make(path)
      with pytest.raises(UserError, match=f'^{path} is neither a file nor a folder{AGAIN}'):
        tfrecords.TFRecordDataset(copy)
      path.unlink()
    path.write_bytes(content)
  assert tfrecords.TFRecordDataset(copy).num_examples('train')


def test_tensorflow_is_kept_away_from_the_gpu(monkeypatch):
  calls = []
  monkeypatch.setattr(tf.config, 'set_visible_devices', lambda *args: calls.append(args))
  runpy.run_path(tfrecords.__file__)
  assert calls == [([], 'GPU')]


def test_crops_of_all_images_show_the_same_place(dataset):
  places = collections.Counter()
  for batch in prepared(dataset, 4 * STEPS, crop_size=1):
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
    crop = tfrecords.random_crop(images, 2, tf.constant([1, seed]), scale=4)
    again = tfrecords.random_crop(images, 2, tf.constant([1, seed]), scale=4)
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
  with pytest.raises(UserError, match='crop_size 65 is larger than the patches of .* at most 64'):
    next(dataset.train_batches(4, 0, crop_size=65))
  assert next(dataset.train_batches(4, 0, crop_size=64))['lr'].shape == (4, 64, 64, 3)


# Seven frames, and another scale.


SEVEN = tfds.features.Sequence(PNG, length=7)
SCALE_3 = {'lr_blur': PNG, 'lr': PNG, 'hr': PNG, 'frames': SEVEN}


def moving(index):
  """Of scale 3, 2x2 pixels; each frame of `frames` is brighter by 30."""
  small = square(index)
  large = small.repeat(3, axis=0).repeat(3, axis=1)
  frames = np.stack([small + 30 * number for number in range(7)]).astype(np.uint8)
  images = {'lr_blur': small, 'lr': frames[3], 'hr': large, 'frames': frames}
  return images | {'name': f'{index:06d}'}


def write_moving(folder, examples, patch_size=6, **facts):
  facts = {'patch_size': patch_size, 'smallest_side': 6, 'scale': 3} | facts
  return write_dataset(folder, {'train': examples}, facts, **SCALE_3)


@pytest.mark.parametrize('patch_size', [6, None])
def test_frames_come_with_the_others(tmp_path, patch_size):
  folder = write_moving(tmp_path, map(moving, range(8)), patch_size)
  dataset = tfrecords.TFRecordDataset(folder)
  assert (dataset.scale, dataset.has_frames) == (3, True)
  for index, image in enumerate(dataset.images('train')):
    wanted = moving(index)
    assert image.keys() == wanted.keys()
    for key in ('lr_blur', 'lr', 'hr', 'frames'):
      np.testing.assert_array_equal(image[key], wanted[key], strict=True)
  (batch,) = prepared(dataset, 1, batch_size=8, crop_size=2)
  assert batch.keys() == {'lr_blur', 'lr', 'hr', 'frames'}
  images = (batch[key] for key in ('lr_blur', 'lr', 'hr', 'frames'))
  for lr_blur, lr, hr, frames in zip(*images, strict=True):
    index, symmetry = identify(lr_blur)
    np.testing.assert_array_equal(lr_blur, symmetries(square(index))[symmetry], strict=True)
    np.testing.assert_array_equal(hr, lr_blur.repeat(3, axis=0).repeat(3, axis=1), strict=True)
    np.testing.assert_array_equal(frames[3], lr, strict=True)
    for number in range(7):
      np.testing.assert_array_equal(frames[number], lr_blur + 30 * number)


@pytest.mark.parametrize('patch_size', [6, None])
@pytest.mark.parametrize(
  ('change', 'reason'),
  [
    (
      {'frames': np.zeros((7, 2, 1, 3), np.uint8)},
      '(hr is not 3 times as large as frames|.*2,1,3)',
    ),
    ({'frames': [*np.zeros((6, 2, 2, 3), np.uint8), square(0)[:1]]}, '.+'),
    ({'hr': enlarged(square(0))}, '(hr is not 3 times as large as lr_blur|.*8,8,3)'),
  ],
)
def test_frames_that_do_not_fit_are_named(tmp_path, patch_size, change, reason):
  folder = write_moving(tmp_path, [moving(0), moving(1) | change], patch_size)
  dataset = tfrecords.TFRecordDataset(folder)
  message = rf'^{tmp_path}/patches-train.tfrecord-00000: record 1 is damaged \({reason}.*{AGAIN}'
  with pytest.raises(UserError, match=message):
    next(dataset.train_batches(2, 0, crop_size=1))
  with pytest.raises(UserError, match=message):
    list(dataset.images('train'))


def test_another_number_of_frames(tmp_path):
  folder = write_moving(tmp_path, [moving(0), moving(1)])
  path = tmp_path / 'patches-train.tfrecord-00000'
  dataset = tfrecords.TFRecordDataset(folder)
  eight = tfds.features.Sequence(PNG, length=8)
  record = serialized(
    FEATURES | SCALE_3 | {'frames': eight}, frames=np.zeros((8, 2, 2, 3), np.uint8)
  )
  rewrite(path, replace(1, record))
  with pytest.raises(UserError, match=rf'^{path}: record 1 is damaged \(.+frames.*{AGAIN}'):
    list(dataset.images('train'))


def test_test_frames_of_another_size(tmp_path):
  facts = {'patch_size': 6, 'scale': 3}
  examples = {'test': [moving(0) | {'frames': np.zeros((7, 2, 1, 3), np.uint8)}]}
  dataset = tfrecords.TFRecordDataset(write_dataset(tmp_path, examples, facts, **SCALE_3))
  with pytest.raises(UserError, match=r'record 0 is damaged \(frames is 2x1, lr_blur 2x2\)'):
    list(dataset.images())


@pytest.mark.parametrize('scale', [0, -3, 2.5, '3', None])
def test_metadata_with_an_impossible_scale(tmp_path, scale):
  write_moving(tmp_path, [moving(0)], scale=scale)
  with pytest.raises(
    UserError, match=f'^{tmp_path} has an invalid scale, {scale!r}; build it with'
  ):
    tfrecords.TFRecordDataset(tmp_path)


@pytest.mark.parametrize('feature', [tfds.features.Text(), tfds.features.Sequence(PNG, length=5)])
def test_frames_of_something_else(tmp_path, feature):
  value = 'text' if isinstance(feature, tfds.features.Text) else np.zeros((5, 2, 2, 3), np.uint8)
  write_dataset(tmp_path, {'train': [example(0) | {'frames': value}]}, frames=feature)
  with pytest.raises(UserError, match=f"^'frames' of {tmp_path} are not 7 images; build it with"):
    tfrecords.TFRecordDataset(tmp_path)


SILENCE = ('TF_CPP_MIN_LOG_LEVEL', 'TF_ENABLE_ONEDNN_OPTS')


def run_without(names, code):
  env = {key: value for key, value in os.environ.items() if key not in names}
  command = [sys.executable, '-c', code]
  return subprocess.run(command, env=env, capture_output=True, text=True, check=True)


@pytest.mark.parametrize('package', ['gfn_jax.data', 'gfn_jax.data_prep'])
def test_tensorflow_is_silenced_before_its_import(package):
  # `test_lr_gopro` checks that a command prints one line.
  code = f'import os, sys, {package}; print([os.environ[name] for name in {SILENCE}])'
  result = run_without(SILENCE, f'{code}; assert "tensorflow" not in sys.modules')
  assert result.stdout == "['3', '0']\n"


@pytest.mark.full
@pytest.mark.parametrize('module', ['gfn_jax.data.tfrecords', 'gfn_jax.data_prep.lr_gopro_builder'])
def test_tensorflow_prints_nothing_on_import(module):
  assert run_without(SILENCE, f'import {module}').stderr == ''
