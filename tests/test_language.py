"""The form of docstrings. ruff's D401 checks the mood of verbs; this test the rest."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

FILES = sorted(
  path
  for folder in ('gfn_jax', 'configs', 'data_prep', 'benchmarks', 'examples', 'page')
  for path in (ROOT / folder).rglob('*.py')
)

FRAGMENTS = {'Of', 'What', 'How', 'Whether', 'Which', 'Where', 'Why', 'That', 'As', 'Those'}
"""First words of docstrings that need the name above them to make sense."""


def documented(path):
  """Names and docstrings of the classes, functions and methods of a file, and its own."""
  tree = ast.parse(path.read_text())
  for node in ast.walk(tree):
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
      docstring = ast.get_docstring(node)
      if docstring:
        yield getattr(node, 'name', 'the module'), docstring


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings_begin_with_a_sentence(path):
  for name, docstring in documented(path):
    first = docstring.split('\n')[0]
    assert first.split()[0].strip(',:') not in FRAGMENTS, f'{name}: {first}'
    assert first[-1] in '.!?:', f'{name}: {first}'
