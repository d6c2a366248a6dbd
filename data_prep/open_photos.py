"""Fetch the openly licensed photographs of the training set of the released weights.

  gfn-prepare open_photos --output_dir=photos_open

`data_prep/photos_open.csv` lists the photographs with their licences and credits. Each is fetched
from the repository and commit that published it, reduced to a long side of at most 1,024 pixels,
and written as a JPEG. Existing photographs are kept, so run the command again after an interruption
or a failure.

The files are JPEGs of Pillow's quality 92 without chroma subsampling, as the listed ones. Larger
photographs are reduced with a Lanczos filter. The list does not record the filter of the 42
photographs with a long side of 1,024 pixels, so these may differ slightly from the listed files.
The summary counts the identical files, by SHA-256.

Fetching from the real addresses has not been tried. The command is tested against a local server.
"""

import concurrent.futures
import dataclasses
import hashlib
import http.client
import os
import re
import signal
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from PIL import Image
from tqdm import tqdm

from gfn_jax.cli.runner import run_command
from gfn_jax.data.photo_list import ListedPhoto, read_photo_list, read_rows
from gfn_jax.errors import UserError
from gfn_jax.images.folders import image_size, read_rgb
from gfn_jax.images.reading import MAX_PIXELS
from gfn_jax.system.files import (
  file_sha256,
  is_remote,
  make_folder,
  printable,
  write_aside,
  write_file,
)

PHOTO_LIST = Path(__file__).with_name('photos_open.csv')
BASE_URL = 'https://raw.githubusercontent.com'
MAX_SIDE = 1024
MAX_BYTES = 64 * 2**20
_TIMEOUT = 30
_WAITS = (1, 2, 4)  # seconds before each further try
_PATTERNS = {
  'repo': re.compile(r'[\w.-]+/[\w.-]+', re.ASCII),
  'commit': re.compile('[0-9a-f]{40}'),
  'path': re.compile('.+'),
  'sha256': re.compile('[0-9a-f]{64}'),
}


@dataclasses.dataclass(frozen=True)
class PublishedPhoto:
  """Photograph with its address.

  Attributes:
    listed: name and size of the photograph.
    address: repository, commit and path, quoted for a URL.
    sha256: hexadecimal SHA-256 of the listed file.
  """

  listed: ListedPhoto
  address: str
  sha256: str


@dataclasses.dataclass
class Result:
  """Outcome of a fetch.

  Attributes:
    fetched: names of the photographs written.
    kept: names of existing photographs.
    failed: reason of each failure, by name.
    identical: number of files with the listed SHA-256.
  """

  fetched: list[str] = dataclasses.field(default_factory=list)
  kept: list[str] = dataclasses.field(default_factory=list)
  failed: dict[str, str] = dataclasses.field(default_factory=dict)
  identical: int = 0


class _FetchError(Exception):
  """Reason why one photograph cannot be fetched."""


class _TemporaryError(_FetchError):
  """Temporary failure that is worth a retry."""


class _UnreachableError(_TemporaryError):
  """No answer from the server."""


def read_published(path: str | os.PathLike) -> list[PublishedPhoto]:
  """Read a list of photographs with their addresses.

  Args:
    path: a CSV file with the columns of `photo_list.read_photo_list`, and `repo` (owner/name),
      `commit` (40 hexadecimal digits), `path` (in the repository) and `sha256`.

  Returns:
    The photographs, in the order of the file.

  Raises:
    UserError: if the file cannot be read or has a malformed row.
  """
  listed = read_photo_list(path)
  photos = []
  for line, row in read_rows(path, ('name', *_PATTERNS)):
    for column, pattern in _PATTERNS.items():
      if not pattern.fullmatch(row[column]):
        raise UserError(
          f'{printable(path)}, line {line}: invalid {column} {row[column]!r}; correct the row'
        )
    address = '/'.join((row['repo'], row['commit'], urllib.parse.quote(row['path'])))
    photos.append(PublishedPhoto(listed[row['name']], address, row['sha256']))
  return photos


def fetch(
  output_dir: str | os.PathLike,
  *,
  photo_list: str | os.PathLike = PHOTO_LIST,
  base_url: str = BASE_URL,
  threads: int = 8,
  max_bytes: int = MAX_BYTES,
  waits: Sequence[float] = _WAITS,
) -> Result:
  """Fetch the photographs of a list that a folder does not contain yet.

  Args:
    output_dir: folder to write `<name>.jpg` to; created if missing.
    photo_list: CSV file, as for `read_published`.
    base_url: http or https URL of the server; `/<repo>/<commit>/<path>` is appended.
    threads: number of concurrent downloads.
    max_bytes: maximum size of a published file in bytes.
    waits: seconds to wait before each retry, if the server does not answer or returns status 429 or
      5xx.

  Returns:
    Names of the photographs fetched, kept and failed.

  Raises:
    UserError: for a malformed list or URL, or if the server is unreachable.
    OSError: if a file cannot be written.
  """
  photos = read_published(photo_list)
  base_url = _checked_url(base_url)
  if is_remote(output_dir):
    raise UserError(f'output_dir must be a folder of this machine, not {printable(output_dir)}')
  make_folder(output_dir)
  result, reached, stop = Result(), False, threading.Event()
  pool = concurrent.futures.ThreadPoolExecutor(threads)
  with tempfile.TemporaryDirectory() as scratch:
    fetcher = _Fetcher(os.fspath(output_dir), scratch, base_url, max_bytes, waits, stop)
    try:
      jobs = {pool.submit(fetcher.fetch, photo): photo for photo in photos}
      done = concurrent.futures.as_completed(jobs)
      for job in tqdm(done, 'fetching', len(jobs), unit='photo', leave=False):
        photo = jobs[job]
        try:
          fetched, sha256 = job.result()
        except _FetchError as error:
          reached = reached or not isinstance(error, _UnreachableError)
          if not reached:  # the remaining downloads would fail too
            raise UserError(
              f'cannot reach {printable(base_url)}: {error}; check the network and base_url'
            ) from error
          result.failed[photo.listed.name] = str(error)
        else:
          reached = reached or fetched
          (result.fetched if fetched else result.kept).append(photo.listed.name)
          result.identical += sha256 == photo.sha256
    finally:
      stop.set()
      pool.shutdown(cancel_futures=True)
  return _in_list_order(result, photos)


def _in_list_order(result: Result, photos: list[PublishedPhoto]) -> Result:
  place = {photo.listed.name: index for index, photo in enumerate(photos)}
  return Result(
    sorted(result.fetched, key=place.get),
    sorted(result.kept, key=place.get),
    {name: result.failed[name] for name in sorted(result.failed, key=place.get)},
    result.identical,
  )


@dataclasses.dataclass(frozen=True)
class _Fetcher:
  """Downloader of single photographs, with the arguments of `fetch`. `stop` ends the waits."""

  output_dir: str
  scratch: str
  base_url: str
  max_bytes: int
  waits: Sequence[float]
  stop: threading.Event

  def fetch(self, photo: PublishedPhoto) -> tuple[bool, str]:
    """Fetch a photograph unless it exists; return True if fetched, and the SHA-256 of its file."""
    path = os.path.join(self.output_dir, f'{photo.listed.name}.jpg')
    if _is_complete(path, photo.listed):
      return False, file_sha256(path)
    content = self._download(f'{self.base_url}/{photo.address}')
    make_folder(os.path.dirname(path))
    if hashlib.sha256(content).hexdigest() == photo.sha256:
      write_file(path, content)
    else:
      image = self._reduce(content, photo.listed)
      with write_aside(path) as temporary:
        image.save(temporary, 'JPEG', quality=92, subsampling='4:4:4')
    return True, file_sha256(path)

  def _download(self, url: str) -> bytes:
    for wait in self.waits:
      try:
        return self._get(url)
      except _TemporaryError:
        if self.stop.wait(wait):
          break
    return self._get(url)

  def _get(self, url: str) -> bytes:
    try:
      response = urllib.request.urlopen(url, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
      error.close()
      kind = _TemporaryError if error.code == 429 or error.code >= 500 else _FetchError
      raise kind(f'status {error.code} ({_one_line(error.reason)}) from {url}') from error
    except (OSError, http.client.HTTPException) as error:
      reason = error.reason if isinstance(error, urllib.error.URLError) else error
      raise _UnreachableError(f'{_one_line(reason)} ({url})') from error
    except ValueError as error:  # a redirection to an invalid URL
      raise _FetchError(f'{_one_line(error)} ({url})') from error
    try:
      with response:
        content = response.read(self.max_bytes + 1)
    except (OSError, http.client.HTTPException) as error:
      raise _TemporaryError(f'incomplete answer from {url}') from error
    if len(content) > self.max_bytes:
      raise _FetchError(f'more than {self.max_bytes:,} bytes at {url}')
    if response.length:  # bytes announced but not received
      raise _TemporaryError(f'incomplete answer from {url}')
    return content

  def _reduce(self, content: bytes, listed: ListedPhoto) -> Image.Image:
    """Decode a published file and reduce it to the listed size."""
    with tempfile.NamedTemporaryFile(dir=self.scratch) as file:
      file.write(content)
      file.flush()
      try:
        published = image_size(file.name)
        _check_size(published, listed)
        image = Image.fromarray(read_rgb(file.name))
      except UserError as error:
        reason = str(error).removeprefix(f'cannot read {printable(file.name)}: ')
        raise _FetchError(reason) from error
    size = (listed.width, listed.height)
    return image if published == size else image.resize(size, Image.Resampling.LANCZOS)


def _check_size(published: tuple[int, int], listed: ListedPhoto) -> None:
  scale = min(1, MAX_SIDE / max(published))
  reduced = [side * scale for side in published]
  # Allow a difference below one pixel, because the rounding of the shorter side is unknown.
  if max(abs(reduced[0] - listed.width), abs(reduced[1] - listed.height)) >= 1:
    raise _FetchError(
      f'expected {listed.width}x{listed.height} pixels; the published photograph has '
      f'{published[0]}x{published[1]}, which gives {reduced[0]:.0f}x{reduced[1]:.0f}'
    )
  if published[0] * published[1] > MAX_PIXELS:
    raise _FetchError(f'published with more than {MAX_PIXELS:,} pixels')


def _is_complete(path: str, listed: ListedPhoto) -> bool:
  """Return True if a file has the listed size and decodes without error."""
  try:
    if not os.path.exists(path) or image_size(path) != (listed.width, listed.height):
      return False
    read_rgb(path)
  except UserError:
    return False
  return True


def _one_line(reason: object) -> str:
  reason = getattr(reason, 'strerror', None) or str(reason) or type(reason).__name__
  return printable(' '.join(reason.split())[:200])


def _checked_url(base_url: str) -> str:
  try:
    parts = urllib.parse.urlsplit(base_url)
    valid = parts.scheme in ('http', 'https') and parts.hostname and parts.port != 0
    valid = valid and re.fullmatch('[!-~]+', base_url) and not parts.query + parts.fragment
  except ValueError:
    valid = False
  if not valid:
    raise UserError(f'base_url must be a URL such as {BASE_URL}, not {base_url!r}')
  return base_url.rstrip('/')


def define_flags() -> None:
  """Define the command's flags."""
  flags.DEFINE_string('output_dir', None, 'folder to write the photographs to')
  flags.DEFINE_string('photo_list', str(PHOTO_LIST), 'CSV file with the list of photographs')
  flags.DEFINE_string('base_url', BASE_URL, 'server with /<repo>/<commit>/<path>, or a mirror')
  flags.DEFINE_integer('threads', 8, 'number of concurrent downloads', lower_bound=1)
  flags.mark_flag_as_required('output_dir')


def main(argv: list[str]) -> None:
  """Fetch the photographs and print a summary.

  Raises:
    UserError: if a photograph failed.
  """
  if argv[1:]:
    raise app.UsageError(f'unexpected argument {argv[1]}')
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # run the clean-up
  values = flags.FLAGS
  result = fetch(
    values.output_dir,
    photo_list=values.photo_list,
    base_url=values.base_url,
    threads=values.threads,
  )
  counts = [f'{len(getattr(result, kind))} {kind}' for kind in ('fetched', 'kept', 'failed')]
  total = len(result.fetched) + len(result.kept)
  print(
    f'{printable(values.output_dir)}: {", ".join(counts)}; {result.identical} of {total} files '
    f'identical to the listed ones'
  )
  for name, reason in result.failed.items():
    print(f'failed: {name}: {reason}')
  if failed := len(result.failed):
    photographs = 'photograph' if failed == 1 else 'photographs'
    raise UserError(f'{failed} {photographs} failed; run the command again to retry')


if __name__ == '__main__':
  define_flags()
  run_command(main)
