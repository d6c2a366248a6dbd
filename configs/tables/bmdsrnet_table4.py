r"""Table 4 of the BMDSRNet paper: its ablation, on Motion-Blurred LR.

    gfn-table bmdsrnet_table4
    gfn-train --config=tables/bmdsrnet_table4:c,x2 --workdir=RUNS/c,x2 \
      --config.data.data_dir=DIR

The variants are the rows, `srnet`, `c`, `fc` and `fcb`, each with `,x2`, `,x3` or `,x4`, the scale
of the network and of the data. They are those of configs/bmdsrnet.py with the word `paper`, and
have not been trained to their end with this code yet.
"""

from gfn_jax.configs import bmdsrnet, defaults
from gfn_jax.evaluation.paper_tables import DataSet, Row, Table
from gfn_jax.ops.sizes import SCALES

WORDS = {'srnet': 'srnet', 'c': 'c', 'fc': 'f+c', 'fcb': 'f+c+b'}

NOTES = (
  "The paper's protocol is unknown; this one is GFN's.",
  'The recurrent module has 5/32 of the widths in the paper, which gives the number of parameters '
  'that the paper states, 2.9 million; its own table of layers gives 43.6 million.',
)


def data_sets():
  """Return the test sets of the paper's tables on Motion-Blurred LR, one for each scale."""
  return {
    f'x{scale}': DataSet(f'Motion-Blurred LR x{scale}', timed_size=(720 // scale, 1280 // scale))
    for scale in SCALES
  }


def networks(name):
  """Return the arguments of `create_model` for a row, by data set."""
  return {f'x{scale}': dict(name='bmdsrnet', variant=WORDS[name], scale=scale) for scale in SCALES}


def scores(*pairs):
  """Return the published numbers by data set, given PSNR and SSIM for each scale."""
  return {
    f'x{scale}': dict(psnr=psnr, ssim=ssim)
    for scale, (psnr, ssim) in zip(SCALES, pairs, strict=True)
  }


TABLE = Table(
  title='Ablation of BMDSRNet',
  citation='Blind Motion Deblurring Super-Resolution: When Dynamic Spatio-Temporal Learning Meets '
  'Static Image Understanding, arXiv:2105.13077, Table 4.',
  protocol='gfn',
  decimals=dict(ssim=4),
  data_sets=data_sets(),
  rows={
    'srnet': Row(
      'SRNet', scores((30.88, 0.9437), (29.49, 0.9256), (28.06, 0.8997)), models=networks('srnet')
    ),
    'c': Row('C', scores((31.28, 0.9457), (29.95, 0.9302), (28.43, 0.9068)), models=networks('c')),
    'fc': Row(
      'F+C', scores((31.45, 0.9479), (30.21, 0.9337), (28.62, 0.9113)), models=networks('fc')
    ),
    'fcb': Row(
      'F+C+B', scores((31.62, 0.9483), (30.44, 0.9356), (28.78, 0.9132)), models=networks('fcb')
    ),
  },
  notes=NOTES,
)


def get_config(variant='fcb,x4'):
  """Return the config of a row at a scale."""
  choices = [f'{row},{scale}' for row in TABLE.rows for scale in TABLE.data_sets]
  defaults.check_variant('tables/bmdsrnet_table4', variant, choices)
  row, scale = variant.split(',')
  return bmdsrnet.get_config(f'{WORDS[row]},{scale},paper')
