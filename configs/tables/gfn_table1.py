r"""Table 1 of the GFN paper: GFN, super-resolution networks, and cascades of two networks.

    gfn-table gfn_table1
    gfn-train --config=tables/gfn_table1:edsr_deepdeblur \
      --workdir=RUNS/edsr_deepdeblur --config.data.data_dir=DIR

The variants are the rows that have a network. `gfn` is configs/gfn_paper.py. `srresnet` and `edsr`
learn to enlarge sharp images, the rows that the paper marks with * learn from LR-GOPRO (their names
end in `_retrained`, and `ed_dsrn`). Cascades are trained together on LR-GOPRO (configs/cascade.py).
The paper joins networks that their authors trained: see configs/super_resolution.py and
configs/deblurring.py. The variants have not been trained to their end with this code yet.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import cascade, defaults, gfn_paper, super_resolution
from gfn_jax.configs.defaults import phase, step_decay
from gfn_jax.evaluation.paper_tables import DataSet, Row, Table

_SURROGATE = 'our surrogate of the same size and cost: no layer table is public'


def _row(title, parameters, lr_gopro, lr_kohler, model=None, note=''):
  keys = ('psnr', 'ssim', 'seconds')
  published = {
    'lr_gopro': dict(zip(keys, lr_gopro, strict=True)),
    'lr_kohler': dict(zip(keys, lr_kohler, strict=True)),
  }
  return Row(title, published, model, parameters=parameters, note=note)


_SRRESNET = cascade.ENLARGERS['srresnet']

DMPHN_BICUBIC = Row(
  'DMPHN + bicubic',
  {},
  cascade.model('dmphn', 'bicubic'),
  note="not in the paper; measured with the weights of DMPHN's authors, trained on GOPRO, without "
  'rounding the image between the two to 8 bits',
)
"""Row for tables on LR-GOPRO: a public network that can be measured without training."""

TABLE = Table(
  title='GFN and combinations of deblurring and super-resolution',
  citation='Zhang et al., Gated Fusion Network for Joint Image Deblurring and Super-Resolution, '
  'BMVC 2018, Table 1.',
  protocol='gfn',
  decimals=dict(ssim=3),
  data_sets={
    'lr_gopro': DataSet('LR-GOPRO x4'),
    'lr_kohler': DataSet('LR-Köhler x4', timed_size=(200, 200)),
  },
  rows={
    'scgan': _row(
      'SCGAN',
      '1.1M',
      (22.74, 0.783, 0.66),
      (23.19, 0.763, 0.45),
      note='trained by its authors on other data; neither code nor weights are public',
    ),
    'srresnet': _row('SRResNet', '1.5M', (24.40, 0.827, 0.07), (24.81, 0.781, 0.05), _SRRESNET),
    'edsr': _row(
      'EDSR', '43M', (24.52, 0.836, 2.10), (24.86, 0.782, 1.43), cascade.ENLARGERS['edsr']
    ),
    'scgan_retrained': _row(
      'SCGAN*',
      '1.1M',
      (24.88, 0.836, 0.66),
      (24.82, 0.795, 0.45),
      dict(name='scgan_like'),
      note=_SURROGATE,
    ),
    'srresnet_retrained': _row(
      'SRResNet*',
      '1.5M',
      (26.20, 0.818, 0.07),
      (25.36, 0.803, 0.05),
      _SRRESNET,
      note='its SSIM on LR-GOPRO is below that of SRResNet, at 1.8 dB more: probably a misprint',
    ),
    'ed_dsrn': _row(
      'ED-DSRN*',
      '25M',
      (26.44, 0.873, 0.10),
      (25.17, 0.799, 0.08),
      dict(name='ed_dsrn_like'),
      note=_SURROGATE,
    ),
    'deepdeblur_srresnet': _row(
      'DeepDeblur + SRResNet',
      '13M',
      (24.99, 0.827, 0.66),
      (25.12, 0.800, 0.55),
      cascade.model('deepdeblur', 'srresnet'),
    ),
    'srresnet_deepdeblur': _row(
      'SRResNet + DeepDeblur',
      '13M',
      (25.93, 0.850, 6.06),
      (25.15, 0.792, 4.18),
      cascade.model('srresnet', 'deepdeblur'),
    ),
    'deblurgan_srresnet': _row(
      'DeblurGAN + SRResNet',
      '13M',
      (21.71, 0.686, 0.14),
      (21.10, 0.628, 0.12),
      cascade.model('deblurgan', 'srresnet'),
    ),
    'srresnet_deblurgan': _row(
      'SRResNet + DeblurGAN',
      '13M',
      (24.44, 0.807, 0.91),
      (24.92, 0.778, 0.54),
      cascade.model('srresnet', 'deblurgan'),
    ),
    'deblurgan_edsr': _row(
      'DeblurGAN + EDSR',
      '54M',
      (21.53, 0.682, 2.18),
      (20.74, 0.625, 1.57),
      cascade.model('deblurgan', 'edsr'),
    ),
    'edsr_deblurgan': _row(
      'EDSR + DeblurGAN',
      '54M',
      (24.66, 0.827, 2.95),
      (25.00, 0.784, 1.92),
      cascade.model('edsr', 'deblurgan'),
    ),
    'deepdeblur_edsr': _row(
      'DeepDeblur + EDSR',
      '54M',
      (25.09, 0.834, 2.70),
      (25.16, 0.801, 2.04),
      cascade.model('deepdeblur', 'edsr'),
    ),
    'edsr_deepdeblur': _row(
      'EDSR + DeepDeblur',
      '54M',
      (26.35, 0.869, 8.10),
      (25.24, 0.795, 5.81),
      cascade.model('edsr', 'deepdeblur'),
    ),
    'gfn': _row(
      'GFN',
      '12M',
      (27.74, 0.896, 0.07),
      (25.72, 0.813, 0.05),
      dict(name='gfn'),
      note="the authors' released code gives 27.81 dB (configs/gfn.py)",
    ),
    'dmphn_bicubic': DMPHN_BICUBIC,
  },
  notes=(
    "The paper's seconds are for one GTX 1080 Ti. It truncates parameters to whole millions.",
    'Networks marked * were retrained on LR-GOPRO by the paper.',
    'The paper says neither which reference frames of Köhler et al. it compares with, nor how they '
    'are aligned; docs/evaluation.md has our rule.',
  ),
)


def get_config(variant='gfn'):
  """Return the config of a row."""
  names = tuple(name for name, row in TABLE.rows.items() if row.model)
  defaults.check_variant('tables/gfn_table1', variant, names)
  if variant == 'gfn':
    return gfn_paper.get_config()
  if variant in ('srresnet', 'edsr'):
    return super_resolution.get_config(variant)
  if variant == 'srresnet_retrained':
    return super_resolution.get_config('srresnet,blurred')
  model = TABLE.rows[variant].model
  if model['name'] == 'cascade':
    return cascade.get_config(cascade.variant(model))
  config = defaults.tfrecords()  # of a surrogate
  config.model = ConfigDict(model)
  config.phases.phase_1 = phase(60, step_decay(1e-4, 0.1, 30), lr_weight=0.0)
  return config
