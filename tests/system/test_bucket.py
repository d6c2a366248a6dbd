"""Runs whose folder is in a bucket: a stand-in that can do what object stores can, and no more."""

import contextlib
import io
import json
import os
import time

import jax
import numpy as np
import pytest
import skimage.data
from etils.epath import backend, gpath
from PIL import Image

from gfn_jax import Restorer, UserError
from gfn_jax.evaluation import evaluate, test_sets
from gfn_jax.models import create_model, init_variables
from gfn_jax.restoration.files import restore_files
from gfn_jax.restoration.plan import plan_jobs
from gfn_jax.system import files, parallel
from gfn_jax.training import loop
from gfn_jax.training.checkpoints import Checkpointer
from gfn_jax.training.metric_writer import MetricWriter
from gfn_jax.weights import pretrained
from tests import small
from tests.training.test_checkpoints import state_at
from tests.training.test_metric_writer import events_of

RUN = 'gs://bucket/run'


class Killed(BaseException):
  """As the end of the process."""


class Bucket(backend.Backend):
  """Objects under whole names. They appear when they are closed; no folders, renames, appends."""

  def __init__(self):
    self.objects = {}
    self.log = []
    self.broken = None  # an exception that every request raises

  def _request(self, *request):
    if self.broken:
      raise self.broken
    self.log.append(request)

  @contextlib.contextmanager
  def open(self, path, mode):
    self._request(mode, path)
    if mode in ('r', 'rb'):
      if path not in self.objects:
        raise FileNotFoundError(f'no object {path}')
      content = io.BytesIO(self.objects[path])
      yield content if mode == 'rb' else io.TextIOWrapper(content)
      return
    assert mode == 'wb', f'{path} cannot be opened as {mode}'
    content = io.BytesIO()
    try:
      yield content
    finally:  # as the libraries do, even if it is half
      self.objects[path] = content.getvalue()

  def listdir(self, path):
    self._request('list', path)
    below = [name[len(path) + 1 :] for name in self.objects if name.startswith(f'{path}/')]
    if not below:
      raise FileNotFoundError(path)
    return sorted({name.split('/')[0] for name in below})

  def isdir(self, path):
    self._request('list', path)
    return any(name.startswith(f'{path}/') for name in self.objects)

  def exists(self, path):
    return path in self.objects or self.isdir(path)

  def rmtree(self, path):
    self._request('delete', path)
    for name in [name for name in self.objects if name.startswith(f'{path}/')]:
      del self.objects[name]

  def remove(self, path):
    self._request('delete', path)
    if path not in self.objects:
      raise FileNotFoundError(path)
    del self.objects[path]

  def _refuse(self, *args, **kwargs):
    raise AssertionError('no object store can do this')

  copy = glob = makedirs = mkdir = rename = replace = stat = walk = _refuse


@pytest.fixture
def bucket(monkeypatch):
  stand_in = Bucket()
  monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, 'gs', stand_in)
  monkeypatch.setattr(gpath, '_is_tf_installed', lambda: False)
  yield stand_in
  assert not os.path.exists('gs:')  # nothing took the address for a folder


# Files.


def test_a_file_is_sent_when_it_is_whole(bucket):
  files.write_json(f'{RUN}/a.json', {'a': 1})
  assert json.loads(files.read_file(f'{RUN}/a.json')) == {'a': 1}
  with pytest.raises(KeyboardInterrupt), files.write_aside(f'{RUN}/a.json') as temporary:
    assert temporary.endswith('.json')
    with open(temporary, 'w') as file:
      file.write('half')
    raise KeyboardInterrupt
  assert bucket.objects == {f'{RUN}/a.json': b'{\n  "a": 1\n}\n'}
  assert not os.path.exists(temporary)
  with pytest.raises(UserError, match=f'^{RUN}/a.json exists already'):
    files.check_new_file(f'{RUN}/a.json', overwrite=False)
  with pytest.raises(UserError, match=f'^{RUN} is a folder'):
    files.check_new_file(RUN, overwrite=True)
  files.check_new_file(f'{RUN}/b.json', overwrite=False)
  files.remove(f'{RUN}/a.json')
  files.remove(f'{RUN}/a.json')
  assert not files.exists(f'{RUN}/a.json')
  with pytest.raises(FileNotFoundError):
    files.read_file(f'{RUN}/a.json')


def test_folders_go_there_and_back(bucket, tmp_path):
  content = {'a': b'', 'deep/er/b': bytes(range(256)) * 40_000}
  with files.folder_to_fill(f'{RUN}/folder') as folder:
    for name, value in content.items():
      os.makedirs(os.path.dirname(f'{folder}/{name}'), exist_ok=True)
      with open(f'{folder}/{name}', 'wb') as file:
        file.write(value)
  assert bucket.objects == {f'{RUN}/folder/{name}': value for name, value in content.items()}
  with files.local_folder(f'{RUN}/folder') as copy:
    for name, value in content.items():
      with open(f'{copy}/{name}', 'rb') as file:
        assert file.read() == value
  assert not os.path.exists(copy)


def test_a_name_in_a_bucket_does_not_lead_out_of_the_copy(bucket, tmp_path, monkeypatch):
  monkeypatch.setattr(files.tempfile, 'tempdir', str(tmp_path))
  bucket.objects = {f'{RUN}/../evil': b'1', f'{RUN}/good': b'2'}
  monkeypatch.setattr(bucket, 'listdir', lambda path: ['..', 'good'])
  with files.local_folder(RUN) as copy:
    assert os.listdir(copy) == ['good']
    assert os.listdir(tmp_path) == [os.path.basename(copy)]


@pytest.mark.parametrize(
  ('error', 'message'),
  [
    (
      ImportError('Please install gcsfs'),
      r"cannot access gs://bucket/run/a: Please install gcsfs: pip install 'gfn_jax\[gcs\]'",
    ),
    (RuntimeError('Forbidden: o\nno access'), f'cannot access {RUN}/a: Forbidden: o no access'),
    (RuntimeError('x' * 5000), f'cannot access {RUN}/a: {"x" * 300}'),
    (TimeoutError(), 'cannot access gs://bucket/run/a: TimeoutError'),
  ],
)
def test_a_bucket_that_cannot_be_reached_is_told_in_one_line(bucket, error, message):
  bucket.broken = error
  for use in (files.read_file, files.exists, files.file_sha256, lambda p: files.write_file(p, b'')):
    with pytest.raises(UserError, match=f'^{message}$'):
      use(f'{RUN}/a')
  with pytest.raises(UserError, match='cannot access .*/chec'), Checkpointer(RUN, {}) as broken:
    broken.restore(state_at(0))


def test_an_unknown_kind_of_address():
  with pytest.raises(
    UserError, match='^gx://a/b: unsupported kind of address; use gs://BUCKET/...'
  ):
    files.read_file('gx://a/b')


# Logs.


def read_rows(bucket):
  return [json.loads(line) for line in bucket.objects[f'{RUN}/metrics.jsonl'].splitlines()]


def read_events(bucket):
  """`(step, tag)` of all scalars and pictures, file by file, as TensorBoard reads them."""
  found = [name for name in sorted(bucket.objects) if '/tensorboard/' in name]
  events = [event for name in found for event in events_of(bucket.objects[name])]
  return [(event.step, value.tag) for event in events for value in event.summary.value]


def test_logs_are_sent_before_a_checkpoint_and_fetched_to_go_on(bucket):
  with pytest.raises(Killed), MetricWriter(RUN) as writer:
    writer.write_scalars(1, {'loss': 0.5})
    writer.write_image(1, 'picture', np.zeros((4, 6, 3), np.uint8))
    assert not bucket.objects
    writer.sync()
    assert [row['step'] for row in read_rows(bucket)] == [1]
    assert read_events(bucket) == [(1, 'loss'), (1, 'picture')]
    sent = len(bucket.log)
    writer.write_scalars(2, {'loss': 0.25})
    writer.sync()
    assert [request[0] for request in bucket.log[sent:]] == ['wb', 'wb']  # an event is sent once
    writer.write_scalars(3, {'loss': 0.125})
    bucket.broken = RuntimeError('gone')  # which is not the error that is told
    raise Killed
  with pytest.raises(UserError, match='cannot access .*metrics.jsonl: gone'):
    MetricWriter(RUN, start_step=2)
  bucket.broken = None

  with MetricWriter(RUN, start_step=1) as writer:
    writer.write_scalars(2, {'loss': 20})
  assert [(row['step'], row['loss']) for row in read_rows(bucket)] == [(1, 0.5), (2, 20)]
  assert read_events(bucket) == [(1, 'loss'), (1, 'picture'), (2, 'loss'), (2, 'loss')]
  with pytest.raises(UserError, match='gone'), MetricWriter(RUN, start_step=2):
    bucket.broken = RuntimeError('gone')


# Weights.


@pytest.fixture(scope='module')
def params():
  return jax.device_get(init_variables(create_model(**small.MODEL), 0)['params'])


def test_weights_go_there_and_back(bucket, params):
  path = f'{RUN}/weights.safetensors'
  pretrained.save_weights(path, {'params': params}, small.MODEL, {'step': 3})
  pretrained.save_weights(path, {'params': params}, small.MODEL, {'step': 4})
  assert sorted(bucket.objects) == [f'{RUN}/weights.json', path]
  assert pretrained.load_card(path)['step'] == 4
  model, loaded = pretrained.load_pretrained(path)
  loaded = loaded['params']
  assert model == create_model(**small.MODEL)
  jax.tree.map(np.testing.assert_array_equal, loaded, params)
  initial = jax.tree.map(np.zeros_like, params)
  jax.tree.map(
    np.testing.assert_array_equal,
    pretrained.init_variables_from(path, model, {'params': initial})['params'],
    params,
  )
  assert pretrained.weights_path(path) == path
  with pytest.raises(UserError, match=f'^no weights at {RUN}/none.safetensors'):
    pretrained.load_pretrained(f'{RUN}/none.safetensors')
  content = bytearray(bucket.objects[path])
  content[-3] ^= 1
  bucket.objects[path] = bytes(content)
  with pytest.raises(UserError, match=f'^{path} is damaged: its SHA-256'):
    pretrained.load_pretrained(path)
  bucket.objects[path] = (2**62).to_bytes(8, 'little') + bytes(20)  # a size that is a lie
  files.remove(f'{RUN}/weights.json')
  with pytest.raises(UserError, match=f'^cannot read {path} as safetensors: '):
    pretrained.load_pretrained(path)


@pytest.mark.parametrize('killed', ['delete', 'wb'])
def test_weights_that_were_half_sent_load(bucket, params, monkeypatch, killed):
  path = f'{RUN}/weights.safetensors'
  pretrained.save_weights(path, {'params': params}, small.MODEL, {})
  request = bucket._request

  def kill(*args):
    if args[0] == killed:
      raise KeyboardInterrupt
    request(*args)

  other = jax.tree.map(lambda x: x + 1, params)
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(bucket, '_request', kill)
    pretrained.save_weights(path, {'params': other}, small.MODEL, {})
  jax.tree.map(
    np.testing.assert_array_equal, pretrained.load_pretrained(path)[1], {'params': params}
  )


# Runs.


def test_checkpoints_are_verified_and_old_ones_deleted(bucket, capsys):
  with Checkpointer(RUN, {}, keep=2) as checkpointer:
    assert checkpointer.restore(state_at(0)) is None
    for step in (1, 2, 3):
      checkpointer.save(state_at(step), {'window': [step]})
  assert {name.split('/')[5] for name in bucket.objects} == {'2', '3'}
  with Checkpointer(RUN, {}) as checkpointer:
    state, progress = checkpointer.restore(state_at(0))
  jax.tree.map(np.testing.assert_array_equal, state, state_at(3))
  assert progress == {'window': [3]}
  for name in [name for name in bucket.objects if '/checkpoints/3/state/' in name]:
    whole = bucket.objects[name]
    bucket.objects[name] = whole[:-1] + bytes([whole[-1] ^ 1]) if whole else b'1'
    with Checkpointer(RUN, {}) as checkpointer:
      assert int(checkpointer.restore(state_at(0))[0].step) == 2
    assert f'checkpoint 3 in {RUN}/checkpoints is damaged (state/' in capsys.readouterr().err
    bucket.objects[name] = whole


@pytest.mark.full
def test_a_killed_run_goes_on_and_is_evaluated(bucket, photos_dir, tmp_path, monkeypatch, capsys):
  config = small.sr_branch(small.photos_config(photos_dir))
  config.update_from_flattened_dict({'run.checkpoint_every': 2, 'run.log_every': 1})
  whole = loop.train_and_evaluate(config, tmp_path / 'whole')

  calls = []

  def shard(batch, shard=parallel.shard):
    calls.append(batch)
    if len(calls) == 4:
      deadline = time.monotonic() + 60
      while f'{RUN}/checkpoints/2/manifest.json' not in bucket.objects:  # written meanwhile
        assert time.monotonic() < deadline
        time.sleep(0.01)
      bucket.broken = RuntimeError('no more connection')  # nothing is tidied up
      raise Killed
    return shard(batch)

  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(parallel, 'shard', shard)
    loop.train_and_evaluate(config, RUN)
  bucket.broken = None
  assert [row['step'] for row in read_rows(bucket)] == [1, 2, 2]

  # What was half sent after it is passed over.
  bucket.objects[f'{RUN}/checkpoints/3/run.json'] = b'{}'
  continued = loop.train_and_evaluate(config, RUN)
  assert f'checkpoint 3 in {RUN}/checkpoints is unfinished' in capsys.readouterr().err
  jax.tree.map(np.testing.assert_array_equal, continued, whole)
  expected = [
    json.loads(x) for x in (tmp_path / 'whole' / 'metrics.jsonl').read_text().splitlines()
  ]
  rows = read_rows(bucket)
  for row in rows + expected:
    for key in [key for key in row if key == 'time' or key.startswith('system/')]:
      del row[key]
  assert rows == expected
  steps = {step for step, tag in read_events(bucket) if tag == 'loss'}
  assert steps == {1, 2, 3, 4}
  content = bucket.objects[f'{RUN}/weights.safetensors']
  assert content == (tmp_path / 'whole' / 'weights.safetensors').read_bytes()

  test_set = test_sets.dataset_test_set(test_sets.run_config(RUN), 1)
  weights = f'{RUN}/weights.safetensors'
  evaluate.evaluate_and_report(weights, test_set, 'gfn', f'{RUN}/eval')
  summary = json.loads(bucket.objects[f'{RUN}/eval/summary.json'])
  assert summary['weights'] == {'path': weights, 'sha256': files.file_sha256(weights)}
  scores = [row for row in rows if 'test/psnr' in row][-1]
  assert summary['methods'][1]['psnr'] == pytest.approx(scores['test/psnr'], abs=1e-3)
  assert len([name for name in bucket.objects if name.startswith(f'{RUN}/eval/images/')]) == 1
  with pytest.raises(UserError, match='a report is written on this machine, not to gs://'):
    evaluate.evaluate_and_report(weights, test_set, 'gfn', tmp_path, f'{RUN}/page.html')


def test_photos_are_restored_into_a_bucket(bucket, params, tmp_path):
  photo = skimage.data.astronaut()[40:60, 200:222]
  Image.fromarray(photo).save(tmp_path / 'a.png')
  (tmp_path / 'b.png').write_bytes(b'no image')
  restorer = Restorer(create_model(**small.MODEL), {'params': params})
  seen = []
  for counts in ((1, 0), (0, 1)):
    plan = plan_jobs(tmp_path, RUN, '.png')
    outcome = restore_files(restorer, plan, on_result=lambda *result: seen.append(result))
    assert (outcome.restored, outcome.skipped) == counts
    [reason] = outcome.failures
    assert 'b.png' in reason
  [reason, _] = restore_files(restorer, plan, settings={'ensemble': True}).failures
  assert reason == (f'{RUN}/a.png exists, from other settings (ensemble); --overwrite replaces it')
  assert len(bucket.objects) == 2  # the image and its record
  assert f'{RUN}/a.png' in bucket.objects
  np.testing.assert_array_equal(seen[0][2], restorer(photo))
  np.testing.assert_array_equal(seen[1][2], seen[0][2])
