r"""Ablation of the GFN paper (Table 2): GFN, variants of its parts, and SRResNet.

    python run_train.py --config=configs/tables/gfn_ablation.py:model_1 --workdir=W \
      --config.data.data_dir=DIR

The variants are `model_1` ... `model_5`, `gfn` and `srresnet`, with networks of the paper's size
and its data (configs/gfn.py). All use the schedule of its section 3.3 (configs/gfn_paper.py),
because the ablation's schedules were in a supplement that is no longer public. Expected, protocol
`gfn`: srresnet 26.20 dB, model_1 26.82, model_2 27.00, model_3 27.01, model_4 27.39, model_5 27.53,
gfn 27.74. They have not been run with this code yet.

`model_1,small` and so on are narrow networks for CPUs, with the budget of
configs/tables/comparison.py. `python -m benchmarks.ablation` trains them all and prints the table.

| variant | network |
|---|---|
| model_1 | the deblurring module, then the SR modules on its image |
| model_2 | the SR modules, then the deblurring module at the output size |
| model_3 | two branches whose images are added |
| model_4 | two branches whose features are added, trained without the deblurring loss |
| model_5 | two branches whose features are added |
| gfn | two branches whose features are fused by the gate |
| srresnet | SRResNet, preset `srresnet_gfn`, without deblurred image and its loss |

`gfn_jax/models/gfn_ablation.py` describes what the paper leaves open in models 1 to 3.
"""

from ml_collections import ConfigDict

from configs import gfn_paper
from configs.tables import comparison
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
  """Return the config of a row; `variant` is its name, optionally with ',small'."""
  name, _, size = variant.partition(',')
  if name not in MODELS or size not in SIZES:
    raise UserError(
      f'unknown variant of configs/tables/gfn_ablation.py: {variant!r}; choose from '
      f'{", ".join(MODELS)}, each also with ",small"'
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
