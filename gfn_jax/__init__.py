"""Joint motion deblurring and 4x super-resolution in JAX and Flax."""

import importlib
import importlib.machinery
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from gfn_jax.errors import UserError
  from gfn_jax.models import create_model, list_models, register_model
  from gfn_jax.ops.imresize import imresize
  from gfn_jax.ops.metrics import evaluate_pair
  from gfn_jax.restoration.restorer import Restorer
  from gfn_jax.weights.pretrained import list_pretrained, load_pretrained

__version__ = '0.3.0'

__all__ = [
  'Restorer',
  'UserError',
  'create_model',
  'evaluate_pair',
  'imresize',
  'list_models',
  'list_pretrained',
  'load_pretrained',
  'register_model',
]

_MODULES = {
  'Restorer': 'restoration.restorer',
  'UserError': 'errors',
  'create_model': 'models',
  'evaluate_pair': 'ops.metrics',
  'imresize': 'ops.imresize',
  'list_models': 'models',
  'list_pretrained': 'weights.pretrained',
  'load_pretrained': 'weights.pretrained',
  'register_model': 'models',
}


class _CloneFinder:
  """Finder of `gfn_jax.configs` and `gfn_jax.data_prep` in a clone, beside the package.

  setup.cfg maps them into the package of a wheel. Extending `__path__` would also offer the other
  folders of the clone.
  """

  @classmethod
  def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
    """Return the spec of one of the two packages, and None for other names."""
    if name not in ('gfn_jax.configs', 'gfn_jax.data_prep'):
      return None
    return importlib.machinery.PathFinder.find_spec(name, [os.path.dirname(__path__[0])], target)


if not os.path.isdir(os.path.join(__path__[0], 'configs')):
  sys.meta_path.insert(0, _CloneFinder)  # before the finder of another clone, installed editable


def __getattr__(name: str) -> Any:
  """Import a public name or a folder of the package at its first use: JAX is slow to import."""
  if name in _MODULES:
    return getattr(importlib.import_module(f'gfn_jax.{_MODULES[name]}'), name)
  try:
    return importlib.import_module(f'gfn_jax.{name}')
  except ModuleNotFoundError as error:
    if error.name != f'gfn_jax.{name}':
      raise
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}') from None


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
