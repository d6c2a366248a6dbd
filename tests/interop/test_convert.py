import lzma
import pathlib

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import traverse_util

from gfn_jax.errors import UserError
from gfn_jax.interop import load_torch_checkpoint
from gfn_jax.interop.conversion import convert, fill_in, infer_options, to_torch
from gfn_jax.interop.torch_names import VERSIONS
from gfn_jax.models import create_model, variable_shapes
from tests import small
from tests.small import CNLRN, MOTION_DEBLUR_SR, MPRNET

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures'
SMALL_GFN = {key: value for key, value in small.MODEL.items() if key != 'name'}
SMALL_CNLRN = CNLRN | {'deblur_features': CNLRN['features']}  # as the authors have it
NETWORKS = {
  'gfn': ('gfn', SMALL_GFN),
  'gfn, other numbers': (
    'gfn',
    {'features': 4, 'deblur_blocks': 2, 'sr_blocks': 1, 'reconstruction_blocks': 3},
  ),
  'srresnet': ('srresnet', {'preset': 'srresnet_gfn', 'features': 4, 'blocks': 2}),
  'msrresnet': ('srresnet', {'preset': 'msrresnet', 'features': 4, 'blocks': 3}),
  'mprnet': ('mprnet', MPRNET),
  'motion_deblur_sr': ('motion_deblur_sr', MOTION_DEBLUR_SR | {'orsnet_blocks': 2}),
  'cnlrn': ('cnlrn', SMALL_CNLRN | {'groups': 3, 'subgroups': 2, 'upsample_groups': 2}),
  'cnlrn, other numbers': (
    'cnlrn',
    SMALL_CNLRN | {'deblur_blocks': 3, 'deblur_stage_blocks': 2, 'rcabs': 2, 'reduction': 2},
  ),
  'cnlrn_deblur': ('cnlrn_deblur', {'features': 4, 'blocks': 3, 'stage_blocks': 2}),
  'rrdbnet': ('rrdbnet', {'features': 4, 'growth': 3, 'blocks': 2}),
  'srfbn': ('srfbn', {'features': 4, 'groups': 3, 'scale': 4}),
  'srfbn, 3x': ('srfbn', {'features': 4, 'groups': 1, 'scale': 3}),
  'edsr': ('edsr', small.EDSR | {'scale': 4}),
  'edsr, 3x': ('edsr', {'features': 6, 'blocks': 1, 'scale': 3}),
  'edsr_baseline, 2x': ('edsr_baseline', small.EDSR | {'scale': 2}),
  'rcan': ('rcan', small.RCAN | {'scale': 4}),
  'rcan, trained mean shift': (
    'rcan',
    {'features': 6, 'groups': 1, 'blocks': 3, 'reduction': 2, 'scale': 3}
    | {'trained_mean_shift': True},
  ),
  'han': ('han', small.RCAN | {'scale': 4}),
  'han, other numbers': (
    'han',
    {'features': 6, 'groups': 3, 'blocks': 1, 'reduction': 2, 'scale': 2}
    | {'trained_mean_shift': True},
  ),
  'srn': ('srn', small.SRN | {'lstm': False, 'gray': False}),
  'srn, other options': ('srn', {'features': 6, 'blocks': 4, 'lstm': True, 'gray': True}),
  'deepdeblur': ('deepdeblur', {'features': 4, 'blocks': 3}),
  'dmphn': ('dmphn', {'features': 2, 'levels': 4}),
  'dmphn, 1-2-4': ('dmphn', {'features': 3, 'levels': 3}),
  'deblurgan': ('deblurgan', {'features': 4, 'blocks': 2}),
  'deblurgan, other numbers': ('deblurgan', {'features': 3, 'blocks': 11}),
}


def random_params(model_name, options):
  rng = np.random.default_rng(0)
  shapes = variable_shapes(create_model(model_name, **options))['params']
  return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype), shapes)


@pytest.fixture
def state():
  """The authors' tensors of a small GFN."""
  return to_torch('gfn', {'params': random_params('gfn', SMALL_GFN)}, **SMALL_GFN)


def flatten(params):
  return traverse_util.flatten_dict(params, sep='.')


def assert_same(a, b):
  assert a.keys() == b.keys()
  for key in a:
    np.testing.assert_array_equal(a[key], b[key], strict=True)


@pytest.mark.parametrize('network', NETWORKS)
def test_there_and_back(network):
  model_name, options = NETWORKS[network]
  params = random_params(model_name, options)
  state = to_torch(model_name, {'params': params}, **options)
  assert infer_options(model_name, state) == options
  assert_same(flatten(convert(model_name, state)['params']), flatten(params))
  assert_same(
    to_torch(model_name, {'params': convert(model_name, state)['params']}, **options), state
  )
  assert all(array.flags.c_contiguous for array in state.values())


def test_the_authors_whole_model(tmp_path):
  path = tmp_path / 'GFN.pkl'
  with lzma.open(FIXTURES / 'gfn_whole_model_legacy.pkl.xz') as file:
    path.write_bytes(file.read())
  state = load_torch_checkpoint(path)
  params = convert('gfn', state)['params']
  assert_same(to_torch('gfn', {'params': params}), state)
  assert list(state)[:2] == ['deblurMoudle.0.conv1.weight', 'deblurMoudle.0.conv1.bias']
  flat = flatten(params)
  shapes = flatten(variable_shapes(create_model('gfn'))['params'])
  assert {key: array.shape for key, array in flat.items()} == {
    key: leaf.shape for key, leaf in shapes.items()
  }


def test_layouts(state):
  params = flatten(convert('gfn', state)['params'])
  theirs = state['geteMoudle.0.conv1.weight']  # [out, in, h, w]
  np.testing.assert_array_equal(params['gate.conv1.kernel'][0, 2, 5, 7], theirs[7, 5, 0, 2])
  theirs = state['deblurMoudle.0.deconv1.0.weight']  # [in, out, h, w], turned
  np.testing.assert_array_equal(params['deblur.deconv1.kernel'][0, 1, 5, 7], theirs[5, 7, 3, 2])
  theirs = state['deblurMoudle.0.resBlock3.0.layers.2.weight']
  ours = params['deblur.resblock3_0.conv2.kernel']
  np.testing.assert_array_equal(ours[1, 0, 2, 3], theirs[3, 2, 1, 0])
  ours = params['deblur.conv6.bias']
  np.testing.assert_array_equal(ours, state['deblurMoudle.0.convout.2.bias'])


def test_a_transposed_convolution_does_what_pytorch_defines(state):
  """Each input pixel adds its 4x4 kernel at twice its place; then a border of 1 is cut."""
  rng = np.random.default_rng(1)
  weight = rng.standard_normal((32, 16, 4, 4)).astype(np.float32)
  x = rng.standard_normal((1, 5, 6, 32)).astype(np.float32)
  expected = np.zeros((2 * 5 + 2, 2 * 6 + 2, 16))
  for i, j in np.ndindex(5, 6):
    added = np.einsum('i,iohw->hwo', x[0, i, j], weight)
    expected[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += added
  params = convert('gfn', state | {'deblurMoudle.0.deconv1.0.weight': weight})['params']
  layer = nn.ConvTranspose(16, (4, 4), (2, 2), padding='SAME', use_bias=False)
  actual = layer.apply({'params': {'kernel': params['deblur']['deconv1']['kernel']}}, x)
  np.testing.assert_allclose(actual[0], expected[1:-1, 1:-1], atol=1e-4)


# The keys of twtygqyy/pytorch-SRResNet and of BasicSR, with 64 features and 16 blocks.
TWTYGQYY = {
  'conv_input.weight': (64, 3, 9, 9),
  **{f'residual.{i}.conv{j}.weight': (64, 64, 3, 3) for i in range(16) for j in (1, 2)},
  **{
    f'residual.{i}.in{j}.{k}': (64,) for i in range(16) for j in (1, 2) for k in ('weight', 'bias')
  },
  'conv_mid.weight': (64, 64, 3, 3),
  'bn_mid.weight': (64,),
  'bn_mid.bias': (64,),
  'upscale4x.0.weight': (256, 64, 3, 3),
  'upscale4x.3.weight': (256, 64, 3, 3),
  'conv_output.weight': (3, 64, 9, 9),
}
BASICSR = {
  'conv_first': (64, 3, 3, 3),
  **{f'body.{i}.conv{j}': (64, 64, 3, 3) for i in range(16) for j in (1, 2)},
  'upconv1': (256, 64, 3, 3),
  'upconv2': (256, 64, 3, 3),
  'conv_hr': (64, 64, 3, 3),
  'conv_last': (3, 64, 3, 3),
}
BASICSR = {
  f'{layer}.{kind}': shape if kind == 'weight' else shape[:1]
  for layer, shape in BASICSR.items()
  for kind in ('weight', 'bias')
}


@pytest.mark.parametrize(
  ('preset', 'shapes', 'count', 'parameters'),
  [('srresnet_gfn', TWTYGQYY, 103, 1_546_752), ('msrresnet', BASICSR, 74, 1_517_571)],
)
def test_the_keys_of_srresnet(preset, shapes, count, parameters):
  assert len(shapes) == count
  rng = np.random.default_rng(0)
  state = {key: rng.standard_normal(shape, np.float32) for key, shape in shapes.items()}
  assert infer_options('srresnet', state) == {'preset': preset, 'features': 64, 'blocks': 16}
  params = flatten(convert('srresnet', state)['params'])
  assert sum(array.size for array in params.values()) == parameters
  assert_same(
    to_torch('srresnet', {'params': convert('srresnet', state)['params']}, preset=preset), state
  )
  assert_same(flatten(convert('srresnet', state, preset=preset)['params']), params)
  if preset == 'srresnet_gfn':
    theirs = state['residual.11.in2.weight']
    np.testing.assert_array_equal(params['resblock_11.norm2.scale'], theirs)
    old = state | {'bn_mid.running_mean': np.zeros(64), 'bn_mid.num_batches_tracked': np.int64(0)}
    assert_same(flatten(convert('srresnet', old)['params']), params)


def attention_blocks(*names):
  shapes = {}
  for name, width in names:
    shapes[f'{name}.body.0.weight'] = shapes[f'{name}.body.2.weight'] = (width, width, 3, 3)
    shapes[f'{name}.body.1.weight'] = (1,)
    shapes[f'{name}.CA.conv_du.0.weight'] = (width // 4, width, 1, 1)
    shapes[f'{name}.CA.conv_du.2.weight'] = (width, width // 4, 1, 1)
  return shapes


WIDTHS = {1: 96, 2: 144, 3: 192}
# The keys of MPRNet's deblurring checkpoint.
ZAMIR = {
  **attention_blocks(*[(f'shallow_feat{i}.1', 96) for i in WIDTHS]),
  **attention_blocks(
    *[
      (f'stage{stage}_{part}.{part}_level{i}.{j}', width)
      for stage in (1, 2)
      for part in ('encoder', 'decoder')
      for i, width in WIDTHS.items()
      for j in (0, 1)
    ],
    *[(f'stage{stage}_decoder.skip_attn{i}', WIDTHS[i]) for stage in (1, 2) for i in (1, 2)],
    *[(f'stage3_orsnet.orb{i}.body.{j}', 128) for i in WIDTHS for j in range(8)],
  ),
  **{f'shallow_feat{i}.0.weight': (96, 3, 3, 3) for i in WIDTHS},
  **{f'stage3_orsnet.orb{i}.body.8.weight': (128, 128, 3, 3) for i in WIDTHS},
  'concat12.weight': (96, 192, 3, 3),
  'concat23.weight': (128, 192, 3, 3),
  'tail.weight': (3, 128, 3, 3),
  **{
    f'{key}.weight': (*channels, 1, 1)
    for stage in (1, 2)
    for key, channels in {
      f'stage{stage}_encoder.down12.down.1': (144, 96),
      f'stage{stage}_encoder.down23.down.1': (192, 144),
      f'stage{stage}_decoder.up21.up.1': (96, 144),
      f'stage{stage}_decoder.up32.up.1': (144, 192),
      f'sam{stage}{stage + 1}.conv1': (96, 96),
      f'sam{stage}{stage + 1}.conv2': (3, 96),
      f'sam{stage}{stage + 1}.conv3': (96, 3),
    }.items()
  },
  **{
    f'{key}.weight': (*channels, 1, 1)
    for kind in ('enc', 'dec')
    for key, channels in {
      **{f'stage2_encoder.csff_{kind}{i}': (width, width) for i, width in WIDTHS.items()},
      **{f'stage3_orsnet.conv_{kind}{i}': (128, 96) for i in WIDTHS},
      f'stage3_orsnet.up_{kind}1.up.1': (96, 144),
      f'stage3_orsnet.up_{kind}2.0.up.1': (144, 192),
      f'stage3_orsnet.up_{kind}2.1.up.1': (96, 144),
    }.items()
  },
}
SHOYAN = {
  **ZAMIR,
  **attention_blocks(*[(f'sr_cab{i}', 96) for i in WIDTHS]),
  'before_sr_cab3.weight': (96, 128, 3, 3),
  'before_reconstruction.0.weight': (64, 288, 3, 3),
  'before_reconstruction.1.weight': (1,),
  **{
    f'reconstructModule.{key}': shape
    for layer, channels in {
      **{f'resBlock.{i}.layers.{j}': (64, 64) for i in range(8) for j in (0, 2)},
      'conv1': (256, 64),
      'conv2': (256, 64),
      'conv3': (64, 64),
      'conv4': (3, 64),
    }.items()
    for key, shape in {
      f'{layer}.weight': (*channels, 3, 3),
      f'{layer}.bias': channels[:1],
    }.items()
  },
}


@pytest.mark.parametrize(
  ('model_name', 'shapes', 'count', 'parameters'),
  [('mprnet', ZAMIR, 316, 20_127_073), ('motion_deblur_sr', SHOYAN, 374, 21_839_972)],
)
def test_the_keys_of_mprnet_and_of_shoyan_et_al(model_name, shapes, count, parameters):
  assert len(shapes) == count
  rng = np.random.default_rng(0)
  state = {key: rng.random(shape, np.float32) for key, shape in shapes.items()}
  slopes = [key for key, shape in shapes.items() if shape == (1,)]
  state.update({key: np.full(1, 0.2, np.float32) for key in slopes})
  assert len(slopes) == {'mprnet': 55, 'motion_deblur_sr': 59}[model_name]
  options = {
    'features': 96,
    'unet_blocks': 2,
    'orsnet_blocks': 8,
    'unet_step': 48,
    'orsnet_step': 32,
    'reduction': 4,
  }
  if model_name == 'motion_deblur_sr':
    options |= {'reconstruction_blocks': 8, 'sr_features': 64}
  assert infer_options(model_name, state) == options
  params = convert(model_name, state)['params']
  assert sum(array.size for array in flatten(params).values()) == parameters
  assert params['prelu']['negative_slope'].shape == ()
  assert_same(to_torch(model_name, {'params': params}), state)
  theirs = state['stage2_encoder.encoder_level3.1.CA.conv_du.2.weight']  # [out, in, h, w]
  ours = params['encoder2']['level3_1']['attention']['conv2']['kernel']
  np.testing.assert_array_equal(ours[0, 0], theirs[:, :, 0, 0].T)


def test_the_keys_of_cnlrns_deblurring_network():
  """The other keys are checked by the results that the whole network has with them."""
  params = random_params('cnlrn_deblur', {'features': 4, 'blocks': 2, 'stage_blocks': 2})
  state = to_torch('cnlrn_deblur', {'params': params}, features=4, blocks=2, stage_blocks=2)
  res_block = lambda name: [f'{name}.body.{i}.body.0' for i in (0, 2)]
  layers = [
    'inBlock.0.body.0',
    *res_block('inBlock.1'),
    *res_block('inBlock.2'),
    'encoder_first.0.body.0',
    *res_block('encoder_first.1'),
    *res_block('encoder_first.2'),
    'encoder_second.body.0',
    *res_block('body.0'),
    *res_block('body.1'),
    'decoder_second.body.0',
    *res_block('decoder_first.0'),
    *res_block('decoder_first.1'),
    'decoder_first.2.body.0',
    *res_block('outBlock.0'),
    *res_block('outBlock.1'),
    'outBlock.2.body.0',
  ]
  keys = {f'DeblurNet.{layer}.{kind}' for layer in layers for kind in ('weight', 'bias')}
  assert state.keys() == keys
  assert state['DeblurNet.decoder_second.body.0.weight'].shape == (16, 8, 3, 3)
  assert state['DeblurNet.decoder_first.2.body.0.weight'].shape == (8, 4, 3, 3)
  assert state['DeblurNet.outBlock.2.body.0.weight'].shape == (3, 4, 5, 5)
  with pytest.raises(UserError, match=r'for cnlrn: missing convolution SRNet.tail.0.weight'):
    convert('cnlrn', state)


def test_numbers_in_the_names_of_deblurgan():
  """They depend on the number of blocks: the layers are numbered in one sequence."""
  params = random_params('deblurgan', {'features': 4, 'blocks': 2})
  state = to_torch('deblurgan', {'params': params}, features=4, blocks=2)
  layers = [1, 4, 7, '10.conv_block.1', '10.conv_block.6', '11.conv_block.1', '11.conv_block.6']
  layers += [12, 15, 19]
  kinds = ('weight', 'bias')
  assert state.keys() == {f'model.{layer}.{kind}' for layer in layers for kind in kinds}
  assert state['model.12.weight'].shape == (16, 8, 3, 3)
  assert state['model.19.weight'].shape == (3, 4, 7, 7)


def test_running_statistics_are_ignored_with_a_message(capsys):
  options = {'features': 4, 'blocks': 1}
  params = random_params('deblurgan', options)
  state = to_torch('deblurgan', {'params': params}, **options)
  assert_same(flatten(convert('deblurgan', state)['params']), flatten(params))
  assert capsys.readouterr().err == ''
  statistics = {
    f'model.10.conv_block.{i}.running_{kind}': np.ones(16)
    for i in (2, 7)
    for kind in ('mean', 'var')
  }
  assert_same(flatten(convert('deblurgan', state | statistics)['params']), flatten(params))
  [line] = capsys.readouterr().err.splitlines()
  first = 'model.10.conv_block.2.running_mean'
  assert line == f'deblurgan has no counterpart of 4 tensors such as {first}: ignored'


def test_slopes_that_differ():
  params = random_params('motion_deblur_sr', MOTION_DEBLUR_SR)
  state = to_torch('motion_deblur_sr', {'params': params}, **MOTION_DEBLUR_SR)
  state['sr_cab2.body.1.weight'] = np.array([0.5], np.float32)
  first = next(key for key, array in state.items() if array.shape == (1,))
  slope = params['prelu']['negative_slope'].item()
  with pytest.raises(UserError) as error:
    convert('motion_deblur_sr', state)
  assert str(error.value) == (
    'all PReLUs of this network share one slope, but '
    f'{first} is {slope:.9g} and sr_cab2.body.1.weight is 0.5'
  )


@pytest.mark.full
def test_every_layer_of_every_table_is_used(monkeypatch):
  for model_name, versions in list(VERSIONS.items()):
    for version in versions:
      monkeypatch.setitem(VERSIONS, model_name, (version,))
      options = {**version.options, 'features': 16}
      if model_name == 'cnlrn':
        options |= {'deblur_features': 16, 'deblur_blocks': 2, 'groups': 2, 'rcabs': 2}
      elif model_name == 'srn':
        options |= {'lstm': True}
      model = create_model(model_name, **options)
      shapes = variable_shapes(model)['params']
      params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
      used = to_torch(model_name, {'params': params}, **options)
      for theirs in version.layers.values():
        j = 2 if model_name == 'srn' else 1  # its first block has the number 2
        name = fill_in(theirs, vars(model) | {'i': 1, 'j': j, 'k': 1})
        assert name in {tensor.rpartition('.')[0] for tensor in used}, name


def test_other_types_become_float32(state):
  half = {name: array.astype(np.float16) for name, array in state.items()}
  params = flatten(convert('gfn', half)['params'])
  assert {array.dtype for array in params.values()} == {np.dtype('float32')}
  wide = {name: array.astype(np.float64) for name, array in state.items()}
  assert_same(flatten(convert('gfn', wide)['params']), flatten(convert('gfn', state)['params']))


def test_parameters_do_not_share_memory_with_the_state(state):
  params = flatten(convert('gfn', state)['params'])
  for array in params.values():
    assert not any(np.shares_memory(array, theirs) for theirs in state.values())


def test_all_that_does_not_fit_is_told_at_once(state):
  del state['geteMoudle.0.conv1.bias']
  for i in range(5):
    state[f'extra.{i}\n'] = np.zeros(1, np.float32)
  state['srMoudle.0.conv1.weight'] = np.zeros((8, 3, 5, 5), np.float32)
  state['srMoudle.0.conv2.bias'] = np.zeros(8, np.int64)
  state['reconstructMoudle.0.conv4.bias'] = np.array([0, np.nan, 0], np.float32)
  state['deblurMoudle.0.convout.2.bias'] = np.array([0, 1e300, 0])
  with pytest.raises(UserError) as error:
    convert('gfn', state)
  assert str(error.value) == (
    'these are not weights for gfn (features=8, deblur_blocks=1, sr_blocks=1, '
    'reconstruction_blocks=1): 1 missing (geteMoudle.0.conv1.bias); '
    '5 unexpected (extra.0\\n, extra.1\\n, extra.2\\n, ...); '
    '1 of the wrong shape (srMoudle.0.conv1.weight [8, 3, 5, 5], expected [8, 3, 7, 7]); '
    '1 not floating-point (srMoudle.0.conv2.bias); '
    '2 not finite (deblurMoudle.0.convout.2.bias, reconstructMoudle.0.conv4.bias)'
  )


@pytest.mark.parametrize(
  ('model_name', 'changes', 'options', 'message'),
  [
    ('gfn', {}, {'features': 9}, '50 of the wrong shape'),
    ('gfn', {}, {'deblur_blocks': 2}, '12 missing'),
    ('gfn', {}, {'gated': False}, '4 unexpected'),
    ('gfn', {}, {'feature': 9}, "model 'gfn' has no option 'feature'"),
    ('gfn', {}, {'preset': 'x'}, "model 'gfn' has no preset 'x'"),
    (
      'sr_branch',
      {},
      {},
      "no PyTorch weights are known for 'sr_branch'; choose one of gfn, srresnet, mprnet, ",
    ),
    ('srresnet', {}, {}, 'missing convolution conv_input.weight or conv_first.weight'),
    ('srresnet', {}, {'preset': 'msrresnet'}, 'missing convolution conv_first.weight'),
    ('srresnet', {}, {'preset': 'srresnet_paper'}, "known for srresnet, preset 'srresnet_paper'"),
    (
      'gfn',
      {'deblurMoudle.0.conv1.weight': np.zeros(8)},
      {},
      'missing convolution deblurMoudle.0.conv1',
    ),
    (
      'gfn',
      {'deblurMoudle.0.conv1.weight': np.zeros((2**20, 0, 7, 7))},
      {},
      'option values must be at most 1024',
    ),
    (
      'gfn',
      {f'srMoudle.0.resBlock.{i}.layers.0.weight': np.zeros(1) for i in range(3000)},
      {},
      '3000 sr_blocks: at most 64 are supported',
    ),
  ],
)
def test_other_networks_and_options(state, model_name, changes, options, message):
  with pytest.raises(UserError) as error:
    convert(model_name, state | changes, **options)
  assert message in str(error.value)


@pytest.mark.parametrize(
  ('network', 'removed', 'message'),
  [
    ('deepdeblur', 'conv_end_models.2.uppath.0.bias', 'deepdeblur .features=4, blocks=3.*: 1 miss'),
    (
      'deepdeblur',
      'body_models.0.body.0.weight',
      'missing convolution body_models.0.body.0.weight',
    ),
    ('dmphn', 'decoder_lv4.layer16.weight', r'levels=4\): 1 missing \(decoder_lv4.layer16.weight'),
    ('dmphn', 'encoder_lv4.layer1.weight', r'levels=3\): 59 unexpected'),
    ('deblurgan', 'model.19.bias', r'blocks=2\): 1 missing \(model.19.bias\)'),
  ],
)
def test_a_tensor_of_a_deblurring_network_is_missing(network, removed, message):
  model_name, options = NETWORKS[network]
  state = to_torch(model_name, {'params': random_params(model_name, options)}, **options)
  del state[removed]
  with pytest.raises(UserError, match=message):
    convert(model_name, state)


def test_parameters_of_another_network():
  params = random_params('gfn', SMALL_GFN)
  with pytest.raises(UserError, match=r'not weights for gfn \(default options\): 116 missing'):
    to_torch('gfn', {'params': params})
  with pytest.raises(UserError, match="known for 'sr_branch'"):
    to_torch('sr_branch', {'params': params})
  with pytest.raises(UserError, match='has no counterpart of conv_first'):
    to_torch('cnlrn', {'params': random_params('cnlrn', CNLRN)}, **CNLRN)
  options = {'features': 4, 'blocks': 1, 'norm': 'batch', 'act': 'prelu'}
  with pytest.raises(UserError, match='has no counterpart of prelu_first.negative_slope$'):
    to_torch('srresnet', {'params': random_params('srresnet', options)}, **options)
