"""Weights of the authors' PyTorch networks as parameters of ours, and back.

    state = load_torch_checkpoint('GFN_epoch_55.pkl')
    params = convert('gfn', state)

Each network has a table of the names of its layers, ours and the authors'. Layouts follow from the
tensors: a convolution's `[out, in, h, w]` is our `[h, w, in, out]`, and a transposed one's
`[in, out, h, w]` is turned by 180 degrees too. A pixel shuffle needs nothing: ours has PyTorch's
order. A PReLU that layers share is one parameter of ours and a tensor of theirs for each layer.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from flax import traverse_util

from gfn_jax.errors import UserError
from gfn_jax.interop.torch_pickle import show
from gfn_jax.models import create_model
from gfn_jax.pretrained import MAX_OPTION, param_shapes

MAX_BLOCKS = 64
"""Of a group, where their number is taken from the names in a file."""


_PRELU = 'prelu.negative_slope'  # where all layers share it


@dataclasses.dataclass(frozen=True)
class Version:
  """What the authors of a network, or of one version of it, called its layers.

  Attributes:
    layers: our names and theirs; `{i}`, `{j}` and `{k}` stand for numbers, the same in both, and in
      theirs `{next_i}` for the number that follows, and the name of an option for its value.
    transposed: our names of the transposed convolutions.
    features: their name of a tensor whose first axis is the option `features`.
    blocks: options, and their name of a tensor that each such block has.
    options: of `create_model`.
    widths: options, and how they follow from the output channels of their layers, which a function
      tells by the name.
    prelus: endings of their names of the layers that a PReLU follows, and of the PReLUs. All these
      are one parameter.
    ignored: endings of names that serve for nothing.
  """

  layers: Mapping[str, str]
  features: str
  blocks: Mapping[str, str]
  transposed: frozenset[str] = frozenset()
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  widths: Mapping[str, Callable[[Callable[[str], int]], int]] = dataclasses.field(
    default_factory=dict
  )
  prelus: Mapping[str, str] = dataclasses.field(default_factory=dict)
  ignored: tuple[str, ...] = ()


def _attention_block(ours: str, theirs: str, attention: str = 'CA') -> dict[str, str]:
  """The layers of a channel attention block."""
  return {
    f'{ours}.conv1': f'{theirs}.body.0',
    f'{ours}.conv2': f'{theirs}.body.2',
    f'{ours}.attention.conv1': f'{theirs}.{attention}.conv_du.0',
    f'{ours}.attention.conv2': f'{theirs}.{attention}.conv_du.2',
  }


_MPRNET = Version(
  layers={
    'shallow{i}_conv': 'shallow_feat{i}.0',
    **_attention_block('shallow{i}_block', 'shallow_feat{i}.1'),
    **_attention_block('encoder{k}.level{i}_{j}', 'stage{k}_encoder.encoder_level{i}.{j}'),
    'encoder{k}.down1': 'stage{k}_encoder.down12.down.1',
    'encoder{k}.down2': 'stage{k}_encoder.down23.down.1',
    'encoder2.fuse_encoded{i}': 'stage2_encoder.csff_enc{i}',
    'encoder2.fuse_decoded{i}': 'stage2_encoder.csff_dec{i}',
    **_attention_block('decoder{k}.level{i}_{j}', 'stage{k}_decoder.decoder_level{i}.{j}'),
    **_attention_block('decoder{k}.skip{i}', 'stage{k}_decoder.skip_attn{i}'),
    'decoder{k}.up1': 'stage{k}_decoder.up21.up.1',
    'decoder{k}.up2': 'stage{k}_decoder.up32.up.1',
    'sam12.conv{i}': 'sam12.conv{i}',
    'sam23.conv{i}': 'sam23.conv{i}',
    'concat12': 'concat12',
    'concat23': 'concat23',
    **_attention_block('orsnet.group{i}_{j}', 'stage3_orsnet.orb{i}.body.{j}'),
    'orsnet.group{i}_conv': 'stage3_orsnet.orb{i}.body.{orsnet_blocks}',
    'orsnet.encoded{i}': 'stage3_orsnet.conv_enc{i}',
    'orsnet.decoded{i}': 'stage3_orsnet.conv_dec{i}',
    'orsnet.encoded2_up1': 'stage3_orsnet.up_enc1.up.1',
    'orsnet.decoded2_up1': 'stage3_orsnet.up_dec1.up.1',
    'orsnet.encoded3_up2': 'stage3_orsnet.up_enc2.0.up.1',
    'orsnet.decoded3_up2': 'stage3_orsnet.up_dec2.0.up.1',
    'orsnet.encoded3_up1': 'stage3_orsnet.up_enc2.1.up.1',
    'orsnet.decoded3_up1': 'stage3_orsnet.up_dec2.1.up.1',
    'tail': 'tail',
  },
  features='shallow_feat1.0.weight',
  blocks={
    'unet_blocks': 'stage1_encoder.encoder_level1.{i}.body.0.weight',
    'orsnet_blocks': 'stage3_orsnet.orb1.body.{i}.body.0.weight',
  },
  widths={
    'unet_step': lambda width: width('stage1_encoder.down12.down.1') - width('shallow_feat1.0'),
    'orsnet_step': lambda width: width('concat23') - width('shallow_feat1.0'),
    'reduction': lambda width: (
      width('shallow_feat1.0') // max(1, width('shallow_feat1.1.CA.conv_du.0'))
    ),
  },
  prelus={'.body.0': '.body.1'},
)


def _res_block(ours: str, theirs: str) -> dict[str, str]:
  """The layers of a residual block of CNLRN's deblurring network."""
  return {f'{ours}.conv1': f'{theirs}.body.0.body.0', f'{ours}.conv2': f'{theirs}.body.2.body.0'}


def _cnlrn_deblur(stage_blocks: str) -> dict[str, str]:
  """The layers of CNLRN's deblurring network; the name of an option of ours tells of its stages."""
  return {
    'deblur.conv1': 'DeblurNet.inBlock.0.body.0',
    **_res_block('deblur.encoder1_{i}', 'DeblurNet.inBlock.{next_i}'),
    'deblur.conv2': 'DeblurNet.encoder_first.0.body.0',
    **_res_block('deblur.encoder2_{i}', 'DeblurNet.encoder_first.{next_i}'),
    'deblur.conv3': 'DeblurNet.encoder_second.body.0',
    **_res_block('deblur.body_{i}', 'DeblurNet.body.{i}'),
    'deblur.deconv1': 'DeblurNet.decoder_second.body.0',
    **_res_block('deblur.decoder2_{i}', 'DeblurNet.decoder_first.{i}'),
    'deblur.deconv2': f'DeblurNet.decoder_first.{{{stage_blocks}}}.body.0',
    **_res_block('deblur.decoder1_{i}', 'DeblurNet.outBlock.{i}'),
  }


def _subgroup(ours: str, theirs: str) -> dict[str, str]:
  """The layers of a sub-group of CNLRN."""
  block = f'{theirs}.nonlocal_block'
  return {
    **{
      f'{ours}.nonlocal.attention.{name}': f'{block}.attention.{name}_embedding'
      for name in ('query', 'key', 'value')
    },
    f'{ours}.nonlocal.conv': f'{block}.attention.output_linear.0',
    f'{ours}.nonlocal.feed_forward1': f'{block}.feed_forward.conv.0',
    f'{ours}.nonlocal.feed_forward2': f'{block}.feed_forward.conv.2',
    **_attention_block(f'{ours}.rcab_{{k}}', f'{theirs}.rcab_body.{{k}}', 'body.3'),
    f'{ours}.conv': f'{theirs}.rcab_body.{{rcabs}}',
  }


def _groups(ours: str, theirs: str, count: str) -> dict[str, str]:
  """The layers of a row of groups of CNLRN, and of the convolution behind it."""
  return {
    **_subgroup(f'{ours}_{{i}}.subgroup_{{j}}', f'{theirs}.{{i}}.body.{{j}}'),
    f'{ours}_{{i}}.conv': f'{theirs}.{{i}}.body.{{subgroups}}',
    f'{ours}_conv': f'{theirs}.{{{count}}}',
  }


VERSIONS = {
  'gfn': (
    Version(
      layers={
        'deblur.conv1': 'deblurMoudle.0.conv1',
        'deblur.resblock{i}_{j}.conv1': 'deblurMoudle.0.resBlock{i}.{j}.layers.0',
        'deblur.resblock{i}_{j}.conv2': 'deblurMoudle.0.resBlock{i}.{j}.layers.2',
        'deblur.conv2': 'deblurMoudle.0.conv2.0',
        'deblur.conv3': 'deblurMoudle.0.conv3.0',
        'deblur.deconv1': 'deblurMoudle.0.deconv1.0',
        'deblur.deconv2': 'deblurMoudle.0.deconv2.0',
        'deblur.conv4': 'deblurMoudle.0.deconv2.2',
        'deblur.conv5': 'deblurMoudle.0.convout.0',
        'deblur.conv6': 'deblurMoudle.0.convout.2',
        'sr_feature.conv{i}': 'srMoudle.0.conv{i}',
        'sr_feature.resblock_{i}.conv1': 'srMoudle.0.resBlock.{i}.layers.0',
        'sr_feature.resblock_{i}.conv2': 'srMoudle.0.resBlock.{i}.layers.2',
        'gate.conv{i}': 'geteMoudle.0.conv{i}',
        'reconstruction.conv{i}': 'reconstructMoudle.0.conv{i}',
        'reconstruction.resblock_{i}.conv1': 'reconstructMoudle.0.resBlock.{i}.layers.0',
        'reconstruction.resblock_{i}.conv2': 'reconstructMoudle.0.resBlock.{i}.layers.2',
      },
      transposed=frozenset({'deblur.deconv1', 'deblur.deconv2'}),
      features='deblurMoudle.0.conv1.weight',
      blocks={
        'deblur_blocks': 'deblurMoudle.0.resBlock1.{i}.layers.0.weight',
        'sr_blocks': 'srMoudle.0.resBlock.{i}.layers.0.weight',
        'reconstruction_blocks': 'reconstructMoudle.0.resBlock.{i}.layers.0.weight',
      },
    ),
  ),
  'srresnet': (
    Version(  # twtygqyy/pytorch-SRResNet
      options={'preset': 'srresnet_gfn'},
      layers={
        'conv_first': 'conv_input',
        'resblock_{i}.conv{j}': 'residual.{i}.conv{j}',
        'resblock_{i}.norm{j}': 'residual.{i}.in{j}',
        'conv_mid': 'conv_mid',
        'norm_mid': 'bn_mid',
        'upconv1': 'upscale4x.0',
        'upconv2': 'upscale4x.3',
        'conv_last': 'conv_output',
      },
      features='conv_input.weight',
      blocks={'blocks': 'residual.{i}.conv1.weight'},
      # Old versions of PyTorch keep them for instance normalisation, which has no use for them.
      ignored=('.running_mean', '.running_var', '.num_batches_tracked'),
    ),
    Version(  # BasicSR's MSRResNet
      options={'preset': 'msrresnet'},
      layers={
        'conv_first': 'conv_first',
        'resblock_{i}.conv{j}': 'body.{i}.conv{j}',
        'upconv{i}': 'upconv{i}',
        'conv_hr': 'conv_hr',
        'conv_last': 'conv_last',
      },
      features='conv_first.weight',
      blocks={'blocks': 'body.{i}.conv1.weight'},
    ),
  ),
  'mprnet': (_MPRNET,),
  'motion_deblur_sr': (
    dataclasses.replace(
      _MPRNET,
      layers={
        **_MPRNET.layers,
        **_attention_block('fusion.stage{i}_block', 'sr_cab{i}'),
        'fusion.stage3_conv': 'before_sr_cab3',
        'fusion.conv': 'before_reconstruction.0',
        'reconstruction.resblock_{i}.conv1': 'reconstructModule.resBlock.{i}.layers.0',
        'reconstruction.resblock_{i}.conv2': 'reconstructModule.resBlock.{i}.layers.2',
        'reconstruction.conv{i}': 'reconstructModule.conv{i}',
      },
      blocks={
        **_MPRNET.blocks,
        'reconstruction_blocks': 'reconstructModule.resBlock.{i}.layers.0.weight',
      },
      widths={**_MPRNET.widths, 'sr_features': lambda width: width('before_reconstruction.0')},
      prelus={**_MPRNET.prelus, 'before_reconstruction.0': 'before_reconstruction.1'},
    ),
  ),
  'cnlrn': (
    Version(
      layers={
        **_cnlrn_deblur('deblur_stage_blocks'),
        **_groups('nlrn.body', 'SRNet.body', 'groups'),
        **_groups('nlrn.refine1', 'SRNet.upsample_body_1', 'upsample_groups'),
        **_groups('nlrn.refine2', 'SRNet.upsample_body_2', 'upsample_groups'),
        'nlrn.upconv{i}': 'SRNet.upsampler_{i}.0',
        'nlrn.conv_hr': 'SRNet.tail.0',
        'nlrn.conv_last': 'SRNet.tail.1',
      },
      transposed=frozenset({'deblur.deconv1', 'deblur.deconv2'}),
      features='SRNet.tail.0.weight',
      blocks={
        'deblur_blocks': 'DeblurNet.body.{i}.body.0.body.0.weight',
        'deblur_stage_blocks': 'DeblurNet.outBlock.{i}.body.0.body.0.weight',
        'groups': 'SRNet.body.{i}.body.0.rcab_body.0.body.0.weight',
        'upsample_groups': 'SRNet.upsample_body_1.{i}.body.0.rcab_body.0.body.0.weight',
        'subgroups': 'SRNet.body.0.body.{i}.rcab_body.0.body.0.weight',
        'rcabs': 'SRNet.body.0.body.0.rcab_body.{i}.body.0.weight',
      },
      widths={
        'deblur_features': lambda width: width('DeblurNet.inBlock.0.body.0'),
        'reduction': lambda width: (
          width('SRNet.tail.0') // max(1, width('SRNet.body.0.body.0.rcab_body.0.body.3.conv_du.0'))
        ),
      },
    ),
  ),
  'cnlrn_deblur': (
    Version(
      layers={
        **_cnlrn_deblur('stage_blocks'),
        'deblur_head': 'DeblurNet.outBlock.{stage_blocks}.body.0',
      },
      transposed=frozenset({'deblur.deconv1', 'deblur.deconv2'}),
      features='DeblurNet.inBlock.0.body.0.weight',
      blocks={
        'blocks': 'DeblurNet.body.{i}.body.0.body.0.weight',
        'stage_blocks': 'DeblurNet.outBlock.{i}.body.0.body.0.weight',
      },
    ),
  ),
}
"""The networks that have public weights for PyTorch."""

_TENSORS = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}


def convert(model_name: str, state: Mapping[str, np.ndarray], /, **options) -> dict[str, Any]:
  """Turns the authors' weights into parameters of our network.

  Args:
    model_name: a key of `VERSIONS`.
    state: their tensors by their names, of `load_torch_checkpoint`; all and no others.
    **options: of `create_model`. What `infer_options` finds in `state` need not be given.

  Returns:
    Parameters for `create_model(model_name, **infer_options(model_name, state, **options))`:
    float32 arrays in nested dictionaries.

  Raises:
    UserError: if `state` is not of this network with these options: the message tells which tensors
      are missing, unexpected, of another shape, no floating-point numbers, or not finite; or if
      those that are one parameter here differ.
  """
  options = infer_options(model_name, state, **options)
  version = _version(model_name, options)
  model, shapes = _network(model_name, options)
  paths = _torch_names(version, model, shapes)
  wanted = {name: _torch_shape(version, path, shapes[path]) for name, path in paths.items()}
  used = {name: array for name, array in state.items() if not name.endswith(version.ignored)}
  _check(used, wanted, f'{model_name} ({_describe(options)})')
  _check_copies({name: state[name] for name, path in paths.items() if path == _PRELU})
  flat = {path: _to_flax(version, path, state[name]) for name, path in paths.items()}
  return traverse_util.unflatten_dict(flat, sep='.')


def to_torch(model_name: str, params: Any, /, **options) -> dict[str, np.ndarray]:
  """Turns parameters of our network into the authors' tensors: `convert`, backwards.

  Args:
    model_name: a key of `VERSIONS`.
    params: of `create_model(model_name, **options)`.
    **options: of the network; its defaults need not be given.

  Returns:
    float32 arrays by the authors' names, for `save_torch_checkpoint` and their `load_state_dict`.
    Their networks know nothing of options that add no parameters, such as `global_skip`.

  Raises:
    UserError: if the network has no version of other authors, or `params` are not this network's.
  """
  version = _version(model_name, options)
  model, shapes = _network(model_name, options)
  flat = traverse_util.flatten_dict(params, sep='.')
  arrays = {path: np.asarray(value, np.float32) for path, value in flat.items()}
  _check(arrays, shapes, f'{model_name} ({_describe(options)})')
  paths = _torch_names(version, model, shapes)
  return {name: _from_flax(version, path, arrays[path]) for name, path in paths.items()}


def infer_options(model_name: str, state: Mapping[str, np.ndarray], /, **options) -> dict[str, Any]:
  """The options of `create_model` that follow from the authors' weights, and those given.

  Args:
    model_name: a key of `VERSIONS`.
    state: as for `convert`.
    **options: these take precedence.

  Returns:
    `options`, with the numbers of features and of blocks, and the preset where the network has any.

  Raises:
    UserError: if the network has no version of other authors, or none whose weights these are.
  """
  versions = _versions(model_name, options)
  fitting = [version for version in versions if np.ndim(state.get(version.features)) == 4]
  if len(fitting) != 1:
    firsts = ' or '.join(version.features for version in versions)
    raise UserError(f'these are no weights for {model_name}: they have no convolution {firsts}')
  [version] = fitting
  inferred = dict(version.options)
  inferred['features'] = state[version.features].shape[0]
  for option, name in version.blocks.items():
    pattern = _pattern(name)
    inferred[option] = sum(pattern.fullmatch(key) is not None for key in state)
    if inferred[option] > MAX_BLOCKS:
      raise UserError(f'there are {inferred[option]} {option}; at most {MAX_BLOCKS} are taken')

  def width(name: str) -> int:
    if np.ndim(state.get(f'{name}.weight')) != 4:
      raise UserError(f'these are no weights for {model_name}: they have no convolution {name}')
    return state[f'{name}.weight'].shape[0]

  for option, infer in version.widths.items():
    inferred[option] = infer(width)
  return inferred | options


def _versions(model_name: str, options: Mapping[str, Any]) -> list[Version]:
  """Those that `options` do not rule out."""
  if model_name not in VERSIONS:
    raise UserError(
      f'no PyTorch weights are known for {model_name!r}, but for {", ".join(VERSIONS)}'
    )
  preset = options.get('preset')
  found = [v for v in VERSIONS[model_name] if preset is None or v.options.get('preset') == preset]
  if not found:
    raise UserError(f'no PyTorch weights are known for {model_name}, preset {preset!r}')
  return found


def _version(model_name: str, options: Mapping[str, Any]) -> Version:
  return _versions(model_name, options)[0]


def _network(
  model_name: str, options: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, tuple[int, ...]]]:
  """The network, and the shapes of its parameters by their names."""
  network = f'{model_name} ({_describe(options)})'
  numbers = [value for value in options.values() if isinstance(value, int)]
  if max(numbers, default=0) > MAX_OPTION:
    raise UserError(f'{network}: options are at most {MAX_OPTION}')
  try:
    model = create_model(model_name, **options)
    shapes = param_shapes(model)
  except UserError:
    raise
  except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
    reason = str(error).partition('\n')[0]
    raise UserError(f'{network} is no network: {reason}') from error
  flat = traverse_util.flatten_dict(shapes, sep='.')
  return model, {path: leaf.shape for path, leaf in flat.items()}


def _describe(options: Mapping[str, Any]) -> str:
  return (
    ', '.join(f'{key}={show(str(value))}' for key, value in options.items()) or 'default options'
  )


def _pattern(name: str) -> re.Pattern[str]:
  """Of a name with `{i}`, `{j}` and `{k}` for numbers."""
  return re.compile(re.sub(r'\\{(\w)\\}', r'(?P<\1>[0-9]+)', re.escape(name)))


def _torch_names(version: Version, model: nn.Module, shapes: Mapping[str, Any]) -> dict[str, str]:
  """Our names by the authors', of which more than one can stand for a parameter of ours."""
  shared = {_PRELU} if version.prelus else set()
  paths = {_torch_name(version, model, path): path for path in shapes if path not in shared}
  for name in list(paths):
    for layer, prelu in version.prelus.items():
      if name.endswith(f'{layer}.weight'):
        paths[f'{name.removesuffix(f"{layer}.weight")}{prelu}.weight'] = _PRELU
  return paths


def _torch_name(version: Version, model: nn.Module, path: str) -> str:
  """`'deblur.resblock1_0.conv1.kernel'` -> `'deblurMoudle.0.resBlock1.0.layers.0.weight'`."""
  layer, _, tensor = path.rpartition('.')
  for ours, theirs in version.layers.items():
    if match := _pattern(ours).fullmatch(layer):
      numbers = match.groupdict()
      following = {f'next_{key}': int(number) + 1 for key, number in numbers.items()}
      return f'{theirs.format(**vars(model) | numbers | following)}.{_TENSORS[tensor]}'
  raise UserError(f"the authors' network has nothing like {path}")


def _axes(version: Version, path: str) -> tuple[int, ...]:
  """The axes of a kernel of ours, `[h, w, in, out]`, in the authors' order."""
  return (2, 3, 0, 1) if path.rpartition('.')[0] in version.transposed else (3, 2, 0, 1)


def _torch_shape(version: Version, path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  if len(shape) != 4:
    return shape or (1,)  # PyTorch has a PReLU's slope as a vector
  return tuple(shape[axis] for axis in _axes(version, path))


def _to_flax(version: Version, path: str, array: np.ndarray) -> np.ndarray:
  array = np.array(array, np.float32)
  if array.ndim != 4:
    return array.reshape(()) if path == _PRELU else array
  array = array.transpose(np.argsort(_axes(version, path)))
  return np.ascontiguousarray(_turn(version, path, array))


def _from_flax(version: Version, path: str, array: np.ndarray) -> np.ndarray:
  if array.ndim != 4:
    return np.array(array, ndmin=1)
  return np.ascontiguousarray(_turn(version, path, array).transpose(_axes(version, path)))


def _turn(version: Version, path: str, kernel: np.ndarray) -> np.ndarray:
  """By 180 degrees, if it is a transposed convolution's."""
  return kernel[::-1, ::-1] if path.rpartition('.')[0] in version.transposed else kernel


def _check(
  arrays: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]], network: str
) -> None:
  """Refuses tensors other than `wanted`: of each kind of problem the first few are named."""
  common = [name for name in wanted if name in arrays]
  problems = {
    'missing': [name for name in wanted if name not in arrays],
    'unexpected': [name for name in arrays if name not in wanted],
    'of another shape': [
      f'{name} {list(arrays[name].shape)} for {list(wanted[name])}'
      for name in common
      if arrays[name].shape != wanted[name]
    ],
    'no floating-point numbers': [name for name in common if arrays[name].dtype.kind != 'f'],
    'not finite as float32': [name for name in common if not _is_finite(arrays[name])],
  }
  texts = [
    f'{len(names)} {problem} ({", ".join(map(show, names[:3]))}{", ..." if len(names) > 3 else ""})'
    for problem, names in problems.items()
    if names
  ]
  if texts:
    raise UserError(f'these are no weights for {network}: {"; ".join(texts)}')


def _check_copies(copies: Mapping[str, np.ndarray]) -> None:
  """Refuses different values for one parameter."""
  values = {name: np.float32(array).item() for name, array in copies.items()}
  for name, value in values.items():
    first = next(iter(values))
    if value != values[first]:
      raise UserError(
        'all PReLUs of this network share one slope, but '
        f'{first} is {values[first]:.9g} and {name} is {value:.9g}'
      )


def _is_finite(array: np.ndarray) -> bool:
  with np.errstate(over='ignore'):
    return bool(np.isfinite(array.astype(np.float32)).all())
