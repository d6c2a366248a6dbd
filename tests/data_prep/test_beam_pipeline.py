import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from skimage import data
from tensorflow_datasets.core.utils import shard_utils

beam = pytest.importorskip('apache_beam')

from gfn_jax.data_prep import lr_gopro  # noqa: E402
from gfn_jax.errors import UserError  # noqa: E402

# TFDS with protobuf 6, which Beam needs.
pytestmark = pytest.mark.filterwarnings('ignore:label\\(\\) is deprecated:DeprecationWarning')

ROOT = pathlib.Path(__file__).parents[2]
THREADS = ['--direct_num_workers=2', '--direct_running_mode=multi_threading']


def build(manual_dir, data_dir, options=THREADS, **others):
  return lr_gopro.build(
    manual_dir, data_dir, beam_runner='DirectRunner', beam_options=options, **others
  )


def files(folder, split):
  return sorted(map(str, pathlib.Path(folder).glob(f'*-{split}.tfrecord-*')))


def records(folder, split):
  """A split's records in stored order; protocol buffers promise no order of their bytes."""
  dataset = tf.data.TFRecordDataset(files(folder, split))
  return [tf.train.Example.FromString(record.numpy()) for record in dataset]


def check_same(folder, other):
  for split in ('train', 'test'):
    assert records(folder, split) == records(other, split)
    assert len(records(folder, split)) > 0
  infos = [tfds.builder_from_directory(path).info for path in (folder, other)]
  assert dict(infos[0].metadata) == dict(infos[1].metadata)
  for split in ('train', 'test'):
    assert infos[0].splits[split].num_bytes == infos[1].splits[split].num_bytes


def everything_in(folder):
  return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*'))


@pytest.fixture
def tree(gopro_tree, tmp_path):
  return shutil.copytree(gopro_tree, tmp_path / 'tree')


def test_two_workers_give_the_same_records_in_the_same_order(gopro_tree, dataset_dir, tmp_path):
  folder = build(gopro_tree, tmp_path)
  check_same(folder, dataset_dir)
  assert everything_in(tmp_path / 'lr_gopro/blur_gamma/1.0.1') == everything_in(dataset_dir)
  assert everything_in(tmp_path)[:3] == [
    'lr_gopro', 'lr_gopro/blur_gamma', 'lr_gopro/blur_gamma/1.0.1',
  ]  # fmt: skip


def test_in_several_files_too(gopro_tree, tmp_path, monkeypatch):
  monkeypatch.setattr(shard_utils.ShardConfig, 'min_shard_size', 300_000)
  plain = lr_gopro.build(gopro_tree, tmp_path / 'plain')
  folder = build(gopro_tree, tmp_path / 'beam', options=[])
  assert len(files(plain, 'train')) >= 2
  assert len(files(folder, 'train')) >= 2
  check_same(folder, plain)


def test_damaged_frames_are_named_and_nothing_is_left(tree, tmp_path):
  for split in ('train', 'test'):
    frame = tree / split / 'sequence/sharp/000001.png'
    frame.write_bytes(frame.read_bytes()[:5000])
  with pytest.raises(UserError) as caught:
    build(tree, tmp_path / 'out')
  assert str(caught.value).startswith(f'cannot read {tree}/test/sequence/sharp/000001.png: ')
  assert str(caught.value).endswith('; unpack GOPRO_Large again (and 1 more)')
  assert everything_in(tmp_path / 'out') == []


def test_an_existing_data_set_survives_a_failure(tree, dataset_dir, tmp_path):
  out = tmp_path / 'out/lr_gopro/blur_gamma/1.0.1'
  shutil.copytree(dataset_dir, out)
  before = everything_in(tmp_path / 'out')
  frame = tree / 'train/sequence/blur_gamma/000001.png'
  frame.write_bytes(frame.read_bytes()[:5000])
  with pytest.raises(UserError, match='cannot read .*train/sequence/blur_gamma/000001.png'):
    build(tree, tmp_path / 'out', overwrite=True)
  assert everything_in(tmp_path / 'out') == before
  check_same(out, dataset_dir)


def test_frames_without_a_window(tmp_path):
  for folder in ('sharp', 'blur_gamma'):
    path = tmp_path / 'in/train/GOPR0001' / folder / '000001.png'
    path.parent.mkdir(parents=True)
    Image.fromarray(data.astronaut()[:200, :200]).save(path)
  with pytest.raises(UserError, match='in/train gives no training window'):
    build(tmp_path / 'in', tmp_path / 'out')
  assert everything_in(tmp_path / 'out') == []


def test_a_failing_runner(gopro_tree, tmp_path, monkeypatch):
  def fail(pipeline, *args):
    raise RuntimeError('Traceback:\n  ...\nOSError: [Errno 28] No space left on device\n')

  monkeypatch.setattr(beam.Pipeline, 'run', fail)
  with pytest.raises(UserError, match='^Beam failed: OSError: .* No space left on device$'):
    build(gopro_tree, tmp_path)
  assert everything_in(tmp_path) == []


@pytest.mark.parametrize(
  ('runner', 'options', 'message'),
  [
    ('NoRunner', [], 'cannot use beam_runner NoRunner: Unexpected pipeline runner'),
    ('no.such.Runner', [], "cannot use beam_runner no.such.Runner: No module named 'no'"),
    ('DirectRunner', ['--direct_worker=2'], 'beam_options: DirectRunner has no option --direct_wo'),
    (
      'DirectRunner',
      ['--direct_num_workers=x'],
      'beam_options: argument --direct_num_workers: inv',
    ),
  ],
)
def test_wrong_options(gopro_tree, tmp_path, runner, options, message, capsys):
  with pytest.raises(UserError, match=f'^{message}'):
    lr_gopro.build(gopro_tree, tmp_path, beam_runner=runner, beam_options=options)
  assert everything_in(tmp_path) == []
  assert capsys.readouterr().err == ''


@pytest.mark.end_to_end
def test_the_command_with_two_processes(gopro_tree, dataset_dir, tmp_path):
  result = subprocess.run(
    [
      sys.executable, '-m', 'data_prep.lr_gopro', f'--manual_dir={gopro_tree}',
      f'--data_dir={tmp_path}', '--beam_runner=DirectRunner',
      '--beam_options=--direct_num_workers=2,--direct_running_mode=multi_processing',
    ],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )  # fmt: skip
  folder = tmp_path / 'lr_gopro/blur_gamma/1.0.1'
  assert result.stdout.startswith(f'{folder}: train 11, test 1 examples; training windows: 11 seen')
  check_same(folder, dataset_dir)
