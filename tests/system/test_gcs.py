"""Google Cloud Storage through gcsfs, against a server of its protocol on this machine."""

import http.server
import json
import threading
from pathlib import Path

import gcsfs
import jax
import numpy as np
import pytest
from etils.epath import gpath
from gcp_storage_emulator.server import create_server

from gfn_jax import UserError
from gfn_jax.system import files
from gfn_jax.training.checkpoints import Checkpointer
from gfn_jax.training.metric_writer import MetricWriter
from tests.ports import free_port
from tests.training.test_checkpoints import state_at

RUN = 'gs://bucket/run'

pytestmark = pytest.mark.filterwarnings('ignore:Sending a large body:ResourceWarning')  # gcsfs's


@pytest.fixture
def client(monkeypatch):
  """The port on which gcsfs looks for Google."""
  port = free_port()
  monkeypatch.setenv('STORAGE_EMULATOR_HOST', f'http://127.0.0.1:{port}')
  monkeypatch.setenv('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')  # asks for credentials
  monkeypatch.setattr(gpath, '_is_tf_installed', lambda: False)
  yield port
  gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture
def server(client):
  with create_server('127.0.0.1', client, in_memory=True, default_bucket='bucket') as server:
    yield server


def test_files_and_folders(server):
  assert not files.exists(RUN)
  content = {'a.json': b'{}', 'deep/er/b': bytes(range(256)) * 5000, 'empty': b''}
  with files.folder_to_fill(RUN) as folder:
    for name, value in content.items():
      (path := Path(folder, name)).parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(value)
  assert files.is_folder(f'{RUN}/deep')
  assert not files.is_folder(f'{RUN}/a.json')
  for name, value in content.items():
    assert files.read_file(f'{RUN}/{name}') == value
  files.write_json(f'{RUN}/a.json', 1)
  content['a.json'] = b'1\n'
  with files.local_folder(RUN) as copy:
    found = {path.relative_to(copy): path for path in Path(copy).rglob('*')}
    assert {str(k): v.read_bytes() for k, v in found.items() if v.is_file()} == content
  files.remove(f'{RUN}/a.json')
  assert not files.exists(f'{RUN}/a.json')
  with pytest.raises(FileNotFoundError):
    files.read_file(f'{RUN}/a.json')


def test_a_missing_bucket_is_told_in_one_line(server):
  with pytest.raises(UserError, match='^cannot write gs://none/a: no such bucket$'):
    files.write_file('gs://none/a', b'1')


class Forbid(http.server.BaseHTTPRequestHandler):
  """Says no to everything, in the words of Google."""

  def do_GET(self):
    self.rfile.read(int(self.headers.get('Content-Length', 0)))
    content = json.dumps({'error': {'code': 403, 'message': 'no access to the object'}}).encode()
    self.send_response(403)
    self.send_header('Content-Length', str(len(content)))
    self.end_headers()
    self.wfile.write(content)

  do_POST = do_GET

  def log_message(self, *args):
    pass


def test_a_refusal_is_told_in_one_line(client, caplog):
  with http.server.ThreadingHTTPServer(('127.0.0.1', client), Forbid) as server:
    threading.Thread(target=server.serve_forever).start()
    for use in (files.read_file, files.exists, lambda path: files.write_file(path, b'1')):
      with pytest.raises(UserError, match=f'^cannot access {RUN}/a: [^\n]*no access[^\n]*$'):
        use(f'{RUN}/a')
    server.shutdown()
  assert not [record for record in caplog.records if record.name == 'gcsfs']  # nor a traceback


def test_checkpoints_and_logs(server, capsys):
  with MetricWriter(RUN) as writer, Checkpointer(RUN, {}, keep=2) as checkpointer:
    for step in (1, 2, 3):
      writer.write_scalars(step, {'loss': 0.5})
      writer.sync()
      checkpointer.save(state_at(step), {})
  assert len(files.read_file(f'{RUN}/metrics.jsonl').splitlines()) == 3
  assert not files.exists(f'{RUN}/checkpoints/1')
  with Checkpointer(RUN, {}) as checkpointer:
    jax.tree.map(np.testing.assert_array_equal, checkpointer.restore(state_at(0))[0], state_at(3))
  files.write_file(f'{RUN}/checkpoints/3/run.json', b'{}')
  with Checkpointer(RUN, {}) as checkpointer:
    assert int(checkpointer.restore(state_at(0))[0].step) == 2
  assert (
    'checkpoint 3 in gs://bucket/run/checkpoints is damaged (run.json' in capsys.readouterr().err
  )
