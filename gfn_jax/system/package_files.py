"""Files of the configs and of data_prep, which users replace by files of the current folder."""

import importlib.util
import os

FOLDERS = ('configs', 'data_prep')


def package_folder(name: str) -> str:
  """Return the path of `gfn_jax.configs` or `gfn_jax.data_prep`, in a clone as when installed."""
  spec = importlib.util.find_spec(f'gfn_jax.{name}')
  if spec is None or not spec.submodule_search_locations:
    raise ModuleNotFoundError(f'No module named gfn_jax.{name}')
  return spec.submodule_search_locations[0]


def find_file(path: str | os.PathLike) -> str:
  """Return a path if it exists, as seen from the current folder, or else the package's file.

  Args:
    path: a path; only `configs/...` and `data_prep/...` are looked for in the package.

  Returns:
    The path of the file. A path that exists at neither place is returned unchanged.
  """
  path = os.fspath(path)
  folder, _, rest = path.replace(os.sep, '/').partition('/')
  if folder in FOLDERS and not os.path.exists(path):
    packaged = os.path.join(package_folder(folder), rest)
    if os.path.isfile(packaged):
      return packaged
  return path
