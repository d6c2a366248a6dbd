r"""Table 6 of the BMDSRNet paper: comparisons on LR-GOPRO.

    gfn-table bmdsrnet_table6
    gfn-train --config=tables/bmdsrnet_table6:bmdsrnet \
      --workdir=RUNS/bmdsrnet --config.data.data_dir=DIR

The rows but `bmdsrnet` are copies of Table 1 of the GFN paper, two of them under wrong names. Their
configs are those of configs/tables/gfn_table1.py. `bmdsrnet` is that of configs/bmdsrnet.py, with
the word `paper`. The variants have not been trained to their end with this code yet.
"""

import dataclasses

from gfn_jax.configs import bmdsrnet, defaults
from gfn_jax.configs.tables import bmdsrnet_table4, gfn_table1
from gfn_jax.evaluation.paper_tables import Row, Table


def _copy(name, title=None, note=''):
  row = gfn_table1.TABLE.rows[name]
  published = {'lr_gopro': row.published['lr_gopro']}
  return dataclasses.replace(row, title=title or row.title, published=published, note=note)


TABLE = Table(
  title='BMDSRNet on LR-GOPRO',
  citation=bmdsrnet_table4.TABLE.citation.replace('Table 4', 'Table 6'),
  protocol='gfn',
  decimals=dict(ssim=3),
  data_sets={'lr_gopro': gfn_table1.TABLE.data_sets['lr_gopro']},
  rows={
    'scgan': _copy('scgan'),
    'srresnet': _copy('srresnet'),
    'edsr': _copy('edsr'),
    'deepdeblur_srresnet': _copy('deepdeblur_srresnet'),
    'srresnet_deepdeblur': _copy('srresnet_deepdeblur'),
    'deblurgan_edsr': _copy(
      'deblurgan_edsr',
      'DeblurGAN + EDSR',
      'the paper calls it DeepDeblur + ED-DSRN; the numbers are those of this row of GFN',
    ),
    'edsr_deblurgan': _copy(
      'edsr_deblurgan',
      'EDSR + DeblurGAN',
      'the paper calls it ED-DSRN + DeepDeblur; the numbers are those of this row of GFN',
    ),
    'gfn': _copy('gfn'),
    'bmdsrnet': Row(
      'BMDSRNet',
      {'lr_gopro': dict(psnr=28.15, ssim=0.904, seconds=0.11)},
      dict(name='bmdsrnet'),
      parameters='2.9M',
      note='the paper does not say if it is the network of its other tables',
    ),
    'dmphn_bicubic': gfn_table1.DMPHN_BICUBIC,
  },
  notes=(
    *bmdsrnet_table4.NOTES,
    "All rows but BMDSRNet's are copied from Table 1 of the GFN paper.",
  ),
)


def get_config(variant='bmdsrnet'):
  """Return the config of a row."""
  names = tuple(name for name, row in TABLE.rows.items() if row.model)
  defaults.check_variant('tables/bmdsrnet_table6', variant, names)
  if variant == 'bmdsrnet':
    return bmdsrnet.get_config('paper')
  return gfn_table1.get_config(variant)
