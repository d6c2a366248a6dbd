"""Commands of the package: each parses its arguments and calls the library."""

from gfn_jax.cli.runner import prepare_for_ctrl_c

prepare_for_ctrl_c()  # before a command imports JAX, which takes seconds
