import jax
import numpy as np
import pytest
import skimage.data
from scipy import signal

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.layers.blocks import resize_bilinear
from gfn_jax.models import (
  SRResNet,
  init_variables,
  param_count,
  variable_shapes,
)
from gfn_jax.system import memory
from gfn_jax.weights.pretrained import load_pretrained, save_weights

PRESETS = {'srresnet_gfn': 1_546_752, 'srresnet_paper': 1_549_462, 'msrresnet': 1_517_571}
SMALL = {'features': 4, 'blocks': 2}


def small_variables(preset):
  """Parameters and statistics, none of them at its initial value."""
  model = create_model('srresnet', preset=preset, **SMALL)
  variables = jax.device_get(init_variables(model, seed=0))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda x: x + rng.uniform(0, 0.1, x.shape).astype(np.float32), variables)


def photograph(h=7, w=9):
  return skimage.data.astronaut()[None, 50 : 50 + h, 200 : 200 + w].astype(np.float32) / 255


def by_hand(preset, variables, x):
  """The table of the three versions, in float64, for one image `[h, w, 3]`."""
  # The input, too: SciPy would cast an uninitialized array of its type, which may warn.
  variables, x = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (variables, x))
  params, stats = variables['params'], variables.get('batch_stats', {})

  def conv(x, layer):
    kernel = layer['kernel']
    pad = kernel.shape[0] // 2
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    columns = [
      sum(signal.correlate(x[..., i], kernel[..., i, o], 'valid') for i in range(x.shape[-1]))
      for o in range(kernel.shape[-1])
    ]
    return np.stack(columns, -1) + layer.get('bias', 0)

  def norm(x, layer, stats):
    if preset == 'msrresnet':
      return x
    if preset == 'srresnet_gfn':
      mean, var = x.mean((0, 1)), x.var((0, 1))
    else:
      mean, var = stats['mean'], stats['var']
    return (x - mean) / np.sqrt(var + 1e-5) * layer['scale'] + layer['bias']

  def act(x, slope_of=None, block=False):
    slope = {'srresnet_gfn': 0.2, 'msrresnet': 0.0 if block else 0.1}.get(preset)
    if slope is None:
      slope = slope_of['negative_slope']
    return np.where(x > 0, x, slope * x)

  def shuffle(x):
    h, w, c = x.shape
    return x.reshape(h, w, c // 4, 2, 2).transpose(0, 3, 1, 4, 2).reshape(2 * h, 2 * w, c // 4)

  first = y = act(conv(x, params['conv_first']), params.get('prelu_first'))
  for i in range(SMALL['blocks']):
    block, mine = params[f'resblock_{i}'], stats.get(f'resblock_{i}', {})
    z = norm(conv(y, block['conv1']), block.get('norm1'), mine.get('norm1'))
    z = act(z, block.get('prelu'), block=True)
    y = y + norm(conv(z, block['conv2']), block.get('norm2'), mine.get('norm2'))
  if preset != 'msrresnet':
    y = first + norm(conv(y, params['conv_mid']), params['norm_mid'], stats.get('norm_mid'))
  for i in (1, 2):
    y = act(shuffle(conv(y, params[f'upconv{i}'])), params.get(f'prelu_up{i}'))
  if preset != 'msrresnet':
    return conv(y, params['conv_last'])
  h, w, _ = x.shape
  hr = conv(act(conv(y, params['conv_hr'])), params['conv_last'])
  enlarge = jax.jit(resize_bilinear, static_argnums=(1, 2))
  return hr + np.asarray(enlarge(x[None], 4 * h, 4 * w))[0]


@pytest.mark.parametrize('preset', PRESETS)
def test_the_presets(preset):
  model = create_model('srresnet', preset=preset)
  assert param_count(variable_shapes(model)) == PRESETS[preset]
  model, variables = create_model('srresnet', preset=preset, **SMALL), small_variables(preset)
  out = jax.jit(model.apply)(variables, photograph())
  assert out.lr is None
  np.testing.assert_allclose(
    out.hr[0], by_hand(preset, variables, photograph()[0]), rtol=1e-4, atol=1e-4
  )


def test_options_go_before_a_preset():
  assert create_model('srresnet') == create_model('srresnet', preset='srresnet_gfn') == SRResNet()
  model = create_model('srresnet', preset='msrresnet', features=8)
  assert (model.features, model.norm, model.kernel_size) == (8, 'none', 3)


@pytest.mark.parametrize('preset', PRESETS)
def test_weights_with_their_statistics_are_saved_and_restored_with(preset, tmp_path):
  config, variables = {'name': 'srresnet', 'preset': preset, **SMALL}, small_variables(preset)
  path = tmp_path / 'weights.safetensors'
  save_weights(path, variables, config, {'step': 1})
  model, loaded = load_pretrained(path)
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  photo = (photograph(40, 50)[0] * 255).astype(np.uint8)
  expected = jax.jit(model.apply)(variables, photo[None] / np.float32(255)).hr[0]
  restored = Restorer(model, variables)(photo) / 255
  np.testing.assert_allclose(restored, np.clip(np.asarray(expected), 0, 1), atol=0.51 / 255)


def test_a_network_that_is_not_local_is_divided_only_if_it_must_be(monkeypatch, capsys):
  options = {'name': 'srresnet', **SMALL}
  model = create_model(**options)
  assert not model.local
  assert create_model(**options, preset='srresnet_paper').local
  variables = init_variables(model, 0)
  photo = (photograph(40, 150)[0] * 255).astype(np.uint8)

  def restore(photo):
    out = jax.device_get(jax.jit(model.apply)(variables, photo[None] / np.float32(255)))
    return np.clip(out.hr[0], 0, 1)

  whole = Restorer(model, variables)
  np.testing.assert_allclose(whole(photo) / 255, restore(photo), atol=0.51 / 255)
  assert 'uses the whole image' not in capsys.readouterr().err

  tiles = Restorer(model, variables, tile=96, overlap=32)
  # Two windows of 96 pixels, from 0 and from 54 on, are cut in the middle of what they share.
  expected = [restore(photo[:, :96])[:, : 4 * 75], restore(photo[:, 54:])[:, 4 * 21 :]]
  np.testing.assert_allclose(tiles(photo) / 255, np.concatenate(expected, axis=1), atol=0.51 / 255)
  assert 'SRResNet uses the whole image, but sees tiles of 96 here' in capsys.readouterr().err

  monkeypatch.setattr(memory, 'available_bytes', lambda device: 0)
  least = Restorer(model, variables, overlap=32)
  least(photo)
  assert least.tile == 64
  assert 'SRResNet uses the whole image, but sees tiles of 64 here' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'preset': 'edsr'}, '.* preset .edsr.; choose from srresnet_gfn, srresnet_paper, msrresnet'),
    ({'norm': 'layer'}, ': unknown norm .*; choose from'),
    ({'act': 'gelu'}, ': unknown act .*; choose from'),
    ({'block_act': 'gelu'}, ': unknown block_act .*; choose from'),
    ({'global_skip': 'deblurred'}, ': unknown global_skip .*; choose from'),
    ({'initialization': 'he'}, ': unknown initialization .*; choose from'),
    ({'kernel_size': 4}, ': kernel_size must be odd, not 4'),
    ({'features': -1}, ': features must be at least 1, not -1'),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'srresnet' ?{message}"):
    create_model('srresnet', **options)
  with pytest.raises(UserError, match="model 'gfn' has no preset 'x'; choose from none"):
    create_model('gfn', preset='x')
