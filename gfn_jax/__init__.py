"""Joint motion deblurring and 4x super-resolution in JAX and Flax."""

from gfn_jax.errors import UserError
from gfn_jax.models import create_model
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.weights.pretrained import load_pretrained

__version__ = '0.1.0'

__all__ = ['Restorer', 'UserError', 'create_model', 'load_pretrained']
