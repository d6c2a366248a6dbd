"""JAX's persistent compilation cache, for the commands."""

import hashlib
import os
import pathlib
import platform

import jax

MAX_BYTES = 2**30
"""Cache size limit in bytes. The least recently used entries are evicted first."""


def enable() -> None:
  """Store compiled programs in the user's cache folder, for later runs.

  Has no effect if JAX's own variables configure the cache (`JAX_COMPILATION_CACHE_DIR` or
  `JAX_ENABLE_COMPILATION_CACHE=false`), or if the folder is not writable.
  """
  settings = jax.config.values
  if settings['jax_compilation_cache_dir'] or not settings['jax_enable_compilation_cache']:
    return
  folder = cache_folder()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  if not os.access(folder, os.W_OK):
    return
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_compilation_cache_max_size', MAX_BYTES)
  # Many small programs draw the initial parameters.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


def cache_folder() -> pathlib.Path:
  """Return the cache folder for this processor; programs compiled for another one may crash."""
  kind = hashlib.sha256(f'{platform.machine()} {_processor_features()}'.encode()).hexdigest()
  return _user_cache_folder() / f'xla-{kind[:12]}'


def _user_cache_folder() -> pathlib.Path:
  """Return the library's cache folder; without platformdirs, Linux's location."""
  try:
    import platformdirs
  except ModuleNotFoundError:
    folder = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return pathlib.Path(folder, 'gfn_jax')
  return platformdirs.user_cache_path('gfn_jax', appauthor=False)


def _processor_features() -> str:
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:  # not Linux
    return platform.processor()
  return next((line for line in lines if line.startswith(('flags', 'Features'))), '')
