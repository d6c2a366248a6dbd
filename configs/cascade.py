r"""Cascade of two networks on LR-GOPRO: MPRNet deblurs, SRResNet enlarges.

    python run_train.py --config=configs/cascade.py:deblur_first --workdir=W \
      --config.data.data_dir=DIR

| variant | networks |
|---|---|
| deblur_first (default) | MPRNet, then SRResNet, trained together |
| deblur_first,apart | MPRNet, then SRResNet, trained one after the other |
| sr_first | SRResNet, then MPRNet at the output size, trained together |

SRResNet is the version without normalisation. The rows "MPRNet -> EDSR" of Shoyan et al. join
separately trained networks, as `gfn-join-weights` does; start from its file with
`--config.run.init_from=cascade.safetensors`. The papers do not describe the training of a cascade,
so loss and schedule are from configs/motion_deblur_sr.py. It has not been run with this code
yet.
"""

from ml_collections import ConfigDict

from configs import defaults, motion_deblur_sr

VARIANTS = ('deblur_first', 'deblur_first,apart', 'sr_first')


def get_config(variant='deblur_first'):
  """Return the config of one of the variants above."""
  defaults.check_variant('cascade', variant, VARIANTS)
  config = motion_deblur_sr.get_config()
  width = {key: config.model[key] for key in ('features', 'unet_step', 'orsnet_step')}
  blocks = {key: config.model[key] for key in ('unet_blocks', 'orsnet_blocks')}
  first, second = dict(name='mprnet', **width, **blocks), dict(name='srresnet', preset='msrresnet')
  if variant == 'sr_first':
    first, second = second, first
  config.model = ConfigDict(dict(name='cascade', first=first, second=second, quantize=False))
  config.training.batch_size = 16
  config.run.init_except = ()
  if variant.endswith(',apart'):
    config.phases = apart(config.phases.phase_1)
  return config


def apart(phase):
  """Return phases of equal length for the deblurring network and for the enlarging one."""
  deblurs, enlarges = phase.copy_and_resolve_references(), phase.copy_and_resolve_references()
  deblurs.hr_weight = 0.0
  enlarges.lr_weight = 0.0
  # Adam has seen only zero gradients of the second network, so its first updates would be several
  # times too large.
  enlarges.reset_optimizer = True
  enlarges.module_learning_rates = ConfigDict(dict(first=0.0))
  return ConfigDict(dict(phase_1=deblurs, phase_2=enlarges))
