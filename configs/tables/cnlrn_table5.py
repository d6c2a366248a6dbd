r"""Table 5 of the CNLRN paper: separate and joint training, on Val300 of REDS.

    gfn-table cnlrn_table5
    gfn-train --config=tables/cnlrn_table5:srn_rcan_apart \
      --workdir=RUNS/srn_rcan_apart --config.data.data_dir=DIR

The variants are the rows. In those that end in `_apart`, the second network gets the image of the
first one, which is not trained any more. The others are those of configs/tables/cnlrn_table1.py.
They have not been trained to their end with this code yet.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import cascade, cnlrn, defaults
from gfn_jax.configs.tables import cnlrn_table1
from gfn_jax.configs.tables.cnlrn_table1 import row
from gfn_jax.evaluation.paper_tables import Table

_APART = dict(name='cascade', quantize=False, first=cascade.DEBLURRERS['cnlrn_deblur'])

TABLE = Table(
  title='Joint training of CNLRN',
  citation=f'{cnlrn_table1.CITATION}, Table 5.',
  protocol='cnlrn',
  decimals=dict(psnr=3, ssim=4),
  data_sets=cnlrn_table1.VAL300,
  rows={
    'srn_rcan_apart': row(
      'SRN + RCAN, apart', 27.012, 0.7543, dict(**_APART, second=cascade.ENLARGERS['rcan'])
    ),
    'srn_rcan': cnlrn_table1.TABLE.rows['srn_rcan'],
    'srn_nlrn_apart': row(
      'SRN + NLRN, apart', 27.052, 0.7549, dict(**_APART, second=dict(name='cnlrn', deblur=False))
    ),
    'cnlrn': row('CNLRN', 27.770, 0.7784, dict(name='cnlrn')),
  },
)


def get_config(variant='cnlrn'):
  """Return the config of a row, on REDS."""
  defaults.check_variant('tables/cnlrn_table5', variant, tuple(TABLE.rows))
  if not variant.endswith('_apart'):
    return cnlrn_table1.get_config(variant)
  config = cnlrn.get_config()
  config.model = ConfigDict(TABLE.rows[variant].model)
  deblurs, enlarges = config.phases.values()
  for phase in (deblurs, enlarges):
    phase.model = ConfigDict()
  enlarges.module_learning_rates = ConfigDict(dict(first=0.0))
  enlarges.lr_weight = 0.0
  return config
