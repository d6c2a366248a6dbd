r"""Systems of the papers and their baselines, narrow: docs/results/equal_budget.md.

    gfn-train --config=tables/comparison:gfn --workdir=W \
      --config.data.photos=DIR

| variants | network |
|---|---|
| gfn, motion_deblur_sr, bmdsrnet | the papers' systems |
| cnlrn | CNLRN; half of the steps train the deblurring network alone |
| cnlrn_apart | cascade of its two networks, each trained for half of the steps |
| srresnet, edsr, rcan, han, rrdbnet, srfbn | super-resolution networks |
| scgan_like, ed_dsrn_like | surrogates for SCGAN and ED-DSRN |
| mprnet, deepdeblur, dmphn, srn, deblurgan | deblurring networks, with bicubic enlargement behind |
| mprnet_srresnet and so on | cascades of two networks, trained together |

Each has 0.05 to 0.4 million parameters, and adds its input to its output images where the published
network does not. Each is trained on photos with synthetic blur, the mean of stored values as in
GOPRO, for 2,000 steps of 8 crops of 24x24 LR pixels. `python -m benchmarks.comparison` trains them
all, with `--steps` of another number, and prints the table. BMDSRNet has no sharp frames here: its
blurred images are of the photos.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import defaults
from gfn_jax.configs.cascade import apart

_SKIP = dict(global_skip='input')
_BICUBIC = dict(name='bicubic')
_EDSR = dict(name='edsr', preset='small', **_SKIP)
_MPRNET = dict(features=16, unet_step=8, orsnet_step=8, unet_blocks=1, orsnet_blocks=2)
_SRRESNET = dict(name='srresnet', preset='srresnet_gfn', features=16, blocks=6, **_SKIP)

DEBLURRERS = {
  'mprnet': dict(name='mprnet', **_MPRNET),
  'deepdeblur': dict(name='deepdeblur', preset='small', **_SKIP),
  'dmphn': dict(name='dmphn', preset='small', **_SKIP),
  'srn': dict(name='srn', preset='small', **_SKIP),
  'deblurgan': dict(name='deblurgan', preset='small'),
}


def _cascade(first, second):
  return dict(name='cascade', first=first, second=second)


MODELS = {
  'gfn': dict(
    name='gfn',
    features=16,
    deblur_blocks=2,
    sr_blocks=3,
    reconstruction_blocks=3,
    initialization='scaled',
    **_SKIP,
  ),
  'motion_deblur_sr': dict(
    name='motion_deblur_sr',
    **_MPRNET,
    sr_features=16,
    reconstruction_blocks=3,
    final_activation='none',
    **_SKIP,
  ),
  'cnlrn': dict(name='cnlrn', preset='small', deblur_head=True, **_SKIP),
  'cnlrn_apart': _cascade(
    dict(name='cnlrn_deblur', features=12, blocks=1, stage_blocks=1, **_SKIP),
    dict(name='cnlrn', preset='small', deblur=False, **_SKIP),
  ),
  'bmdsrnet': dict(
    name='bmdsrnet', features=16, blocks=3, fusion_blocks=1, recurrent_features=2, **_SKIP
  ),
  'srresnet': _SRRESNET,
  'edsr': _EDSR,
  'rcan': dict(name='rcan', preset='small', **_SKIP),
  'han': dict(name='han', preset='small', **_SKIP),
  'rrdbnet': dict(name='rrdbnet', preset='small', **_SKIP),
  'srfbn': dict(name='srfbn', preset='small'),
  'scgan_like': dict(name='scgan_like', preset='small', **_SKIP),
  'ed_dsrn_like': dict(name='ed_dsrn_like', preset='small', **_SKIP),
  **{name: _cascade(model, _BICUBIC) for name, model in DEBLURRERS.items()},
  'mprnet_srresnet': _cascade(DEBLURRERS['mprnet'], _SRRESNET),
  'srresnet_mprnet': _cascade(_SRRESNET, DEBLURRERS['mprnet']),
  'srn_rcan': _cascade(DEBLURRERS['srn'], dict(name='rcan', preset='small', **_SKIP)),
  'edsr_deepdeblur': _cascade(_EDSR, DEBLURRERS['deepdeblur']),
}


def get_config(variant='gfn'):
  """Return the config of a row by its name."""
  defaults.check_variant('tables/comparison', variant, tuple(MODELS))
  config = defaults.table_budget(lr_weight=0.5)
  config.data.motion_blur.camera.gamma = (1.0, 1.0)  # mean of stored values, as in GOPRO
  config.model = ConfigDict(MODELS[variant])
  if variant.startswith('cnlrn'):
    config.loss.gradient = ConfigDict(dict(on='hr', loss='gradient', weight=0.1))
    config.phases = apart(config.phases.phase_1)
    if variant == 'cnlrn':
      config.phases.phase_2.model.deblur_head = False
      config.phases.phase_2.module_learning_rates = ConfigDict()
  elif variant == 'motion_deblur_sr' or 'mprnet' in variant:
    config.loss.edge = ConfigDict(dict(on='lr', loss='edge', weight=0.05))
  return config
