import hashlib
import os

import pytest

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
