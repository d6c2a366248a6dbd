"""Tests of warnings that are ignored while a thread works."""

import threading
import warnings

import pytest

from gfn_jax.system.ignored_warnings import ignored_warnings


def test_only_warnings_with_the_message_are_ignored():
  before = list(warnings.filters)
  with ignored_warnings('no .* entry'):
    warnings.warn('no cache entry', stacklevel=1)
    with pytest.warns(UserWarning, match='another'):
      warnings.warn('another', stacklevel=1)
  assert warnings.filters == before
  with pytest.warns(UserWarning, match='no cache entry'):
    warnings.warn('no cache entry', stacklevel=1)


def test_an_error_restores_the_filters():
  before = list(warnings.filters)
  with pytest.raises(KeyError), ignored_warnings():
    raise KeyError
  assert warnings.filters == before


def test_a_block_that_began_first_and_ends_first_leaves_the_other_threads_filter():
  before = list(warnings.filters)
  began, inside, ended = threading.Event(), threading.Event(), threading.Event()

  def other():
    with ignored_warnings():
      began.set()
      inside.wait(10)
    ended.set()

  thread = threading.Thread(target=other)
  thread.start()
  began.wait(10)
  with ignored_warnings('no cache entry'):
    inside.set()
    assert ended.wait(10)
    warnings.warn('no cache entry', stacklevel=1)
  thread.join(10)
  assert warnings.filters == before
