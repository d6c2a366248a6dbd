"""Model hub on the loopback interface: the part of its API that snapshot_download needs."""

import contextlib
import hashlib
import http.server
import json
import re
import threading

COMMIT = '0123456789abcdef0123456789abcdef01234567'


class Handler(http.server.BaseHTTPRequestHandler):
  """Serves `server.files`, contents by name, as OWNER/NAME at `main` and `v1`."""

  def do_GET(self):
    self.server.requests.append(self.path)
    if match := re.fullmatch(r'/api/models/(\w+/\w+)/revision/(.+)', self.path):
      repository, revision = match.groups()
      if repository != 'OWNER/NAME':
        return self.answer(404, b'', {'X-Error-Code': 'RepoNotFound'})
      if revision not in ('main', 'v1', COMMIT):
        return self.answer(404, b'', {'X-Error-Code': 'RevisionNotFound'})
      files = [{'rfilename': name} for name in self.server.files]
      return self.answer_json({'id': repository, 'sha': COMMIT, 'siblings': files})
    if self.path.startswith(f'/api/models/OWNER/NAME/tree/{COMMIT}'):
      entries = [
        {'type': 'file', 'path': name, 'size': len(content), 'oid': etag(content)}
        for name, content in self.server.files.items()
      ]
      return self.answer_json(entries)
    name = self.path.removeprefix(f'/OWNER/NAME/resolve/{COMMIT}/')
    if name not in self.server.files:
      return self.answer(404, b'', {'X-Error-Code': 'EntryNotFound'})
    content = self.server.files[name]
    return self.answer(200, content, {'ETag': f'"{etag(content)}"', 'X-Repo-Commit': COMMIT})

  do_HEAD = do_GET

  def answer_json(self, value):
    self.answer(200, json.dumps(value).encode(), {'Content-Type': 'application/json'})

  def answer(self, status, content, headers):
    self.send_response(status)
    for key, value in {**headers, 'Content-Length': str(len(content))}.items():
      self.send_header(key, value)
    self.end_headers()
    if self.command == 'GET':
      self.wfile.write(content)

  def log_message(self, *args):
    pass


def etag(content):
  return hashlib.sha1(content).hexdigest()


@contextlib.contextmanager
def serving(folder):
  """Serve the files of a folder; yield the server, whose `requests` are the paths asked for."""
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    server.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    server.requests = []
    server.url = f'http://127.0.0.1:{server.server_port}'
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
      yield server
    finally:
      server.shutdown()
      thread.join()
