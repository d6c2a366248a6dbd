r"""Table 1 of Shoyan et al.: their network, super-resolution networks, and cascades.

    gfn-table motion_deblur_sr_table1
    gfn-train --config=tables/motion_deblur_sr_table1:mprnet_edsr \
      --workdir=RUNS/mprnet_edsr --config.data.data_dir=DIR

The variants are the rows. `motion_deblur_sr` is configs/motion_deblur_sr.py:paper, and `gfn` is
configs/gfn_paper.py with the gate three times, as in GFN's IJCV paper. `edsr` and `han` learn to
enlarge sharp images. Cascades are trained together on LR-GOPRO (configs/cascade.py). The paper
joins networks that their authors trained. The variants have not been trained to their end with this
code yet.
"""

from gfn_jax.configs import cascade, defaults, gfn_paper, motion_deblur_sr, super_resolution
from gfn_jax.configs.tables import gfn_table1
from gfn_jax.evaluation.paper_tables import DataSet, Row, Table

_MISCOUNTED = (
  'the paper counts the encoder of DMPHN twice instead of its encoder and decoder, which has '
  '7,232,524 parameters'
)


def _row(title, psnr, ssim, lpips, parameters, model, note=''):
  published = {'lr_gopro': dict(psnr=psnr, ssim=ssim, lpips=lpips)}
  return Row(title, published, model, parameters=parameters, note=note)


_EDSR = cascade.ENLARGERS['edsr_baseline']
_HAN = cascade.ENLARGERS['han']

TABLE = Table(
  title='Shoyan et al. and combinations of deblurring and super-resolution',
  citation='Shoyan et al., Single Image Joint Motion Deblurring and Super-Resolution, Table 1.',
  protocol='mprnet',
  data_sets={'lr_gopro': DataSet('LR-GOPRO x4')},
  rows={
    'edsr': _row('EDSR', 24.948, 0.84, 0.37149, '1,517,571', _EDSR),
    'han': _row('HAN', 25.001, 0.841, 0.36856, '16,071,745', _HAN),
    'mprnet_edsr': _row(
      'MPRNet + EDSR',
      26.521,
      0.873,
      0.33975,
      '21,644,644',
      cascade.model('mprnet', 'edsr_baseline'),
    ),
    'mprnet_han': _row(
      'MPRNet + HAN', 26.571, 0.874, 0.33763, '36,198,818', cascade.model('mprnet', 'han')
    ),
    'dmphn_edsr': _row(
      'DMPHN + EDSR',
      24.952,
      0.832,
      0.41353,
      '8,463,875',
      cascade.model('dmphn', 'edsr_baseline'),
      _MISCOUNTED,
    ),
    'edsr_dmphn': _row(
      'EDSR + DMPHN',
      24.843,
      0.835,
      0.35037,
      '8,463,875',
      cascade.model('edsr_baseline', 'dmphn'),
      _MISCOUNTED,
    ),
    'dmphn_han': _row(
      'DMPHN + HAN',
      24.938,
      0.832,
      0.41495,
      '23,018,049',
      cascade.model('dmphn', 'han'),
      _MISCOUNTED,
    ),
    'han_dmphn': _row(
      'HAN + DMPHN',
      24.991,
      0.84,
      0.33964,
      '23,018,049',
      cascade.model('han', 'dmphn'),
      _MISCOUNTED,
    ),
    'gfn': _row(
      'GFN',
      27.91,
      0.902,
      0.29642,
      '12,210,438',
      dict(name='gfn', gate_recursions=3),
      "the paper cites GFN's IJCV version, whose gate is applied three times",
    ),
    'motion_deblur_sr': _row(
      'Shoyan et al.', 28.265, 0.9086, 0.28522, '21,839,972', dict(name='motion_deblur_sr')
    ),
    'dmphn_bicubic': gfn_table1.DMPHN_BICUBIC,
  },
  notes=(
    'The paper names neither the cut of the borders, nor the kind of SSIM, nor the network of '
    "LPIPS. Protocol `mprnet` is that of the script in the authors' repository.",
    'Sides that are no multiple of 8 are padded by reflection; the paper does not say what was '
    'done with the 180 rows of LR-GOPRO.',
  ),
)


def get_config(variant='motion_deblur_sr'):
  """Return the config of a row."""
  defaults.check_variant('tables/motion_deblur_sr_table1', variant, tuple(TABLE.rows))
  if variant == 'motion_deblur_sr':
    return motion_deblur_sr.get_config('paper')
  if variant == 'gfn':
    config = gfn_paper.get_config()
    config.model.gate_recursions = 3
    return config
  model = TABLE.rows[variant].model
  if model['name'] == 'cascade':
    return cascade.get_config(cascade.variant(model))
  return super_resolution.get_config(model['name'])
