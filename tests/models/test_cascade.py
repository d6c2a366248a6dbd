import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax import Restorer, UserError, create_model, load_pretrained
from gfn_jax.cli import join_weights
from gfn_jax.models import param_count, variable_shapes
from gfn_jax.weights.pretrained import load_card, save_weights
from tests import small
from tests.models.networks import apply, random_params

DEBLUR = {'name': 'mprnet', **small.MPRNET, 'unet_blocks': 0}
ENLARGE = {'name': 'srresnet', 'preset': 'msrresnet', 'features': 4, 'blocks': 1}


@pytest.fixture(scope='module')
def parts():
  """Networks, and parameters with which their images are far from their inputs."""
  networks = {}
  for model_config in (DEBLUR, ENLARGE):
    model = create_model(**model_config)
    networks[model_config['name']] = model, random_params(model)
  return networks


@pytest.fixture(scope='module')
def lr_blur():
  return np.random.default_rng(1).random((1, 11, 16, 3), np.float32)


@pytest.mark.full
@pytest.mark.parametrize('quantize', [False, True])
def test_the_second_network_gets_the_image_of_the_first(parts, lr_blur, quantize):
  deblur, enlarge = parts['mprnet'], parts['srresnet']
  hand_over = lambda x: np.round(255 * np.clip(x, 0, 1)) / np.float32(255) if quantize else x

  params = {'first': deblur[1], 'second': enlarge[1]}
  model = create_model('cascade', first=DEBLUR, second=ENLARGE, quantize=quantize)
  output, lr = apply(model, params, lr_blur), apply(*deblur, lr_blur).lr
  np.testing.assert_allclose(output.lr, lr, atol=1e-6)
  np.testing.assert_allclose(output.hr, apply(*enlarge, hand_over(lr)).hr, atol=1e-4)
  assert len(output.lr_stages) == 2

  params = {'first': enlarge[1], 'second': deblur[1]}
  model = create_model('cascade', first=ENLARGE, second=DEBLUR, quantize=quantize)
  output, hr = apply(model, params, lr_blur), apply(*enlarge, lr_blur).hr
  assert output.lr is None
  np.testing.assert_allclose(output.hr, apply(*deblur, hand_over(hr)).lr, atol=1e-4)


def test_what_a_cascade_is():
  model = create_model('cascade', first=DEBLUR, second=ENLARGE, dtype='bfloat16')
  assert (model.stride, model.local, model.scale) == ((8, 8), False, 4)
  assert {model.first.dtype, model.second.dtype} == {'bfloat16'}
  assert create_model('cascade', first=DEBLUR, second=ENLARGE).first.dtype == jnp.float32
  assert model.clone(dtype='float32').second.dtype == 'float32'
  first, second, both = (
    param_count(variable_shapes(network)) for network in (model.first, model.second, model)
  )
  assert both == first + second


def test_the_gradient_passes_the_rounding():
  x = np.linspace(-0.1, 1.1, 40, dtype=np.float32).reshape(1, 4, 10, 1)
  for quantize in (False, True):
    model = create_model('cascade', first=DEBLUR, second=ENLARGE, quantize=quantize)
    squares = jax.value_and_grad(lambda x, m=model: jnp.sum(m._between(x) ** 2))
    value, gradient = jax.jit(squares)(x)
    handed = np.round(255 * np.clip(x, 0, 1)) / 255 if quantize else x
    assert float(value) == pytest.approx(float(np.sum(handed**2)), rel=1e-5)
    np.testing.assert_allclose(gradient, 2 * handed, atol=1e-5)


@pytest.mark.parametrize(
  ('first', 'second', 'message'),
  [
    (ENLARGE, ENLARGE, 'not 4x and 4x'),
    (DEBLUR, DEBLUR, 'not 1x and 1x'),
    ({'name': 'cascade', 'first': DEBLUR, 'second': ENLARGE}, DEBLUR, 'must not be cascades'),
    ({'name': 'none'}, DEBLUR, "unknown model 'none'"),
  ],
)
def test_wrong_parts(first, second, message):
  with pytest.raises(UserError, match=message):
    create_model('cascade', first=first, second=second)


@pytest.mark.full
def test_joined_weights_restore(parts, tmp_path, capsys):
  for model_config in (DEBLUR, ENLARGE):
    name = model_config['name']
    save_weights(tmp_path / f'{name}.safetensors', {'params': parts[name][1]}, model_config, {})
  paths = [str(tmp_path / f'{name}.safetensors') for name in ('mprnet', 'srresnet', 'cascade')]
  join_weights.main([*paths, '--quantize'])
  assert 'parameters of a cascade are in' in capsys.readouterr().out
  card = load_card(paths[2])
  assert card['joined_from']['second']['file'] == 'srresnet.safetensors'
  model, params = load_pretrained(paths[2])
  params = params['params']
  assert model.quantize
  for part, name in (('first', 'mprnet'), ('second', 'srresnet')):
    jax.tree.map(np.testing.assert_array_equal, params[part], parts[name][1])
  image = np.random.default_rng(0).integers(256, size=(9, 13, 3), dtype=np.uint8)
  between = Restorer.from_pretrained(paths[0])(image)
  expected = Restorer.from_pretrained(paths[1])(between)
  restored = Restorer.from_pretrained(paths[2])(image)
  assert restored.shape == (36, 52, 3)
  assert np.abs(restored.astype(int) - expected).max() <= 1

  before = (tmp_path / 'cascade.safetensors').read_bytes()
  with pytest.raises(UserError, match='not 1x and 1x'):
    join_weights.main([paths[0], paths[0], paths[2], '--overwrite'])
  with pytest.raises(UserError, match='exists already'):
    join_weights.main(paths)
  assert (tmp_path / 'cascade.safetensors').read_bytes() == before
  assert json.loads((tmp_path / 'cascade.json').read_text())['model']['quantize'] is True


def test_bicubic_can_be_joined_without_weights(parts, tmp_path):
  save_weights(tmp_path / 'mprnet.safetensors', {'params': parts['mprnet'][1]}, DEBLUR, {})
  join_weights.main(
    [str(tmp_path / 'mprnet.safetensors'), 'bicubic', str(tmp_path / 'c.safetensors')]
  )
  card = load_card(tmp_path / 'c.safetensors')
  assert card['model']['second'] == {'name': 'bicubic'}
  assert card['joined_from'].keys() == {'first'}
  image = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
  assert Restorer.from_pretrained(tmp_path / 'c.safetensors')(image).shape == (64, 64, 3)
