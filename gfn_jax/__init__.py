"""Joint motion deblurring and 4x super-resolution in JAX and Flax."""

from typing import Any

from gfn_jax.errors import UserError
from gfn_jax.models import create_model, list_models
from gfn_jax.ops.imresize import imresize
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.weights.pretrained import list_pretrained, load_pretrained

__version__ = '0.1.0'

__all__ = [
  'Restorer',
  'UserError',
  'create_model',
  'evaluate_pair',
  'imresize',
  'list_models',
  'list_pretrained',
  'load_pretrained',
]


def __getattr__(name: str) -> Any:
  """Import `evaluate_pair` at its first use: its SciPy is slow to import."""
  if name == 'evaluate_pair':
    from gfn_jax.ops.metrics import evaluate_pair

    return evaluate_pair
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
