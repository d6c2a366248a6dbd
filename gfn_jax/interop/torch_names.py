"""Layer names in the authors' public PyTorch weights.

`gfn_jax/interop/conversion.py` uses these tables to convert weights in both directions.
"""

import dataclasses

from gfn_jax.interop.deblur_names import DEBLUR_VERSIONS
from gfn_jax.interop.sr_names import SR_VERSIONS
from gfn_jax.interop.version import Version, attention_block

_MPRNET = Version(
  layers={
    'shallow{i}_conv': 'shallow_feat{i}.0',
    **attention_block('shallow{i}_block', 'shallow_feat{i}.1'),
    **attention_block('encoder{k}.level{i}_{j}', 'stage{k}_encoder.encoder_level{i}.{j}'),
    'encoder{k}.down1': 'stage{k}_encoder.down12.down.1',
    'encoder{k}.down2': 'stage{k}_encoder.down23.down.1',
    'encoder2.fuse_encoded{i}': 'stage2_encoder.csff_enc{i}',
    'encoder2.fuse_decoded{i}': 'stage2_encoder.csff_dec{i}',
    **attention_block('decoder{k}.level{i}_{j}', 'stage{k}_decoder.decoder_level{i}.{j}'),
    **attention_block('decoder{k}.skip{i}', 'stage{k}_decoder.skip_attn{i}'),
    'decoder{k}.up1': 'stage{k}_decoder.up21.up.1',
    'decoder{k}.up2': 'stage{k}_decoder.up32.up.1',
    'sam12.conv{i}': 'sam12.conv{i}',
    'sam23.conv{i}': 'sam23.conv{i}',
    'concat12': 'concat12',
    'concat23': 'concat23',
    **attention_block('orsnet.group{i}_{j}', 'stage3_orsnet.orb{i}.body.{j}'),
    'orsnet.group{i}_conv': 'stage3_orsnet.orb{i}.body.{orsnet_blocks}',
    'orsnet.encoded{i}': 'stage3_orsnet.conv_enc{i}',
    'orsnet.decoded{i}': 'stage3_orsnet.conv_dec{i}',
    'orsnet.encoded2_up1': 'stage3_orsnet.up_enc1.up.1',
    'orsnet.decoded2_up1': 'stage3_orsnet.up_dec1.up.1',
    'orsnet.encoded3_up2': 'stage3_orsnet.up_enc2.0.up.1',
    'orsnet.decoded3_up2': 'stage3_orsnet.up_dec2.0.up.1',
    'orsnet.encoded3_up1': 'stage3_orsnet.up_enc2.1.up.1',
    'orsnet.decoded3_up1': 'stage3_orsnet.up_dec2.1.up.1',
    'tail': 'tail',
  },
  features='shallow_feat1.0.weight',
  blocks={
    'unet_blocks': 'stage1_encoder.encoder_level1.{i}.body.0.weight',
    'orsnet_blocks': 'stage3_orsnet.orb1.body.{i}.body.0.weight',
  },
  widths={
    'unet_step': lambda width: width('stage1_encoder.down12.down.1') - width('shallow_feat1.0'),
    'orsnet_step': lambda width: width('concat23') - width('shallow_feat1.0'),
    'reduction': lambda width: (
      width('shallow_feat1.0') // max(1, width('shallow_feat1.1.CA.conv_du.0'))
    ),
  },
  prelus={'.body.0': '.body.1'},
)


def _res_block(ours: str, theirs: str) -> dict[str, str]:
  """Return the layers of a residual block of CNLRN's deblurring network."""
  return {f'{ours}.conv1': f'{theirs}.body.0.body.0', f'{ours}.conv2': f'{theirs}.body.2.body.0'}


def _cnlrn_deblur(stage_blocks: str) -> dict[str, str]:
  """Return the layers of CNLRN's deblurring network; `stage_blocks` names the option."""
  return {
    'deblur.conv1': 'DeblurNet.inBlock.0.body.0',
    **_res_block('deblur.encoder1_{i}', 'DeblurNet.inBlock.{i+1}'),
    'deblur.conv2': 'DeblurNet.encoder_first.0.body.0',
    **_res_block('deblur.encoder2_{i}', 'DeblurNet.encoder_first.{i+1}'),
    'deblur.conv3': 'DeblurNet.encoder_second.body.0',
    **_res_block('deblur.body_{i}', 'DeblurNet.body.{i}'),
    'deblur.deconv1': 'DeblurNet.decoder_second.body.0',
    **_res_block('deblur.decoder2_{i}', 'DeblurNet.decoder_first.{i}'),
    'deblur.deconv2': f'DeblurNet.decoder_first.{{{stage_blocks}}}.body.0',
    **_res_block('deblur.decoder1_{i}', 'DeblurNet.outBlock.{i}'),
  }


def _subgroup(ours: str, theirs: str) -> dict[str, str]:
  """Return the layers of a sub-group of CNLRN."""
  block = f'{theirs}.nonlocal_block'
  return {
    **{
      f'{ours}.nonlocal.attention.{name}': f'{block}.attention.{name}_embedding'
      for name in ('query', 'key', 'value')
    },
    f'{ours}.nonlocal.conv': f'{block}.attention.output_linear.0',
    f'{ours}.nonlocal.feed_forward1': f'{block}.feed_forward.conv.0',
    f'{ours}.nonlocal.feed_forward2': f'{block}.feed_forward.conv.2',
    **attention_block(f'{ours}.rcab_{{k}}', f'{theirs}.rcab_body.{{k}}', 'body.3'),
    f'{ours}.conv': f'{theirs}.rcab_body.{{rcabs}}',
  }


def _groups(ours: str, theirs: str, count: str) -> dict[str, str]:
  """Return the layers of consecutive CNLRN groups and of the convolution that follows them."""
  return {
    **_subgroup(f'{ours}_{{i}}.subgroup_{{j}}', f'{theirs}.{{i}}.body.{{j}}'),
    f'{ours}_{{i}}.conv': f'{theirs}.{{i}}.body.{{subgroups}}',
    f'{ours}_conv': f'{theirs}.{{{count}}}',
  }


VERSIONS = {
  'gfn': (
    Version(
      layers={
        'deblur.conv1': 'deblurMoudle.0.conv1',
        'deblur.resblock{i}_{j}.conv1': 'deblurMoudle.0.resBlock{i}.{j}.layers.0',
        'deblur.resblock{i}_{j}.conv2': 'deblurMoudle.0.resBlock{i}.{j}.layers.2',
        'deblur.conv2': 'deblurMoudle.0.conv2.0',
        'deblur.conv3': 'deblurMoudle.0.conv3.0',
        'deblur.deconv1': 'deblurMoudle.0.deconv1.0',
        'deblur.deconv2': 'deblurMoudle.0.deconv2.0',
        'deblur.conv4': 'deblurMoudle.0.deconv2.2',
        'deblur.conv5': 'deblurMoudle.0.convout.0',
        'deblur.conv6': 'deblurMoudle.0.convout.2',
        'sr_feature.conv{i}': 'srMoudle.0.conv{i}',
        'sr_feature.resblock_{i}.conv1': 'srMoudle.0.resBlock.{i}.layers.0',
        'sr_feature.resblock_{i}.conv2': 'srMoudle.0.resBlock.{i}.layers.2',
        'gate.conv{i}': 'geteMoudle.0.conv{i}',
        'reconstruction.conv{i}': 'reconstructMoudle.0.conv{i}',
        'reconstruction.resblock_{i}.conv1': 'reconstructMoudle.0.resBlock.{i}.layers.0',
        'reconstruction.resblock_{i}.conv2': 'reconstructMoudle.0.resBlock.{i}.layers.2',
      },
      transposed=frozenset({'deblur.deconv1', 'deblur.deconv2'}),
      features='deblurMoudle.0.conv1.weight',
      blocks={
        'deblur_blocks': 'deblurMoudle.0.resBlock1.{i}.layers.0.weight',
        'sr_blocks': 'srMoudle.0.resBlock.{i}.layers.0.weight',
        'reconstruction_blocks': 'reconstructMoudle.0.resBlock.{i}.layers.0.weight',
      },
    ),
  ),
  'srresnet': (
    Version(  # twtygqyy/pytorch-SRResNet
      options={'preset': 'srresnet_gfn'},
      layers={
        'conv_first': 'conv_input',
        'resblock_{i}.conv{j}': 'residual.{i}.conv{j}',
        'resblock_{i}.norm{j}': 'residual.{i}.in{j}',
        'conv_mid': 'conv_mid',
        'norm_mid': 'bn_mid',
        'upconv1': 'upscale4x.0',
        'upconv2': 'upscale4x.3',
        'conv_last': 'conv_output',
      },
      features='conv_input.weight',
      blocks={'blocks': 'residual.{i}.conv1.weight'},
      # Old PyTorch versions store these for instance normalisation, which does not use them.
      ignored=('.running_mean', '.running_var', '.num_batches_tracked'),
    ),
    Version(  # BasicSR's MSRResNet
      options={'preset': 'msrresnet'},
      layers={
        'conv_first': 'conv_first',
        'resblock_{i}.conv{j}': 'body.{i}.conv{j}',
        'upconv{i}': 'upconv{i}',
        'conv_hr': 'conv_hr',
        'conv_last': 'conv_last',
      },
      features='conv_first.weight',
      blocks={'blocks': 'body.{i}.conv1.weight'},
    ),
  ),
  'mprnet': (_MPRNET,),
  'motion_deblur_sr': (
    dataclasses.replace(
      _MPRNET,
      layers={
        **_MPRNET.layers,
        **attention_block('fusion.stage{i}_block', 'sr_cab{i}'),
        'fusion.stage3_conv': 'before_sr_cab3',
        'fusion.conv': 'before_reconstruction.0',
        'reconstruction.resblock_{i}.conv1': 'reconstructModule.resBlock.{i}.layers.0',
        'reconstruction.resblock_{i}.conv2': 'reconstructModule.resBlock.{i}.layers.2',
        'reconstruction.conv{i}': 'reconstructModule.conv{i}',
      },
      blocks={
        **_MPRNET.blocks,
        'reconstruction_blocks': 'reconstructModule.resBlock.{i}.layers.0.weight',
      },
      widths={**_MPRNET.widths, 'sr_features': lambda width: width('before_reconstruction.0')},
      prelus={**_MPRNET.prelus, 'before_reconstruction.0': 'before_reconstruction.1'},
    ),
  ),
  'cnlrn': (
    Version(
      layers={
        **_cnlrn_deblur('deblur_stage_blocks'),
        **_groups('nlrn.body', 'SRNet.body', 'groups'),
        **_groups('nlrn.refine1', 'SRNet.upsample_body_1', 'upsample_groups'),
        **_groups('nlrn.refine2', 'SRNet.upsample_body_2', 'upsample_groups'),
        'nlrn.upconv{i}': 'SRNet.upsampler_{i}.0',
        'nlrn.conv_hr': 'SRNet.tail.0',
        'nlrn.conv_last': 'SRNet.tail.1',
      },
      transposed=frozenset({'deblur.deconv1', 'deblur.deconv2'}),
      features='SRNet.tail.0.weight',
      blocks={
        'deblur_blocks': 'DeblurNet.body.{i}.body.0.body.0.weight',
        'deblur_stage_blocks': 'DeblurNet.outBlock.{i}.body.0.body.0.weight',
        'groups': 'SRNet.body.{i}.body.0.rcab_body.0.body.0.weight',
        'upsample_groups': 'SRNet.upsample_body_1.{i}.body.0.rcab_body.0.body.0.weight',
        'subgroups': 'SRNet.body.0.body.{i}.rcab_body.0.body.0.weight',
        'rcabs': 'SRNet.body.0.body.0.rcab_body.{i}.body.0.weight',
      },
      widths={
        'deblur_features': lambda width: width('DeblurNet.inBlock.0.body.0'),
        'reduction': lambda width: (
          width('SRNet.tail.0') // max(1, width('SRNet.body.0.body.0.rcab_body.0.body.3.conv_du.0'))
        ),
      },
    ),
  ),
  'cnlrn_deblur': (
    Version(
      layers={
        **_cnlrn_deblur('stage_blocks'),
        'deblur_head': 'DeblurNet.outBlock.{stage_blocks}.body.0',
      },
      transposed=frozenset({'deblur.deconv1', 'deblur.deconv2'}),
      features='DeblurNet.inBlock.0.body.0.weight',
      blocks={
        'blocks': 'DeblurNet.body.{i}.body.0.body.0.weight',
        'stage_blocks': 'DeblurNet.outBlock.{i}.body.0.body.0.weight',
      },
    ),
  ),
  **SR_VERSIONS,
  **DEBLUR_VERSIONS,
}
"""PyTorch versions of each network with public weights."""
