"""Tables of papers, with a config for each row that has a network."""
