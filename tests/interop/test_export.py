"""Exported files, read and computed as their users do; `make test-onnx` runs the tests of ONNX."""

import functools
import json
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.export
import numpy as np
import pytest
import skimage.data

from gfn_jax.cli import export as cli_export
from gfn_jax.cli import import_torch as cli_import
from gfn_jax.errors import UserError
from gfn_jax.interop import (
  convert,
  export,
  load_torch_checkpoint,
  onnx_file,
  save_torch_checkpoint,
)
from gfn_jax.layers.blocks import Enlarge
from gfn_jax.models import create_model, param_count, variable_shapes
from gfn_jax.weights import pretrained
from gfn_jax.weights.tensors import flatten_variables
from tests import small

SKIP = small.MODEL | {'global_skip': 'deblurred'}
SR_BRANCH = {'name': 'sr_branch', 'features': 4, 'sr_blocks': 1, 'reconstruction_blocks': 1}
RCAN = small.RCAN | {'groups': 1, 'blocks': 1}
NETWORKS = {
  'gated': small.MODEL,
  'ungated, with a skip': SKIP | {'gated': False},
  'SRResNet, normalised by batch': {
    'name': 'srresnet',
    'preset': 'srresnet_paper',
    'features': 4,
    'blocks': 1,
  },
  'RRDBNet': {'name': 'rrdbnet', **small.RRDBNET, 'global_skip': 'input'},
  'SRFBN': {'name': 'srfbn', **small.SRFBN},
  'EDSR': {'name': 'edsr', **small.EDSR},
  'RCAN': {'name': 'rcan', **RCAN, 'trained_mean_shift': True},
  'HAN': {'name': 'han', **RCAN, 'global_skip': 'input'},
  'ED-DSRN-like': {'name': 'ed_dsrn_like', **small.ED_DSRN_LIKE, 'global_skip': 'input'},
  'SCGAN-like': {'name': 'scgan_like', 'features': 4, 'blocks': 1},
}
CARD = {
  'data': {'licence': 'for tests\nonly'},
  'scores': {'psnr': 26.5},
}


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
  """What the command compares is smaller: compiling and computing take their time."""
  monkeypatch.setattr(export, 'STABLEHLO_SIZES', ((1, 8, 12), (2, 12, 8)))
  monkeypatch.setattr(export, 'ONNX_SIZES', ((1, 8, 12), (2, 12, 8)))


MOTION_DEBLUR_SR = {'name': 'motion_deblur_sr', **small.MOTION_DEBLUR_SR}
SRN = {'name': 'srn', **small.SRN, 'lstm': True, 'gray': True, 'global_skip': 'input'}
DEEPDEBLUR = {'name': 'deepdeblur', 'features': 4, 'blocks': 1}
DMPHN = {'name': 'dmphn', 'features': 2}
DEBLURGAN = {'name': 'deblurgan', 'features': 4, 'blocks': 1}
ABLATION = {**small.MODEL, 'name': 'gfn_ablation', 'variant': 'deblur_first'}
EDSR = {'name': 'edsr', **small.EDSR}


def save(folder, model_config, card=CARD):
  """Weights of random numbers near the initial ones; the path, the network and the parameters."""
  shapes = variable_shapes(create_model(**model_config))
  rng = np.random.default_rng(0)

  def draw(leaf):
    if len(leaf.shape) < 4:
      return rng.uniform(0.1, 0.2, leaf.shape).astype(np.float32)
    return (np.prod(leaf.shape[:-1]) ** -0.5 * rng.standard_normal(leaf.shape)).astype(np.float32)

  path = folder / 'weights.safetensors'
  pretrained.save_weights(path, jax.tree.map(draw, shapes), model_config, card)
  return path, *pretrained.load_pretrained(path)


def images(*size):
  """`[B, h, w, 3]` float32 in [0, 1]: parts of a photograph."""
  count, height, width = size
  photo = skimage.data.coffee()[100 : 100 + height].astype(np.float32) / 255
  return np.stack([photo[:, 60 * i : 60 * i + width] for i in range(count)])


@functools.partial(jax.jit, static_argnums=0)
def apply(model, variables, lr_blur):
  return model.apply(variables, lr_blur)


def assert_same_images(got, model, variables, lr_blur):
  """`got` is a dictionary of what the network gives."""
  expected = apply(model, variables, lr_blur)
  count, height, width, _ = lr_blur.shape
  assert list(got) == (['hr'] if expected.lr is None else ['hr', 'lr'])
  assert got['hr'].shape == (count, 4 * height, 4 * width, 3)
  for name, image in got.items():
    assert image.dtype == np.float32
    assert np.std(image) > 0.05
    np.testing.assert_allclose(image, getattr(expected, name), atol=1e-5)


LONG = (
  'ungated, with a skip',
  'RRDBNet',
  'SRFBN',
  'EDSR',
  'RCAN',
  'HAN',
  'ED-DSRN-like',
  'SCGAN-like',
)


@pytest.mark.parametrize(
  'network',
  [pytest.param(n, marks=pytest.mark.full if n in LONG else ()) for n in NETWORKS],
)
def test_stablehlo(network, tmp_path, capsys):
  weights, model, variables = save(tmp_path, NETWORKS[network])
  path = tmp_path / 'network.stablehlo'
  cli_export.main([str(weights), str(path)])
  exported = jax.export.deserialize(bytearray(path.read_bytes()))
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  assert not exported.has_vjp()
  for size in ((3, 16, 20), (1, 20, 16)):
    assert_same_images(exported.call(images(*size)), model, variables, images(*size))
  if model.stride > (1, 1):
    with pytest.raises(ValueError, match='Division had remainder'):
      exported.call(images(1, 8, 13))
  else:
    assert_same_images(exported.call(images(1, 7, 13)), model, variables, images(1, 7, 13))
  *parity, summary, licence = capsys.readouterr().out.splitlines()
  assert [line.split(':')[0] for line in parity if line.startswith('hr')] == [
    'hr of 1x8x12',
    'hr of 2x12x8',
  ]
  assert len(parity) == 2 * len(exported.out_avals)
  assert 'features=' in summary
  assert licence == 'licence of the weights: for tests only'
  # Beside the weights: the program, and the paths of the source files, whose length varies.
  assert path.stat().st_size < 4 * param_count(variables) + 80_000


def test_other_sizes_are_padded_and_cropped_as_the_network_does_it(tmp_path):
  _, model, variables = save(tmp_path, SKIP)
  path = tmp_path / 'network.stablehlo'
  export.write_stablehlo(model, variables, path)
  restore = export.load_stablehlo(path)
  lr_blur = images(1, 9, 14)
  padded = np.pad(lr_blur, ((0, 0), (0, -9 % 4), (0, -14 % 4), (0, 0)), mode='reflect')
  hr = restore(padded)['hr'][:, : 4 * 9, : 4 * 14]
  expected = apply(model, variables, lr_blur).hr
  np.testing.assert_allclose(hr, expected, atol=1e-5)


def test_a_network_of_bfloat16_is_exported_in_float32(tmp_path):
  weights, model, variables = save(tmp_path, SR_BRANCH | {'dtype': 'bfloat16'})
  path = tmp_path / 'network.stablehlo'
  export.export_weights(weights, path)
  lr_blur = images(1, 8, 12)
  got = export.load_stablehlo(path)(lr_blur)
  assert_same_images(got, model.clone(dtype='float32'), variables, lr_blur)
  assert np.abs(got['hr'] - apply(model, variables, lr_blur).hr).max() > 1e-4


@pytest.mark.parametrize('network', ['gated', 'ungated, with a skip'])
def test_torch(network, tmp_path, capsys):
  weights, _, variables = save(tmp_path, NETWORKS[network])
  path = tmp_path / 'network.pth'
  cli_export.main([str(weights), str(path)])
  state = load_torch_checkpoint(path)
  # The authors' misspelt names, and PyTorch's layouts: out, in, height, width.
  assert state['deblurMoudle.0.conv1.weight'].shape == (8, 3, 7, 7)
  assert state['deblurMoudle.0.deconv1.0.weight'].shape == (32, 16, 4, 4)
  kernel = variables['params']['deblur']['conv1']['kernel']
  np.testing.assert_array_equal(state['deblurMoudle.0.conv1.weight'][3, 1], kernel[:, :, 1, 3])
  assert ('geteMoudle.0.conv1.weight' in state) == (network == 'gated')
  options = {key: value for key, value in NETWORKS[network].items() if key != 'name'}
  jax.tree.map(np.testing.assert_array_equal, convert('gfn', state, **options), variables)
  line = f"{len(state)} tensors under the authors' names, identical when read back\n"
  assert line in capsys.readouterr().out


def test_torch_has_the_names_of_the_preset(tmp_path):
  network = {'name': 'srresnet', 'preset': 'msrresnet', 'features': 4, 'blocks': 1}
  weights, _, variables = save(tmp_path, network)
  path = tmp_path / 'network.bin'
  cli_export.main([str(weights), str(path), '--format=torch'])
  state = load_torch_checkpoint(path)
  assert state['body.0.conv1.weight'].shape == (4, 4, 3, 3)
  np.testing.assert_array_equal(state['conv_hr.bias'], variables['params']['conv_hr']['bias'])


UNET = small.MODEL | {'deblur_module': 'unet', 'deblur_blocks': (1, 1, 1), 'sr_blocks': 0}
BATCH = NETWORKS['SRResNet, normalised by batch']


@pytest.mark.parametrize(
  ('model_config', 'own_names'),
  [
    (SKIP, False),
    (small.MODEL | {'gate_recursions': 3}, False),
    (UNET | {'global_skip': 'deblurred', 'dtype': 'bfloat16'}, True),
    (SR_BRANCH | {'global_skip': 'input'}, True),
    (SRN, True),  # its authors' code is in TensorFlow
    (BATCH, True),  # running statistics
    ({'name': 'srresnet', 'features': 4, 'blocks': 1, 'norm': 'batch'}, True),
    ({'name': 'srresnet', 'features': 4, 'blocks': 1, 'slope': 0.1}, False),
    ({'name': 'cascade', 'first': SRN, 'second': EDSR | {'res_scale': 0.3}}, True),
  ],
)
def test_a_torch_file_is_imported_with_its_options_and_card(
  model_config, own_names, tmp_path, capsys
):
  weights, model, variables = save(tmp_path, model_config)
  path, again = tmp_path / 'network.pth', tmp_path / 'again.safetensors'
  cli_export.main([str(weights), str(path)])
  assert (" under gfn_jax's own names," in capsys.readouterr().out) == own_names
  cli_import.main([str(path), str(again)])
  assert capsys.readouterr().err == ''
  found, values = pretrained.load_pretrained(again)
  assert found == model
  jax.tree.map(np.testing.assert_array_equal, values, variables)
  card = pretrained.load_card(again)
  assert card['data'] == CARD['data']
  assert card['scores'] == CARD['scores']
  assert card['imported_from']['file'] == 'network.pth'
  state = load_torch_checkpoint(path)
  kernels = [name for name in state if name.endswith('.kernel')]
  assert (len(kernels) > 0) == own_names
  if own_names:
    flat = flatten_variables(variables)
    assert state.keys() == flat.keys()
    jax.tree.map(np.testing.assert_array_equal, state, flat)


def test_a_torch_file_of_other_weights_or_without_a_tensor(tmp_path):
  weights, _, _ = save(tmp_path, SR_BRANCH)
  path, again = tmp_path / 'network.pth', tmp_path / 'again.safetensors'
  cli_export.main([str(weights), str(path)])
  with pytest.raises(UserError, match='network.pth: .* of sr_branch, not of gfn; omit --model'):
    cli_import.main([str(path), str(again), '--model=gfn'])
  state = load_torch_checkpoint(path)
  del state['reconstruction.conv1.kernel']
  save_torch_checkpoint(path, state, {'model': SR_BRANCH})
  with pytest.raises(UserError, match=r'network.pth: these are not .* sr_branch: 1 missing'):
    cli_import.main([str(path), str(again)])
  assert not again.exists()


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['gfn', 'none/x.onnx'], 'no such folder: none'),
    (['gfn', 'folder'], 'folder is a folder; choose another output'),
    (['gfn', 'folder/', '--format=onnx'], 'folder/ is a folder'),
    (['gfn', 'old.pth'], 'old.pth exists already; choose another output, or pass --overwrite'),
    (['gfn', 'x.png'], 'x.png: unknown extension; choose one of .stablehlo, .onnx, .dtmodel, .pth'),
    (['gfn', 'x'], 'x: unknown extension'),
    (['gfn', 'x.pth', '--format=onnx'], 'x.pth: .pth is the extension of torch, not onnx'),
    (['gfn', 'x.safetensors', '--format=torch'], 'is the extension of this library, not torch'),
    (['gfn', 'x.onnx', '--format=tflite'], "invalid choice: 'tflite'"),
    (['none', 'x.pth'], "no released weights are named 'none'"),
    (['none.safetensors', 'x.pth'], 'no weights at none.safetensors'),
    (['gfn', 'x\n.png'], r'x\n.png: unknown extension'),
  ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'old.pth').write_bytes(b'old')
  before = sorted(os.listdir())
  with pytest.raises(UserError) as error:
    cli_export.main(arguments)
  assert message in str(error.value)
  assert '\n' not in str(error.value)
  assert sorted(os.listdir()) == before
  assert (tmp_path / 'old.pth').read_bytes() == b'old'
  assert os.listdir('folder') == []


@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='needs a folder that nobody may write')
def test_a_folder_that_cannot_be_written(tmp_path):
  weights, _, _ = save(tmp_path, small.MODEL)
  with pytest.raises(UserError, match='^cannot write /proc/self/x.pth: '):
    export.export_weights(weights, '/proc/self/x.pth')


def test_onnx_without_its_libraries(tmp_path, monkeypatch):
  weights, _, _ = save(tmp_path, small.MODEL)
  monkeypatch.setitem(sys.modules, 'jax2onnx', None)
  with pytest.raises(UserError, match=r'^jax2onnx is not installed; pip install .*\[onnx\]'):
    export.export_weights(weights, tmp_path / 'network.onnx')
  assert sorted(os.listdir(tmp_path)) == ['weights.json', 'weights.safetensors']


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
  weights, _, _ = save(tmp_path, SR_BRANCH)
  path = tmp_path / 'network.stablehlo'
  path.write_bytes(b'old')
  write = export.write_stablehlo

  def write_others(model, variables, path):
    layer = variables['params']['reconstruction']['conv4']
    layer['bias'] = layer['bias'] + 0.01
    write(model, jax.tree.map(np.asarray, variables), path)
    layer['bias'] = layer['bias'] - 0.01

  monkeypatch.setattr(export, 'write_stablehlo', write_others)
  with pytest.raises(UserError, match=r'^not written: hr of 1x8x12: maximum difference 1\.0e-02'):
    export.export_weights(weights, path)
  assert path.read_bytes() == b'old'
  assert len(os.listdir(tmp_path)) == 3


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda hr, lr: {'hr': hr, 'lr': np.full_like(lr, np.nan)},
      'lr of 1x8x8: maximum difference nan',
    ),
    (lambda hr, lr: {'hr': hr[:, 1:], 'lr': lr}, 'hr of 1x8x8 has shape'),
    (lambda hr, lr: {'hr': hr}, 'the file returns hr but JAX returns hr, lr'),
  ],
)
def test_parity_refuses(change, message, tmp_path):
  _, model, variables = save(tmp_path, small.MODEL)

  def restore(lr_blur):
    output = apply(model, variables, lr_blur)
    return change(np.asarray(output.hr), np.asarray(output.lr))

  with pytest.raises(UserError, match=f'^not written: {message}'):
    export.check_parity(restore, model, variables, [(1, 8, 8)])


@pytest.mark.parametrize('method', ['cubic', 'linear'])
def test_enlarging_by_convolution(method):
  image = images(2, 5, 7)
  with nn.intercept_methods(onnx_file._enlarge_by_convolution):
    enlarged = jax.jit(Enlarge(4, method))(image)
  expected = jax.jit(lambda x: jax.image.resize(x, (2, 20, 28, 3), method))(image)
  np.testing.assert_allclose(enlarged, expected, atol=1e-6)


@pytest.mark.end_to_end
def test_a_mistake_of_the_command_ends_in_one_line(tmp_path):
  command = [sys.executable, '-m', 'gfn_jax.cli.export', 'gfn', tmp_path / 'x.png']
  result = subprocess.run(command, capture_output=True, text=True, timeout=120)
  assert result.returncode == 1
  assert result.stdout == ''
  [line] = result.stderr.splitlines()
  assert line.startswith(f'error: {tmp_path}/x.png: unknown extension; choose')


@pytest.mark.parametrize('network', NETWORKS)
def test_onnx(network, jax2onnx, tmp_path):
  onnx, onnxruntime = pytest.importorskip('onnx'), pytest.importorskip('onnxruntime')
  weights, model, variables = save(tmp_path, NETWORKS[network])
  path = tmp_path / 'network.onnx'
  cli_export.main([str(weights), str(path)])

  session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
  names = [output.name for output in session.get_outputs()]
  for size in ((1, 64, 48), (3, 180, 32), (1, 256, 24)):
    lr_blur = images(*size)
    got = dict(zip(names, session.run(names, {'lr_blur': lr_blur}), strict=True))
    assert_same_images(got, model, variables, lr_blur)
  if model.stride > (1, 1):
    onnxruntime.set_default_logger_severity(4)
    with pytest.raises(Exception, match='ONNXRuntimeError'):
      session.run(names, {'lr_blur': images(1, 30, 32)})

  proto = onnx.load(path)
  metadata = {entry.key: entry.value for entry in proto.metadata_props}
  assert json.loads(metadata['model']) == NETWORKS[network]
  assert json.loads(metadata['scores']) == CARD['scores']
  assert metadata['licence'] == 'for tests only'
  assert metadata['weights_sha256'] == pretrained.load_card(weights)['sha256']
  assert [(entry.domain, entry.version) for entry in proto.opset_import] == [('', onnx_file.OPSET)]
  assert proto.ir_version == 8
  assert not {'If', 'Loop', 'Scan'} & {node.op_type for node in proto.graph.node}
  # The parameters, which jax2onnx writes once for each step, the kernel of the skip, and shapes.
  values = sum(int(np.prod(array.dims)) for array in proto.graph.initializer)
  steps = NETWORKS[network].get('steps', 1)
  assert values < steps * param_count(variables) + 5 * 5 * 3 * 48 + 500


@pytest.mark.full
@pytest.mark.parametrize(
  ('model_config', 'outputs', 'extension', 'sizes'),
  [
    ({'name': 'mprnet', **small.MPRNET}, ['lr'], 'stablehlo', ['1x8x16', '2x16x8']),
    ({'name': 'mprnet', **small.MPRNET}, ['lr'], 'onnx', ['1x8x16', '2x16x8']),
    (MOTION_DEBLUR_SR, ['hr', 'lr'], 'stablehlo', ['1x8x16', '2x16x8']),
    (MOTION_DEBLUR_SR, ['hr', 'lr'], 'onnx', ['1x8x16', '2x16x8']),
    ({'name': 'cnlrn', **small.CNLRN}, ['hr'], 'stablehlo', ['1x8x12', '2x12x8']),
    (SRN, ['lr'], 'stablehlo', ['1x16x16', '2x16x16']),
    (DEEPDEBLUR, ['lr'], 'stablehlo', ['1x8x12', '2x12x8']),
    (DMPHN, ['lr'], 'stablehlo', ['1x16x16', '2x16x8']),
    (DMPHN, ['lr'], 'onnx', ['1x16x16', '2x16x8']),
    (DEBLURGAN, ['lr'], 'stablehlo', ['1x8x12', '2x12x8']),
  ],
)
def test_networks_that_only_deblur_or_see_the_whole_image(
  model_config, outputs, extension, sizes, request, tmp_path, capsys
):
  if extension == 'onnx':
    request.getfixturevalue('jax2onnx')
  weights, _, _ = save(tmp_path, model_config)
  cli_export.main([str(weights), str(tmp_path / f'network.{extension}')])  # compares with JAX
  lines = capsys.readouterr().out.splitlines()
  compared = [line.split(':')[0] for line in lines if ' of ' in line.split(':')[0]]
  assert compared[:-1] == [f'{name} of {size}' for size in sizes for name in outputs]


@pytest.mark.full
@pytest.mark.parametrize(
  ('variant', 'extension', 'outputs'),
  [
    ('f+c+b', 'stablehlo', ['frames', 'hr', 'lr']),
    ('c', 'onnx', ['frames', 'hr', 'lr']),
    ('srnet', 'onnx', ['hr']),
  ],
)
def test_networks_of_odd_sizes(variant, extension, outputs, request, tmp_path, capsys, monkeypatch):
  """ForNet halves the sides seven times, rounds them up, and cuts them on its way back."""
  if extension == 'onnx':
    request.getfixturevalue('jax2onnx')
  for sizes in ('STABLEHLO_SIZES', 'ONNX_SIZES'):
    monkeypatch.setattr(export, sizes, ((2, 34, 13),))
  options = {**small.BMDSRNET, 'variant': variant, 'global_skip': 'input'}
  weights, _, _ = save(tmp_path, {'name': 'bmdsrnet', **options})
  cli_export.main([str(weights), str(tmp_path / f'network.{extension}')])  # compares with JAX
  lines = capsys.readouterr().out.splitlines()
  compared = [line.split(':')[0] for line in lines[:-2]]
  assert compared == [f'{name} of 2x34x13' for name in outputs]


@pytest.mark.parametrize(
  ('model_config', 'reason'),
  [
    ({**small.MODEL, 'name': 'gfn_ablation', 'variant': 'sr_first'}, r'GFNAblation \(No symb'),
    (ABLATION, r"GFNAblation \(Graph output 'lr' is not an output"),
    ({'name': 'cascade', 'first': EDSR, 'second': DMPHN}, r'Cascade \(No symb'),
    ({'name': 'cnlrn', **small.CNLRN}, r'CNLRN \(Symbolic dimension'),
    ({'name': 'bmdsrnet', **small.BMDSRNET}, r'BMDSRNet \(Shapes must be'),
    (SRN, r'SRN \(No symbolic dim'),
    (DEEPDEBLUR, r'DeepDeblur \(slice limit_indices'),
    (DEBLURGAN, r'DeblurGAN \(add got incompatible shapes'),
  ],
)
def test_onnx_names_what_it_cannot_convert(model_config, reason, jax2onnx, tmp_path):
  _, model, variables = save(tmp_path, model_config)
  message = f'^jax2onnx cannot convert {reason}.*; export to StableHLO instead$'
  with pytest.raises(UserError, match=message):
    onnx_file.write_onnx(model, variables, str(tmp_path / 'network.onnx'), {})
