r"""Systems of the papers at a size for CPUs, with equal budgets: rows of docs/comparison.md.

    python run_train.py --config=configs/tables/comparison.py:gfn --workdir=W \
      --config.data.photos=DIR

| variant | network |
|---|---|
| gfn | GFN |
| deblur_first | MPRNet, narrow, then SRResNet, trained together |
| sr_first | SRResNet, then MPRNet at the output size, trained together |
| motion_deblur_sr | Shoyan et al.'s network, narrow |
| cnlrn | CNLRN, narrow; half of the steps train the deblurring network alone |
| cnlrn_apart | cascade of its two networks, each trained for half of the steps |

Each has about 0.35 million parameters, adds its input to its output images, and is trained on
photos with synthetic blur for 2,000 steps of 8 crops of 24x24 LR pixels. `python -m
benchmarks.comparison` trains them all and prints the table.
"""

from ml_collections import ConfigDict

from configs import defaults
from configs.cascade import apart
from gfn_jax.errors import UserError

_MPRNET = dict(features=16, unet_step=8, orsnet_step=8, unet_blocks=1, orsnet_blocks=2)
_SRRESNET = dict(name='srresnet', preset='srresnet_gfn', features=16, blocks=6)

MODELS = {
  'gfn': dict(
    name='gfn',
    features=16,
    deblur_blocks=2,
    sr_blocks=3,
    reconstruction_blocks=3,
    initialization='scaled',
  ),
  'deblur_first': dict(
    name='cascade',
    first=dict(name='mprnet', **_MPRNET),
    second=dict(**_SRRESNET, global_skip='input'),
  ),
  'sr_first': dict(
    name='cascade',
    first=dict(**_SRRESNET, global_skip='input'),
    second=dict(name='mprnet', **_MPRNET),
  ),
  'motion_deblur_sr': dict(
    name='motion_deblur_sr',
    **_MPRNET,
    sr_features=16,
    reconstruction_blocks=3,
    final_activation='none',
  ),
  'cnlrn': dict(name='cnlrn', preset='small', deblur_head=True),
  'cnlrn_apart': dict(
    name='cascade',
    first=dict(name='cnlrn_deblur', features=12, blocks=1, stage_blocks=1, global_skip='input'),
    second=dict(name='cnlrn', preset='small', deblur=False, global_skip='input'),
  ),
}


def get_config(variant='gfn'):
  """Return the config of a row by its name."""
  if variant not in MODELS:
    raise UserError(
      f'unknown variant of configs/tables/comparison.py: {variant!r}; choose from '
      f'{", ".join(MODELS)}'
    )
  config = defaults.table_budget(lr_weight=0.5)
  config.model = ConfigDict(MODELS[variant])
  if config.model.name != 'cascade':
    config.model.global_skip = 'input'
  if variant.startswith('cnlrn'):
    config.loss.gradient = ConfigDict(dict(on='hr', loss='gradient', weight=0.1))
    config.phases = apart(config.phases.phase_1)
    if variant == 'cnlrn':
      config.phases.phase_2.model.deblur_head = False
      config.phases.phase_2.module_learning_rates = ConfigDict()
  elif variant != 'gfn':
    config.loss.edge = ConfigDict(dict(on='lr', loss='edge', weight=0.05))
  return config
