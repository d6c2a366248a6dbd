"""Weights from and for other frameworks, none of which has to be installed.

`load_torch_checkpoint` and `save_torch_checkpoint` read and write PyTorch files. `convert` and
`to_torch` translate between the authors' tensors and our variables.
"""

from gfn_jax.interop.conversion import convert, to_torch
from gfn_jax.interop.torch_checkpoint import load_torch_checkpoint, save_torch_checkpoint

__all__ = ['convert', 'load_torch_checkpoint', 'save_torch_checkpoint', 'to_torch']
