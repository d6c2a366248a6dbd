"""Tests of the build of the browser page, in the ONNX environment: `make test-onnx`."""

import importlib.util
import pathlib

import pytest

from gfn_jax import UserError

pytest.importorskip('onnx')


@pytest.fixture(scope='module')
def build():
  path = pathlib.Path(__file__).parents[2] / 'page' / 'build.py'
  spec = importlib.util.spec_from_file_location('page_build', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_another_package_is_refused(build, tmp_path):
  archive = tmp_path / f'{build.RUNTIME}-{build.VERSION}.tgz'
  archive.write_bytes(b'another')
  with pytest.raises(UserError, match=r'hash sha512-.* is not that of onnxruntime-web .*; remove'):
    build.fetch_runtime(tmp_path)


def test_missing_npm_is_one_line(build, tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(UserError, match='^npm is not installed'):
    build.fetch_runtime(tmp_path)


def test_a_failed_build_keeps_the_old_page(build, tmp_path, monkeypatch):
  page = tmp_path / 'page'
  page.mkdir()
  (page / 'files.js').write_text('old')
  monkeypatch.setattr(build, 'fetch_runtime', lambda cache: cache)
  monkeypatch.setattr(build, 'copy_sources', lambda folder: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    build.main([str(page), '--cache', str(tmp_path)])
  assert [path.name for path in tmp_path.iterdir()] == ['page']
  assert (page / 'files.js').read_text() == 'old'

  (page / 'files.js').rename(page / 'photo.png')
  with pytest.raises(UserError, match='exists and is not a page; remove it first'):
    build.main([str(page), '--cache', str(tmp_path)])
  assert (page / 'photo.png').exists()


def test_slider_is_that_of_the_reports(build, tmp_path):
  build.copy_sources(tmp_path)
  html = (tmp_path / 'index.html').read_text()
  assert html.count('<div class="stage">') == 1 and '<!-- slider -->' not in html
  for name in ('article.css', 'article.js', 'report.css', 'page.js', 'worker.js', 'sample.png'):
    assert (tmp_path / name).stat().st_size > 0


def test_licences_are_complete(build, tmp_path):
  build.write_licences(tmp_path)
  text = (tmp_path / 'licences.txt').read_text('utf-8')
  for part in ('CC BY-SA 4.0', 'Apache License', 'Microsoft Corporation', 'ThirdPartyNotices'):
    assert part in text, part


def test_stored_files_exist_and_a_change_makes_another_version(build, tmp_path):
  build.copy_sources(tmp_path)
  build.write_file_list(tmp_path)
  first = (tmp_path / 'files.js').read_text()
  assert '"./"' in first and '"worker.js"' in first and 'index.html' not in first
  (tmp_path / 'files.js').unlink()
  (tmp_path / 'style.css').write_text('')
  build.write_file_list(tmp_path)
  assert (tmp_path / 'files.js').read_text() != first
