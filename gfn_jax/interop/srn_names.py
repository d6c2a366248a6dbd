"""Layer names in SRN-Deblur's TensorFlow weights, as `load_tensorflow_checkpoint` returns them."""

from collections.abc import Mapping

import numpy as np

from gfn_jax.interop.version import Version


def _infer(state: Mapping[str, np.ndarray]) -> dict[str, bool]:
  """Return the options that show in the tensors."""
  return {
    'lstm': 'g_net.convLSTM.LSTM_conv.weight' in state,
    'gray': state['g_net.enc1_1.weight'].shape[1] == 2,  # the blurred image and the coarser one
  }


VERSIONS_OF_SRN = {
  'srn': (
    Version(
      layers={
        'net.conv{i}': 'g_net.enc{i}_1',
        'net.encoder{i}_{j}.conv{k}': 'g_net.enc{i}_{j}.conv{k}',
        'net.lstm.gates': 'g_net.convLSTM.LSTM_conv',
        'net.decoder{i}_{j}.conv{k}': 'g_net.dec{i}_{j}.conv{k}',
        'net.deconv{i}': 'g_net.dec{i}_4',  # before the three blocks of their level
        'net.conv_last': 'g_net.dec1_0',
      },
      transposed=frozenset({'net.deconv{i}'}),
      features='g_net.enc1_1.weight',
      blocks={'blocks': 'g_net.enc1_{i}.conv1.weight'},
      infer=_infer,
      framework='TensorFlow',
    ),
  ),
}
"""Versions of SRN's public weights."""
