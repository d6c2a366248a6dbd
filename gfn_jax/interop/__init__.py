"""Weights from and for other frameworks. None of these has to be installed.

`load_torch_checkpoint` and `save_torch_checkpoint` read and write PyTorch's files; the module
`convert` translates between the authors' networks and ours; `import_torch` is a command.
"""

from gfn_jax.interop.torch_checkpoint import load_torch_checkpoint, save_torch_checkpoint

__all__ = ['load_torch_checkpoint', 'save_torch_checkpoint']
