"""List the commands, or run one of them.

gfn restore photo.jpg sharp.png     # the same as gfn-restore photo.jpg sharp.png
gfn restore --help
python -m gfn_jax restore photo.jpg sharp.png
"""

import importlib
import sys
from collections.abc import Sequence

from gfn_jax import __version__
from gfn_jax.cli.runner import exit_on_user_error
from gfn_jax.errors import UsageError

COMMANDS = {
  'restore': 'restore photos, folders of photos and videos',
  'demo': 'restore photos on a page in the browser',
  'eval': 'evaluate a network on a test set, or restore photos with it',
  'train': 'train a network',
  'prepare': 'build a data set',
  'table': 'reproduce a table of a paper',
  'figure': 'compare methods on a part of an image, in a figure',
  'visualize': "draw what GFN's branches and its gate respond to",
  'import': 'convert a checkpoint of PyTorch or TensorFlow 1 to weights',
  'export': 'export weights to ONNX, darktable, StableHLO, PyTorch or a model hub',
  'join-weights': 'join the weights of two networks to those of a cascade',
}
"""Commands and what they do. Each is also a script, `gfn-NAME`."""

_MODULES = {'eval': 'evaluate', 'import': 'import_torch', 'join-weights': 'join_weights'}


def run() -> None:
  """Run the command `gfn`."""
  with exit_on_user_error():
    main()


def main(argv: Sequence[str] | None = None) -> None:
  """List the commands, or run the one that the first argument names.

  Args:
    argv: the arguments; None uses `sys.argv`.

  Raises:
    UsageError: for an unknown command.
  """
  name, *options = (sys.argv[1:] if argv is None else argv) or ['--help']
  if name in ('-h', '--help', '--version'):
    print(f'gfn (gfn_jax {__version__})' if name == '--version' else _help())
    return
  if name not in COMMANDS:
    raise UsageError(f'unknown command {name!r}; choose from {", ".join(COMMANDS)}')
  sys.argv = [f'gfn-{name}', *options]
  module = importlib.import_module(f'gfn_jax.cli.{_MODULES.get(name, name)}')
  getattr(module, 'main' if name == 'demo' else 'run')()


def _help() -> str:
  width = max(map(len, COMMANDS))
  lines = (f'  {name:{width}}  {description}' for name, description in COMMANDS.items())
  return '\n'.join([str(__doc__), 'commands:', *lines])


if __name__ == '__main__':
  run()
