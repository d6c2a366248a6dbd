"""ONNX files with one output, and in the layout of image tools; run by `make test-onnx`."""

import os

import numpy as np
import pytest

from gfn_jax.cli import export as cli_export
from gfn_jax.errors import UserError
from gfn_jax.interop import export
from tests import small
from tests.interop.test_export import DMPHN, EDSR, apply, images, save


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['x.pth', '--output=lr'], "output 'lr' is for the formats onnx and darktable, not torch"),
    (['x.stablehlo', '--layout=nchw'], "layout 'nchw' is for the format onnx, not stablehlo"),
    (['x.dtmodel', '--layout=nchw'], "layout 'nchw' is for the format onnx, not darktable"),
    (['x.onnx', '--output=frames'], "invalid choice: 'frames'"),
  ],
)
def test_options_of_other_formats(arguments, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=message):
    cli_export.main(['gfn', *arguments])
  assert os.listdir() == []


@pytest.mark.parametrize('layout', ['nhwc', 'nchw'])
def test_an_output_that_the_network_does_not_have(layout, tmp_path):
  weights, _, _ = save(tmp_path, EDSR)
  with pytest.raises(UserError, match='^EDSR has no output lr: choose hr$'):
    export.export_weights(weights, tmp_path / 'x.onnx', output='lr', layout=layout)
  assert sorted(os.listdir(tmp_path)) == ['weights.json', 'weights.safetensors']


def open_session(path):
  onnxruntime = pytest.importorskip('onnxruntime')
  session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
  [source], outputs = session.get_inputs(), session.get_outputs()
  return session, source, outputs


@pytest.mark.parametrize(
  ('model_config', 'arguments', 'output'),
  [
    (small.MODEL | {'global_skip': 'deblurred'}, [], 'hr'),
    (small.MODEL, ['--output=lr'], 'lr'),
    (EDSR, [], 'hr'),  # without a stride
    (DMPHN, [], 'lr'),  # only deblurs; pads with its edge to multiples of 16 and 8
  ],
)
def test_image_tools_have_one_input_and_one_output_of_any_size(
  model_config,
  arguments,
  output,
  jax2onnx,
  tmp_path,
  monkeypatch,
):
  monkeypatch.setattr(export, 'NCHW_SIZES', ((1, 16, 24), (2, 21, 18)))
  weights, model, variables = save(tmp_path, model_config)
  path = tmp_path / 'network.onnx'
  cli_export.main([str(weights), str(path), '--layout=nchw', *arguments])
  session, source, [result] = open_session(path)
  assert (source.name, source.shape) == ('input', ['batch', 3, 'height', 'width'])
  assert result.name == 'output'
  assert result.shape[1] == 3
  for size in ((1, 16, 24), (2, 17, 30), (1, 30, 31)):
    lr_blur = images(*size)
    [got] = session.run(None, {'input': np.moveaxis(lr_blur, 3, 1)})
    expected = getattr(apply(model, variables, lr_blur), output)
    tolerance = 1e-5 * max(1, 2 * np.std(expected))
    np.testing.assert_allclose(np.moveaxis(got, 1, 3), expected, atol=tolerance)


def test_one_output_in_the_layout_of_jax(jax2onnx, tmp_path, monkeypatch):
  monkeypatch.setattr(export, 'ONNX_SIZES', ((1, 8, 12),))
  weights, model, variables = save(tmp_path, small.MODEL)
  path = tmp_path / 'network.onnx'
  cli_export.main([str(weights), str(path), '--output=lr'])
  session, source, [result] = open_session(path)
  assert (source.name, result.name) == ('lr_blur', 'lr')
  lr_blur = images(2, 12, 16)
  [got] = session.run(None, {'lr_blur': lr_blur})
  np.testing.assert_allclose(got, apply(model, variables, lr_blur).lr, atol=1e-5)
