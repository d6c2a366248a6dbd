"""Train a network.

    gfn-train --config=gfn_photos:small --workdir=W --config.data.photos=DIR
    gfn-train --config=gfn --workdir=W --config.data.data_dir=DIR
    gfn-train --list_configs

A config is looked for in the current folder, in its folder `configs`, and in the package.

On several machines, run the same command with `--distributed` in each process (docs/cluster.md).
After SIGTERM it saves a checkpoint and exits with status 143, after Ctrl-C with 130. A second
Ctrl-C ends it at once. The same command continues the run.
"""

import os
import sys

from absl import flags
from ml_collections.config_flags import get_override_values

from gfn_jax.cli import config_flags, distributed
from gfn_jax.cli.runner import run_command
from gfn_jax.system import compilation_cache
from gfn_jax.training import loop

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; an existing run is continued.')
flags.adopt_module_key_flags(config_flags)
flags.adopt_module_key_flags(distributed)
for name, advice in (
  ('config', 'pass --config=NAME; --list_configs lists the configs'),
  ('workdir', 'pass --workdir=DIR, the folder of the run'),
):
  flags.register_validator(name, lambda value: value is not None, advice)


def main(_: list[str]) -> None:
  """Train the network that the flags ask for."""
  distributed.join()
  overrides = get_override_values(flags.FLAGS['config'])
  loop.train_and_evaluate(config_flags.CONFIG.value, WORKDIR.value, overrides)


def run() -> None:
  """Run the command `gfn-train`."""
  sys.path.append(os.getcwd())  # a config of the user may import files beside it
  compilation_cache.enable()
  run_command(main)


if __name__ == '__main__':
  run()
