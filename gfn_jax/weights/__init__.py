"""Trained weights and their model cards. The released ones are files of this folder."""
