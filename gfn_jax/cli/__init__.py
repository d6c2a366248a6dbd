"""Commands of the package: each parses its arguments and calls the library."""
