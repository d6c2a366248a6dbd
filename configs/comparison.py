"""The papers' systems at a size for CPUs, with one budget for all: rows of tables in docs/.

    python run_train.py --config=configs/comparison.py:gfn --workdir=W --config.photos=DIR

| variant | network |
|---|---|
| gfn | GFN |
| deblur_first | MPRNet, narrow, then SRResNet, trained together |
| sr_first | SRResNet, then MPRNet at the size of the result, trained together |
| motion_deblur_sr | Shoyan et al.'s network, narrow |
| cnlrn | CNLRN, narrow: half of the steps are for the deblurring network alone |
| cnlrn_apart | its two networks, which hand over an image, each trained for half of the steps |

Each has some 0.35 million parameters, adds its input to the images that it makes, and is trained on
photos with synthetic blur for 2,000 steps of 8 crops of 24x24 LR pixels. `python -m
benchmarks.comparison` trains them all and prints the table.
"""

from ml_collections import ConfigDict

from configs import cascade, gfn_photos
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
  """The config of a row, by its name."""
  if variant not in MODELS:
    raise UserError(f'configs/comparison.py has the variants {", ".join(MODELS)}, not {variant!r}')
  config = one_budget()
  config.model = ConfigDict(MODELS[variant])
  if config.model.name != 'cascade':
    config.model.global_skip = 'input'
  if variant.startswith('cnlrn'):
    config.loss.gradient_weight = 0.1
    config.phases = cascade.apart(config.phases.phase_1)
    if variant == 'cnlrn':
      config.phases.phase_2.model.deblur_head = False
      del config.phases.phase_2.module_learning_rates
  elif variant != 'gfn':
    config.loss.edge_weight = 0.05
  return config


def one_budget():
  """Data, steps and schedule of every row, for which `model` is still to be set.

  The input is added to each image that a network makes: without it 2,000 steps do not suffice for
  what bicubic does.
  """
  config = gfn_photos.get_config('small')
  del config.model
  config.crop_size = 24
  config.steps_per_epoch = 2000
  config.phases = ConfigDict(dict(phase_1=gfn_photos.phase(1, 3e-3, warmup_steps=200)))
  config.phases.phase_1.model = ConfigDict()
  config.eval_every = 0
  config.checkpoint_every = 100
  return config
