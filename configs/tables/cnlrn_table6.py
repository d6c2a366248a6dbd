r"""Table 6 of the CNLRN paper: the parts of its second network and its loss, on Val300 of REDS.

    gfn-table cnlrn_table6
    gfn-train --config=tables/cnlrn_table6:no_nonlocal \
      --workdir=RUNS/no_nonlocal --config.data.data_dir=DIR

The variants are the rows, those of configs/cnlrn.py.
They have not been trained to their end with this code yet.
"""

from gfn_jax.configs import cnlrn, defaults
from gfn_jax.configs.tables import cnlrn_table1
from gfn_jax.configs.tables.cnlrn_table1 import row
from gfn_jax.evaluation.paper_tables import Table

TABLE = Table(
  title="Parts of CNLRN's second network",
  citation=f'{cnlrn_table1.CITATION}, Table 6.',
  protocol='cnlrn',
  decimals=dict(psnr=3, ssim=4),
  data_sets=cnlrn_table1.VAL300,
  rows={
    'no_nonlocal': row(
      'without non-local blocks', 27.541, 0.7726, dict(name='cnlrn', use_nonlocal=False)
    ),
    'no_progressive': row(
      'without progressive upsampling', 27.588, 0.7736, dict(name='cnlrn', progressive=False)
    ),
    'no_gradient_loss': row('without gradient loss', 27.660, 0.7762, dict(name='cnlrn')),
    'cnlrn': row('CNLRN', 27.770, 0.7784, dict(name='cnlrn')),
  },
)


def get_config(variant='cnlrn'):
  """Return the config of a row, on REDS."""
  defaults.check_variant('tables/cnlrn_table6', variant, tuple(TABLE.rows))
  return cnlrn.get_config('' if variant == 'cnlrn' else variant)
