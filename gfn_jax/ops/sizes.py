"""Sizes that data sets, networks and commands share."""

SCALES = (2, 3, 4)
"""Factors of super-resolution."""

SHARP_FRAMES = 7
"""Number of sharp frames of one exposure, as in BMDSRNet."""
