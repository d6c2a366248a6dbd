"""The flags `--config` and `--list_configs`.

A command adopts them with `flags.adopt_module_key_flags(config_flags)`.
"""

import ast
import os
import pathlib
import sys
from typing import Any

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from gfn_jax.errors import UserError
from gfn_jax.system.files import printable
from gfn_jax.system.package_files import find_file, package_folder


def find_config(spec: str) -> str:
  """Find the file of a config: in the current folder, in its folder `configs`, in the package.

  Args:
    spec: NAME, NAME:VARIANT, FILE.py or FILE.py:VARIANT, such as `gfn_photos:small`,
      `tables/gfn_table2` or `configs/gfn.py:paper`.

  Returns:
    The path, followed by the colon and the variant, if any.

  Raises:
    UserError: if there is no such file.
  """
  name, colon, variant = spec.partition(':')
  file = name if name.endswith('.py') else f'{name}.py'
  for candidate in (file, f'configs/{file}'):
    path = find_file(candidate)
    if os.path.isfile(path):
      return path + colon + variant
  raise UserError(
    f'no config {printable(name)!r} in the current folder or in the package; --list_configs lists '
    'those of the package'
  )


def describe_configs() -> str:
  """Return the names of the package's configs and the first lines of their docstrings."""
  root = pathlib.Path(package_folder('configs'))
  rows = {}
  for path in (*sorted(root.glob('*.py')), *sorted(root.glob('tables/*.py'))):
    if path.stem not in ('__init__', 'defaults'):
      docstring = ast.get_docstring(ast.parse(path.read_text('utf-8'))) or ''
      rows[path.relative_to(root).with_suffix('').as_posix()] = docstring.partition('\n')[0]
  width = max(map(len, rows))
  lines = [f'{name:{width}}  {description}' for name, description in rows.items()]
  return '\n'.join([*lines, '', f'A variant follows a colon: gfn_photos:small. The files: {root}'])


class _Parser(ConfigFileFlagParser):
  """Parser of `--config`, which also takes a name, and finds the package's configs anywhere."""

  def parse(self, spec: str) -> Any:
    try:
      return super().parse(find_config(spec))
    except TypeError as error:
      if 'get_config() takes 0 positional arguments' not in str(error):
        raise
      name, _, variant = spec.partition(':')
      raise UserError(f'config {printable(name)} has no variants; omit :{variant}') from error


class _ListFlag(flags.BooleanFlag):
  """Flag that lists the configs and exits when it is parsed, as absl's `--help` does."""

  def parse(self, argument: Any) -> None:
    if self._parse(argument):
      print(describe_configs())
      sys.exit(0)


CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Config: a name of --list_configs or a file, with a variant after a colon.'
)
flags.FLAGS['config'].parser = _Parser('config')
flags.DEFINE_flag(_ListFlag('list_configs', False, 'List the configs of the package, and exit.'))
