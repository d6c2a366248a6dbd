r"""Tables 4, 5 and 6 of the CNLRN paper: its ablations on Val300 of REDS.

    gfn-table cnlrn_ablation
    python run_train.py --config=configs/tables/cnlrn_ablation.py:no_nonlocal \
      --workdir=RUNS/no_nonlocal --config.data.data_dir=DIR

The variants are the rows, those of configs/cnlrn.py but for two cascades whose networks are trained
apart. They have not been run with this code yet.
"""

from ml_collections import ConfigDict

from configs import cascade, cnlrn, defaults
from configs.tables import cnlrn_table1
from gfn_jax.evaluation.paper_tables import Row, Table


def _row(title, psnr, ssim, **model):
  return Row(title, {'val300': dict(psnr=psnr, ssim=ssim)}, model)


_APART = dict(name='cascade', quantize=False, first=cascade.DEBLURRERS['cnlrn_deblur'])

TABLE = Table(
  title='Ablations of CNLRN',
  citation=f'{cnlrn_table1.CITATION}, Tables 4, 5 and 6.',
  protocol='cnlrn',
  data_sets={'val300': cnlrn_table1.TABLE.data_sets['val300']},
  rows={
    'no_deblurring': _row(
      'NLRN, without the deblurring network', 27.532, 0.7712, name='cnlrn', deblur=False
    ),
    'srn_rcan_apart': _row(
      'SRN + RCAN, trained apart', 27.012, 0.7543, **_APART, second=cascade.ENLARGERS['rcan']
    ),
    'srn_nlrn_apart': _row(
      'SRN + NLRN, trained apart',
      27.052,
      0.7549,
      **_APART,
      second=dict(name='cnlrn', deblur=False),
    ),
    'no_nonlocal': _row(
      'without non-local blocks', 27.541, 0.7726, name='cnlrn', use_nonlocal=False
    ),
    'no_progressive': _row(
      'without progressive upsampling', 27.588, 0.7736, name='cnlrn', progressive=False
    ),
    'no_gradient_loss': _row('without gradient loss', 27.660, 0.7762, name='cnlrn'),
    'cnlrn': _row('CNLRN', 27.770, 0.7784, name='cnlrn'),
  },
  notes=(
    'The paper has three tables: the deblurring network, joint training, and the parts of NLRN.',
    'Without the deblurring network the first layer maps an image, which is our reading.',
  ),
)


def get_config(variant='cnlrn'):
  """Return the config of a row, on REDS."""
  defaults.check_variant('tables/cnlrn_ablation', variant, tuple(TABLE.rows))
  if not variant.endswith('_apart'):
    return cnlrn.get_config('' if variant == 'cnlrn' else variant)
  config = cnlrn.get_config()
  config.model = ConfigDict(TABLE.rows[variant].model)
  deblurs, enlarges = config.phases.values()
  for phase in (deblurs, enlarges):
    phase.model = ConfigDict()
  enlarges.module_learning_rates = ConfigDict(dict(first=0.0))
  enlarges.lr_weight = 0.0
  return config
