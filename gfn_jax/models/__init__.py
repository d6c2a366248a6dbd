"""The networks: one file for each paper's system, `blocks.py` for what they share."""

import dataclasses

import flax.linen as nn

from gfn_jax.errors import UserError
from gfn_jax.layers.blocks import RestorationOutput
from gfn_jax.models.bmdsrnet import BMDSRNet
from gfn_jax.models.cascade import Cascade
from gfn_jax.models.cnlrn import CNLRN, CNLRNDeblur
from gfn_jax.models.gfn import GFN, SRBranch
from gfn_jax.models.gfn_ablation import GFNAblation
from gfn_jax.models.motion_deblur_sr import MotionDeblurSR
from gfn_jax.models.mprnet import MPRNet
from gfn_jax.models.srresnet import SRResNet
from gfn_jax.models.variables import as_variables, init_params, param_count, param_shapes

MODELS = {
  'bmdsrnet': BMDSRNet,
  'cascade': Cascade,
  'cnlrn': CNLRN,
  'cnlrn_deblur': CNLRNDeblur,
  'gfn': GFN,
  'gfn_ablation': GFNAblation,
  'motion_deblur_sr': MotionDeblurSR,
  'mprnet': MPRNet,
  'sr_branch': SRBranch,
  'srresnet': SRResNet,
}

__all__ = [
  'BMDSRNet',
  'CNLRN',
  'CNLRNDeblur',
  'Cascade',
  'GFN',
  'MODELS',
  'GFNAblation',
  'MPRNet',
  'MotionDeblurSR',
  'RestorationOutput',
  'SRBranch',
  'SRResNet',
  'as_variables',
  'create_model',
  'init_params',
  'param_count',
  'param_shapes',
]


def create_model(name: str, preset: str | None = None, **options) -> nn.Module:
  """Makes a network by its name.

  Every network maps `lr_blur`, `[B, h, w, 3]` float in [0, 1], to a `RestorationOutput`:

      model = create_model('gfn', gate_recursions=3)
      params = model.init(jax.random.key(0), lr_blur)['params']
      output = model.apply({'params': params}, lr_blur)

  Args:
    name: a key of `MODELS`.
    preset: a key of the class's `presets`, where it has any: a set of options.
    **options: fields of the network's class, such as `features` or `dtype`; they take precedence
      over the preset's. A field that is itself a network is given as a dict of what this function
      takes.

  Returns:
    The Flax module.

  Raises:
    UserError: for an unknown name, preset or option, or a value that the network refuses.
  """
  if name not in MODELS:
    raise UserError(f'unknown model {name!r}; there are {", ".join(sorted(MODELS))}')
  fields = {field.name for field in dataclasses.fields(MODELS[name])} - {'parent', 'name'}
  if unknown := sorted(set(options) - fields):
    raise UserError(
      f'model {name!r} has no option {unknown[0]!r}; it has {", ".join(sorted(fields))}'
    )
  options = {
    key: create_model(**value) if hasattr(value, 'keys') else value  # a dict or a ConfigDict
    for key, value in options.items()
  }
  presets = getattr(MODELS[name], 'presets', {})
  if preset is not None and preset not in presets:
    raise UserError(
      f'model {name!r} has no preset {preset!r}; it has {", ".join(presets) or "none"}'
    )
  try:
    return MODELS[name](**presets.get(preset, {}) | options)
  except (TypeError, ValueError) as error:
    raise UserError(f'model {name!r}: {error}') from error
