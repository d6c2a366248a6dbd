"""Check that folders of the package only import the layers below them."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

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

BESIDE = {
  'configs': ('configs', 'evaluation', 'models', 'ops', 'errors'),
  'data_prep': ('data_prep', 'cli', 'data', 'images', 'ops', 'system', 'errors'),
}
"""Folders that use the layers, and what each may import: configs load quickly and train nothing."""

TOP = ('__init__.py', '__main__.py')
"""Files of no layer: the public names, and the command `python -m gfn_jax`."""


def files():
  """Return the files of the package by their paths in it; setup.cfg maps two folders there."""
  found = {path.relative_to(ROOT / 'gfn_jax'): path for path in (ROOT / 'gfn_jax').rglob('*.py')}
  for folder in BESIDE:
    found |= {path.relative_to(ROOT): path for path in (ROOT / folder).rglob('*.py')}
  return {place.as_posix(): found[place] for place in sorted(found) if place.as_posix() not in TOP}


FILES = files()


def imports(path):
  """Yield the names that a file imports, at any place in the file."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def layer_of(place):
  return place.partition('/')[0].removesuffix('.py')


@pytest.mark.parametrize('place', FILES)
def test_a_module_imports_only_the_layers_below_it(place):
  layer = layer_of(place)
  allowed = BESIDE.get(layer) or LAYERS[LAYERS.index(layer) :]
  for name in imports(FILES[place]):
    parts = name.split('.')
    assert parts[0] not in BESIDE, f'{name} is gfn_jax.{name}'
    if parts[0] == 'gfn_jax' and name != 'gfn_jax.__version__':
      assert len(parts) > 1 and parts[1] in allowed, f'{name} is not below {layer}'


def test_every_folder_is_a_layer():
  assert {layer_of(place) for place in FILES} == {*LAYERS, *BESIDE}


def test_no_two_modules_import_each_other():
  """Check also for cycles within a folder."""
  modules = {
    'gfn_jax.' + place.removesuffix('.py').replace('/', '.'): path for place, path in FILES.items()
  }
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
