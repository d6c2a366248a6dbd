r"""Table 4 of the CNLRN paper: the deblurring network, on Val300 of REDS.

    gfn-table cnlrn_table4
    gfn-train --config=tables/cnlrn_table4:no_deblurring \
      --workdir=RUNS/no_deblurring --config.data.data_dir=DIR

The variants are the rows, those of configs/cnlrn.py.
They have not been trained to their end with this code yet.
"""

from gfn_jax.configs import cnlrn, defaults
from gfn_jax.configs.tables import cnlrn_table1
from gfn_jax.configs.tables.cnlrn_table1 import row
from gfn_jax.evaluation.paper_tables import Table

TABLE = Table(
  title='CNLRN with and without its deblurring network',
  citation=f'{cnlrn_table1.CITATION}, Table 4.',
  protocol='cnlrn',
  decimals=dict(psnr=3, ssim=4),
  data_sets=cnlrn_table1.VAL300,
  rows={
    'no_deblurring': row(
      'without the deblurring network', 27.532, 0.7712, dict(name='cnlrn', deblur=False)
    ),
    'cnlrn': row('CNLRN', 27.770, 0.7784, dict(name='cnlrn')),
  },
  notes=('Without it, the first layer maps an image, which is our reading.',),
)


def get_config(variant='cnlrn'):
  """Return the config of a row, on REDS."""
  defaults.check_variant('tables/cnlrn_table4', variant, tuple(TABLE.rows))
  return cnlrn.get_config('' if variant == 'cnlrn' else variant)
