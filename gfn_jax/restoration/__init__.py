"""Restoring photos, folders and videos with trained networks."""
