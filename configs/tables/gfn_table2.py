r"""Table 2 of the GFN paper: its ablation.

    gfn-table gfn_table2
    gfn-train --config=tables/gfn_table2:model_1 --workdir=RUNS/model_1 \
      --config.data.data_dir=DIR

The variants are `model_1` ... `model_5`, `gfn` and `srresnet`, with networks of the paper's size
and its data (configs/gfn.py). All use the schedule of its section 3.3 (configs/gfn_paper.py),
because the ablation's schedules were in a supplement that is no longer public. Expected: the
published numbers of `TABLE`. The variants have not been trained to their end with this code yet.

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

from gfn_jax.configs import gfn_paper
from gfn_jax.configs.tables import comparison
from gfn_jax.errors import UserError
from gfn_jax.evaluation.paper_tables import DataSet, Row, Table


def _row(title, psnr, seconds, **model):
  return Row(title, {'lr_gopro': dict(psnr=psnr, seconds=seconds)}, model)


TABLE = Table(
  title='Ablation of GFN',
  citation='Zhang et al., Gated Fusion Network for Joint Image Deblurring and Super-Resolution, '
  'BMVC 2018, Table 2.',
  protocol='gfn',
  # The paper's seconds are those of LR-Köhler in its Table 1.
  data_sets={'lr_gopro': DataSet('LR-GOPRO x4', timed_size=(200, 200))},
  rows={
    'srresnet': _row('SRResNet', 26.20, 0.05, name='srresnet', preset='srresnet_gfn'),
    'model_1': _row('Model-1', 26.82, 0.09, name='gfn_ablation', variant='deblur_first'),
    'model_2': _row('Model-2', 27.00, 0.57, name='gfn_ablation', variant='sr_first'),
    'model_3': _row('Model-3', 27.01, 0.10, name='gfn_ablation', variant='dual_branch'),
    'model_4': _row('Model-4', 27.39, 0.05, name='gfn', gated=False),
    'model_5': _row('Model-5', 27.53, 0.05, name='gfn', gated=False),
    'gfn': _row('GFN', 27.74, 0.05, name='gfn', gate_recursions=1),
  },
  notes=(
    "The paper's seconds are for one GTX 1080 Ti. They equal those of LR-Köhler in its Table 1, so "
    'networks are timed on an image of that size.',
    'Models 1 to 3 are partly our choice: their details were in a supplement that is no longer '
    'public.',
  ),
)
SIZES = ('', 'small')


def get_config(variant='gfn'):
  """Return the config of a row; `variant` is its name, optionally with ',small'."""
  name, _, size = variant.partition(',')
  if name not in TABLE.rows or size not in SIZES:
    raise UserError(
      f'unknown variant of configs/tables/gfn_table2.py: {variant!r}; choose from '
      f'{", ".join(TABLE.rows)}, each also with ",small"'
    )
  config = comparison.get_config('gfn') if size else gfn_paper.get_config()
  shared = {key: config.model[key] for key in ('initialization', 'global_skip')}
  blocks = {
    key: config.model[key] for key in ('deblur_blocks', 'sr_blocks', 'reconstruction_blocks')
  }
  features = config.model.features
  if name == 'srresnet':
    blocks = dict(blocks=blocks['sr_blocks'] + blocks['reconstruction_blocks'])
  config.model = ConfigDict(TABLE.rows[name].model | shared | blocks | dict(features=features))
  for phase in config.phases.values():
    if name != 'gfn':
      phase.model = ConfigDict()
    if name == 'model_4':
      phase.lr_weight = 0.0
  return config
