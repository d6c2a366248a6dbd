"""The commands: flags to a call, and nothing else. Here, as an installed package needs them."""
