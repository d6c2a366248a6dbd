"""Functions of arrays, without trained parameters."""
