"""Commands of the package: each parses its arguments and calls the library."""

from gfn_jax.cli.runner import announce_start, prepare_for_ctrl_c

# Before a command imports JAX, which takes seconds.
prepare_for_ctrl_c()
announce_start()
