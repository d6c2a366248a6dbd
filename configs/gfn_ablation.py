"""The GFN paper's ablation (Table 2): GFN, its parts left out or joined otherwise, SRResNet.

    python run_train.py --config=configs/gfn_ablation.py:model_1 --workdir=W --config.data_dir=DIR

The variants are `model_1` ... `model_5`, `gfn` and `srresnet`, with networks of the paper's size,
its data (configs/gfn.py) and the schedule of its section 3.3 (configs/gfn_paper.py) for all: the
schemes of the ablation were in a supplement that is no longer public. Expected, protocol `gfn`:
srresnet 26.20 dB, model_1 26.82, model_2 27.00, model_3 27.01, model_4 27.39, model_5 27.53, gfn
27.74. Nobody has run them with this code yet.

`model_1,small` and so on are narrow networks for CPUs, with the budget of configs/comparison.py:
`python -m benchmarks.ablation` trains them all and prints the table.

| variant | what it is |
|---|---|
| model_1 | the deblurring module, then the SR modules, on its image |
| model_2 | the SR modules, then the deblurring module at the size of the result |
| model_3 | two branches whose images are added |
| model_4 | two branches whose features are added, trained without the deblurring loss |
| model_5 | two branches whose features are added |
| gfn | two branches whose features are fused by the gate |
| srresnet | SRResNet, preset `srresnet_gfn`; it has no deblurred image and no such loss |

`gfn_jax/models/gfn_ablation.py` tells what the paper leaves open in models 1 to 3.
"""

from ml_collections import ConfigDict

from configs import comparison, gfn_paper
from gfn_jax.errors import UserError

MODELS = {
  'model_1': dict(name='gfn_ablation', variant='deblur_first'),
  'model_2': dict(name='gfn_ablation', variant='sr_first'),
  'model_3': dict(name='gfn_ablation', variant='dual_branch'),
  'model_4': dict(name='gfn', gated=False),
  'model_5': dict(name='gfn', gated=False),
  'gfn': dict(name='gfn', gate_recursions=1),
  'srresnet': dict(name='srresnet', preset='srresnet_gfn'),
}
SIZES = ('', 'small')


def get_config(variant='gfn'):
  """The config of a row of the table; `variant` is its name, or that with ',small'."""
  name, _, size = variant.partition(',')
  if name not in MODELS or size not in SIZES:
    raise UserError(
      f'configs/gfn_ablation.py has the variants {", ".join(MODELS)}, and each with ",small", not '
      f'{variant!r}'
    )
  config = comparison.get_config('gfn') if size else gfn_paper.get_config()
  shared = {key: config.model[key] for key in ('initialization', 'global_skip')}
  blocks = {
    key: config.model[key] for key in ('deblur_blocks', 'sr_blocks', 'reconstruction_blocks')
  }
  features = config.model.features
  if name == 'srresnet':
    blocks = dict(blocks=blocks['sr_blocks'] + blocks['reconstruction_blocks'])
  config.model = ConfigDict(MODELS[name] | shared | blocks | dict(features=features))
  for phase in config.phases.values():
    if name != 'gfn':
      phase.model = ConfigDict()
    if name == 'model_4':
      phase.lr_weight = 0.0
  return config
