r"""Tables 1 and 2 of the CNLRN paper: comparisons on Val300 of REDS and on DVD100.

    gfn-table cnlrn_table1
    python run_train.py --config=configs/tables/cnlrn_table1.py:srn_rcan --workdir=RUNS/srn_rcan \
      --config.data.data_dir=DIR

The variants are the rows that have a network. All are trained on REDS, and evaluated on both test
sets. `rcan` and `rrdbnet` learn from blurred images; cascades are trained together, with the
schedule of CNLRN's second phase, after its first phase for the deblurring network. `cnlrn` is
configs/cnlrn.py:paper. The variants have not been run with this code yet.
"""

from ml_collections import ConfigDict

from configs import cascade, cnlrn, defaults, gfn
from gfn_jax.evaluation.paper_tables import BICUBIC, DataSet, Row, Table

CITATION = (
  'Bai et al., Learning A Cascaded Non-Local Residual Network for Super-resolving Blurry Images, '
  'CVPR Workshops 2021'
)


def _row(title, val300, dvd100, model=None, note=''):
  keys = ('psnr', 'ssim')
  published = {
    'val300': dict(zip(keys, val300, strict=True)),
    'dvd100': dict(zip(keys, dvd100, strict=True)),
  }
  return Row(title, published, model, note=note)


def _cascade(first, second):
  return cascade.model(first, second).to_dict()


_SRN = "SRN is probably the single-scale network of the authors' repository, `cnlrn_deblur`"

TABLE = Table(
  title='CNLRN on REDS and DVD',
  citation=f'{CITATION}, Tables 1 and 2.',
  protocol='cnlrn',
  data_sets={'val300': DataSet('REDS, Val300'), 'dvd100': DataSet('DVD100')},
  rows={
    BICUBIC: _row('Bicubic', (23.848, 0.6481), (24.481, 0.7153)),
    'rrdbnet': _row('RRDBNet', (27.224, 0.7647), (25.584, 0.7769), cascade.ENLARGERS['rrdbnet']),
    'rcan': _row('RCAN', (27.338, 0.7661), (25.671, 0.7870), cascade.ENLARGERS['rcan']),
    'ikc': _row(
      'IKC',
      (24.368, 0.6913),
      (25.776, 0.7746),
      note='not retrained in the paper, and not included here: it estimates Gaussian blur',
    ),
    'gfn': _row('GFN', (26.635, 0.7447), (25.628, 0.7852), dict(name='gfn')),
    'mprnet_rcan': _row(
      'MPRNet + RCAN', (27.550, 0.7740), (26.032, 0.7876), _cascade('mprnet', 'rcan')
    ),
    'srn_rrdbnet': _row(
      'SRN + RRDBNet',
      (27.395, 0.7667),
      (25.771, 0.7847),
      _cascade('cnlrn_deblur', 'rrdbnet'),
      _SRN,
    ),
    'srn_rcan': _row(
      'SRN + RCAN', (27.610, 0.7745), (25.907, 0.7888), _cascade('cnlrn_deblur', 'rcan'), _SRN
    ),
    'cnlrn': _row('CNLRN', (27.770, 0.7784), (26.089, 0.7974), dict(name='cnlrn')),
  },
  notes=(
    'The paper has two tables of the same rows, 1 for Val300 and 2 for DVD100.',
    'An average over eight turned and flipped inputs gives CNLRN 27.922 dB, 0.7813 on Val300.',
  ),
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
