"""Commands of the package: each parses its arguments and calls the library."""

from gfn_jax.cli.runner import end_quietly_on_ctrl_c

end_quietly_on_ctrl_c()  # before a command imports JAX, which takes seconds
