r"""Table 5 of the BMDSRNet paper: comparisons on Motion-Blurred LR.

    gfn-table bmdsrnet_table5
    gfn-train --config=tables/bmdsrnet_table5:rcan_srn,x2 \
      --workdir=RUNS/rcan_srn,x2 --config.data.data_dir=DIR

The variants are the rows, each with `,x2`, `,x3` or `,x4`, the scale of the network and of the
data; `gfn` has 4x alone. `rcan` and `srfbn` learn from blurred images. Cascades are trained
together (configs/cascade.py); in the paper SRN is its authors', trained on GOPRO. The variants have
not been run with this code yet.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import cascade, defaults, gfn_paper, super_resolution
from gfn_jax.configs.tables import bmdsrnet_table4
from gfn_jax.configs.tables.bmdsrnet_table4 import data_sets, networks, scores
from gfn_jax.evaluation.paper_tables import Row, Table
from gfn_jax.ops.sizes import SCALES

_SSIM = 'its SSIMs do not fit its PSNRs: probably another kind of SSIM'


def _alone(name):
  return {f'x{scale}': dict(name=name, scale=scale) for scale in SCALES}


def _cascades(first, second):
  return {f'x{scale}': cascade.model(first, second, scale=scale) for scale in SCALES}


TABLE = Table(
  title='BMDSRNet and combinations of deblurring and super-resolution',
  citation=bmdsrnet_table4.TABLE.citation.replace('Table 4', 'Table 5'),
  protocol='gfn',
  decimals=dict(ssim=4),
  data_sets=data_sets(),
  rows={
    'rcan': Row(
      'RCAN', scores((27.57, 0.8908), (27.18, 0.8846), (26.65, 0.8737)), models=_alone('rcan')
    ),
    'rcan_srn': Row(
      'RCAN + SRN',
      scores((30.94, 0.9443), (29.54, 0.9264), (28.18, 0.9029)),
      models=_cascades('rcan', 'srn'),
    ),
    'srn_rcan': Row(
      'SRN + RCAN',
      scores((28.88, 0.9180), (27.08, 0.9059), (27.56, 0.8938)),
      models=_cascades('srn', 'rcan'),
      note='its PSNR is lower at x3 than at x4: probably a misprint',
    ),
    'srfbn': Row(
      'SRFBN', scores((27.57, 0.8907), (27.16, 0.8843), (26.63, 0.8730)), models=_alone('srfbn')
    ),
    'srfbn_srn': Row(
      'SRFBN + SRN',
      scores((30.92, 0.9196), (29.50, 0.8901), (28.09, 0.8504)),
      models=_cascades('srfbn', 'srn'),
      note=_SSIM,
    ),
    'srn_srfbn': Row(
      'SRN + SRFBN',
      scores((30.40, 0.9119), (29.03, 0.8856), (27.63, 0.8400)),
      models=_cascades('srn', 'srfbn'),
      note=_SSIM,
    ),
    'gfn': Row('GFN', {'x4': dict(psnr=27.47, ssim=0.8926)}, models={'x4': dict(name='gfn')}),
    'bmdsrnet': Row(
      'BMDSRNet',
      scores((31.62, 0.9483), (30.44, 0.9356), (28.78, 0.9132)),
      models=networks('fcb'),
    ),
  },
  notes=(
    *bmdsrnet_table4.NOTES,
    'The columns of x2 and x3 have one number less than rows in the paper; GFN has 4x alone.',
  ),
)


def get_config(variant='bmdsrnet,x4'):
  """Return the config of a row at a scale."""
  choices = [f'{name},{scale}' for name, row in TABLE.rows.items() for scale in row.models]
  defaults.check_variant('tables/bmdsrnet_table5', variant, choices)
  name, scale = variant.split(',')
  if name == 'bmdsrnet':
    return bmdsrnet_table4.get_config(f'fcb,{scale}')
  if name == 'gfn':
    return gfn_paper.get_config()
  model = TABLE.rows[name].models[scale]
  if model['name'] == 'cascade':
    config = cascade.get_config(cascade.variant(model))
  else:
    config = super_resolution.get_config(f'{name},blurred')
  config.model = ConfigDict(model)
  return config
