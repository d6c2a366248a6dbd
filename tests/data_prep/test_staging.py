import fcntl

import pytest

from gfn_jax.data_prep import staging


@pytest.fixture
def target(tmp_path):
  return tmp_path / 'data/set/1.0.0'


def build(target, content, fails=False):
  data_dir = target.parents[1]
  with staging.staging_folder(data_dir, target) as folder:
    built = folder / 'built'
    built.mkdir()
    (built / 'file').write_text(content)
    if fails:
      raise RuntimeError('no')
    staging.put_in_place(built, target, folder)


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_builds_and_replaces(target):
  build(target, 'old')
  build(target, 'new')
  assert (target / 'file').read_text() == 'new'
  assert names(target.parents[1]) == ['set']


def test_a_failure_leaves_nothing_and_keeps_what_was_there(target):
  with pytest.raises(RuntimeError):
    build(target, 'half', fails=True)
  assert names(target.parents[1]) == []
  build(target, 'old')
  with pytest.raises(RuntimeError):
    build(target, 'half', fails=True)
  assert (target / 'file').read_text() == 'old'
  assert names(target.parents[1]) == ['set']


def test_what_a_killed_build_left_is_removed(target):
  left = target.parents[1] / '.incomplete.set.1.0.0.abcd'
  other = target.parents[1] / '.incomplete.other_set.1.0.0.abcd'
  for folder in (left, other):
    folder.mkdir(parents=True)
    (folder / 'bucket').write_text('half')
  build(target, 'new')
  assert names(target.parents[1]) == [other.name, 'set']


def test_a_build_killed_between_the_two_renames_is_repaired(target):
  left = target.parents[1] / '.incomplete.set.1.0.0.abcd'
  (left / 'replaced').mkdir(parents=True)
  (left / 'replaced/file').write_text('old')
  target.parent.mkdir(parents=True)
  with pytest.raises(RuntimeError):
    build(target, 'half', fails=True)
  assert (target / 'file').read_text() == 'old'


def test_a_failing_move_puts_the_old_one_back(target):
  build(target, 'old')
  with (
    pytest.raises(FileNotFoundError),
    staging.staging_folder(target.parents[1], target) as folder,
  ):
    staging.put_in_place(folder / 'missing', target, folder)
  assert (target / 'file').read_text() == 'old'


def test_a_running_build_is_left_alone(target, caplog):
  running = target.parents[1] / '.incomplete.set.1.0.0.abcd'
  running.mkdir(parents=True)
  with open(running / 'lock', 'w') as lock, caplog.at_level('WARNING', logger='absl'):
    fcntl.flock(lock, fcntl.LOCK_EX)
    build(target, 'new')
  assert names(target.parents[1]) == [running.name, 'set']
  assert str(running) in caplog.text
