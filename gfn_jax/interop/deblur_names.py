"""Layer names in the authors' weights of networks that only deblur."""

from collections.abc import Mapping

import numpy as np

from gfn_jax.interop.version import Version


def _res_block(ours: str, theirs: str, first: int = 0, second: int = 2) -> dict[str, str]:
  """Return the layers of a residual block, whose convolutions are parts of a sequence."""
  return {f'{ours}.conv1': f'{theirs}.{first}', f'{ours}.conv2': f'{theirs}.{second}'}


def _infer_srn(state: Mapping[str, np.ndarray]) -> dict[str, bool]:
  """Return the options that show in the tensors."""
  return {
    'lstm': 'g_net.convLSTM.LSTM_conv.weight' in state,
    'gray': state['g_net.enc1_1.weight'].shape[1] == 2,  # the blurred image and the coarser one
  }


DEBLUR_VERSIONS = {
  'deepdeblur': (  # SeungjunNah/DeepDeblur-PyTorch
    Version(
      layers={
        'level{k}.conv_first': 'body_models.{k}.body.0',
        **_res_block('level{k}.resblock_{i}', 'body_models.{k}.body.{i+1}.body'),
        'level{k}.conv_last': 'body_models.{k}.body.{blocks+1}',
        'upconv{k}': 'conv_end_models.{k}.uppath.0',
      },
      features='body_models.0.body.0.weight',
      blocks={'blocks': 'body_models.0.body.{i}.body.0.weight'},
    ),
  ),
  'dmphn': (  # HongguangZhang/DMPHN-cvpr19-master
    Version(
      layers={
        'encoder{k}.conv1': 'encoder_lv{k}.layer1',
        **_res_block('encoder{k}.resblock1_0', 'encoder_lv{k}.layer2'),
        **_res_block('encoder{k}.resblock1_1', 'encoder_lv{k}.layer3'),
        'encoder{k}.conv2': 'encoder_lv{k}.layer5',
        **_res_block('encoder{k}.resblock2_0', 'encoder_lv{k}.layer6'),
        **_res_block('encoder{k}.resblock2_1', 'encoder_lv{k}.layer7'),
        'encoder{k}.conv3': 'encoder_lv{k}.layer9',
        **_res_block('encoder{k}.resblock3_0', 'encoder_lv{k}.layer10'),
        **_res_block('encoder{k}.resblock3_1', 'encoder_lv{k}.layer11'),
        **_res_block('decoder{k}.resblock3_0', 'decoder_lv{k}.layer13'),
        **_res_block('decoder{k}.resblock3_1', 'decoder_lv{k}.layer14'),
        'decoder{k}.deconv2': 'decoder_lv{k}.layer16',
        **_res_block('decoder{k}.resblock2_0', 'decoder_lv{k}.layer17'),
        **_res_block('decoder{k}.resblock2_1', 'decoder_lv{k}.layer18'),
        'decoder{k}.deconv1': 'decoder_lv{k}.layer20',
        **_res_block('decoder{k}.resblock1_0', 'decoder_lv{k}.layer21'),
        **_res_block('decoder{k}.resblock1_1', 'decoder_lv{k}.layer22'),
        'decoder{k}.conv_last': 'decoder_lv{k}.layer24',
      },
      transposed=frozenset({'decoder{k}.deconv1', 'decoder{k}.deconv2'}),
      features='encoder_lv1.layer1.weight',
      blocks={'levels': 'encoder_lv{i}.layer1.weight'},
    ),
  ),
  'deblurgan': (  # KupynOrest/DeblurGAN
    Version(
      layers={
        'conv1': 'model.1',
        'conv2': 'model.4',
        'conv3': 'model.7',
        **_res_block('resblock_{i}', 'model.{i+10}.conv_block', 1, 6),
        'deconv1': 'model.{blocks+10}',
        'deconv2': 'model.{blocks+13}',
        'conv_last': 'model.{blocks+17}',
      },
      transposed=frozenset({'deconv1', 'deconv2'}),
      features='model.1.weight',
      blocks={'blocks': 'model.{i}.conv_block.1.weight'},
      # PyTorch 0.3 stores these for instance normalisation. The authors' test ignores them, too.
      ignored=('.running_mean', '.running_var', '.num_batches_tracked'),
    ),
  ),
  'srn': (  # jiangsutx/SRN-Deblur, as `load_tensorflow_checkpoint` returns it
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
      infer=_infer_srn,
      framework='TensorFlow',
    ),
  ),
}
"""Versions of each network that only deblurs."""
