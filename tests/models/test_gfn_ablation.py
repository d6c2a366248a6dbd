import jax
import numpy as np
import pytest

from gfn_jax import UserError, create_model
from gfn_jax.layers.activations import leaky_relu
from gfn_jax.layers.blocks import Enlarge, make_layers
from gfn_jax.models import GFNAblation, param_count, variable_shapes
from gfn_jax.models.gfn import DeblurModule, ReconstructionModule, SRFeatureModule
from tests.models.networks import apply, photograph, random_params

OPTIONS = {'features': 8, 'deblur_blocks': 1, 'sr_blocks': 1, 'reconstruction_blocks': 1}


@pytest.fixture(scope='module')
def params():
  """Return random parameters of the variant that has all modules."""
  return random_params(GFNAblation('dual_branch', **OPTIONS))


def parts(params, skip):
  """The deblurring and the SR part by hand, each with its input added if `skip`."""
  layers = make_layers(GFNAblation(**OPTIONS, global_skip='input' if skip else 'none'))
  reconstruction = ReconstructionModule(8, 1, layers)

  def deblur(x):
    _, image = DeblurModule(8, (1, 1, 1), layers).apply({'params': params['deblur']}, x)
    return image + skip * x

  def super_resolve(x):
    f_sr = SRFeatureModule(8, 1, layers).apply({'params': params['sr_feature']}, x)
    image = reconstruction.apply({'params': params['reconstruction']}, f_sr)
    return image + skip * Enlarge(4)(x)

  def enlarge_deblurred(x):
    feature = params['lr_feature']
    conv = layers.conv(8, (3, 3), padding=1).apply({'params': feature}, x)
    return reconstruction.apply({'params': params['lr_reconstruction']}, leaky_relu(conv))

  return deblur, super_resolve, enlarge_deblurred


@pytest.mark.parametrize('skip', [False, True])
def test_the_modules_are_joined_as_the_docstring_says(params, skip):
  x = photograph(12, 16)
  deblur, super_resolve, enlarge_deblurred = map(jax.jit, parts(params, skip))
  lr = deblur(x)
  expected = {
    'deblur_first': (super_resolve(lr), lr),
    'sr_first': (deblur(super_resolve(x)), None),
    'dual_branch': (super_resolve(x) + enlarge_deblurred(lr), lr),
  }
  for variant, (hr, lr) in expected.items():
    model = GFNAblation(variant, **OPTIONS, global_skip='input' if skip else 'none')
    mine = {key: params[key] for key in variable_shapes(model)['params']}
    out = apply(model, mine, x)
    np.testing.assert_allclose(out.hr, hr, rtol=1e-4, atol=1e-4)
    assert (out.lr is None) == (lr is None)
    if lr is not None:
      np.testing.assert_allclose(out.lr, lr, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('variant', ['deblur_first', 'sr_first', 'dual_branch'])
def test_any_size_and_the_paper_s_number_of_parameters(params, variant):
  model = create_model('gfn_ablation', variant=variant, **OPTIONS)
  mine = {key: params[key] for key in variable_shapes(model)['params']}
  out = apply(model, mine, photograph(6, 9))
  assert out.hr.shape == (1, 24, 36, 3)
  assert out.lr is None or out.lr.shape == (1, 6, 9, 3)
  deblur, sr_feature, reconstruction = 10_568_579, 637_248, 924_931  # of the authors' networks
  count = deblur + sr_feature + reconstruction
  if variant == 'dual_branch':
    count += reconstruction + 9 * 3 * 64 + 64
  assert param_count(variable_shapes(GFNAblation(variant))) == count


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'variant': 'model_1'}, "unknown variant 'model_1'; choose from"),
    ({'global_skip': 'deblurred'}, 'unknown global_skip .*; choose from'),
    ({'initialization': 'he'}, 'unknown initialization .*; choose from'),
    ({'features': 0}, 'features must be at least 1'),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=f"^model 'gfn_ablation': {message}"):
    create_model('gfn_ablation', **options)
