"""Configs: one file, one experiment. `gfn-train --list_configs` lists them."""
