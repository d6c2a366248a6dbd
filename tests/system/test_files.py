import hashlib
import os

import pytest

from gfn_jax.errors import UserError
from gfn_jax.system import files


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
  path = tmp_path / 'file'
  files.write_file(path, b'old')

  def fail(*_):
    raise OSError('disk full')

  with monkeypatch.context() as patch, pytest.raises(OSError, match='disk full'):
    patch.setattr(os, 'replace', fail)
    files.write_file(path, b'new')
  assert path.read_bytes() == b'old'
  files.write_file(path, b'new')
  assert path.read_bytes() == b'new'
  assert [file.name for file in tmp_path.iterdir()] == ['file']


def test_json_and_hash(tmp_path):
  files.write_json(tmp_path / 'a.json', {'a': [1, 2.5]})
  text = (tmp_path / 'a.json').read_text()
  assert text == '{\n  "a": [\n    1,\n    2.5\n  ]\n}\n'
  assert files.file_sha256(tmp_path / 'a.json') == hashlib.sha256(text.encode()).hexdigest()


def test_paths(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.chdir(tmp_path)
  assert files.absolute('runs/a') == files.absolute('~/runs/a') == str(tmp_path / 'runs' / 'a')
  assert files.absolute('gs://runs/~a') == 'gs://runs/~a'
  (tmp_path / 'a').write_bytes(b'')
  (tmp_path / 'b').symlink_to('a')
  (tmp_path / 'c').write_bytes(b'')
  assert files.is_same_file('a', tmp_path / 'b')
  assert not files.is_same_file('a', 'c')
  assert not files.is_same_file('a', 'missing')
  assert not files.is_same_file('gs://runs/a', 'gs://runs/a')
  assert files.is_file('a')
  assert not files.is_file('missing')
  assert not files.is_file(tmp_path)


def test_special_files(tmp_path):
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'file').write_bytes(b'')
  assert files.special_files(tmp_path) == []
  os.mkfifo(tmp_path / 'pipe')
  assert files.special_files(tmp_path) == [str(tmp_path / 'pipe')]


def test_a_folder_to_fill_on_this_machine_is_the_folder_itself(tmp_path):
  folder = files.FolderToFill(tmp_path / 'new')
  assert (folder.path, folder.temporary) == (str(tmp_path / 'new'), False)
  folder.send()
  folder.close()
  assert (tmp_path / 'new').is_dir()
  with pytest.raises(UserError, match='a report is written on this machine, not to gs://runs/a'):
    files.check_local('gs://runs/a', 'a report')


def test_two_paths_in_one_argument(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert files.split_paths('lr:hr') == ('lr', 'hr')
  assert files.split_paths('images') is None
  assert files.split_paths('gs://runs/a') is None
  (tmp_path / 'a:b').mkdir()
  assert files.split_paths('a:b') is None


def test_a_file_at_any_depth(tmp_path):
  (tmp_path / 'a' / 'b').mkdir(parents=True)
  assert not files.holds_file(tmp_path, 'info.json')
  (tmp_path / 'a' / 'b' / 'info.json').write_bytes(b'')
  assert files.holds_file(tmp_path, 'info.json')
  assert not files.holds_file(tmp_path / 'missing', 'info.json')
