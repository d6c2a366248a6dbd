import jax
import numpy as np
import pytest

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.models import Bicubic, param_count, variable_shapes
from gfn_jax.ops.imresize import imresize
from tests.models.networks import photograph, random_variables


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_it_is_matlabs_bicubic_but_at_the_border(scale):
  x = photograph(16, 20)
  out = jax.jit(Bicubic(scale=scale).apply)({}, x)
  assert (out.lr, out.hr.shape) == (None, (1, 16 * scale, 20 * scale, 3))
  inside = np.s_[2 * scale : -2 * scale, 2 * scale : -2 * scale]
  np.testing.assert_allclose(out.hr[0][inside], imresize(x[0], scale)[inside], atol=1e-5)
  np.testing.assert_allclose(
    out.hr[0], jax.image.resize(x[0], out.hr.shape[1:], 'cubic'), atol=1e-5
  )


def test_a_deblurring_network_with_bicubic_behind():
  first = dict(name='cnlrn_deblur', features=4, blocks=1, stage_blocks=1)
  model = create_model('cascade', first=first, second=dict(name='bicubic'))
  variables = random_variables(model)
  assert param_count(variables) == param_count(variable_shapes(create_model(**first)))
  photo = (photograph(16, 20)[0] * 255).astype(np.uint8)
  lr = Restorer(model, variables, output='lr')(photo)
  hr = Restorer(model, variables)(photo)
  assert (lr.shape, hr.shape) == ((16, 20, 3), (64, 80, 3))


def test_a_wrong_scale():
  with pytest.raises(UserError, match=r'bicubic.: unknown scale 5; choose from 2, 3, 4'):
    create_model('bicubic', scale=5)
