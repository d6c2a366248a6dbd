"""List the commands, or run one: `python -m gfn_jax restore photo.jpg sharp.png`."""

from gfn_jax.cli.commands import run

if __name__ == '__main__':
  run()
