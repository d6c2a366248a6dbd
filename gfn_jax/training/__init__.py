"""Training: the story in `loop.py`, and what it is made of."""
