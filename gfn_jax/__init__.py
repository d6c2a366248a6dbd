"""Joint motion deblurring and 4x super-resolution in JAX and Flax."""

from gfn_jax.errors import UserError
from gfn_jax.models import create_model
from gfn_jax.pretrained import load_pretrained
from gfn_jax.restore import Restorer

__version__ = '0.1.0'

__all__ = ['Restorer', 'UserError', 'create_model', 'load_pretrained']
