r"""Cascade of two networks on LR-GOPRO: one deblurs, the other one enlarges, in either order.

    gfn-train --config=cascade:mprnet,edsr --workdir=W \
      --config.data.data_dir=DIR

A variant is the names of two networks in the order of their application, and maybe `apart`:

| variant | networks |
|---|---|
| mprnet,srresnet (default) | MPRNet, then SRResNet, trained together |
| mprnet,srresnet,apart | MPRNet, then SRResNet, trained one after the other |
| edsr,deepdeblur | EDSR, then DeepDeblur at the output size, trained together |

`DEBLURRERS` and `ENLARGERS` list the networks; `bicubic` has no parameters. The loss is the mean
absolute error of `hr` and, if the first network deblurs, of `lr`, as for the cascades in CNLRN's
tables. Their schedule is not published; this one is that of GFN's first phase, with gradients
clipped at a norm of 1. The papers' other rows "A + B" join networks that were trained on data of
their own: train them with configs/deblurring.py and configs/super_resolution.py, and join them with
`gfn-join-weights`. None has been trained to its end with this code yet.
"""

from ml_collections import ConfigDict

from gfn_jax.configs import defaults
from gfn_jax.configs.defaults import phase, step_decay

DEBLURRERS = {
  name: dict(name=name)
  for name in ('cnlrn_deblur', 'deblurgan', 'deepdeblur', 'dmphn', 'mprnet', 'srn')
}
ENLARGERS = {
  name: dict(name=name) for name in ('edsr', 'edsr_baseline', 'han', 'rcan', 'rrdbnet', 'srfbn')
}
ENLARGERS['srresnet'] = dict(name='srresnet', preset='srresnet_gfn')
ENLARGERS['bicubic'] = dict(name='bicubic')


def get_config(variant='mprnet,srresnet'):
  """Return the config of a cascade; `variant` is two names, maybe with ',apart'."""
  pairs = [(a, b) for a in DEBLURRERS for b in ENLARGERS]
  pairs += [(b, a) for a, b in pairs]
  choices = [','.join(pair) for pair in pairs]
  choices += [f'{a},{b},apart' for a, b in pairs if a in DEBLURRERS and b != 'bicubic']
  defaults.check_variant('cascade', variant, choices)
  first, second, *words = variant.split(',')
  config = defaults.tfrecords()
  config.model = ConfigDict(model(first, second))
  config.loss.hr.loss = config.loss.lr.loss = 'l1'
  config.training.batch_size = 16
  config.phases.phase_1 = phase(60, step_decay(1e-4, 0.1, 30), lr_weight=1.0)
  if words:
    config.phases = apart(config.phases.phase_1)
  return config


def model(first, second, **options):
  """Return the arguments of `create_model`; `options` are those of the enlarging network."""
  networks = DEBLURRERS | {name: network | options for name, network in ENLARGERS.items()}
  return dict(name='cascade', first=networks[first], second=networks[second], quantize=False)


def variant(model):
  """Return the variant that trains the networks of a cascade together."""
  return f'{model["first"]["name"]},{model["second"]["name"]}'


def apart(phase):
  """Return phases of equal length for the deblurring network and for the enlarging one."""
  deblurs, enlarges = phase.copy_and_resolve_references(), phase.copy_and_resolve_references()
  deblurs.hr_weight = 0.0
  enlarges.lr_weight = 0.0
  # Adam has seen only zero gradients of the second network, so its first updates would be several
  # times too large.
  enlarges.reset_optimizer = True
  enlarges.module_learning_rates = ConfigDict(dict(first=0.0))
  return ConfigDict(dict(phase_1=deblurs, phase_2=enlarges))
