"""The test images that data sets yield."""

from typing import TypedDict

import numpy as np


class Example(TypedDict, total=False):
  """One test image; all images are RGB, uint8 or float in [0, 1].

  Attributes:
    name: name of the image, without an extension.
    lr_blur: `[h, w, 3]`, blurred and small: the input.
    hr: `[s * h, s * w, 3]`, sharp and large.
    lr: `[h, w, 3]`, sharp and small.
    frames: `[7, h, w, 3]`, sharp frames with the mean `lr_blur`.
  """

  name: str
  lr_blur: np.ndarray
  hr: np.ndarray
  lr: np.ndarray
  frames: np.ndarray
