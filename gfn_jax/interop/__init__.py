"""Weights from and for other frameworks.

`load_torch_checkpoint` and `save_torch_checkpoint` read and write PyTorch files without PyTorch.
`load_tensorflow_checkpoint` reads those of TensorFlow 1, which needs TensorFlow. `convert` and
`to_torch` translate between the authors' tensors and our variables.
"""

from gfn_jax.interop.conversion import convert, to_torch
from gfn_jax.interop.tensorflow_checkpoint import load_tensorflow_checkpoint
from gfn_jax.interop.torch_checkpoint import load_torch_checkpoint, save_torch_checkpoint

__all__ = [
  'convert',
  'load_tensorflow_checkpoint',
  'load_torch_checkpoint',
  'save_torch_checkpoint',
  'to_torch',
]
