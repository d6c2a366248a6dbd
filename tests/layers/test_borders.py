import functools

import jax
import numpy as np
import pytest
import skimage.data

from gfn_jax.layers.borders import apply_within
from gfn_jax.models import create_model
from tests import small
from tests.models.networks import random_variables

OPTIONS = {key: value for key, value in small.MODEL.items() if key != 'name'}
SR_OPTIONS = {key: OPTIONS[key] for key in ('features', 'sr_blocks', 'reconstruction_blocks')}

EDSR = SRRESNET = {'features': 4, 'blocks': 1}
full = functools.partial(pytest.param, marks=pytest.mark.full)
NETWORKS = [
  full('gfn', OPTIONS),
  ('gfn', OPTIONS | {'global_skip': 'deblurred'}),
  full('sr_branch', SR_OPTIONS),
  ('sr_branch', SR_OPTIONS | {'global_skip': 'input'}),
  ('gfn_ablation', OPTIONS | {'variant': 'deblur_first', 'global_skip': 'input'}),
  ('gfn_ablation', OPTIONS | {'variant': 'sr_first', 'global_skip': 'input'}),
  full('gfn_ablation', OPTIONS | {'variant': 'dual_branch'}),
  ('srresnet', SRRESNET | {'preset': 'srresnet_paper'}),
  ('srresnet', SRRESNET | {'preset': 'msrresnet'}),
  full('edsr', EDSR),
  ('edsr', EDSR | {'global_skip': 'input'}),
  ('deepdeblur', {'features': 4, 'blocks': 1, 'global_skip': 'input'}),
  ('bmdsrnet', small.BMDSRNET | {'variant': 'c', 'global_skip': 'input'}),
  ('rrdbnet', small.RRDBNET | {'blocks': 1, 'global_skip': 'input'}),
  ('srfbn', small.SRFBN),
  full('srfbn', small.SRFBN | {'scale': 3}),
  ('ed_dsrn_like', small.ED_DSRN_LIKE | {'global_skip': 'input'}),
  ('scgan_like', {'features': 4, 'blocks': 1}),
]


@pytest.mark.parametrize(('name', 'options'), NETWORKS)
def test_a_network_sees_an_image_that_ends_before_its_array_does(name, options):
  model = create_model(name, **options)
  # Biases are not zero: what lies beyond the image would stay zero without a mask.
  variables = random_variables(model)
  x = skimage.data.astronaut()[None, 60:84, 200:236].astype(np.float32) / 255  # 24x36
  whole = jax.device_get(jax.jit(model.apply)(variables, x))
  apply_inside = jax.jit(functools.partial(apply_within, model))

  for rows, columns in (((0, 8), (0, 28)), ((8, 0), (28, 0)), ((4, 4), (0, 28))):
    padding = ((0, 0), rows, columns, (0, 0))
    padded = np.pad(x, padding, constant_values=0.5)
    inside = np.pad(np.ones((1, 24, 36, 1), bool), padding)
    within, unaware = jax.device_get(
      [apply_inside(variables, padded, mask) for mask in (inside, np.ones_like(inside))]
    )
    for field, scale in (('hr', model.scale), ('lr', 1)):
      expected = getattr(whole, field)
      if expected is None:
        continue
      top, left = scale * rows[0], scale * columns[0]
      result = getattr(within, field)[:, top : top + 24 * scale, left : left + 36 * scale]
      np.testing.assert_allclose(result, expected, atol=2e-5)
      # And it does matter: without the mask, the border is another.
      naive = getattr(unaware, field)[:, top : top + 24 * scale, left : left + 36 * scale]
      assert np.abs(naive - expected).max() > 1e-3
