"""Check that setup.cfg declares the packages that the code imports."""

import ast
import configparser
import importlib.metadata
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ('gfn_jax', 'configs', 'data_prep')


def normalise(name):
  return re.sub('[-_.]+', '-', name).lower()


def names_of(requirements):
  """Return the names of the packages in lines of setup.cfg."""
  return {normalise(re.match(r'[\w.-]+', line)[0]) for line in requirements.split('\n') if line}


def declared():
  """Return the required packages and those of all extras."""
  config = configparser.ConfigParser()
  config.read(ROOT / 'setup.cfg')
  extras = config['options.extras_require'].values()
  return names_of(config['options']['install_requires']), set().union(*map(names_of, extras))


def imports(tree):
  """Yield the packages that a file imports, at any place in the file."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name.partition('.')[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.module.partition('.')[0]


def test_every_package_that_is_imported_is_declared():
  required, extras = declared()
  installed = importlib.metadata.packages_distributions()
  found = {}
  for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob('*.py')):
    for name in imports(ast.parse(path.read_text())):
      if name not in sys.stdlib_module_names and name not in FOLDERS:
        found[name] = path
  undeclared = {
    name: path
    for name, path in found.items()
    if not {normalise(package) for package in installed.get(name, [name])} & (required | extras)
  }
  assert undeclared == {}
  assert {'numpy', 'PIL', 'jax', 'av', 'gradio'} <= found.keys()


def test_the_export_to_stablehlo_has_what_jax_imports_but_does_not_require():
  required, _ = declared()
  assert 'flatbuffers' in required
  jax = importlib.metadata.requires('jax')
  assert not any(line.startswith('flatbuffers') for line in jax if 'extra ==' not in line)
