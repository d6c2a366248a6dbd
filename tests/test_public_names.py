"""The names that `import gfn_jax` offers."""

import numpy as np
import pytest

import gfn_jax
from gfn_jax.models import RestorationModel

NETWORKS = {
  'cascade': dict(first=dict(name='cnlrn_deblur'), second=dict(name='sr_branch')),
}
"""Options that a network needs; all others have defaults."""


def test_the_public_names_exist():
  assert gfn_jax.__all__ == sorted(gfn_jax.__all__)
  assert len(gfn_jax.__all__) == 9
  for name in gfn_jax.__all__:
    assert getattr(gfn_jax, name).__doc__, name


def test_list_models_returns_the_names_that_create_model_takes():
  names = gfn_jax.list_models()
  assert names == sorted(names)
  assert {'gfn', 'sr_branch'} < set(names)
  for name in names:
    model = gfn_jax.create_model(name, **NETWORKS.get(name, {}))
    assert isinstance(model, RestorationModel)
  with pytest.raises(gfn_jax.UserError, match=f'choose from {", ".join(names)}$'):
    gfn_jax.create_model('none')


def test_list_pretrained_returns_the_names_that_load_pretrained_takes():
  names = gfn_jax.list_pretrained()
  assert names == sorted(names)
  assert 'gfn' in names
  for name in names:
    model, variables = gfn_jax.load_pretrained(name)
    assert isinstance(model, RestorationModel)
    assert 'params' in variables
  with pytest.raises(gfn_jax.UserError, match=f'choose from {", ".join(names)}, or pass'):
    gfn_jax.load_pretrained('none')


def test_an_image_is_resized_and_compared():
  image = np.arange(32 * 40 * 3, dtype=np.uint8).reshape(32, 40, 3)
  assert gfn_jax.imresize(image, 0.5).shape == (16, 20, 3)
  scores = gfn_jax.evaluate_pair(image, image, 'gfn')
  assert scores == {'psnr': float('inf'), 'ssim': pytest.approx(1)}
