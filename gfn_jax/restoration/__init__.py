"""Restoration of photos, folders and videos with trained networks."""
