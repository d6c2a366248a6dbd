"""Check that folders of the package only import the layers below them."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / 'gfn_jax'

LAYERS = (
  'cli',
  'training',
  'evaluation',
  'restoration',
  'interop',
  'weights',
  'data',
  'images',
  'models',
  'layers',
  'ops',
  'system',
  'errors',
)
"""Folders from top to bottom; each may import itself and those below it."""

TOP = ('__init__.py', '__main__.py')
"""Files of no layer: the public names, and the command `python -m gfn_jax`."""

FILES = sorted(
  path for path in PACKAGE.rglob('*.py') if path.relative_to(PACKAGE).as_posix() not in TOP
)


def imports(path):
  """Yield the names that a file imports, at any place in the file."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def layer_of(path):
  return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_the_layers_below_it(path):
  allowed = LAYERS[LAYERS.index(layer_of(path)) :]
  for name in imports(path):
    parts = name.split('.')
    if parts[0] == 'gfn_jax' and name != 'gfn_jax.__version__':
      assert len(parts) > 1 and parts[1] in allowed, f'{name} is not below {layer_of(path)}'


def test_every_folder_is_a_layer():
  folders = {layer_of(path) for path in FILES}
  assert folders == set(LAYERS)


def test_no_two_modules_import_each_other():
  """Check also for cycles within a folder."""
  modules = {'gfn_jax.' + '.'.join(p.relative_to(PACKAGE).with_suffix('').parts): p for p in FILES}
  graph = {}
  for name, path in modules.items():
    name = name.removesuffix('.__init__')
    found = set()
    for imported in imports(path):
      candidates = (imported, imported.rpartition('.')[0])
      found |= {candidate for candidate in candidates if candidate in modules}
    graph[name] = found
  done = set()

  def visit(name, above):
    assert name not in above, f'import cycle: {" -> ".join([*above, name])}'
    if name not in done:
      for other in sorted(graph.get(name, ())):
        visit(other, [*above, name])
      done.add(name)

  for name in graph:
    visit(name, [])
