"""Scores of networks on test sets."""
