"""Build the browser page: `make page`, which runs this in the ONNX environment.

The folder is complete: it can be served by any static server, from any path.
"""

import argparse
import base64
import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence

import jax

from gfn_jax.cli.runner import exit_on_user_error
from gfn_jax.errors import UserError
from gfn_jax.interop.export import export_weights
from gfn_jax.restoration.article import Embedded, slider
from gfn_jax.weights.pretrained import load_card

SOURCES = pathlib.Path(__file__).parent
PACKAGE = SOURCES.parent / 'gfn_jax'

RUNTIME = 'onnxruntime-web'
VERSION = '1.30.0'
INTEGRITY = (
  'sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=='
)
"""Hash of the package in the npm registry, as in a package-lock.json."""

WASM_FILES = (
  'ort.wasm.min.mjs',
  'ort-wasm-simd-threaded.mjs',
  'ort-wasm-simd-threaded.wasm',
)
"""Runtime for WebAssembly."""

WEBGPU_FILES = (
  'ort.webgpu.min.mjs',
  'ort-wasm-simd-threaded.asyncify.mjs',
  'ort-wasm-simd-threaded.asyncify.wasm',
)
"""Runtime for WebGPU, twice as large. It is stored for offline use only where it is used."""

SHARED = ('restoration/report.css', 'restoration/article.css', 'restoration/article.js')
"""Style and script of the reports."""


def main(argv: Sequence[str] | None = None) -> None:
  """Build the page.

  Args:
    argv: the command's arguments; None uses `sys.argv`.

  Raises:
    UserError: if the runtime cannot be fetched or has another hash.
  """
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('out', type=pathlib.Path, help='folder to write; an old page is replaced')
  parser.add_argument('--cache', type=pathlib.Path, required=True, help='folder for the download')
  args = parser.parse_args(argv)
  jax.config.update('jax_platforms', 'cpu')
  archive = fetch_runtime(args.cache)
  with _replaced(args.out) as folder:
    copy_sources(folder)
    extract_runtime(archive, folder)
    write_networks(folder)
    write_licences(folder)
    write_file_list(folder)
  size = sum(path.stat().st_size for path in args.out.iterdir())
  print(f'wrote {args.out}: {size / 1e6:.1f} MB')


def fetch_runtime(cache: pathlib.Path) -> pathlib.Path:
  """Return the package of the runtime, from `cache` or the npm registry, after checking its hash.

  Raises:
    UserError: if npm is missing or fails, or the hash differs.
  """
  cache.mkdir(parents=True, exist_ok=True)
  archive = cache / f'{RUNTIME}-{VERSION}.tgz'
  if not archive.exists():
    command = ['npm', 'pack', f'{RUNTIME}@{VERSION}', '--silent', '--pack-destination', str(cache)]
    try:
      subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    except FileNotFoundError as error:
      raise UserError('npm is not installed; it fetches onnxruntime-web') from error
    except subprocess.CalledProcessError as error:
      raise UserError(f'npm could not fetch {RUNTIME} {VERSION}') from error
  check_integrity(archive)
  return archive


def check_integrity(archive: pathlib.Path) -> None:
  """Raise unless a package has the hash `INTEGRITY`.

  Raises:
    UserError: if the hash differs.
  """
  digest = hashlib.sha512(archive.read_bytes()).digest()
  found = f'sha512-{base64.b64encode(digest).decode()}'
  if found != INTEGRITY:
    raise UserError(f'{archive}: hash {found} is not that of {RUNTIME} {VERSION}; remove the file')


def copy_sources(folder: pathlib.Path) -> None:
  """Copy the page's own files, and those that it shares with the reports."""
  for path in sorted(SOURCES.iterdir()):
    if path.suffix in ('.css', '.js'):
      shutil.copyfile(path, folder / path.name)
  for path in (*SHARED, 'cli/sample.png'):
    shutil.copyfile(PACKAGE / path, folder / pathlib.Path(path).name)
  empty = Embedded(1, 1, 'data:,')
  stage = slider({'Input': empty, 'Restored': empty}, 'the photo')
  page = (SOURCES / 'index.html').read_text('utf-8')
  (folder / 'index.html').write_text(page.replace('<!-- slider -->', stage), 'utf-8')


def extract_runtime(archive: pathlib.Path, folder: pathlib.Path) -> None:
  """Extract the files of the runtime that the page needs."""
  with tarfile.open(archive) as package:
    for name in WASM_FILES + WEBGPU_FILES:
      source = package.extractfile(f'package/dist/{name}')
      with source, open(folder / name, 'wb') as target:
        shutil.copyfileobj(source, target)


def write_networks(folder: pathlib.Path) -> None:
  """Export the weights `gfn` once for each output: ONNX Runtime always computes the whole graph."""
  for output in ('hr', 'lr'):
    export_weights('gfn', folder / f'gfn_{output}.onnx', output=output)


def write_licences(folder: pathlib.Path) -> None:
  """Write the licences of network, project and runtime, the last from its Python package."""
  texts = [
    f'The network gfn: {load_card("gfn")["data"]["licence"]}',
    (SOURCES.parent / 'LICENSE').read_text('utf-8'),
  ]
  for path in importlib.metadata.files('onnxruntime') or ():
    if path.name in ('LICENSE', 'ThirdPartyNotices.txt') and path.parent.name == 'onnxruntime':
      texts.append(f'onnxruntime-web: {path.name}\n\n{path.read_text("utf-8")}')
  (folder / 'licences.txt').write_text('\n\n'.join(texts), 'utf-8')


def write_file_list(folder: pathlib.Path) -> None:
  """Write the names of the files to store for offline use, and a hash of all files."""
  paths = sorted(folder.iterdir())
  digest = hashlib.sha256()
  for path in paths:
    digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
  names = {path.name for path in paths} - {'index.html', 'service-worker.js', *WEBGPU_FILES}
  text = f'const VERSION = {json.dumps(digest.hexdigest())};\n'
  text += f'const FILES = {json.dumps(["./", *sorted(names)], indent=2)};\n'
  (folder / 'files.js').write_text(text, 'utf-8')


@contextlib.contextmanager
def _replaced(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """Provide an empty folder that replaces `out` at the end unless an error is raised.

  Raises:
    UserError: if `out` is something else than a page.
  """
  if out.exists() and not (out / 'files.js').exists():
    raise UserError(f'{out} exists and is not a page; remove it first')
  out.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=out.parent, prefix=f'.{out.name}_') as temporary:
    folder = pathlib.Path(temporary, 'page')
    folder.mkdir()
    yield folder
    if out.exists():
      shutil.rmtree(out)
    os.replace(folder, out)


if __name__ == '__main__':
  with exit_on_user_error():
    main()
