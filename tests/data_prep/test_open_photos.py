import collections
import csv
import hashlib
import http.server
import io
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax.data.photo_list import read_photo_list
from gfn_jax.data_prep import open_photos
from gfn_jax.errors import UserError
from tests.ports import free_port

ROOT = pathlib.Path(__file__).parents[2]
COMMIT = '0123456789abcdef0123456789abcdef01234567'
LICENCES = {
  'CC0-1.0': 121,
  'CC-BY-2.0': 91,
  'CC-BY-SA-2.0': 47,
  'CC-BY-SA-4.0': 234,
  'MIT': 30,
  'CC0 (wesaturate)': 2,
}


def encoded(image, file_format='JPEG', **options):
  buffer = io.BytesIO()
  image.save(buffer, file_format, **options)
  return buffer.getvalue()


def listed(image):
  """The bytes of a photograph as the listed files are encoded."""
  return encoded(image, quality=92, subsampling='4:4:4')


def exif_of(orientation):
  exif = Image.Exif()
  exif[0x112] = orientation
  return exif


CAT = Image.fromarray(skimage.data.chelsea())  # 451x300
COFFEE = Image.fromarray(skimage.data.coffee())  # 600x400
LARGE = encoded(COFFEE.resize((1500, 999)), quality=95)
PUBLISHED = {
  'cats/cat': ('a b/#1%20.png', encoded(CAT, 'PNG'), (451, 300)),
  'large': ('large.jpg', LARGE, (1024, 682)),
  'same': ('same.jpg', encoded(COFFEE, quality=70), (600, 400)),
  'turned': ('turned.jpg', encoded(CAT, quality=95, exif=exif_of(6)), (300, 451)),
}
LISTED = {
  'cats/cat': listed(CAT),
  'large': listed(Image.open(io.BytesIO(LARGE)).resize((1024, 682), Image.Resampling.LANCZOS)),
  'same': PUBLISHED['same'][1],
  'turned': listed(Image.open(io.BytesIO(PUBLISHED['turned'][1])).transpose(Image.ROTATE_270)),
}


class Handler(http.server.BaseHTTPRequestHandler):
  """Serves `server.answers`: for each path, what comes first, second ...; the last one stays."""

  def do_GET(self):
    self.server.requests[self.path] += 1
    answers = self.server.answers.get(self.path, [(404, b'')])
    status, content = answers.pop(0) if len(answers) > 1 else answers[0]
    missing = 100 if status == 'cut' else 0
    self.send_response(200 if status == 'cut' else status)
    self.send_header('Content-Length', str(len(content)))
    self.end_headers()
    self.wfile.write(content[: len(content) - missing])

  def log_message(self, *args):
    pass


class Server(http.server.ThreadingHTTPServer):
  def handle_error(self, *args):
    """Pass over clients that stop reading."""


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  with Server(('127.0.0.1', 0), Handler) as server:
    server.answers = {
      f'/owner/{name.replace("/", "-")}/{COMMIT}/{quoted(path)}': [(200, content)]
      for name, (path, content, _) in PUBLISHED.items()
    }
    server.requests = collections.Counter()
    server.url = f'http://127.0.0.1:{server.server_port}'
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()


def quoted(path):
  return path.replace('%', '%25').replace(' ', '%20').replace('#', '%23')


def address(name):
  return f'/owner/{name.replace("/", "-")}/{COMMIT}/{quoted(PUBLISHED[name][0])}'


def write_list(path, changes=None):
  """Writes the list of `PUBLISHED`; `changes` are values of the row of `large`."""
  rows = [
    {
      'name': name,
      'repo': f'owner/{name.replace("/", "-")}',
      'commit': COMMIT,
      'path': published,
      'width': width,
      'height': height,
      'sha256': hashlib.sha256(LISTED[name]).hexdigest(),
      'held_out': 0,
    }
    | ((changes or {}) if name == 'large' else {})
    for name, (published, _, (width, height)) in PUBLISHED.items()
  ]
  with open(path, 'w', newline='') as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  return path


@pytest.fixture
def photo_list(tmp_path):
  return write_list(tmp_path / 'list.csv')


@pytest.fixture
def out(tmp_path):
  return tmp_path / 'out'


@pytest.fixture
def fetch(server, photo_list, out):
  def call(**options):
    options = {'photo_list': photo_list, 'base_url': server.url, 'waits': (0, 0)} | options
    return open_photos.fetch(out, **options)

  return call


def contents(folder):
  files = (path for path in folder.rglob('*') if path.is_file())
  return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


ALL = {f'{name}.jpg': content for name, content in LISTED.items()}


def without(*names):
  return {path: content for path, content in ALL.items() if path[:-4] not in names}


def test_photographs_are_encoded_as_the_listed_ones(fetch, out, server):
  assert fetch() == open_photos.Result(fetched=list(PUBLISHED), identical=4)
  assert contents(out) == ALL
  assert server.requests == dict.fromkeys(map(address, PUBLISHED), 1)
  with Image.open(out / 'large.jpg') as image:
    assert (image.size, image.getexif()) == ((1024, 682), {})
    difference = np.asarray(image, float) - np.asarray(COFFEE.resize((1024, 682)))
  assert np.abs(difference).mean() < 3


def test_photographs_that_are_there_are_kept(fetch, out, server):
  fetch()
  other = listed(COFFEE.transpose(Image.ROTATE_180))
  (out / 'same.jpg').write_bytes(other)
  server.requests.clear()
  assert fetch() == open_photos.Result(kept=list(PUBLISHED), identical=3)
  assert contents(out) == ALL | {'same.jpg': other}
  assert not server.requests


def test_damaged_photographs_are_replaced(fetch, out, server):
  fetch()
  (out / 'large.jpg').write_bytes(LISTED['large'][:-2000])
  (out / 'turned.jpg').write_bytes(LISTED['same'])
  (out / 'same.jpg').write_bytes(b'')
  (out / 'cats/cat.jpg').unlink()
  (out / 'cats/.cat.tmp.jpg').write_bytes(LISTED['cats/cat'][:999])  # of an interrupted run
  assert fetch() == open_photos.Result(fetched=list(PUBLISHED), identical=4)
  assert contents(out) == ALL


def test_what_is_not_published_is_named_and_the_others_are_fetched(fetch, out, server):
  del server.answers[address('large')]
  result = fetch(threads=1)
  assert result.fetched == ['cats/cat', 'same', 'turned']
  assert result.failed == {'large': f'status 404 (Not Found) from {server.url}{address("large")}'}
  assert contents(out) == without('large')
  assert server.requests[address('large')] == 1


@pytest.mark.parametrize('first', [(503, b''), (429, b''), ('cut', LARGE)])
def test_passing_failures_are_tried_again(fetch, out, server, first):
  server.answers[address('large')] = [first, (200, LARGE)]
  assert fetch() == open_photos.Result(fetched=list(PUBLISHED), identical=4)
  assert contents(out) == ALL
  assert server.requests[address('large')] == 2


@pytest.mark.parametrize(
  ('answer', 'reason'),
  [((502, b''), 'status 502 (Bad Gateway) from {url}'), (('cut', LARGE), 'incomplete answer from')],
)
def test_lasting_failures_are_named(fetch, out, server, answer, reason):
  server.answers[address('large')] = [answer]
  [(name, message)] = fetch().failed.items()
  assert name == 'large'
  assert message.startswith(reason.format(url=server.url + address('large')))
  assert contents(out) == without('large')
  assert server.requests[address('large')] == 3


@pytest.mark.parametrize(
  ('content', 'reason'),
  [
    (b'<!DOCTYPE html><p>Sign in', 'unsupported format (web page)'),
    (b'', 'empty file'),
    (LARGE[:-5000], 'truncated or damaged file: '),
    (
      encoded(COFFEE.resize((1500, 990))),
      'expected 1024x682 pixels; the published photograph has 1500x990, which gives 1024x676',
    ),
    (encoded(COFFEE), 'expected 1024x682 pixels; the published photograph has 600x400, which'),
    (encoded(Image.new('L', (10240, 6820))), 'published with more than 50,000,000 pixels'),
  ],
)
def test_bodies_of_another_kind_are_named(fetch, out, server, content, reason):
  server.answers[address('large')] = [(200, content)]
  [(name, message)] = fetch().failed.items()
  assert name == 'large'
  assert message.startswith(reason)
  assert str(out.parent) not in message
  assert contents(out) == without('large')


def test_bodies_beyond_the_limit_are_not_read(fetch, out, server):
  sizes = {name: len(content) for name, (_, content, _) in PUBLISHED.items()}
  limit = sizes.pop('large') - 1
  assert limit > max(sizes.values())
  reason = f'more than {limit:,} bytes at {server.url}{address("large")}'
  assert fetch(max_bytes=limit).failed == {'large': reason}
  assert contents(out) == without('large')
  assert fetch(max_bytes=limit + 1).fetched == ['large']


def test_a_server_that_is_not_there_ends_the_run(fetch, out):
  url = f'http://127.0.0.1:{free_port()}'
  with pytest.raises(UserError, match=f'^cannot reach {url}: Connection refused .*base_url$'):
    fetch(base_url=url)
  assert contents(out) == {}


@pytest.mark.parametrize(
  'url', ['file:///etc', 'localhost:80', 'http://', 'http://[a', 'http://a?b']
)
def test_urls_that_are_not_of_a_server_are_refused(fetch, out, url):
  with pytest.raises(UserError, match='^base_url must be a URL such as https://raw.githubuser'):
    fetch(base_url=url)
  with pytest.raises(UserError, match='^output_dir must be a folder of this machine, not gs://a$'):
    open_photos.fetch('gs://a')
  assert not out.exists()


@pytest.mark.parametrize(
  ('change', 'reason'),
  [
    ({'repo': 'owner'}, "invalid repo 'owner'"),
    ({'commit': 'main'}, "invalid commit 'main'"),
    ({'path': ''}, "invalid path ''"),
    ({'sha256': 'f' * 63}, 'invalid sha256'),
    ({'name': '../large'}, "invalid name '../large'"),
  ],
)
def test_malformed_lists_are_refused(photo_list, change, reason):
  write_list(photo_list, change)
  with pytest.raises(UserError) as caught:
    open_photos.read_published(photo_list)
  assert str(caught.value).startswith(f'{photo_list}, line 3: {reason}')


@pytest.mark.end_to_end
def test_the_command(server, photo_list, out):
  del server.answers[address('same')]
  command = [sys.executable, '-m', 'data_prep.open_photos', f'--output_dir={out}']
  result = subprocess.run(
    [*command, f'--photo_list={photo_list}', f'--base_url={server.url}/', '--threads=2'],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 1
  assert result.stdout == (
    f'{out}: 3 fetched, 0 kept, 1 failed; 3 of 3 files identical to the listed ones\n'
    f'failed: same: status 404 (Not Found) from {server.url}{address("same")}\n'
  )
  last = result.stderr.splitlines()[-1]
  assert last.endswith('error: 1 photograph failed; run the command again to retry')
  assert 'Traceback' not in result.stderr
  assert contents(out) == without('same')


def test_the_committed_list():
  with open(open_photos.PHOTO_LIST, newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 525
  assert collections.Counter(row['licence'] for row in rows) == LICENCES
  assert all(row['attribution'] for row in rows if not row['licence'].startswith('CC0'))
  photos = open_photos.read_published(open_photos.PHOTO_LIST)
  assert photos[0] == open_photos.PublishedPhoto(
    read_photo_list(open_photos.PHOTO_LIST)['azure/ComputerVision_Images_dog'],
    'Azure-Samples/cognitive-services-sample-data-files/65af3b93cab5f45c76594f3265210646d4b3809e/'
    'ComputerVision/Images/dog.jpg',
    '633bcea4d6a1184b15aa166563d0cc76d91b373acfc7aa1c75ba4b8150de25c8',
  )
  assert len({photo.listed.name for photo in photos}) == 525
  assert len({photo.sha256 for photo in photos}) == 525
  sides = np.array([(photo.listed.width, photo.listed.height) for photo in photos])
  assert (sides.max(), sides.min()) == (1024, 333)
  assert (sides.max(1) == 1024).sum() == 42  # as the command's description says
  held_out = [photo.listed for photo in photos if photo.listed.held_out]
  assert len(held_out) == 20
  assert min(min(photo.width, photo.height) for photo in held_out) == 400
