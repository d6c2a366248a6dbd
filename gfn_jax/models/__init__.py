"""The networks: one file for each paper, and `base.py` with the interface of all."""

import dataclasses
import re
from typing import Any

from gfn_jax.errors import UserError
from gfn_jax.models.base import RestorationModel, RestorationOutput
from gfn_jax.models.bicubic import Bicubic
from gfn_jax.models.bmdsrnet import BMDSRNet
from gfn_jax.models.cascade import Cascade
from gfn_jax.models.cnlrn import CNLRN, CNLRNDeblur
from gfn_jax.models.deblurgan import DeblurGAN
from gfn_jax.models.deepdeblur import DeepDeblur
from gfn_jax.models.dmphn import DMPHN
from gfn_jax.models.ed_dsrn_like import EDDSRNLike
from gfn_jax.models.edsr import EDSR, EDSRBaseline
from gfn_jax.models.gfn import GFN, SRBranch
from gfn_jax.models.gfn_ablation import GFNAblation
from gfn_jax.models.han import HAN
from gfn_jax.models.motion_deblur_sr import MotionDeblurSR
from gfn_jax.models.mprnet import MPRNet
from gfn_jax.models.rcan import RCAN
from gfn_jax.models.rrdbnet import RRDBNet
from gfn_jax.models.scgan_like import SCGANLike
from gfn_jax.models.srfbn import SRFBN
from gfn_jax.models.srn import SRN
from gfn_jax.models.srresnet import SRResNet
from gfn_jax.models.variables import init_variables, param_count, variable_shapes

MODELS: dict[str, type[RestorationModel]] = {
  'bicubic': Bicubic,
  'bmdsrnet': BMDSRNet,
  'cascade': Cascade,
  'cnlrn': CNLRN,
  'cnlrn_deblur': CNLRNDeblur,
  'deblurgan': DeblurGAN,
  'deepdeblur': DeepDeblur,
  'dmphn': DMPHN,
  'ed_dsrn_like': EDDSRNLike,
  'edsr': EDSR,
  'edsr_baseline': EDSRBaseline,
  'gfn': GFN,
  'gfn_ablation': GFNAblation,
  'han': HAN,
  'motion_deblur_sr': MotionDeblurSR,
  'mprnet': MPRNet,
  'rcan': RCAN,
  'rrdbnet': RRDBNet,
  'scgan_like': SCGANLike,
  'sr_branch': SRBranch,
  'srfbn': SRFBN,
  'srn': SRN,
  'srresnet': SRResNet,
}

_BUILT_IN = frozenset(MODELS)

__all__ = [
  'BMDSRNet',
  'Bicubic',
  'CNLRN',
  'CNLRNDeblur',
  'Cascade',
  'EDSR',
  'EDSRBaseline',
  'EDDSRNLike',
  'DMPHN',
  'DeblurGAN',
  'DeepDeblur',
  'GFN',
  'HAN',
  'MODELS',
  'GFNAblation',
  'MPRNet',
  'MotionDeblurSR',
  'RRDBNet',
  'RCAN',
  'RestorationModel',
  'RestorationOutput',
  'SCGANLike',
  'SRBranch',
  'SRFBN',
  'SRN',
  'SRResNet',
  'create_model',
  'init_variables',
  'list_models',
  'param_count',
  'register_model',
  'variable_shapes',
]


def list_models() -> list[str]:
  """Return the names of the networks, sorted, as `create_model` takes them."""
  return sorted(MODELS)


def register_model(name: str, network: type[RestorationModel]) -> None:
  """Add a network of your own, for `create_model`, the commands and files of weights.

      gfn_jax.register_model('own_network', OwnNetwork)

  The registration lasts as long as the process. Files of weights hold the name alone, and reading
  one imports nothing: a file cannot choose code to run. Another class of the same name replaces the
  first one, so that a cell of a notebook can be run again.

  Args:
    name: name of the network: lower-case letters, digits and underscores.
    network: its class, which states `scale` and has the fields `dtype` and `precision`.

  Raises:
    UserError: for an unsuitable name or class, or the name of a network of this library.
  """
  if not re.fullmatch('[a-z][a-z0-9_]*', name):
    raise UserError(f'model name {name!r}: use lower-case letters, digits and underscores')
  if name in _BUILT_IN:
    raise UserError(f'gfn_jax has a model {name!r} already; choose another name')
  if not (isinstance(network, type) and issubclass(network, RestorationModel)):
    raise UserError(f'model {name!r}: pass a class that derives from RestorationModel')
  fields = {field.name for field in dataclasses.fields(network)}
  for field in ('dtype', 'precision'):
    if field not in fields:
      raise UserError(f'model {name!r}: {network.__name__} lacks the field {field!r}')
  if 'scale' not in fields and not hasattr(network, 'scale'):
    raise UserError(f'model {name!r}: {network.__name__} does not state its scale, such as 4')
  MODELS[name] = network


def create_model(name: str, preset: str | None = None, **options: Any) -> RestorationModel:
  """Make a network.

      model = create_model('gfn', gate_recursions=3)
      variables = model.init(jax.random.key(0), lr_blur)
      output = model.apply(variables, lr_blur)

  Args:
    name: one of `list_models()`.
    preset: name of a set of options, a key of the class's `presets`.
    **options: fields of the network's class, such as `features` or `dtype`; they take precedence
      over the preset. For a field that is itself a network, pass a dict of this function's
      arguments.

  Returns:
    The Flax module, which maps `lr_blur` to a `RestorationOutput`.

  Raises:
    UserError: for an unknown name, preset or option, or an invalid value of an option.
  """
  if name not in MODELS:
    raise UserError(f'unknown model {name!r}; choose from {", ".join(list_models())}')
  fields = {field.name for field in dataclasses.fields(MODELS[name])} - _NOT_OPTIONS
  if unknown := sorted(set(options) - fields):
    raise UserError(
      f'model {name!r} has no option {unknown[0]!r}; choose from {", ".join(sorted(fields))}'
    )
  options = {
    key: create_model(**value) if hasattr(value, 'keys') else value  # a dict or a ConfigDict
    for key, value in options.items()
  }
  presets = MODELS[name].presets
  if preset is not None and preset not in presets:
    raise UserError(
      f'model {name!r} has no preset {preset!r}; choose from {", ".join(presets) or "none"}'
    )
  defaults = {} if preset is None else presets[preset]
  try:
    return MODELS[name](**{**defaults, **options})
  except (TypeError, ValueError) as error:
    raise UserError(f'model {name!r}: {error}') from error


_NOT_OPTIONS = {'parent', 'name', 'axis_name'}  # set by Flax and by `for_training`
