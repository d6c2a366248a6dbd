import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.models import DMPHN, init_variables, param_count, variable_shapes
from gfn_jax.models.dmphn import Decoder, Encoder
from tests.models import original_weights
from tests.models.networks import apply, photograph, random_params

# Two of the four levels compile in half the time.
small_model = functools.partial(DMPHN, features=2, levels=2)

# SHA-256 of the sorted lines `name shape` of the authors' checkpoint, as `names_digest` has them.
KEYS = '60e6797ac0487171a34249a405494a19adc2753afc50aa169a3a531022d15dce'


def test_parameter_counts():
  shapes = variable_shapes(DMPHN())['params']
  counts = {name: param_count({'params': tree}) for name, tree in shapes.items()}
  assert counts == {
    name: count
    for level in (1, 2, 3, 4)
    for name, count in ((f'encoder{level}', 868_288), (f'decoder{level}', 939_843))
  }
  assert sum(counts.values()) == 7_232_524
  assert param_count(variable_shapes(create_model('dmphn', levels=3))) == 5_424_393
  assert param_count(variable_shapes(create_model('dmphn', preset='small'))) == 114_700


def test_parity():
  state = original_weights.original_state('dmphn')
  assert original_weights.names_digest(state) == KEYS
  expected = original_weights.read_fixture('dmphn')
  out = apply(DMPHN(), original_weights.original_params('dmphn'), expected['x'])
  original_weights.assert_parity(out.lr, expected['lr'])
  assert out.hr is None


@pytest.mark.parametrize(
  'levels', [1, 2, *(pytest.param(n, marks=pytest.mark.full) for n in (3, 4))]
)
def test_levels_by_hand(levels):
  """One patch after the other; maps and residuals are joined to those of the whole image."""
  model, x = small_model(levels=levels), photograph(32, 24)
  params = random_params(model)
  conv, deconv = model._make_layers()
  encoder, decoder = Encoder(2, conv), Decoder(2, conv, deconv)
  grids = {0: (1, 1), 1: (1, 1), 2: (2, 1), 3: (2, 2), 4: (4, 2)}  # rows and columns

  def map_patches(function, level, *images):
    rows, columns = grids[level]
    split = lambda image: [
      jnp.split(row, columns, axis=2) for row in jnp.split(image, rows, axis=1)
    ]
    return jnp.block(
      [
        [[function(*patches)] for patches in zip(*row, strict=True)]
        for row in zip(*map(split, images), strict=True)
      ]
    )

  @jax.jit
  def restore(x):
    residual = features = None
    for level in range(levels, 0, -1):
      encode = functools.partial(encoder.apply, {'params': params[f'encoder{level}']})
      decode = functools.partial(decoder.apply, {'params': params[f'decoder{level}']})
      encoded = map_patches(encode, level, x - 0.5 if residual is None else x - 0.5 + residual)
      features = encoded if features is None else encoded + features
      residual = map_patches(decode, level - 1, features)
    return residual + 0.5

  np.testing.assert_allclose(apply(model, params, x).lr, restore(x), atol=1e-5)


def test_strides_follow_from_the_patches():
  assert [DMPHN(levels=n).stride for n in (1, 2, 3, 4)] == [(4, 4), (8, 4), (8, 8), (16, 8)]


def test_other_sizes_are_padded_by_their_edges_and_cropped():
  x, model = photograph(20, 13), small_model()
  params = random_params(model)
  padded = np.pad(x, ((0, 0), (0, 4), (0, 3), (0, 0)), mode='edge')
  expected = apply(model, params, padded).lr[:, :20, :13]
  np.testing.assert_allclose(apply(model, params, x).lr, expected, atol=1e-5)


def test_the_global_skip_adds_the_input():
  x, model = photograph(20, 13), small_model()  # as above
  params = random_params(model)
  expected = x + (apply(model, params, x).lr - 0.5)
  skipping = small_model(global_skip='input')
  np.testing.assert_allclose(apply(skipping, params, x).lr, expected, atol=1e-5)


def test_it_restores_photos_whole():
  model, photo = small_model(), skimage.data.astronaut()[50:70, 200:213]
  params = random_params(model)
  expected = np.clip(apply(model, params, photograph(20, 13)).lr[0], 0, 1)
  restored = Restorer(model, {'params': params})(photo) / 255
  np.testing.assert_allclose(restored, expected, atol=0.51 / 255)


def test_weights_are_drawn_as_the_authors_draw_them():
  @jax.jit  # for these parameters alone
  def init():
    params = init_variables(DMPHN(features=8, levels=1), seed=0)['params']
    encoder, decoder = params['encoder1'], params['decoder1']
    return encoder['conv2'], encoder['resblock2_1']['conv2'], decoder['deconv1']

  layers = jax.device_get(init())
  for layer, fan_out in zip(layers, (9 * 16, 9 * 16, 16 * 8), strict=True):
    assert np.std(layer['kernel']) == pytest.approx(0.5 * (2 / fan_out) ** 0.5, rel=0.1)
    assert not np.any(layer['bias'])


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'features': 0}, 'features must be at least 1, not 0'),
    ({'levels': 5}, 'unknown levels 5; choose from 1, 2, 3, 4'),
    ({'global_skip': 'deblurred'}, "unknown global_skip 'deblurred'; choose from none, input"),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'dmphn': {message}"):
    create_model('dmphn', **options)
