r"""Table 1 of the CNLRN paper: comparisons on Val300 of REDS.

    gfn-table cnlrn_table1
    gfn-train --config=tables/cnlrn_table1:srn_rcan --workdir=RUNS/srn_rcan \
      --config.data.data_dir=DIR

The variants are the rows that have a network. Table 2 evaluates the same networks on DVD100. `rcan`
and `rrdbnet` learn from blurred images. Cascades are trained together, with the schedule of CNLRN's
second phase, after its first phase for the deblurring network. `cnlrn` is configs/cnlrn.py:paper.
The variants have not been trained to their end with this code yet.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import cascade, cnlrn, defaults, gfn
from gfn_jax.evaluation.paper_tables import BICUBIC, DataSet, Row, Table

CITATION = (
  'Bai et al., Learning A Cascaded Non-Local Residual Network for Super-resolving Blurry Images, '
  'CVPR Workshops 2021'
)

VAL300 = {'val300': DataSet('REDS, Val300')}


def row(title, psnr, ssim, model=None, note=''):
  """Return a row with its published scores on Val300."""
  return Row(title, {'val300': dict(psnr=psnr, ssim=ssim)}, model, note=note)


_SRN = "SRN is probably the single-scale network of the authors' repository, `cnlrn_deblur`"

TABLE = Table(
  title='CNLRN on REDS',
  citation=f'{CITATION}, Table 1.',
  protocol='cnlrn',
  decimals=dict(psnr=3, ssim=4),
  data_sets=VAL300,
  rows={
    BICUBIC: row('Bicubic', 23.848, 0.6481),
    'rrdbnet': row('RRDBNet', 27.224, 0.7647, cascade.ENLARGERS['rrdbnet']),
    'rcan': row('RCAN', 27.338, 0.7661, cascade.ENLARGERS['rcan']),
    'ikc': row(
      'IKC',
      24.368,
      0.6913,
      note='not retrained in the paper, and not included here: it estimates Gaussian blur',
    ),
    'gfn': row('GFN', 26.635, 0.7447, dict(name='gfn')),
    'mprnet_rcan': row('MPRNet + RCAN', 27.550, 0.7740, cascade.model('mprnet', 'rcan')),
    'srn_rrdbnet': row(
      'SRN + RRDBNet', 27.395, 0.7667, cascade.model('cnlrn_deblur', 'rrdbnet'), _SRN
    ),
    'srn_rcan': row('SRN + RCAN', 27.610, 0.7745, cascade.model('cnlrn_deblur', 'rcan'), _SRN),
    'cnlrn': row('CNLRN', 27.770, 0.7784, dict(name='cnlrn')),
  },
  notes=('An average over eight turned and flipped inputs gives CNLRN 27.922 dB, 0.7813.',),
)


def get_config(variant='cnlrn'):
  """Return the config of a row, on REDS."""
  names = tuple(name for name, row in TABLE.rows.items() if row.model)
  defaults.check_variant('tables/cnlrn_table1', variant, names)
  config = cnlrn.get_config('paper')
  if variant == 'cnlrn':
    return config
  config.model = ConfigDict(TABLE.rows[variant].model)
  pretraining, joint = config.phases.values()
  for phase in (pretraining, joint):
    phase.model = ConfigDict()
  if config.model.name == 'cascade':
    joint.module_learning_rates = ConfigDict(dict(first=1e-5))
    joint.lr_weight = 0.0
    return config
  joint.module_learning_rates = ConfigDict()
  if variant == 'gfn':
    config.model = gfn.model()
    joint.lr_weight = 0.5
  config.phases = ConfigDict(dict(phase_2=joint))
  return config
