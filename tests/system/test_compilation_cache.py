import os
import pathlib
import sys

import jax
import pytest

from gfn_jax.system import compilation_cache

OPTIONS = (
  'jax_enable_compilation_cache',
  'jax_compilation_cache_dir',
  'jax_compilation_cache_max_size',
  'jax_persistent_cache_min_compile_time_secs',
)


@pytest.fixture
def user(tmp_path, monkeypatch):
  """A user with a home of their own, who set no variable of JAX."""
  before = {option: getattr(jax.config, option) for option in OPTIONS}
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  jax.config.update('jax_compilation_cache_dir', None)
  yield tmp_path
  for option, value in before.items():
    jax.config.update(option, value)


def test_it_is_in_the_users_cache_folder_and_bounded(user):
  compilation_cache.enable()
  assert jax.config.jax_compilation_cache_dir == str(compilation_cache.cache_folder())
  assert compilation_cache.cache_folder().parent == user / 'gfn_jax'
  assert jax.config.jax_compilation_cache_max_size == 2**30


def test_it_is_there_without_platformdirs(user, monkeypatch):
  monkeypatch.setitem(sys.modules, 'platformdirs', None)
  assert compilation_cache.cache_folder().parent == user / 'gfn_jax'
  monkeypatch.delenv('XDG_CACHE_HOME')
  assert compilation_cache.cache_folder().parent == pathlib.Path.home() / '.cache' / 'gfn_jax'


def test_jaxs_own_settings_go_before(user):
  jax.config.update('jax_compilation_cache_dir', '/elsewhere')
  compilation_cache.enable()
  assert jax.config.jax_compilation_cache_dir == '/elsewhere'
  jax.config.update('jax_compilation_cache_dir', None)
  jax.config.update('jax_enable_compilation_cache', False)
  compilation_cache.enable()
  assert jax.config.jax_compilation_cache_dir is None
  assert not list(user.iterdir())


def test_another_processor_has_another_folder(user, monkeypatch):
  here = compilation_cache.cache_folder()
  monkeypatch.setattr(compilation_cache, '_processor_features', lambda: 'flags : fpu')
  assert compilation_cache.cache_folder() != here


def test_a_folder_that_cannot_be_written_is_left_alone(user, monkeypatch):
  (user / 'gfn_jax').write_text('a file')
  compilation_cache.enable()
  assert jax.config.jax_compilation_cache_dir is None
  (user / 'gfn_jax').unlink()
  monkeypatch.setattr(os, 'access', lambda *_: False)  # root may write anywhere
  compilation_cache.enable()
  assert jax.config.jax_compilation_cache_dir is None
