r"""Table 2 of the CNLRN paper: the networks of Table 1, trained on REDS, on DVD100.

    gfn-table cnlrn_table2

The variants and their configs are those of configs/tables/cnlrn_table1.py.
"""

import dataclasses

from gfn_jax.configs.tables import cnlrn_table1
from gfn_jax.evaluation.paper_tables import DataSet, Table

get_config = cnlrn_table1.get_config

_SCORES = {
  'bicubic': (24.481, 0.7153),
  'rrdbnet': (25.584, 0.7769),
  'rcan': (25.671, 0.7870),
  'ikc': (25.776, 0.7746),
  'gfn': (25.628, 0.7852),
  'mprnet_rcan': (26.032, 0.7876),
  'srn_rrdbnet': (25.771, 0.7847),
  'srn_rcan': (25.907, 0.7888),
  'cnlrn': (26.089, 0.7974),
}

TABLE = Table(
  title='CNLRN on DVD',
  citation=f'{cnlrn_table1.CITATION}, Table 2.',
  protocol='cnlrn',
  decimals=dict(psnr=3, ssim=4),
  data_sets={'dvd100': DataSet('DVD100')},
  rows={
    name: dataclasses.replace(
      row, published={'dvd100': dict(zip(('psnr', 'ssim'), _SCORES[name], strict=True))}
    )
    for name, row in cnlrn_table1.TABLE.rows.items()
  },
)
