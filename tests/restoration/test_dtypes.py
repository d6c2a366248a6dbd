import json

import pytest

from gfn_jax import list_pretrained
from gfn_jax.restoration import dtypes
from gfn_jax.weights.cards import card_path


@pytest.fixture
def weights(tmp_path):
  """Write a card; return the path of its weights."""

  def write(**entries):
    path = tmp_path / 'weights.safetensors'
    path.touch()
    with open(card_path(path), 'w') as file:
      json.dump({'model': {}, 'sha256': '', **entries}, file)
    return path

  return write


@pytest.mark.parametrize(
  ('entries', 'expected'),
  [
    ({}, False),
    ({'bfloat16': {}}, False),
    ({'bfloat16': {'hr': -0.009, 'lr': 0.01}}, True),
    ({'bfloat16': {'hr': -0.011, 'lr': 0.0}}, False),
    ({'bfloat16': {'hr': 0.0, 'lr': 0.011}}, False),
  ],
)
def test_only_measured_weights_are_computed_in_bfloat16(weights, entries, expected, monkeypatch):
  path = weights(**entries)
  assert dtypes.keeps_result(path) == expected
  monkeypatch.setattr(dtypes, 'computes_bfloat16', lambda: True)
  assert dtypes.faster_dtype(path) == ('bfloat16' if expected else None)


def test_weights_without_a_card_keep_their_type(tmp_path):
  path = tmp_path / 'weights.safetensors'
  path.touch()
  assert not dtypes.keeps_result(path)


def test_the_released_weights_are_measured():
  assert [name for name in list_pretrained() if not dtypes.keeps_result(name)] == []


def test_the_processor_and_the_work_decide(weights, monkeypatch):
  path = weights(bfloat16={'hr': 0.0})
  monkeypatch.setattr(dtypes, 'computes_bfloat16', lambda: True)
  assert dtypes.faster_dtype(path, dtypes.MIN_PIXELS) == 'bfloat16'
  assert dtypes.faster_dtype(path, dtypes.MIN_PIXELS - 1) is None
  monkeypatch.setattr(dtypes, 'computes_bfloat16', lambda: False)
  assert dtypes.faster_dtype(path) is None
