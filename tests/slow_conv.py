"""PyTorch's convolution in NumPy, for one image at a time."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def conv(x, kernel, bias, stride=1, padding=1):
  """Convolve `[C, h, w]` with a kernel `[O, C, k, k]` in PyTorch's layout."""
  padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
  windows = sliding_window_view(padded, kernel.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
  y = np.tensordot(kernel, windows, axes=([1, 2, 3], [0, 3, 4]))
  return y + bias[:, None, None]


def conv_transpose(x, kernel, bias, stride=2, padding=1):
  """Enlarge `[C, h, w]` with a kernel `[C, O, k, k]` in PyTorch's layout.

  Each pixel adds its copy of the kernel to the pixels from `stride` times its place on.
  """
  _, h, w = x.shape
  size = kernel.shape[2]
  y = np.zeros((kernel.shape[1], (h - 1) * stride + size, (w - 1) * stride + size))
  for i, j in np.ndindex(h, w):
    top, left = stride * i, stride * j
    y[:, top : top + size, left : left + size] += np.tensordot(x[:, i, j], kernel, axes=1)
  return y[:, padding:-padding, padding:-padding] + bias[:, None, None]
