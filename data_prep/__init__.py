"""From downloaded archives to TFRecords: TFDS builders and the degradation that they apply."""
