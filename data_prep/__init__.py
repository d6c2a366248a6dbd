"""TFDS builders that convert downloaded archives to TFRecords, and the degradations they apply."""
