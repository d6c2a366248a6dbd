"""Fixtures of the tests of ONNX."""

import jax
import pytest


@pytest.fixture
def jax2onnx():
  """The library, which does not keep to the ranks that these tests demand."""
  module = pytest.importorskip('jax2onnx')
  with jax.numpy_rank_promotion('allow'):
    yield module
