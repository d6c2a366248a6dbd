"""Two networks, one after the other, on LR-GOPRO: MPRNet deblurs, SRResNet enlarges.

    python run_train.py --config=configs/cascade.py:deblur_first --workdir=W --config.data_dir=DIR

| variant | what it is |
|---|---|
| deblur_first, and '' | MPRNet, then SRResNet, trained together |
| deblur_first,apart | MPRNet is trained first; then SRResNet, on what that gives |
| sr_first | SRResNet, then MPRNet at the size of the result, trained together |

SRResNet is the version without normalisation. The rows "MPRNet -> EDSR" of Shoyan et al. join
networks that were trained apart; so does `python -m gfn_jax.weights.join`, and its file is a start
for this: `--config.init_from=cascade.safetensors`. No paper tells how it trains a cascade; loss and
schedule are those of configs/motion_deblur_sr.py. Nobody has run it with this code yet.
"""

from ml_collections import ConfigDict

from configs import motion_deblur_sr
from gfn_jax.errors import UserError

VARIANTS = ('deblur_first', 'deblur_first,apart', 'sr_first')


def get_config(variant='deblur_first'):
  """configs/motion_deblur_sr.py with other networks, and one of the variants above."""
  if variant not in VARIANTS:
    raise UserError(f'configs/cascade.py has the variants {VARIANTS}, not {variant!r}')
  config = motion_deblur_sr.get_config()
  width = {key: config.model[key] for key in ('features', 'unet_step', 'orsnet_step')}
  blocks = {key: config.model[key] for key in ('unet_blocks', 'orsnet_blocks')}
  first, second = dict(name='mprnet', **width, **blocks), dict(name='srresnet', preset='msrresnet')
  if variant == 'sr_first':
    first, second = second, first
  config.model = ConfigDict(dict(name='cascade', first=first, second=second, quantize=False))
  config.init_except = ()
  config.batch_size = 16
  if variant.endswith(',apart'):
    config.phases = apart(config.phases.phase_1)
  return config


def apart(phase):
  """A phase for the deblurring network and another one, as long, for the one that enlarges."""
  deblurs, enlarges = phase.copy_and_resolve_references(), phase.copy_and_resolve_references()
  deblurs.hr_weight = 0.0
  enlarges.lr_weight = 0.0
  # Adam has seen zero gradients of the second network until here: kept, its first updates would be
  # several times too large.
  enlarges.reset_optimizer = True
  enlarges.module_learning_rates = ConfigDict(dict(first=0.0))
  return ConfigDict(dict(phase_1=deblurs, phase_2=enlarges))
